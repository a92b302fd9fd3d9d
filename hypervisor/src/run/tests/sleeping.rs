//! What happens to a vcpu between the moment when a message or an answer is left to it and the one
//! when it runs.

use alloc::vec;

use core::sync::atomic::Ordering::Relaxed;

use nuncio_abi::{
    Call, CallToken, Create, Deadline, Error, Handle, Outgoing, Rights, StopReason, Transfer,
};

use super::machine::script;
use super::objects::{create, send_transfer, Answered};
use super::talking::{handle, receive, send, PAIR};
use super::{run, stop};
use crate::mem::GuestPhysical;
use crate::vt::fake::{Gone, Guest};

/// Where memory is mapped that its maker can take back.
const LENT: u64 = 1 << 32;
/// In the RAM.
const OWN: u64 = 0x30_0080;
const ALL: Rights = Rights::ACCESS;

fn map(guest: &mut Guest, word: u64) -> Result<(), Gone> {
    let call = Call::Map {
        space: handle(guest, "space"),
        memory: Transfer::from_raw(word).unwrap().handle,
        address: LENT,
        offset: 0,
        length: 4096,
        access: ALL,
    };
    guest.call(call)?.unwrap();
    Ok(())
}

fn fill(guest: &Guest, first: u64) {
    let page = guest.words(GuestPhysical(OWN & !0xFFF)).unwrap();
    for (number, word) in (first..).zip(&page[16..24]) {
        word.store(number, Relaxed);
    }
}

fn receive_at(guest: &mut Guest, buffer: u64) -> Answered<[u64; 5]> {
    let port = handle(guest, "mail");
    guest.call(Call::Receive {
        port,
        deadline: Deadline::NEVER,
        buffer,
    })
}

fn nap(guest: &mut Guest, until_ns: u64) -> Result<(), Gone> {
    let deadline = Deadline(until_ns);
    guest.call(Call::Wait { deadline })?.unwrap_err();
    Ok(())
}

fn reply(token: u64, port: Handle, message: Outgoing) -> Call {
    Call::Reply {
        port,
        token: CallToken::from_header(token).unwrap(),
        message,
        then_receive: false,
    }
}

#[test]
fn a_message_that_was_left_in_time_is_not_too_late() {
    let outcome = run(
        PAIR,
        vec![
            script(|guest| {
                nap(guest, 1_000_000)?;
                send(guest, "mail", b"now")?.unwrap();
                // The receiver does not run before its deadline has passed.
                guest.compute(4_000_000)?;
                stop(guest, 0)
            }),
            script(|guest| {
                let [header, _, first, ..] = receive(guest, Deadline(3_000_000))?.unwrap();
                assert_eq!((header, &first.to_le_bytes()[..3]), (3, b"now".as_slice()));
                assert_eq!(receive(guest, Deadline(60_000_000))?, Err(Error::PeerGone));
                stop(guest, 0)
            }),
        ],
    );
    assert_eq!(outcome.reports[1].traffic[1], 1);
}

#[test]
fn a_message_that_was_left_is_no_longer_queued() {
    run(
        PAIR,
        vec![
            script(|guest| {
                nap(guest, 1_000_000)?;
                // One for the sleeper, and two that the port holds.
                for _ in 0..3 {
                    send(guest, "mail", b"x")?.unwrap();
                }
                assert_eq!(send(guest, "mail", b"x")?, Err(Error::QueueFull));
                stop(guest, 0)
            }),
            script(|guest| {
                for _ in 0..3 {
                    receive(guest, Deadline::NEVER)?.unwrap();
                }
                assert_eq!(receive(guest, Deadline::NEVER)?, Err(Error::PeerGone));
                stop(guest, 0)
            }),
        ],
    );
}

#[test]
fn a_long_message_is_written_where_the_sleeper_wanted_it() {
    run(
        PAIR,
        vec![
            script(|guest| {
                nap(guest, 1_000_000)?;
                fill(guest, 70);
                let port = handle(guest, "mail");
                let message = Outgoing::memory(60, OWN);
                guest.call(Call::Send { port, message })?.unwrap();
                stop(guest, 0)
            }),
            script(|guest| {
                let values = receive_at(guest, 0x20_0100)?.unwrap();
                assert_eq!(values, [60 | 1 << 7, 1, 0, 0, 0]);
                let page = guest.words(GuestPhysical(0x20_0000)).unwrap();
                let words: [u64; 8] = core::array::from_fn(|word| page[32 + word].load(Relaxed));
                assert_eq!(words, [70, 71, 72, 73, 74, 75, 76, 77]);
                stop(guest, 0)
            }),
        ],
    );
}

#[test]
fn a_sleepers_buffer_that_is_taken_back_is_not_written() {
    run(
        PAIR,
        vec![
            script(|guest| {
                let (memory, _) = create(guest, Create::Memory { bytes: 4096 })?.unwrap();
                let port = handle(guest, "mail");
                send_transfer(guest, port, memory, ALL)?.unwrap();
                nap(guest, 1_000_000)?;
                guest.call(Call::Close { handle: memory })?.unwrap();
                fill(guest, 70);
                let message = Outgoing::memory(64, OWN);
                guest.call(Call::Send { port, message })?.unwrap();
                stop(guest, 0)
            }),
            script(|guest| {
                let [_, _, _, word, _] = receive(guest, Deadline::NEVER)?.unwrap();
                map(guest, word)?;
                assert_eq!(receive_at(guest, LENT)?, Err(Error::BadAddress));
                let values = receive_at(guest, OWN)?.unwrap();
                assert_eq!(values, [64 | 1 << 7, 1, 0, 0, 0], "it stayed in the queue");
                stop(guest, 0)
            }),
        ],
    );
}

#[test]
fn an_answer_to_memory_that_is_taken_back_is_lost() {
    let outcome = run(
        PAIR,
        vec![
            script(|guest| {
                let port = handle(guest, "mail");
                let call = |message| Call::Call {
                    port,
                    message,
                    deadline: Deadline::NEVER,
                };
                let question = Outgoing::registers(0, [0; 3]);
                let [_, _, word, ..] = guest.call(call(question))?.unwrap();
                map(guest, word)?;
                let asked = guest.call(call(Outgoing::memory(0, LENT)))?;
                assert_eq!(asked, Err(Error::BadAddress));
                stop(guest, 0)
            }),
            script(|guest| {
                let (memory, _) = create(guest, Create::Memory { bytes: 4096 })?.unwrap();
                let port = handle(guest, "mail");
                let [token, ..] = receive(guest, Deadline::NEVER)?.unwrap();
                let transfer = Transfer {
                    handle: memory,
                    rights: ALL,
                };
                let message = Outgoing::Registers {
                    length: 0,
                    handles: 1,
                    words: [transfer.to_raw(), 0, 0],
                };
                guest.call(reply(token, port, message))?.unwrap();
                let [token, ..] = receive(guest, Deadline::NEVER)?.unwrap();
                guest.call(Call::Close { handle: memory })?.unwrap();
                let message = Outgoing::memory(64, OWN);
                guest.call(reply(token, port, message))?.unwrap();
                stop(guest, 0)
            }),
        ],
    );
    assert_eq!(outcome.ending(0), (StopReason::Exited, 0));
}
