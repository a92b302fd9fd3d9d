//! Domains that talk: messages, events, shared memory, the console, the clock.

use alloc::string::ToString;
use alloc::vec;

use core::sync::atomic::Ordering::Relaxed;

use nuncio_abi::{
    Call, Deadline, Error, Header, Outgoing, QueryItem, RawCall, Rights, TimePage, VcpuPage,
};

use super::machine::script;
use super::{run, run_traced, stop};
use crate::mem::GuestPhysical;
use crate::vt::fake::{Gone, Guest, ScriptResult};
use crate::vt::Exit;
use nuncio_abi::{Handle, StopReason};

pub(super) const PAIR: &str = "nuncio-plan 1\n\
    domain sender image=image memory=4194304 vcpus=1 background=no\n\
    command-line sender say=hello twice\n\
    module sender text boot=file\n\
    domain receiver image=image memory=4194304 vcpus=1 background=no\n\
    port mail capacity=2\n\
    memory shared bytes=8192\n\
    event bell\n\
    give sender port mail send\n\
    give receiver port mail receive\n\
    give sender memory shared rw\n\
    give receiver memory shared r\n\
    give sender event bell notify\n\
    give receiver event bell wait\n";

pub(super) fn handle(guest: &Guest, name: &str) -> Handle {
    guest.boot_info().handle(name).unwrap().handle().unwrap()
}

pub(super) fn send(guest: &mut Guest, port: &str, text: &[u8]) -> Result<Result<(), Error>, Gone> {
    let port = handle(guest, port);
    let message = nuncio_abi::Message::from_bytes(text).unwrap();
    let [first, second, third, ..] = message.words;
    let message = Outgoing::registers(message.length, [first, second, third]);
    Ok(guest.call(Call::Send { port, message })?.map(|_| ()))
}

pub(super) fn receive(
    guest: &mut Guest,
    deadline: Deadline,
) -> Result<Result<[u64; 5], Error>, Gone> {
    let port = handle(guest, "mail");
    receive_from(guest, port, deadline)
}

/// Without a buffer.
pub(super) fn receive_from(
    guest: &mut Guest,
    port: Handle,
    deadline: Deadline,
) -> Result<Result<[u64; 5], Error>, Gone> {
    guest.call(Call::Receive {
        port,
        deadline,
        buffer: 0,
    })
}

#[test]
fn a_guest_is_told_what_it_has() {
    let outcome = run(
        PAIR,
        vec![
            script(|guest| {
                let info = guest.boot_info();
                assert_eq!(info.magic, nuncio_abi::BOOT_INFO_MAGIC);
                assert_eq!(info.name.as_str(), "sender");
                assert_eq!(info.command_line(), "say=hello twice");
                assert_eq!(info.ram_bytes, 4 << 20);
                assert_eq!(guest.start().stack.0, (4 << 20) - 8);
                assert_eq!(guest.start().entry.0, 0x10_0000);
                let code = guest.words(GuestPhysical(0x10_0000)).unwrap();
                assert_eq!(code[0].load(Relaxed).to_le_bytes()[7], 0xF4);
                let module = info.module("text").unwrap();
                let text = guest.words(GuestPhysical(module.address)).unwrap();
                assert_eq!(module.length, 5);
                assert_eq!(text[0].load(Relaxed).to_le_bytes(), *b"input\0\0\0");
                assert_eq!(text[1].load(Relaxed), 0, "the tail is cleared");
                let call = guest.words(GuestPhysical(info.text_page)).unwrap();
                assert_eq!(call[0].load(Relaxed), 0xC3CC_CCCC);
                stop(guest, 0)
            }),
            script(|guest| {
                assert!(guest.boot_info().modules().is_empty());
                stop(guest, 0)
            }),
        ],
    );
    assert_eq!(outcome.ending(0), (StopReason::Exited, 0));
}

#[test]
fn a_message_carries_its_bytes_and_its_senders_badge() {
    run(
        PAIR,
        vec![
            script(|guest| {
                send(guest, "mail", b"good morning")?.unwrap();
                stop(guest, 0)
            }),
            script(|guest| {
                let [header, badge, first, second, third] =
                    receive(guest, Deadline::NEVER)?.unwrap();
                assert_eq!(Header::from_raw(header).unwrap().length, 12);
                assert_eq!(badge, 1, "the first domain");
                assert_eq!(first.to_le_bytes(), *b"good mor");
                assert_eq!((second.to_le_bytes(), third), (*b"ning\0\0\0\0", 0));
                assert_eq!(receive(guest, Deadline::NEVER)?, Err(Error::PeerGone));
                stop(guest, 0)
            }),
        ],
    );
}

#[test]
fn a_long_message_goes_from_memory_to_memory() {
    run(
        PAIR,
        vec![
            script(|guest| {
                let page = guest.words(GuestPhysical(0x30_0000)).unwrap();
                for (number, word) in (0..).zip(&page[16..24]) {
                    word.store(number, Relaxed);
                }
                let port = handle(guest, "mail");
                let message = Outgoing::memory(60, 0x30_0080);
                guest.call(Call::Send { port, message })?.unwrap();
                for address in [0x30_0040, 0x30_0081, 1 << 38, u64::MAX - 127] {
                    let message = Outgoing::memory(60, address);
                    let refused = guest.call(Call::Send { port, message })?;
                    assert_eq!(refused, Err(Error::BadAddress));
                }
                stop(guest, 0)
            }),
            script(|guest| {
                let small = receive(guest, Deadline::NEVER)?;
                assert_eq!(small, Err(Error::BufferTooSmall), "it stays in the queue");
                let port = handle(guest, "mail");
                let receive_at = |guest: &mut Guest, buffer| {
                    guest.call(Call::Receive {
                        port,
                        deadline: Deadline::NOW,
                        buffer,
                    })
                };
                let info = guest.boot_info();
                for bad in [0x20_0001, 1 << 38, info.time_page] {
                    assert_eq!(receive_at(guest, bad)?, Err(Error::BadAddress));
                }
                let [header, ..] = receive_at(guest, 0x20_0080)?.unwrap();
                assert_eq!(header, 60 | 1 << 7);
                let page = guest.words(GuestPhysical(0x20_0000)).unwrap();
                assert_eq!(page[16 + 7].load(Relaxed), 7);
                stop(guest, 0)
            }),
        ],
    );
}

#[test]
fn a_full_queue_and_an_empty_one_are_errors() {
    run(
        PAIR,
        vec![
            script(|guest| {
                send(guest, "mail", b"1")?.unwrap();
                send(guest, "mail", b"2")?.unwrap();
                assert_eq!(send(guest, "mail", b"3")?, Err(Error::QueueFull));
                guest
                    .call(Call::Wait {
                        deadline: Deadline(50_000_000),
                    })?
                    .unwrap_err();
                stop(guest, 0)
            }),
            script(|guest| {
                receive(guest, Deadline::NOW)?.unwrap();
                receive(guest, Deadline::NOW)?.unwrap();
                assert_eq!(receive(guest, Deadline::NOW)?, Err(Error::QueueEmpty));
                assert_eq!(receive(guest, Deadline(10_000_000))?, Err(Error::TimedOut));
                stop(guest, 0)
            }),
        ],
    );
}

#[test]
fn notifications_wake_coalesce_and_reach_the_upcall() {
    let outcome = run(
        PAIR,
        vec![
            script(|guest| {
                let event = handle(guest, "bell");
                guest
                    .call(Call::Wait {
                        deadline: Deadline(1_000_000),
                    })?
                    .unwrap_err();
                for bits in [1, 1, 2] {
                    guest.call(Call::Notify { event, bits })?.unwrap();
                }
                stop(guest, 0)
            }),
            script(|guest| {
                let info = guest.boot_info();
                let page = guest.words(GuestPhysical(info.vcpu_page)).unwrap();
                let page = VcpuPage::new(page);
                let word = page.slot(info.handle("bell").unwrap().slot()).unwrap();
                word.enable(u64::MAX);
                page.set_upcall_vector(64);
                let effects = guest.exit(crate::vt::Exit::Halt {
                    interrupts_enabled: true,
                })?;
                assert_eq!(effects.upcall, Some(64));
                assert_eq!(word.take(), 3);
                stop(guest, 0)
            }),
        ],
    );
    assert_eq!(outcome.reports[0].traffic, [0, 0, 3, 1]);
}

#[test]
fn halting_with_an_event_ready_does_not_sleep() {
    let outcome = run(
        PAIR,
        vec![
            script(|guest| {
                let event = handle(guest, "bell");
                guest.call(Call::Notify { event, bits: 1 })?.unwrap();
                stop(guest, 0)
            }),
            script(|guest| {
                let halt = crate::vt::Exit::Halt {
                    interrupts_enabled: true,
                };
                guest.compute(1_000_000)?;
                guest
                    .call(Call::Wait {
                        deadline: Deadline(2_000_000),
                    })?
                    .unwrap_err();
                let info = guest.boot_info();
                let page = VcpuPage::new(guest.words(GuestPhysical(info.vcpu_page)).unwrap());
                let word = page.slot(info.handle("bell").unwrap().slot()).unwrap();
                // Enabled after the event came, and the vector chosen after that.
                word.enable(1);
                page.set_upcall_vector(64);
                assert_eq!(guest.exit(halt)?.upcall, Some(64));
                stop(guest, 0)
            }),
        ],
    );
    assert_eq!(outcome.ending(1), (StopReason::Exited, 0));
}

#[test]
fn what_lies_behind_a_message_stays_at_home() {
    run(
        PAIR,
        vec![
            script(|guest| {
                let page = guest.words(GuestPhysical(0x30_0000)).unwrap();
                page[0].store(u64::from_le_bytes(*b"Asecret!"), Relaxed);
                let port = handle(guest, "mail");
                let message = Outgoing::memory(1, 0x30_0000);
                guest.call(Call::Send { port, message })?.unwrap();
                stop(guest, 0)
            }),
            script(|guest| {
                let [_, _, first, ..] = receive(guest, Deadline::NEVER)?.unwrap();
                assert_eq!(first.to_le_bytes(), *b"A\0\0\0\0\0\0\0");
                stop(guest, 0)
            }),
        ],
    );
}

#[test]
fn an_event_interrupts_a_receive() {
    run(
        PAIR,
        vec![
            script(|guest| {
                guest
                    .call(Call::Wait {
                        deadline: Deadline(1_000_000),
                    })?
                    .unwrap_err();
                let event = handle(guest, "bell");
                guest.call(Call::Notify { event, bits: 1 })?.unwrap();
                guest
                    .call(Call::Wait {
                        deadline: Deadline(5_000_000),
                    })?
                    .unwrap_err();
                stop(guest, 0)
            }),
            script(|guest| {
                let info = guest.boot_info();
                let page = VcpuPage::new(guest.words(GuestPhysical(info.vcpu_page)).unwrap());
                page.slot(info.handle("bell").unwrap().slot())
                    .unwrap()
                    .enable(1);
                assert_eq!(receive(guest, Deadline::NEVER)?, Err(Error::Interrupted));
                stop(guest, 0)
            }),
        ],
    );
}

#[test]
fn shared_memory_is_shared_with_the_rights_given() {
    fn map(guest: &mut Guest, access: Rights) -> Result<Result<(), Error>, Gone> {
        let call = Call::Map {
            space: handle(guest, "space"),
            memory: handle(guest, "shared"),
            address: 1 << 30,
            offset: 4096,
            length: 4096,
            access,
        };
        Ok(guest.call(call)?.map(|_| ()))
    }
    run(
        PAIR,
        vec![
            script(|guest| {
                map(guest, Rights::READ | Rights::WRITE)?.unwrap();
                assert_eq!(map(guest, Rights::READ)?, Err(Error::AlreadyMapped));
                guest.words(GuestPhysical(1 << 30)).unwrap()[5].store(42, Relaxed);
                send(guest, "mail", b"look")?.unwrap();
                stop(guest, 0)
            }),
            script(|guest| {
                receive(guest, Deadline::NEVER)?.unwrap();
                let write = Rights::READ | Rights::WRITE;
                assert_eq!(map(guest, write)?, Err(Error::MissingRight));
                map(guest, Rights::READ)?.unwrap();
                let page = guest.words(GuestPhysical(1 << 30)).unwrap();
                assert_eq!(page[5].load(Relaxed), 42);
                let unmap = Call::Unmap {
                    space: handle(guest, "space"),
                    address: 1 << 30,
                    length: 4096,
                };
                guest.call(unmap)?.unwrap();
                assert!(guest.words(GuestPhysical(1 << 30)).is_none());
                assert_eq!(guest.call(unmap)?, Err(Error::NotMapped));
                let effects = guest.exit(crate::vt::Exit::CacheFlush)?;
                assert_eq!(effects.flushes, 1, "the stale translation is gone");
                stop(guest, 0)
            }),
        ],
    );
}

#[test]
fn the_console_shows_whole_lines_under_the_domains_name() {
    let outcome = run(
        PAIR,
        vec![
            script(|guest| {
                send(guest, "console", b"one\ntw")?.unwrap();
                send(guest, "console", b"o")?.unwrap();
                stop(guest, 0)
            }),
            script(|guest| {
                send(guest, "console", b"[sender] three\n")?.unwrap();
                stop(guest, 0)
            }),
        ],
    );
    let mut lines = outcome.lines;
    lines.sort();
    assert_eq!(
        lines,
        ["[receiver] [sender] three", "[sender] one", "[sender] two"]
    );
}

#[test]
fn queries_answer_from_the_objects() {
    fn query(
        guest: &mut Guest,
        name: &str,
        item: QueryItem,
    ) -> Result<Result<(u64, u64), Error>, Gone> {
        let handle = handle(guest, name);
        let reply = guest.call(Call::Query { handle, item })?;
        Ok(reply.map(|[first, second, ..]| (first, second)))
    }
    run(
        PAIR,
        vec![
            script(|guest| {
                let (kind, rights) = query(guest, "shared", QueryItem::Kind)?.unwrap();
                assert_eq!((kind, rights), (4, 0b11));
                assert_eq!(query(guest, "shared", QueryItem::Usage)?, Ok((8192, 0)));
                send(guest, "mail", b"x")?.unwrap();
                assert_eq!(query(guest, "mail", QueryItem::Usage)?, Ok((1, 2)));
                let (used, allowed) = query(guest, "domain", QueryItem::Usage)?.unwrap();
                assert!(used > 1024 && used < allowed);
                assert_eq!(query(guest, "domain", QueryItem::Status)?, Ok((0, 0)));
                assert_eq!(
                    query(guest, "mail", QueryItem::Status)?,
                    Err(Error::WrongKind)
                );
                stop(guest, 0)
            }),
            script(|guest| stop(guest, 0)),
        ],
    );
}

#[test]
fn a_closed_handle_is_dead_and_its_peer_learns_of_it() {
    run(
        PAIR,
        vec![
            script(|guest| {
                let mail = handle(guest, "mail");
                guest.call(Call::Close { handle: mail })?.unwrap();
                assert_eq!(
                    guest.call(Call::Close { handle: mail })?,
                    Err(Error::BadHandle)
                );
                assert_eq!(send(guest, "mail", b"x")?, Err(Error::BadHandle));
                guest
                    .call(Call::Wait {
                        deadline: Deadline(1_000_000),
                    })?
                    .unwrap_err();
                let event = handle(guest, "bell");
                let gone = guest.call(Call::Notify { event, bits: 1 })?;
                assert_eq!(gone, Err(Error::PeerGone));
                stop(guest, 0)
            }),
            script(|guest| {
                assert_eq!(receive(guest, Deadline::NEVER)?, Err(Error::PeerGone));
                let bell = handle(guest, "bell");
                guest.call(Call::Close { handle: bell })?.unwrap();
                stop(guest, 0)
            }),
        ],
    );
}

#[test]
fn time_is_read_from_the_page() {
    fn read(guest: &mut Guest) -> ScriptResult {
        let info = guest.boot_info();
        let page = guest.words(GuestPhysical(info.time_page)).unwrap();
        assert_eq!(TimePage::now_ns(page, || 12_345), 12_345);
        let text = guest.words(GuestPhysical(info.text_page)).unwrap();
        let bytes = text
            .iter()
            .flat_map(|word| word.load(Relaxed).to_le_bytes());
        let entry = crate::cpu::clock_entry();
        assert!(bytes.skip(64).take(entry.len()).eq(entry.iter().copied()));
        stop(guest, 0)
    }
    run(PAIR, vec![script(read), script(read)]);
}

#[test]
fn hello_agrees_on_the_version() {
    run(
        PAIR,
        vec![
            script(|guest| {
                let [version, features, ..] = guest.call(Call::HELLO)?.unwrap();
                assert_eq!(
                    (version, features),
                    (u64::from(nuncio_abi::VERSION.to_raw()), 0)
                );
                let other = Call::Hello {
                    version: 0x0009_0000,
                };
                assert_eq!(guest.call(other)?, Err(Error::WrongVersion));
                let unknown = RawCall {
                    verb: 4711,
                    arguments: [0; 5],
                };
                assert_eq!(guest.raw_call(unknown)?, Err(Error::UnknownVerb));
                stop(guest, 0)
            }),
            script(|guest| stop(guest, 7)),
        ],
    );
}

#[test]
fn a_trace_has_every_call_once_with_the_status_that_its_guest_saw() {
    let outcome = run_traced(
        PAIR,
        vec![
            script(|guest| {
                guest.call(Call::HELLO)?.unwrap();
                for _ in 0..3 {
                    let _ = send(guest, "mail", b"x")?;
                }
                guest.exit(Exit::Cpuid {
                    leaf: 0,
                    subleaf: 0,
                })?;
                let event = handle(guest, "bell");
                guest.call(Call::Notify { event, bits: 1 })?.unwrap();
                stop(guest, 0)
            }),
            script(|guest| {
                // Sleeps, and is made a second time by the loop.
                let deadline = Deadline(3_000_000);
                guest.call(Call::Wait { deadline })?.unwrap_err();
                for _ in 0..2 {
                    receive(guest, Deadline::NOW)?.unwrap();
                }
                guest
                    .call(Call::Wait {
                        deadline: Deadline::NEVER,
                    })?
                    .unwrap();
                Ok(())
            }),
        ],
    );
    let report = |index: usize| outcome.reports[index].to_string();
    // 7 is queue-full, 9 timed-out; `?` stands for calls that never returned.
    let [sender, receiver] = [report(0), report(1)];
    assert!(
        sender.contains("\n@sequence name=sender runs=0,1x2,1.7,3,9.?\n"),
        "{sender}"
    );
    assert!(
        sender.ends_with("\n@sequenced name=sender recorded=6 unrecorded=0"),
        "{sender}"
    );
    let runs = "\n@sequence name=receiver runs=4.9,2x2,4.?\n";
    assert!(receiver.contains(runs), "{receiver}");
}
