//! What `send`, `call` and `reply` take from their caller, and what `receive` and the answer to a
//! `call` bring it.

use alloc::vec::Vec;

use nuncio_abi::{
    Error, Handle, Header, Message, Outgoing, Rights, Transfer, MAX_VALUES, MESSAGE_HANDLES,
};

use crate::object::{HandleTable, Held, Place, Space};

/// The values of a message that fits into registers and comes from there, without a token.
#[inline(always)]
pub(super) fn short(message: Outgoing, badge: u64) -> Option<[u64; MAX_VALUES]> {
    match message {
        Outgoing::Registers {
            length,
            handles: 0,
            words: [first, second, third],
        } => Some([
            Header::new(length, false).to_raw(),
            badge,
            first,
            second,
            third,
        ]),
        _ => None,
    }
}

/// Copies the bytes of a message out of the sender's registers or memory; from here on they cannot
/// change.
#[inline(always)]
pub(super) fn fetch(space: &Space, message: Outgoing) -> Result<Message, Error> {
    match message {
        Outgoing::Registers {
            length,
            handles: 0,
            words: [first, second, third],
        } => Ok(Message {
            length,
            words: [first, second, third, 0, 0, 0, 0, 0],
        }),
        Outgoing::Registers { length, words, .. } => message_of(length, words.into_iter()),
        Outgoing::Memory {
            length, address, ..
        } => fetch_from_memory(space, length, address),
    }
}

#[inline(never)]
fn fetch_from_memory(space: &Space, length: u8, address: u64) -> Result<Message, Error> {
    let words = Place::new(space, address)?.load()?;
    message_of(length, words.into_iter())
}

/// Copies of the handles that go with a message. They count as held, until they are put into a
/// table or closed.
///
/// # Errors
/// As `grant` for each of them; none of them counts then.
#[inline(always)]
pub(super) fn pack(
    space: &Space,
    table: &HandleTable,
    message: Outgoing,
) -> Result<Vec<Held>, Error> {
    let (Outgoing::Registers { handles, .. } | Outgoing::Memory { handles, .. }) = message;
    if handles == 0 {
        return Ok(Vec::new());
    }
    pack_some(space, table, message)
}

#[inline(never)]
fn pack_some(space: &Space, table: &HandleTable, message: Outgoing) -> Result<Vec<Held>, Error> {
    match message {
        Outgoing::Registers {
            length,
            handles,
            words,
        } => {
            let behind = usize::from(length).div_ceil(8);
            copy_handles(table, handles, words.into_iter().skip(behind))
        }
        Outgoing::Memory {
            handles, address, ..
        } => {
            let words = Place::new(space, address)?.load_handles()?;
            copy_handles(table, handles, words.into_iter())
        }
    }
}

fn copy_handles(
    table: &HandleTable,
    count: u8,
    words: impl Iterator<Item = u64>,
) -> Result<Vec<Held>, Error> {
    let handles = words
        .take(usize::from(count))
        .map(|word| {
            let Transfer { handle, rights } = Transfer::from_raw(word)?;
            table.copy(handle, rights)
        })
        .collect::<Result<Vec<_>, Error>>()?;
    for held in &handles {
        held.object.opened(held.rights);
    }
    Ok(handles)
}

#[inline]
fn message_of(length: u8, words: impl Iterator<Item = u64>) -> Result<Message, Error> {
    Message::from_words(length, words).ok_or(Error::BadArgument)
}

/// Puts the handles of a delivered message into the table, which has room for them, and their new
/// numbers behind its bytes.
#[cold]
pub(super) fn deliver_handles(
    table: &mut HandleTable,
    handles: Vec<Held>,
    length: u8,
    buffer: Option<Place<'_>>,
    values: &mut [u64; MAX_VALUES],
) {
    let in_memory =
        Header::from_raw(values[0] & u64::from(u32::MAX)).is_ok_and(|header| header.in_memory);
    let mut words = [0; MESSAGE_HANDLES];
    let count = handles.len();
    for (word, held) in words.iter_mut().zip(handles) {
        let rights = held.rights;
        *word = table
            .adopt(held)
            .map_or(0, |handle| as_transfer(handle, rights));
    }
    let words = words.get(..count).unwrap_or_default();
    match buffer {
        Some(buffer) if in_memory => {
            // Where the domain has lost its memory since the bytes were written, it has lost this, too.
            let _ = buffer.store_handles(words);
        }
        _ => {
            let registers = values.iter_mut().skip(2);
            let behind = registers.skip(usize::from(length).div_ceil(8));
            for (register, word) in behind.zip(words) {
                *register = *word;
            }
        }
    }
}

fn as_transfer(handle: Handle, rights: Rights) -> u64 {
    Transfer { handle, rights }.to_raw()
}
