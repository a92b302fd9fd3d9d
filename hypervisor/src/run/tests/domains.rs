//! Domains that domains make, start, watch and destroy, and memory that is taken back.

use alloc::vec;

use core::sync::atomic::Ordering::Relaxed;

use nuncio_abi::{Call, Create, Deadline, Error, Handle, QueryItem, Rights, StopReason, VcpuPage};

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
fn make(guest: &mut Guest, event: Option<Handle>) -> Result<Child, Gone> {
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
                let (waiter, bell) = create(guest, Create::Event { slot: SLOT })?.unwrap();
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
fn a_vcpu_is_made_once_and_from_memory_that_can_be_written() {
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
            let second = create(guest, vcpu(child.memory))?;
            assert_eq!(second.err(), Some(Error::WrongState));
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
