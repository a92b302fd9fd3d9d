//! Calls that stand in a ring.

use alloc::vec;

use core::sync::atomic::Ordering::Relaxed;

use nuncio_abi::{
    Call, Create, Deadline, Error, ExitKind, Handle, Outgoing, RawCall, Reply, Resume, Rights,
    RingPage, StopReason, VcpuExit, VcpuPage, Verb, RING_ENTRIES,
};

use super::domains::{close, make_monitored, start, Child, ONE, SLOT};
use super::machine::script;
use super::objects::{create, Answered};
use super::talking::{handle, receive, send, PAIR};
use super::{run, run_traced, stop};
use crate::mem::GuestPhysical;
use crate::vt::fake::{Gone, Guest};
use crate::vt::Exit;

/// RAM that nothing else is in.
pub(super) const RING: u64 = 0x18_0000;

pub(super) fn ring(guest: &Guest) -> RingPage<'static> {
    RingPage::new(guest.words(GuestPhysical(RING)).unwrap())
}

pub(super) fn submit(guest: &mut Guest, entries: u64) -> Answered<u64> {
    submit_at(guest, RING, entries)
}

fn submit_at(guest: &mut Guest, address: u64, entries: u64) -> Answered<u64> {
    let raw = RawCall {
        verb: Verb::Submit.number(),
        arguments: [address, entries, 0, 0, 0],
    };
    let reply = guest.raw_call(raw)?;
    Ok(reply.map(|[done, zero, rest @ ..]| {
        // R8 carries no value, RDI and RSI what they held.
        assert_eq!((zero, rest), (0, [0, address, entries]));
        done
    }))
}

/// Makes these calls by one `submit`.
fn all<const N: usize>(guest: &mut Guest, calls: [Call; N]) -> Result<[Reply; N], Gone> {
    let ring = ring(guest);
    let numbers = calls.map(|call| ring.push(&call.encode(), 0).unwrap());
    assert_eq!(submit(guest, 31)?, Ok(N as u64));
    Ok(numbers.map(|number| ring.reply(number).unwrap()))
}

const NOTHING: Reply = Reply::Full([0; 5]);
const WAIT: Call = Call::Wait {
    deadline: Deadline::NEVER,
};

fn notify(event: Handle, bits: u64) -> Call {
    Call::Notify { event, bits }
}

#[test]
fn entries_are_made_in_order_and_their_replies_stand_in_them() {
    run(
        PAIR,
        vec![
            script(|guest| {
                let bell = handle(guest, "bell");
                let unknown = RawCall {
                    verb: 4711,
                    arguments: [0; 5],
                };
                let ring = ring(guest);
                for raw in [Call::HELLO.encode(), notify(bell, 1).encode(), unknown] {
                    ring.push(&raw, 5).unwrap();
                }
                assert_eq!(submit(guest, 2)?, Ok(2));
                let version = u64::from(nuncio_abi::VERSION.to_raw());
                assert_eq!(ring.reply(0), Some(Reply::Full([version, 0, 0, 0, 0])));
                assert_eq!(ring.reply(1), Some(NOTHING));
                assert_eq!((ring.reply(2), ring.tag(2)), (None, 5));
                assert_eq!(submit(guest, 31)?, Ok(1));
                assert_eq!(ring.reply(2), Some(Reply::Error(Error::UnknownVerb)));
                assert_eq!(submit(guest, 31)?, Ok(0), "nothing is left");
                stop(guest, 0)
            }),
            script(|guest| {
                guest.call(WAIT).map(drop)?;
                stop(guest, 0)
            }),
        ],
    );
}

#[test]
fn a_ring_goes_round() {
    run(
        ONE,
        vec![script(|guest| {
            let ring = ring(guest);
            for round in 0..5 {
                for _ in 0..RING_ENTRIES {
                    ring.push(&Call::HELLO.encode(), round).unwrap();
                }
                assert_eq!(ring.push(&Call::HELLO.encode(), 0), None);
                assert_eq!(submit(guest, 7)?, Ok(7));
                assert_eq!(submit(guest, 31)?, Ok(24));
            }
            stop(guest, 0)
        })],
    );
}

#[test]
fn what_is_no_ring_is_refused() {
    run(
        ONE,
        vec![script(|guest| {
            let info = guest.boot_info();
            for address in [1, RING + 8, RING + 2048] {
                assert_eq!(submit_at(guest, address, 1)?, Err(Error::BadAddress));
            }
            for address in [info.mapped_end, info.text_page, info.time_page, 1 << 63] {
                assert_eq!(submit_at(guest, address, 1)?, Err(Error::BadAddress));
            }
            for entries in [0, 32, 257, u64::MAX] {
                assert_eq!(submit_at(guest, 1, entries)?, Err(Error::BadArgument));
            }
            let words = guest.words(GuestPhysical(RING)).unwrap();
            for (submitted, taken) in [(32, 0), (0, 1), (u64::MAX, 0), (1 << 32, 0)] {
                words[RingPage::SUBMITTED].store(submitted, Relaxed);
                words[RingPage::TAKEN].store(taken, Relaxed);
                assert_eq!(submit(guest, 1)?, Err(Error::BadArgument));
                assert_eq!(words[RingPage::TAKEN].load(Relaxed), taken);
            }
            stop(guest, 0)
        })],
    );
}

#[test]
fn no_entry_submits_and_reserved_words_are_zero() {
    run(
        ONE,
        vec![script(|guest| {
            let inner = Call::Submit {
                ring: RING,
                entries: 1,
            };
            let refused = Reply::Error(Error::BadArgument);
            assert_eq!(all(guest, [inner])?, [refused]);
            let ring = ring(guest);
            ring.push(&Call::HELLO.encode(), 0).unwrap();
            let words = guest.words(GuestPhysical(RING)).unwrap();
            words[RingPage::FIRST_ENTRY + 16 + RingPage::RESERVED].store(1, Relaxed);
            assert_eq!(submit(guest, 1)?, Ok(1));
            assert_eq!(ring.reply(1), Some(refused));
            stop(guest, 0)
        })],
    );
}

#[test]
fn an_entry_that_sleeps_puts_the_rest_off() {
    run(
        PAIR,
        vec![
            script(|guest| {
                let deadline = Deadline(3_000_000);
                guest.call(Call::Wait { deadline })?.unwrap_err();
                send(guest, "mail", b"x")?.unwrap();
                guest.compute(1_000_000)?;
                let event = handle(guest, "bell");
                guest.call(notify(event, 0b10))?.unwrap();
                stop(guest, 0)
            }),
            script(|guest| {
                let info = guest.boot_info();
                let page = VcpuPage::new(guest.words(GuestPhysical(info.vcpu_page)).unwrap());
                let slot = info.handle("bell").unwrap().slot();
                let port = handle(guest, "mail");
                let receive = Call::Receive {
                    port,
                    deadline: Deadline::NEVER,
                    buffer: 0,
                };
                page.slot(slot).unwrap().enable(u64::MAX);
                let timed = Call::Wait {
                    deadline: Deadline(1_000_000),
                };
                let replies = all(guest, [timed, receive, WAIT, Call::HELLO])?;
                assert_eq!(replies[0], Reply::Error(Error::TimedOut));
                assert_eq!(replies[1], Reply::Full([1, 1, u64::from(b'x'), 0, 0]));
                assert_eq!(replies[2], NOTHING);
                assert!(replies[3].result().is_ok());
                assert_eq!(page.slot(slot).unwrap().take(), 0b10);
                stop(guest, 0)
            }),
        ],
    );
}

#[test]
fn who_stops_in_a_ring_has_stopped() {
    let outcome = run(
        PAIR,
        vec![
            script(|guest| {
                let ring = ring(guest);
                let object = handle(guest, "domain");
                let stop = Call::Stop { object, code: 9 };
                ring.push(&stop.encode(), 0).unwrap();
                ring.push(&notify(handle(guest, "bell"), 1).encode(), 0);
                submit(guest, 2)?.unwrap();
                unreachable!("a domain that has stopped runs on");
            }),
            script(|guest| {
                assert_eq!(receive(guest, Deadline::NEVER)?, Err(Error::PeerGone));
                let slot = guest.boot_info().handle("bell").unwrap().slot();
                let page = guest.boot_info().vcpu_page;
                let page = VcpuPage::new(guest.words(GuestPhysical(page)).unwrap());
                assert_eq!(page.slot(slot).unwrap().pending(), 0);
                stop(guest, 0)
            }),
        ],
    );
    assert_eq!(outcome.ending(0), (StopReason::Exited, 9));
}

#[test]
fn a_ring_that_an_entry_takes_away_is_over() {
    run(
        ONE,
        vec![script(|guest| {
            let ring = ring(guest);
            let unmap = Call::Unmap {
                space: handle(guest, "space"),
                address: RING,
                length: 0x1000,
            };
            let words = guest.words(GuestPhysical(RING)).unwrap();
            for call in [Call::HELLO, unmap, Call::HELLO] {
                ring.push(&call.encode(), 0).unwrap();
            }
            assert_eq!(submit(guest, 31)?, Ok(2));
            assert_eq!(
                words[RingPage::TAKEN].load(Relaxed),
                1,
                "not written any more"
            );
            assert_eq!(submit(guest, 31)?, Err(Error::BadAddress));
            stop(guest, 0)
        })],
    );
}

#[test]
fn others_run_between_the_entries_of_a_long_ring() {
    let outcome = run(
        PAIR,
        vec![
            script(|guest| {
                let port = handle(guest, "console");
                let words = [u64::from_le_bytes(*b"\n\n\n\n\n\n\n\n"); 3];
                let message = Outgoing::registers(24, words);
                // Each takes about 20 ms.
                let replies = all(guest, [Call::Send { port, message }; 31])?;
                assert_eq!(replies, [NOTHING; 31]);
                stop(guest, 0)
            }),
            script(|guest| {
                for late in 1..10u64 {
                    let deadline = Deadline(late * 50_000_000);
                    guest.call(Call::Wait { deadline })?.unwrap_err();
                    send(guest, "console", b"me\n")?.unwrap();
                }
                stop(guest, 0)
            }),
        ],
    );
    let lines = outcome.lines.iter();
    let mut mine = lines.enumerate().filter(|(_, line)| line.contains("me"));
    let (first, _) = mine.next().unwrap();
    assert!(first < 24 * 5, "{first} lines came first");
    assert_eq!(mine.count(), 8);
    assert_eq!(outcome.ending(0), (StopReason::Exited, 0));
}

#[test]
fn domains_are_made_started_run_and_destroyed_in_a_ring() {
    run(
        ONE,
        vec![
            script(|guest| {
                let (state, _) = create(guest, Create::Memory { bytes: 0x1000 })?.unwrap();
                let child: Child = make_monitored(guest, None, None, Some(state))?;
                let start = Call::Start {
                    vcpu: child.vcpu,
                    entry: 0x1000,
                    stack: 0,
                    argument: 0,
                    page_table: 0,
                };
                let run = Call::Run {
                    vcpu: child.vcpu,
                    space: None,
                    resume: Resume::GO,
                };
                let handle = child.domain;
                let status = Call::Query {
                    handle,
                    item: nuncio_abi::QueryItem::Status,
                };
                let close = Call::Close { handle };
                let replies = all(guest, [start, start, run, status, close, status, start])?;
                assert_eq!(replies[..2], [NOTHING, Reply::Error(Error::WrongState)]);
                let [first, second, third, ..] = replies[2].result().unwrap();
                let exit = VcpuExit::from_words([first, second, third]).unwrap();
                assert_eq!(exit.kind(), ExitKind::Halt);
                assert_eq!(replies[3..5], [NOTHING; 2]);
                assert_eq!(replies[5], Reply::Error(Error::BadHandle));
                assert_eq!(
                    replies[6],
                    Reply::Error(Error::PeerGone),
                    "destroyed at once"
                );
                stop(guest, 0)
            }),
            script(|guest| {
                let interrupts_enabled = true;
                guest.exit(Exit::Halt { interrupts_enabled })?;
                Ok(())
            }),
        ],
    );
}

/// Puts the second page of a child's memory into a space.
fn map_second(guest: &mut Guest, space: Handle, child: &Child, address: u64) -> Result<(), Gone> {
    let call = Call::Map {
        space,
        memory: child.memory,
        address,
        offset: 0x1000,
        length: 0x1000,
        access: Rights::READ | Rights::WRITE,
    };
    guest.call(call)?.unwrap();
    Ok(())
}

/// A child with a port for its exits and with a second page.
fn monitored(guest: &mut Guest) -> Result<(Child, Handle), Gone> {
    let (state, _) = create(guest, Create::Memory { bytes: 0x1000 })?.unwrap();
    let slot = SLOT + 1;
    let (receiver, port) = create(guest, Create::Port { capacity: 1, slot })?.unwrap();
    let child = make_monitored(guest, None, port, Some(state))?;
    map_second(guest, child.space, &child, 0x1000)?;
    Ok((child, receiver))
}

fn next_exit(guest: &mut Guest, port: Handle) -> Result<VcpuExit, Gone> {
    let call = Call::Receive {
        port,
        deadline: Deadline(900_000_000),
        buffer: 0,
    };
    let [_, _, first, second, third] = guest.call(call)?.unwrap();
    Ok(VcpuExit::from_words([first, second, third]).unwrap())
}

#[test]
fn a_vcpu_that_is_stopped_in_a_ring_exits_behind_it() {
    run(
        ONE,
        vec![
            script(|guest| {
                let (child, port) = monitored(guest)?;
                start(guest, child.vcpu, 0)?.unwrap();
                let deadline = Deadline(1_000_000);
                guest.call(Call::Wait { deadline })?.unwrap_err();
                let object = child.vcpu;
                guest.call(Call::Stop { object, code: 0 })?.unwrap();
                assert_eq!(next_exit(guest, port)?.kind(), ExitKind::Recalled);
                let space = handle(guest, "space");
                map_second(guest, space, &child, 0x6000_0000)?;
                let base = guest.words(GuestPhysical(0x6000_0000)).unwrap();
                assert_eq!(base[1].load(Relaxed), 2, "both entries are done");
                close(guest, child.domain)?.unwrap();
                stop(guest, 0)
            }),
            script(|guest| {
                let page = RingPage::new(guest.words(GuestPhysical(0x1000)).unwrap());
                let deadline = Deadline(5_000_000);
                page.push(&Call::Wait { deadline }.encode(), 0).unwrap();
                page.push(&Call::HELLO.encode(), 0).unwrap();
                submit_at(guest, 0x1000, 31)?.unwrap();
                unreachable!("it has exited behind the ring");
            }),
        ],
    );
}

#[test]
fn a_trace_has_one_call_for_a_ring() {
    let outcome = run_traced(
        ONE,
        vec![script(|guest| {
            let deadline = Deadline(3_000_000);
            let replies = all(guest, [Call::HELLO, Call::Wait { deadline }, Call::HELLO])?;
            assert_eq!(replies[1], Reply::Error(Error::TimedOut));
            stop(guest, 0)
        })],
    );
    let report = alloc::string::ToString::to_string(&outcome.reports[0]);
    assert!(report.contains("runs=17,9.?\n"), "{report}");
}

/// Names the ring in the vcpu page.
fn name_ring(guest: &Guest, ring: u64) -> VcpuPage<'static> {
    let page = guest.boot_info().vcpu_page;
    let page = VcpuPage::new(guest.words(GuestPhysical(page)).unwrap());
    page.set_ring(ring);
    page
}

#[test]
fn wait_and_halt_begin_with_the_ring_that_the_vcpu_page_names() {
    run(
        ONE,
        vec![script(|guest| {
            let what = Create::Event {
                slot: SLOT,
                interval_ns: 0,
            };
            let (_, event) = create(guest, what)?.unwrap();
            let event = event.unwrap();
            let (timer, _) = create(guest, Create::Timer { event, bits: 2 })?.unwrap();
            let page = name_ring(guest, RING);
            let word = page.slot(SLOT as usize).unwrap();
            word.enable(u64::MAX);
            let ring = ring(guest);

            ring.push(&notify(event, 1).encode(), 0).unwrap();
            assert_eq!(guest.call(WAIT)?.map(drop), Ok(()));
            assert_eq!((ring.reply(0), word.take()), (Some(NOTHING), 1));

            let deadline = Deadline(3_000_000);
            let arm = Call::Arm { timer, deadline };
            ring.push(&arm.encode(), 0).unwrap();
            // It would have the ring made once more, and does not.
            let nested = Call::Wait {
                deadline: Deadline(1_000_000),
            };
            ring.push(&nested.encode(), 0).unwrap();
            ring.push(&Call::HELLO.encode(), 0).unwrap();
            let interrupts_enabled = true;
            guest.exit(Exit::Halt { interrupts_enabled })?;
            assert_eq!(ring.reply(2), Some(Reply::Error(Error::TimedOut)));
            assert!(ring.reply(3).is_some());
            assert_eq!(word.take(), 2);

            let deadline = Deadline(9_000_000);
            for nothing in [RING + 8, 1 << 40, guest.boot_info().text_page] {
                name_ring(guest, nothing);
                let waited = guest.call(Call::Wait { deadline })?;
                assert_eq!(waited, Err(Error::TimedOut));
            }
            stop(guest, 0)
        })],
    );
}

#[test]
fn who_is_stopped_on_its_way_to_halt_sleeps_there_when_it_goes_on() {
    run(
        ONE,
        vec![
            script(|guest| {
                let (child, port) = monitored(guest)?;
                start(guest, child.vcpu, 0)?.unwrap();
                let deadline = Deadline(1_000_000);
                guest.call(Call::Wait { deadline })?.unwrap_err();
                let object = child.vcpu;
                guest.call(Call::Stop { object, code: 0 })?.unwrap();
                let call = Call::Receive {
                    port,
                    deadline: Deadline(900_000_000),
                    buffer: 0,
                };
                let [header, ..] = guest.call(call)?.unwrap();
                let token = nuncio_abi::CallToken::from_header(header).unwrap();
                let answer = Call::Reply {
                    port,
                    token,
                    message: Outgoing::registers(8, [0; 3]),
                    then_receive: false,
                };
                guest.call(answer)?.unwrap();
                let deadline = Deadline(50_000_000);
                guest.call(Call::Wait { deadline })?.unwrap_err();
                close(guest, child.domain)?.unwrap();
                stop(guest, 0)
            }),
            script(|guest| {
                let page = VcpuPage::new(guest.words(GuestPhysical(0)).unwrap());
                page.set_ring(0x1000);
                let ring = RingPage::new(guest.words(GuestPhysical(0x1000)).unwrap());
                let deadline = Deadline(5_000_000);
                ring.push(&Call::Wait { deadline }.encode(), 0).unwrap();
                let interrupts_enabled = true;
                guest.exit(Exit::Halt { interrupts_enabled })?;
                unreachable!("it sleeps in HLT for ever");
            }),
        ],
    );
}
