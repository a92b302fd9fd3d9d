//! Domains that domains make, start, watch and destroy, and memory that is taken back.

use alloc::vec;

use core::sync::atomic::Ordering::Relaxed;

use nuncio_abi::{
    Call, Create, Deadline, Error, Handle, Outgoing, QueryItem, Rights, StopReason, VcpuPage,
};

use super::machine::script;
use super::objects::{create, used, Answered};
use super::talking::handle;
use super::{run, stop};
use crate::mem::GuestPhysical;
use crate::vt::fake::{Gone, Guest};

pub const ONE: &str = "nuncio-plan 1\n\
    domain maker image=image memory=4194304 vcpus=1 background=no\n";

/// A slot that the plan has not given to anything.
pub const SLOT: u64 = 40;

/// A domain that was made, with all that its maker has of it.
#[derive(Clone, Copy)]
pub struct Child {
    pub domain: Handle,
    pub space: Handle,
    pub vcpu: Handle,
    pub memory: Handle,
}

pub fn map(guest: &mut Guest, space: Handle, memory: Handle, address: u64) -> Answered<()> {
    let call = Call::Map {
        space,
        memory,
        address,
        offset: 0,
        length: 0x1000,
        access: Rights::READ | Rights::WRITE,
    };
    Ok(guest.call(call)?.map(|_| ()))
}

pub fn grant(guest: &mut Guest, handle: Handle, rights: Rights, to: Handle) -> Answered<Handle> {
    let call = Call::Grant {
        handle,
        rights,
        badge: 0,
        to: Some(to),
    };
    Ok(guest
        .call(call)?
        .map(|[raw, ..]| Handle::from_raw(raw).unwrap()))
}

/// Makes a domain of 32 frames whose vcpu page is its page 0.
pub fn make(guest: &mut Guest, event: Option<Handle>) -> Result<Child, Gone> {
    make_monitored(guest, event, None, None)
}

/// As [`make`], with a monitor for its vcpu.
pub fn make_monitored(
    guest: &mut Guest,
    event: Option<Handle>,
    monitor: Option<Handle>,
    state: Option<Handle>,
) -> Result<Child, Gone> {
    let bits = if event.is_some() { 0b100 } else { 0 };
    let what = Create::Domain {
        frames: 32,
        kernel_bytes: 48 << 10,
        event,
        bits,
    };
    let (domain, space) = create(guest, what)?.unwrap();
    let space = space.unwrap();
    let (memory, _) = create(guest, Create::Memory { bytes: 0x2000 })?.unwrap();
    map(guest, space, memory, 0)?.unwrap();
    let what = Create::Vcpu {
        domain,
        page: memory,
        monitor,
        state,
    };
    let (vcpu, _) = create(guest, what)?.unwrap();
    Ok(Child {
        domain,
        space,
        vcpu,
        memory,
    })
}

pub fn start(guest: &mut Guest, vcpu: Handle, argument: u64) -> Answered<()> {
    let call = Call::Start {
        vcpu,
        entry: 0x1000,
        stack: 0x2000,
        argument,
        page_table: 0,
    };
    Ok(guest.call(call)?.map(|_| ()))
}

pub fn close(guest: &mut Guest, handle: Handle) -> Answered<()> {
    Ok(guest.call(Call::Close { handle })?.map(|_| ()))
}

pub fn status(guest: &mut Guest, handle: Handle) -> Answered<(u64, u64)> {
    let item = QueryItem::Status;
    let answer = guest.call(Call::Query { handle, item })?;
    Ok(answer.map(|[first, second, ..]| (first, second)))
}

#[test]
fn a_child_runs_is_watched_and_leaves_nothing_behind() {
    let outcome = run(
        ONE,
        vec![
            script(|guest| {
                let before = used(guest)?;
                let info = guest.boot_info();
                let page = VcpuPage::new(guest.words(GuestPhysical(info.vcpu_page)).unwrap());
                let slot = page.slot(SLOT as usize).unwrap();
                slot.enable(u64::MAX);
                let (waiter, bell) = create(
                    guest,
                    Create::Event {
                        slot: SLOT,
                        interval_ns: 0,
                    },
                )?
                .unwrap();
                let child = make(guest, bell)?;
                let own = grant(guest, child.domain, Rights::STOP, child.domain)?.unwrap();
                assert_eq!(status(guest, child.domain)?, Ok((0, 0)), "it runs not yet");
                start(guest, child.vcpu, own.raw())?.unwrap();
                assert_eq!(start(guest, child.vcpu, 0)?, Err(Error::WrongState));
                guest
                    .call(Call::Wait {
                        deadline: Deadline::NEVER,
                    })?
                    .unwrap();
                assert_eq!(slot.take(), 0b100);
                let exited = StopReason::Exited.number();
                assert_eq!(status(guest, child.domain)?, Ok((exited, 42)));
                assert_eq!(start(guest, child.vcpu, 0)?, Err(Error::PeerGone));
                for handle in [child.domain, child.space, child.vcpu, child.memory] {
                    close(guest, handle)?.unwrap();
                }
                for handle in [waiter, bell.unwrap()] {
                    close(guest, handle)?.unwrap();
                }
                assert_eq!(used(guest)?, before);
                stop(guest, 0)
            }),
            script(|guest| {
                let start = guest.start();
                assert_eq!((start.entry.0, start.stack.0), (0x1000, 0x2000));
                let domain = Handle::from_raw(start.argument.0).unwrap();
                guest
                    .call(Call::Stop {
                        object: domain,
                        code: 42,
                    })
                    .map(|_| ())
            }),
        ],
    );
    assert_eq!(outcome.ending(0), (StopReason::Exited, 0));
    assert_eq!(outcome.reports.len(), 1, "a child is its maker's affair");
}

/// A child that sends its number as soon as there is room.
fn waits_for_room(guest: &mut Guest) -> Result<(), Gone> {
    let port = Handle::from_raw(guest.start().argument.0).unwrap();
    let message = Outgoing::registers(8, [port.raw(), 0, 0]);
    let deadline = Deadline::NEVER;
    let call = Call::SendWaiting {
        port,
        message,
        deadline,
    };
    guest.call(call)?.unwrap();
    guest.call(Call::Wait { deadline }).map(|_| ())
}

#[test]
fn a_sender_that_dies_in_the_line_does_not_hold_up_the_next() {
    let outcome = run(
        ONE,
        vec![
            script(|guest| {
                let what = Create::Port {
                    capacity: 2,
                    slot: SLOT,
                };
                let (port, far) = create(guest, what)?.unwrap();
                let far = far.unwrap();
                let message = Outgoing::registers(0, [0; 3]);
                for _ in 0..2 {
                    guest.call(Call::Send { port: far, message })?.unwrap();
                }
                let children = [make(guest, None)?, make(guest, None)?];
                for (child, ms) in children.into_iter().zip([100, 200]) {
                    let copy = grant(guest, far, Rights::SEND, child.domain)?.unwrap();
                    start(guest, child.vcpu, copy.raw())?.unwrap();
                    // It runs until it waits.
                    let deadline = Deadline(ms * 1_000_000);
                    assert_eq!(guest.call(Call::Wait { deadline })?, Err(Error::TimedOut));
                }
                let receive = Call::Receive {
                    port,
                    deadline: Deadline(300_000_000),
                    buffer: 0,
                };
                // The first is woken, and dies before it has run.
                guest.call(receive)?.unwrap();
                close(guest, children[0].domain)?.unwrap();
                guest.call(receive)?.unwrap();
                let [header, ..] = guest.call(receive)?.unwrap();
                assert_eq!(header, 8, "what the second has sent");
                close(guest, children[1].domain)?.unwrap();
                stop(guest, 0)
            }),
            script(waits_for_room),
            script(waits_for_room),
        ],
    );
    assert_eq!(outcome.ending(0), (StopReason::Exited, 0));
}

/// A child that waits for room with a message in memory at 0x4000, and ends with what has become of it.
fn waits_with_memory(guest: &mut Guest) -> Result<(), Gone> {
    let start = guest.start();
    let own = Handle::from_raw(start.argument.0 >> 32).unwrap();
    let port = Handle::from_raw(start.argument.0 & 0xFFFF_FFFF).unwrap();
    let message = Outgoing::Memory {
        length: 64,
        handles: 0,
        address: 0x4000,
    };
    let deadline = Deadline::NEVER;
    let call = Call::SendWaiting {
        port,
        message,
        deadline,
    };
    let code = guest.call(call)?.map_or_else(Error::number, |_| 0);
    guest.call(Call::Stop { object: own, code }).map(|_| ())
}

/// The message is what lies there when its turn has come; if nothing does, the next has its turn.
#[test]
fn the_memory_of_a_sender_that_waits_is_looked_at_when_its_turn_has_come() {
    let outcome = run(
        ONE,
        vec![
            script(|guest| {
                let what = Create::Port {
                    capacity: 2,
                    slot: SLOT,
                };
                let (port, far) = create(guest, what)?.unwrap();
                let far = far.unwrap();
                let message = Outgoing::registers(0, [0; 3]);
                for _ in 0..2 {
                    guest.call(Call::Send { port: far, message })?.unwrap();
                }
                let space = handle(guest, "space");
                let mut made = vec![];
                for (number, ms) in [(0, 100), (1, 200)] {
                    let child = make(guest, None)?;
                    let (memory, _) = create(guest, Create::Memory { bytes: 0x1000 })?.unwrap();
                    map(guest, child.space, memory, 0x4000)?.unwrap();
                    let address = 0x1000_0000 + 0x1000 * number;
                    map(guest, space, memory, address)?.unwrap();
                    let copy = grant(guest, far, Rights::SEND, child.domain)?.unwrap();
                    let own = grant(guest, child.domain, Rights::STOP, child.domain)?.unwrap();
                    start(guest, child.vcpu, own.raw() << 32 | copy.raw())?.unwrap();
                    let deadline = Deadline(ms * 1_000_000);
                    assert_eq!(guest.call(Call::Wait { deadline })?, Err(Error::TimedOut));
                    made.push((child, memory, address));
                }
                let [(first, lost, _), (second, _, address)] = made[..] else {
                    panic!("two were made")
                };
                close(guest, lost)?.unwrap();
                let words = guest.words(GuestPhysical(address)).unwrap();
                words[0].store(0xFEED, Relaxed);
                let buffer = 0x1000_0000 + 0x1000 + 0x800;
                for length in [0, 0, 64] {
                    let receive = Call::Receive {
                        port,
                        deadline: Deadline(300_000_000),
                        buffer,
                    };
                    let [header, ..] = guest.call(receive)?.unwrap();
                    assert_eq!(header & 0x7F, length);
                }
                assert_eq!(words[0x100].load(Relaxed), 0xFEED);
                let deadline = Deadline(400_000_000);
                assert_eq!(guest.call(Call::Wait { deadline })?, Err(Error::TimedOut));
                let exited = StopReason::Exited.number();
                let bad_address = Error::BadAddress.number();
                assert_eq!(status(guest, first.domain)?, Ok((exited, bad_address)));
                assert_eq!(status(guest, second.domain)?, Ok((exited, 0)));
                stop(guest, 0)
            }),
            script(waits_with_memory),
            script(waits_with_memory),
        ],
    );
    assert_eq!(outcome.ending(0), (StopReason::Exited, 0));
}

#[test]
fn closing_the_handle_destroys_a_child_that_runs() {
    run(
        ONE,
        vec![
            script(|guest| {
                let before = used(guest)?;
                for round in 1..=3 {
                    let child = make(guest, None)?;
                    start(guest, child.vcpu, 0)?.unwrap();
                    let later = Deadline(round * 100_000_000);
                    guest.call(Call::Wait { deadline: later })?.unwrap_err();
                    close(guest, child.domain)?.unwrap();
                    assert_eq!(status(guest, child.vcpu)?, Err(Error::WrongKind));
                    assert_eq!(start(guest, child.vcpu, 0)?, Err(Error::PeerGone));
                    for handle in [child.space, child.vcpu, child.memory] {
                        close(guest, handle)?.unwrap();
                    }
                    assert_eq!(used(guest)?, before);
                }
                stop(guest, 0)
            }),
            script(|guest| guest.compute(u64::MAX / 2)),
            script(|guest| guest.compute(u64::MAX / 2)),
            script(|guest| guest.compute(u64::MAX / 2)),
        ],
    );
}

#[test]
fn children_end_with_their_makers_started_or_not() {
    let outcome = run(
        ONE,
        vec![
            script(|guest| {
                let child = make(guest, None)?;
                start(guest, child.vcpu, 0)?.unwrap();
                make(guest, None)?;
                stop(guest, 0)
            }),
            script(|guest| guest.compute(u64::MAX / 2)),
        ],
    );
    assert_eq!(outcome.ending(0), (StopReason::Exited, 0));
}

#[test]
fn a_child_is_paid_by_its_maker_and_bounded_by_what_it_got() {
    run(
        ONE,
        vec![script(|guest| {
            let [frames, bytes] = used(guest)?;
            let domain = |frames, kernel_bytes| Create::Domain {
                frames,
                kernel_bytes,
                event: None,
                bits: 0,
            };
            for what in [
                domain(1 << 40, 1 << 14),
                domain(8, 1 << 40),
                domain(8, 100),
                domain(0, 1 << 14),
                domain(u64::MAX, u64::MAX),
            ] {
                assert_eq!(create(guest, what)?.err(), Some(Error::QuotaExhausted));
            }
            assert_eq!(used(guest)?, [frames, bytes]);
            let (domain, space) = create(guest, domain(1, 16 << 10))?.unwrap();
            assert_eq!(used(guest)?[0], frames + 1);
            let (memory, _) = create(guest, Create::Memory { bytes: 4096 })?.unwrap();
            // The root of its page tables is all that it can pay.
            let mapped = map(guest, space.unwrap(), memory, 0)?;
            assert_eq!(mapped, Err(Error::QuotaExhausted));
            let copied = grant(guest, memory, Rights::READ, domain)?;
            assert!(copied.is_ok());
            let mine = handle(guest, "domain");
            let refused = grant(guest, memory, Rights::READ, mine)?;
            assert_eq!(refused, Err(Error::MissingRight));
            stop(guest, 0)
        })],
    );
}

#[test]
fn memory_is_taken_back_from_everybody() {
    run(
        ONE,
        vec![
            script(|guest| {
                let child = make(guest, None)?;
                let own = handle(guest, "space");
                let (memory, _) = create(guest, Create::Memory { bytes: 4096 })?.unwrap();
                map(guest, child.space, memory, 0x10_0000)?.unwrap();
                map(guest, own, memory, 1 << 32)?.unwrap();
                let lent = grant(guest, memory, Rights::READ, child.domain)?.unwrap();
                guest.words(GuestPhysical(1 << 32)).unwrap()[0].store(7, Relaxed);
                start(guest, child.vcpu, lent.raw())?.unwrap();
                let later = Deadline(100_000_000);
                guest.call(Call::Wait { deadline: later })?.unwrap_err();
                let copied = guest
                    .call(Call::Grant {
                        handle: memory,
                        rights: Rights::READ,
                        badge: 0,
                        to: None,
                    })?
                    .unwrap();
                close(guest, memory)?.unwrap();
                assert!(guest.words(GuestPhysical(1 << 32)).is_none());
                let dead = Handle::from_raw(copied[0]).unwrap();
                let again = guest.call(Call::Map {
                    space: own,
                    memory: dead,
                    address: 1 << 33,
                    offset: 0,
                    length: 4096,
                    access: Rights::READ,
                })?;
                assert_eq!(again, Err(Error::PeerGone));
                let later = Deadline(200_000_000);
                guest.call(Call::Wait { deadline: later })?.unwrap_err();
                stop(guest, 0)
            }),
            script(|guest| {
                let words = guest.words(GuestPhysical(0x10_0000)).unwrap();
                assert_eq!(words[0].load(Relaxed), 7);
                while guest.words(GuestPhysical(0x10_0000)).is_some() {
                    guest.compute(1_000_000)?;
                }
                guest.compute(u64::MAX / 2)
            }),
        ],
    );
}

#[test]
fn a_vcpu_is_made_from_memory_that_can_be_written_and_in_a_domain_of_ones_own() {
    run(
        ONE,
        vec![script(|guest| {
            let child = make(guest, None)?;
            let vcpu = |page| Create::Vcpu {
                domain: child.domain,
                page,
                monitor: None,
                state: None,
            };
            let time = handle(guest, "time-page");
            let read_only = create(guest, vcpu(time))?;
            assert_eq!(read_only.err(), Some(Error::MissingRight));
            let copy = guest.call(Call::Grant {
                handle: child.domain,
                rights: Rights::BUILD,
                badge: 0,
                to: None,
            })?;
            assert_eq!(copy.err(), Some(Error::BadArgument), "one builder only");
            stop(guest, 0)
        })],
    );
}

/// Makes a domain whose vcpu page is its page 0, gives it a handle to the caller's own domain if there is
/// one, and starts it with what it has been given as its argument.
fn raise(guest: &mut Guest, sizes: [u64; 2], own: Option<Handle>) -> Result<(), Gone> {
    let [frames, kernel_bytes] = sizes;
    let what = Create::Domain {
        frames,
        kernel_bytes,
        event: None,
        bits: 0,
    };
    let (domain, space) = create(guest, what)?.unwrap();
    let (page, _) = create(guest, Create::Memory { bytes: 0x1000 })?.unwrap();
    map(guest, space.unwrap(), page, 0)?.unwrap();
    let what = Create::Vcpu {
        domain,
        page,
        monitor: None,
        state: None,
    };
    let (vcpu, _) = create(guest, what)?.unwrap();
    let rights = Rights::STOP | Rights::GRANT;
    let given = grant(guest, own.unwrap_or(domain), rights, domain)?.unwrap();
    start(guest, vcpu, given.raw())?.unwrap();
    Ok(())
}

#[test]
fn whoever_stops_his_maker_ends_with_him() {
    let plan = &ONE.replace("memory=4194304", "memory=8388608");
    let outcome = run(
        plan,
        vec![
            script(|guest| {
                raise(guest, [64, 96 << 10], None)?;
                guest.compute(30_000_000)?;
                // The numbers of those that have ended are used again, each by one.
                for _ in 0..2 {
                    raise(guest, [32, 48 << 10], None)?;
                }
                guest.compute(30_000_000)?;
                stop(guest, 0)
            }),
            script(|guest| {
                let own = Handle::from_raw(guest.start().argument.0);
                raise(guest, [16, 32 << 10], own)?;
                guest.compute(u64::MAX >> 1)?;
                unreachable!("its child has stopped it")
            }),
            script(|guest| {
                let object = Handle::from_raw(guest.start().argument.0).unwrap();
                let _ = guest.call(Call::Stop { object, code: 0 })?;
                unreachable!("it has ended with its maker")
            }),
            script(|guest| guest.compute(10_000_000)),
            script(|guest| guest.compute(10_000_000)),
        ],
    );
    assert_eq!(outcome.ending(0), (StopReason::Exited, 0));
}
