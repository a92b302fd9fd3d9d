//! `program=lender reads=N`: takes a page back from domains that are just writing to it.
//!
//! Lends one page to every domain to which it has a port, each of them a `program=borrower`; waits
//! until all count in it, and takes it back. The frame is used again at once, for fresh memory of the
//! lender's. It reads that N times: a CPU that still used the old translation would write to it. A
//! borrower ends at its next write; the lender waits until all have.

use nuncio_abi::{Deadline, Error, Message, ObjectKind, Rights, Transfer, PAGE_BYTES};

use super::loan::{fill, first_change, has_begun};
use super::{Context, ExitCode, FAILED, GOOD};
use crate::hv::{rest_until, Client, Machine, Memory, Object, Port, Space};
use crate::machine::{Native, WindowView};
use crate::println;

const READ_AND_WRITE: Rights = Rights::from_set(&[Rights::READ, Rights::WRITE]);

/// So long the borrowers may take to begin, and to end.
const PATIENCE_NS: u64 = 10_000_000_000;
const REST_NS: u64 = 100_000;

/// What went wrong.
#[derive(Debug)]
#[expect(dead_code, reason = "read by people, through Debug")]
enum Miss {
    Refused(Error),
    NoBorrower,
    NotBegun {
        borrower: usize,
    },
    Changed {
        page: usize,
        word: usize,
        value: u64,
    },
    NotEnded {
        borrower: usize,
    },
}

impl From<Error> for Miss {
    fn from(error: Error) -> Self {
        Miss::Refused(error)
    }
}

/// Runs the program.
pub fn run(context: &mut Context<'_, Native>) -> ExitCode {
    let reads = match context.number("reads", 50_000) {
        Ok(reads) => reads,
        Err(code) => return code,
    };
    match lend_and_take_back(&context.client(), reads) {
        Ok(borrowers) => {
            println!("lender: taken back from {borrowers} domains, and none wrote later");
            GOOD
        }
        Err(why) => {
            println!("lender FAILED: {why:?}");
            FAILED
        }
    }
}

fn lend_and_take_back(client: &Client<'_, Native>, reads: u64) -> Result<usize, Miss> {
    let borrowers = || borrowers(client);
    let count = borrowers().count();
    if count == 0 {
        return Err(Miss::NoBorrower);
    }
    let space = client.space()?;
    let memory = client.create_memory(PAGE_BYTES)?;
    let view = memory.attach(&space, READ_AND_WRITE)?;
    let page = view.words(0).ok_or(Error::BadAddress)?;
    fill(page);
    for (index, port) in borrowers().enumerate() {
        let word = index.to_le_bytes();
        let message = Message::from_bytes(&word).ok_or(Error::BadArgument)?;
        let transfer = Transfer {
            handle: memory.object().handle(),
            rights: READ_AND_WRITE,
        };
        port.send_with(&message, &[transfer])?;
    }
    for borrower in 0..count {
        wait_until(client.machine(), || {
            has_begun(page, borrower) != Some(false)
        })
        .ok_or(Miss::NotBegun { borrower })?;
    }
    memory.object().close()?;
    let fresh = fresh_pages(client, &space)?;
    for _ in 0..reads {
        stays_zero(&fresh, count)?;
    }
    for (borrower, port) in borrowers().enumerate() {
        let has_ended = || port.send_words([0; 3]) == Err(Error::PeerGone);
        wait_until(client.machine(), has_ended).ok_or(Miss::NotEnded { borrower })?;
    }
    stays_zero(&fresh, usize::MAX)?;
    Ok(count)
}

/// The ports of the borrowers.
fn borrowers<'m>(client: &Client<'m, Native>) -> impl Iterator<Item = Port<'m, Native>> {
    let machine = client.machine();
    let entries = client.all(ObjectKind::Port, Rights::SEND);
    entries
        .filter(|entry| entry.name.as_str() != "console")
        .filter_map(|entry| Some((entry.handle()?, entry.slot())))
        .map(|(handle, slot)| Port::new(Object::new(machine, handle), slot))
}

/// Fresh memory, page by page: the frame that has just become free is the first that is used again. All
/// are made before one is mapped, because that takes frames for page tables.
fn fresh_pages<'m>(
    client: &Client<'m, Native>,
    space: &Space<'m, Native>,
) -> Result<[WindowView; 4], Error> {
    let make = || client.create_memory(PAGE_BYTES);
    let [first, second, third, fourth] = [make()?, make()?, make()?, make()?];
    let attach = |memory: Memory<'m, Native>| memory.attach(space, READ_AND_WRITE);
    Ok([
        attach(first)?,
        attach(second)?,
        attach(third)?,
        attach(fourth)?,
    ])
}

/// Nobody has written to the first words of the fresh pages.
fn stays_zero(fresh: &[WindowView], words: usize) -> Result<(), Miss> {
    for (number, view) in fresh.iter().enumerate() {
        let page = view.words(0).ok_or(Error::BadAddress)?;
        let (watched, _) = page.split_at(words.min(page.len()));
        if let Some((word, value)) = first_change(watched) {
            return Err(Miss::Changed {
                page: number,
                word,
                value,
            });
        }
    }
    Ok(())
}

/// Looks from time to time; `None` if it takes too long.
fn wait_until(machine: &Native, is_so: impl Fn() -> bool) -> Option<()> {
    let end_ns = machine.now_ns() + PATIENCE_NS;
    while !is_so() {
        let now_ns = machine.now_ns();
        if Deadline(end_ns).has_passed(now_ns) {
            return None;
        }
        rest_until(machine, now_ns + REST_NS);
    }
    Some(())
}
