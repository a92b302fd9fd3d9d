//! Objects that guests make themselves: handles in messages, calls and their answers, timers.

use alloc::vec;

use core::sync::atomic::Ordering::Relaxed;

use nuncio_abi::{
    Call, CallToken, Create, Deadline, Error, Handle, Header, Outgoing, QueryItem, Rights,
    StopReason, Transfer, VcpuPage,
};

use super::machine::script;
use super::talking::{handle, receive, PAIR};
use super::{run, stop};
use crate::mem::GuestPhysical;
use crate::vt::fake::{Gone, Guest};

/// A slot that the plan has not given to anything.
const SLOT: u64 = 40;

pub(super) type Answered<T> = Result<Result<T, Error>, Gone>;

pub(super) fn create(guest: &mut Guest, what: Create) -> Answered<(Handle, Option<Handle>)> {
    let made = guest.call(Call::Create(what))?;
    Ok(made.map(|[first, second, ..]| {
        let handle = |raw| Handle::from_raw(raw).filter(|handle| handle.raw() != 0);
        (handle(first).unwrap(), handle(second))
    }))
}

pub(super) fn send_transfer(
    guest: &mut Guest,
    port: Handle,
    handle: Handle,
    rights: Rights,
) -> Answered<()> {
    let transfer = Transfer { handle, rights };
    let message = Outgoing::Registers {
        length: 8,
        handles: 1,
        words: [0xFEED, transfer.to_raw(), 0],
    };
    Ok(guest.call(Call::Send { port, message })?.map(|_| ()))
}

pub(super) fn used(guest: &mut Guest) -> Result<[u64; 2], Gone> {
    let domain = handle(guest, "domain");
    let ask = |item| Call::Query {
        handle: domain,
        item,
    };
    let [frames, ..] = guest.call(ask(QueryItem::Usage))?.unwrap();
    let [bytes, ..] = guest.call(ask(QueryItem::KernelUsage))?.unwrap();
    Ok([frames, bytes])
}

#[test]
fn what_a_guest_makes_is_paid_by_it_and_paid_back() {
    run(
        PAIR,
        vec![
            script(|guest| {
                let [frames, bytes] = used(guest)?;
                let (memory, none) = create(guest, Create::Memory { bytes: 8192 })?.unwrap();
                assert_eq!(none, None);
                assert_eq!(used(guest)?[0], frames + 2);
                let port = Create::Port {
                    capacity: 4,
                    slot: SLOT,
                };
                let (receiver, sender) = create(guest, port)?.unwrap();
                assert!(used(guest)?[1] > bytes + 4 * 100);
                for handle in [memory, receiver, sender.unwrap()] {
                    guest.call(Call::Close { handle })?.unwrap();
                }
                assert_eq!(used(guest)?, [frames, bytes]);
                stop(guest, 0)
            }),
            script(|guest| stop(guest, 0)),
        ],
    );
}

#[test]
fn what_cannot_be_made_is_refused_and_costs_nothing() {
    run(
        PAIR,
        vec![
            script(|guest| {
                let before = used(guest)?;
                let memory = |bytes| Create::Memory { bytes };
                let port = |capacity, slot| Create::Port { capacity, slot };
                for (what, error) in [
                    (memory(0), Error::BadArgument),
                    (memory(4095), Error::BadArgument),
                    (memory((16 << 20) + 4096), Error::BadArgument),
                    (memory(16 << 20), Error::QuotaExhausted),
                    (port(0, SLOT), Error::BadArgument),
                    (port(257, SLOT), Error::BadArgument),
                    (port(1, 64), Error::BadArgument),
                    (
                        Create::Event {
                            slot: 64,
                            interval_ns: 0,
                        },
                        Error::BadArgument,
                    ),
                ] {
                    assert_eq!(create(guest, what)?, Err(error), "{what:?}");
                }
                assert_eq!(used(guest)?, before);
                let mut ports = 0;
                while create(guest, port(256, SLOT))?.is_ok() {
                    ports += 1;
                }
                assert!((1..64).contains(&ports), "{ports} ports");
                stop(guest, 0)
            }),
            script(|guest| stop(guest, 0)),
        ],
    );
}

#[test]
fn a_copy_is_weaker_and_its_badge_stays() {
    run(
        PAIR,
        vec![
            script(|guest| {
                let port = Create::Port {
                    capacity: 4,
                    slot: SLOT,
                };
                let (receiver, sender) = create(guest, port)?.unwrap();
                let sender = sender.unwrap();
                let mut grant = |handle, rights, badge| -> Answered<Handle> {
                    let copied = guest.call(Call::Grant {
                        handle,
                        rights,
                        badge,
                        to: None,
                    })?;
                    Ok(copied.map(|[raw, ..]| Handle::from_raw(raw).unwrap()))
                };
                let all = Rights::SEND | Rights::GRANT;
                let badged = grant(sender, all, 77)?.unwrap();
                assert_eq!(grant(badged, all, 78)?, Err(Error::MissingRight));
                assert_eq!(
                    grant(sender, all | Rights::READ, 0)?,
                    Err(Error::MissingRight)
                );
                assert_eq!(grant(receiver, Rights::NONE, 0)?, Err(Error::MissingRight));
                assert_eq!(grant(sender, Rights::RECEIVE, 0)?, Err(Error::BadArgument));
                let last = grant(badged, Rights::SEND, 0)?.unwrap();
                assert_eq!(grant(last, Rights::SEND, 0)?, Err(Error::MissingRight));
                let message = Outgoing::registers(0, [0; 3]);
                guest
                    .call(Call::Send {
                        port: last,
                        message,
                    })?
                    .unwrap();
                let [_, badge, ..] = guest
                    .call(Call::Receive {
                        port: receiver,
                        deadline: Deadline::NOW,
                        buffer: 0,
                    })?
                    .unwrap();
                assert_eq!(badge, 77);
                stop(guest, 0)
            }),
            script(|guest| stop(guest, 0)),
        ],
    );
}

#[test]
fn memory_travels_in_a_message_with_the_rights_that_were_given() {
    run(
        PAIR,
        vec![
            script(|guest| {
                let (memory, _) = create(guest, Create::Memory { bytes: 4096 })?.unwrap();
                let mail = handle(guest, "mail");
                let bound = send_transfer(guest, mail, memory, Rights::RECEIVE)?;
                assert_eq!(bound, Err(Error::BadArgument));
                let none = Handle::new(900, 1);
                let missing = send_transfer(guest, mail, none, Rights::READ)?;
                assert_eq!(missing, Err(Error::BadHandle));
                let own = handle(guest, "space");
                let forbidden = send_transfer(guest, mail, own, Rights::MAP)?;
                assert_eq!(forbidden, Err(Error::MissingRight));
                send_transfer(guest, mail, memory, Rights::READ)?.unwrap();
                // With its maker the memory goes.
                let later = Deadline(500_000_000);
                guest.call(Call::Wait { deadline: later })?.unwrap_err();
                stop(guest, 0)
            }),
            script(|guest| {
                let [header, _, data, word, rest] = receive(guest, Deadline::NEVER)?.unwrap();
                let header = Header::from_raw(header).unwrap();
                assert_eq!(
                    (header.length, header.handles, header.in_memory),
                    (8, 1, false)
                );
                assert_eq!((data, rest), (0xFEED, 0));
                let Transfer {
                    handle: memory,
                    rights,
                } = Transfer::from_raw(word).unwrap();
                assert_eq!(rights, Rights::READ);
                let mut map = |access| {
                    let space = handle(guest, "space");
                    guest.call(Call::Map {
                        space,
                        memory,
                        address: 1 << 32,
                        offset: 0,
                        length: 4096,
                        access,
                    })
                };
                assert_eq!(map(Rights::READ | Rights::WRITE)?, Err(Error::MissingRight));
                map(Rights::READ)?.unwrap();
                stop(guest, 0)
            }),
        ],
    );
}

#[test]
fn a_message_in_memory_carries_four_handles() {
    run(
        PAIR,
        vec![
            script(|guest| {
                let page = guest.words(GuestPhysical(0x30_0000)).unwrap();
                let (memory, _) = create(guest, Create::Memory { bytes: 4096 })?.unwrap();
                let transfer = Transfer {
                    handle: memory,
                    rights: Rights::READ,
                };
                page[0].store(5, Relaxed);
                for word in &page[8..12] {
                    word.store(transfer.to_raw(), Relaxed);
                }
                let message = Outgoing::Memory {
                    length: 64,
                    handles: 4,
                    address: 0x30_0000,
                };
                let port = handle(guest, "mail");
                guest.call(Call::Send { port, message })?.unwrap();
                page[11].store(0, Relaxed);
                let refused = guest.call(Call::Send { port, message })?;
                assert_eq!(refused, Err(Error::BadHandle));
                stop(guest, 0)
            }),
            script(|guest| {
                let page = guest.words(GuestPhysical(0x30_0000)).unwrap();
                assert_eq!(receive(guest, Deadline::NEVER)?, Err(Error::BufferTooSmall));
                let port = handle(guest, "mail");
                let [header, ..] = guest
                    .call(Call::Receive {
                        port,
                        deadline: Deadline::NOW,
                        buffer: 0x30_0000,
                    })?
                    .unwrap();
                assert_eq!(Header::from_raw(header).unwrap().handles, 4);
                assert_eq!(page[0].load(Relaxed), 5);
                let handles: alloc::vec::Vec<_> = page[8..12]
                    .iter()
                    .map(|word| Transfer::from_raw(word.load(Relaxed)).unwrap().handle)
                    .collect();
                for (index, handle) in handles.iter().enumerate() {
                    assert!(!handles[..index].contains(handle));
                    guest.call(Call::Close { handle: *handle })?.unwrap();
                }
                stop(guest, 0)
            }),
        ],
    );
}

/// A message that carries the right to send to the very port in whose queue it lies.
#[test]
fn a_port_does_not_keep_itself_alive() {
    run(
        PAIR,
        vec![
            script(|guest| {
                let before = used(guest)?;
                let port = Create::Port {
                    capacity: 4,
                    slot: SLOT,
                };
                let (receiver, sender) = create(guest, port)?.unwrap();
                let sender = sender.unwrap();
                send_transfer(guest, sender, sender, Rights::SEND)?.unwrap();
                guest.call(Call::Close { handle: sender })?.unwrap();
                guest.call(Call::Close { handle: receiver })?.unwrap();
                assert_eq!(used(guest)?, before);
                stop(guest, 0)
            }),
            script(|guest| stop(guest, 0)),
        ],
    );
}

#[test]
fn a_call_brings_its_answer() {
    let outcome = run(
        PAIR,
        vec![
            script(|guest| {
                let port = handle(guest, "mail");
                for question in 0..3 {
                    let message = Outgoing::registers(8, [question, 0, 0]);
                    let call = Call::Call {
                        port,
                        message,
                        deadline: Deadline::NEVER,
                    };
                    let [header, badge, first, ..] = guest.call(call)?.unwrap();
                    assert_eq!((header, badge, first), (8, 0, question + 100));
                }
                stop(guest, 0)
            }),
            script(|guest| {
                let port = handle(guest, "mail");
                let mut received = receive(guest, Deadline::NEVER)?;
                while let Ok([header, badge, question, ..]) = received {
                    assert_eq!(badge, 1);
                    received = guest.call(Call::Reply {
                        port,
                        token: CallToken::from_header(header).unwrap(),
                        message: Outgoing::registers(8, [question + 100, 0, 0]),
                        then_receive: true,
                    })?;
                }
                assert_eq!(received, Err(Error::PeerGone));
                stop(guest, 0)
            }),
        ],
    );
    assert_eq!(outcome.ending(1), (StopReason::Exited, 0));
}

#[test]
fn a_call_that_nobody_answers_ends() {
    run(
        PAIR,
        vec![
            script(|guest| {
                let port = handle(guest, "mail");
                let call = |deadline| Call::Call {
                    port,
                    message: Outgoing::registers(0, [0; 3]),
                    deadline,
                };
                assert_eq!(guest.call(call(Deadline::NOW))?, Err(Error::TimedOut));
                assert_eq!(guest.call(call(Deadline(50_000)))?, Err(Error::TimedOut));
                assert_eq!(guest.call(call(Deadline::NEVER))?, Err(Error::QueueFull));
                // The receiver takes the first one, finds that nobody waits, and goes.
                let end = guest.call(call(Deadline(200_000_000)))?;
                assert_eq!(end, Err(Error::QueueFull));
                let bell = handle(guest, "bell");
                guest
                    .call(Call::Notify {
                        event: bell,
                        bits: 1,
                    })?
                    .unwrap();
                guest
                    .call(Call::Wait {
                        deadline: Deadline(300_000_000),
                    })?
                    .unwrap_err();
                assert_eq!(guest.call(call(Deadline::NEVER))?, Err(Error::PeerGone));
                stop(guest, 0)
            }),
            script(|guest| {
                let info = guest.boot_info();
                let page = VcpuPage::new(guest.words(GuestPhysical(info.vcpu_page)).unwrap());
                let slot = info.handle("bell").unwrap().slot();
                page.slot(slot).unwrap().enable(1);
                guest
                    .call(Call::Wait {
                        deadline: Deadline::NEVER,
                    })?
                    .unwrap();
                page.slot(slot).unwrap().take();
                let port = handle(guest, "mail");
                let [header, ..] = receive(guest, Deadline::NOW)?.unwrap();
                let late = guest.call(Call::Reply {
                    port,
                    token: CallToken::from_header(header).unwrap(),
                    message: Outgoing::registers(0, [0; 3]),
                    then_receive: false,
                })?;
                assert_eq!(late, Err(Error::PeerGone));
                stop(guest, 0)
            }),
        ],
    );
}

#[test]
fn callers_learn_that_their_server_has_died() {
    run(
        PAIR,
        vec![
            script(|guest| {
                let port = handle(guest, "mail");
                let call = Call::Call {
                    port,
                    message: Outgoing::registers(0, [0; 3]),
                    deadline: Deadline::NEVER,
                };
                assert_eq!(guest.call(call)?, Err(Error::PeerGone));
                stop(guest, 0)
            }),
            script(|guest| {
                receive(guest, Deadline::NEVER)?.unwrap();
                stop(guest, 0)
            }),
        ],
    );
}

#[test]
fn an_answer_that_does_not_fit_leaves_the_caller_waiting() {
    run(
        PAIR,
        vec![
            script(|guest| {
                let port = handle(guest, "mail");
                let call = Call::Call {
                    port,
                    message: Outgoing::registers(0, [0; 3]),
                    deadline: Deadline::NEVER,
                };
                let [header, _, first, ..] = guest.call(call)?.unwrap();
                assert_eq!((header, first), (24, 7));
                stop(guest, 0)
            }),
            script(|guest| {
                let [header, ..] = receive(guest, Deadline::NEVER)?.unwrap();
                let port = handle(guest, "mail");
                let reply = |message| Call::Reply {
                    port,
                    token: CallToken::from_header(header).unwrap(),
                    message,
                    then_receive: false,
                };
                let long = guest.call(reply(Outgoing::memory(25, 0x30_0000)))?;
                assert_eq!(long, Err(Error::BadArgument));
                let short = Outgoing::registers(24, [7, 8, 9]);
                guest.call(reply(short))?.unwrap();
                assert_eq!(guest.call(reply(short))?, Err(Error::PeerGone));
                stop(guest, 0)
            }),
        ],
    );
}

#[test]
fn a_timer_sets_bits_when_it_is_due() {
    run(
        PAIR,
        vec![
            script(|guest| {
                let info = guest.boot_info();
                let page = VcpuPage::new(guest.words(GuestPhysical(info.vcpu_page)).unwrap());
                let slot = page.slot(SLOT as usize).unwrap();
                slot.enable(u64::MAX);
                let (_, bell) = create(
                    guest,
                    Create::Event {
                        slot: SLOT,
                        interval_ns: 0,
                    },
                )?
                .unwrap();
                let event = bell.unwrap();
                let mut timers = [event; 2];
                for (timer, bits) in timers.iter_mut().zip([1, 2]) {
                    *timer = create(guest, Create::Timer { event, bits })?.unwrap().0;
                }
                let [first, second] = timers;
                let arm = |timer, deadline| Call::Arm { timer, deadline };
                guest.call(arm(first, Deadline(9_000_000)))?.unwrap();
                guest.call(arm(second, Deadline(5_000_000)))?.unwrap();
                guest
                    .call(Call::Wait {
                        deadline: Deadline::NEVER,
                    })?
                    .unwrap();
                assert_eq!(slot.take(), 2);
                guest
                    .call(Call::Wait {
                        deadline: Deadline::NEVER,
                    })?
                    .unwrap();
                assert_eq!(slot.take(), 1);
                guest.call(arm(first, Deadline::NOW))?.unwrap();
                assert_eq!(slot.take(), 1, "the past is at once");
                guest.call(arm(first, Deadline(15_000_000)))?.unwrap();
                guest.call(arm(first, Deadline::NEVER))?.unwrap();
                guest.call(Call::Close { handle: second })?.unwrap();
                let later = Deadline(40_000_000);
                let waited = guest.call(Call::Wait { deadline: later })?;
                assert_eq!(waited, Err(Error::TimedOut), "disarmed");
                stop(guest, 0)
            }),
            script(|guest| stop(guest, 0)),
        ],
    );
}
