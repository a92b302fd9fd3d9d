//! Vcpus that move to another CPU, whatever they do. What they leave behind is in `leaving.rs`.

mod asleep;
mod storms;

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use nuncio_abi::{
    BudgetChange, Call, CallToken, Create, Deadline, Error, ExitKind, Handle, Outgoing, RawCall,
    Reply, Rights, RingPage, StopReason, Transfer, Verb,
};

use super::domains::{close, grant, make, map, start, Child, ONE, SLOT};
use super::machine::{run_on, script, Outcome};
use super::monitors;
use super::objects::{create, send_transfer};
use super::stop;
use super::talking::receive_from;
use super::vcpus::{look_into, move_to, stop_object, until_it_counts, wait, COUNT};
use crate::mem::{GuestPhysical, Words};
use crate::vt::fake::{Gone, Guest, Script, ScriptResult};
use crate::vt::{Access, Exit};

/// The child's first page. If its maker has gone, and taken it away, the child ends there.
fn page(guest: &mut Guest) -> Result<&'static Words, Gone> {
    let address = GuestPhysical(0);
    loop {
        match guest.words(address) {
            Some(words) => return Ok(words),
            None => {
                let access = Access::Write;
                guest.exit(Exit::Memory { address, access })?;
            }
        }
    }
}

/// Calls that cost little and do nothing, so that the CPU hears others.
fn breathe(guest: &mut Guest) -> ScriptResult {
    wait(guest, Deadline::NOW).map(drop)
}

fn breathe_until(guest: &mut Guest, mut is_so: impl FnMut() -> bool) -> ScriptResult {
    while !is_so() {
        breathe(guest)?;
    }
    Ok(())
}

/// The maker runs on CPU 0 of so many; the child's script is the first that any other CPU has, too.
fn with_child(
    cpus: u8,
    maker: impl FnOnce(&mut Guest, Child, &'static Words) -> ScriptResult + Send + 'static,
    child: impl Fn(&mut Guest) -> ScriptResult + Send + Clone + 'static,
) -> Outcome {
    let maker = script(move |guest| {
        let child = make(guest, None)?;
        let there = look_into(guest, child.memory)?;
        maker(guest, child, there)?;
        stop(guest, 0)
    });
    let outcome = run_on(cpus, ONE, on_first(cpus, vec![maker, Box::new(child)]));
    assert_eq!(outcome.ending(0), (StopReason::Exited, 0));
    outcome
}

/// What starts on the first of so many CPUs; on the others nothing does.
fn on_first(cpus: u8, scripts: Vec<Script>) -> Vec<Script> {
    let mut all: Vec<Script> = Vec::new();
    for own in scripts {
        all.push(own);
        let nobody = |_| script(|_| unreachable!("it starts on the first CPU"));
        all.extend((1..cpus).map(nobody));
    }
    all
}

fn itself(guest: &mut Guest, child: Child) -> Result<Handle, Gone> {
    Ok(grant(guest, child.vcpu, Rights::SCHEDULE, child.domain)?.unwrap())
}

/// Moves itself from CPU to CPU, and counts how often. It may see its domain's end before it comes to its own.
fn wanders(guest: &mut Guest) -> ScriptResult {
    let itself = Handle::from_raw(guest.start().argument.0).unwrap();
    loop {
        let count = page(guest)?[COUNT].fetch_add(1, Release);
        let moved = move_to(guest, itself, (count % 3) as u8)?;
        assert!(matches!(moved, Ok(()) | Err(Error::PeerGone)), "{moved:?}");
    }
}

#[test]
fn a_vcpu_that_has_not_been_started_starts_where_it_has_been_moved() {
    let outcome = run_on(
        2,
        ONE,
        vec![
            script(|guest| {
                let child = make(guest, None)?;
                let there = look_into(guest, child.memory)?;
                let none = move_to(guest, child.vcpu, 2)?;
                assert_eq!(none, Err(Error::BadArgument), "there are two");
                move_to(guest, child.vcpu, 1)?.unwrap();
                move_to(guest, child.vcpu, 1)?.unwrap();
                for times in 1..3 {
                    start(guest, child.vcpu, 0)?.unwrap();
                    breathe_until(guest, || there[COUNT].load(Acquire) == times)?;
                    stop_object(guest, child.vcpu)?.unwrap();
                }
                stop(guest, 0)
            }),
            script(|guest| {
                page(guest)?[COUNT].fetch_add(1, Release);
                loop {
                    breathe(guest)?;
                }
            }),
            script(|_| unreachable!("nothing starts on the first CPU")),
            script(|guest| {
                page(guest)?[COUNT].fetch_add(1, Release);
                loop {
                    breathe(guest)?;
                }
            }),
        ],
    );
    assert_eq!(outcome.ending(0), (StopReason::Exited, 0));
}

#[test]
fn one_that_runs_goes_on_elsewhere_and_is_ready_with_its_state() {
    for cpus in [2, 4] {
        with_child(
            cpus,
            move |guest, child, there| {
                start(guest, child.vcpu, 0)?.unwrap();
                for round in 1..100 {
                    // The first time it is ready behind its maker, and then it runs, but on the first CPU.
                    move_to(guest, child.vcpu, round % cpus)?.unwrap();
                    let before = there[COUNT].load(Acquire);
                    if round % cpus != 0 {
                        breathe_until(guest, || there[COUNT].load(Acquire) > before + 3)?;
                    }
                }
                Ok(())
            },
            |guest| {
                for count in 1.. {
                    assert_eq!(page(guest)?[COUNT].fetch_add(1, Release), count - 1);
                    let [version, ..] = guest.call(Call::HELLO)?.unwrap();
                    assert_eq!(version, u64::from(nuncio_abi::VERSION.to_raw()));
                    guest.compute(10_000)?;
                }
                Ok(())
            },
        );
    }
}

#[test]
fn one_that_moves_itself_goes_on_behind_its_call() {
    with_child(
        3,
        |guest, child, there| {
            let itself = grant(guest, child.vcpu, Rights::SCHEDULE, child.domain)?.unwrap();
            start(guest, child.vcpu, itself.raw())?.unwrap();
            // On the first CPU it runs only while this one sleeps.
            for milliseconds in 1.. {
                wait(guest, Deadline(milliseconds * 1_000_000))?.unwrap_err();
                if there[COUNT].load(Acquire) == 100 {
                    break;
                }
            }
            Ok(())
        },
        |guest| {
            let itself = Handle::from_raw(guest.start().argument.0).unwrap();
            for round in 1..=100 {
                assert_eq!(move_to(guest, itself, (round % 3) as u8)?, Ok(()));
                assert_eq!(move_to(guest, itself, (round % 3) as u8)?, Ok(()));
                assert_eq!(move_to(guest, itself, 3)?, Err(Error::BadArgument));
                page(guest)?[COUNT].store(round, Release);
            }
            wait(guest, Deadline::NEVER).map(drop)
        },
    );
}

#[test]
fn one_that_moves_itself_in_a_ring_makes_the_other_entries_elsewhere() {
    const RING: GuestPhysical = GuestPhysical(0x5000);
    with_child(
        2,
        |guest, child, there| {
            let itself = grant(guest, child.vcpu, Rights::SCHEDULE, child.domain)?.unwrap();
            let (memory, _) = create(guest, Create::Memory { bytes: 0x1000 })?.unwrap();
            map(guest, child.space, memory, RING.0)?.unwrap();
            start(guest, child.vcpu, itself.raw())?.unwrap();
            wait(guest, Deadline(1_000_000))?.unwrap_err();
            breathe_until(guest, || there[COUNT].load(Acquire) == 1)
        },
        |guest| {
            let vcpu = Handle::from_raw(guest.start().argument.0).unwrap();
            let ring = RingPage::new(guest.words(RING).unwrap());
            let moves = |cpu| {
                let budget = BudgetChange::Keep;
                Call::Schedule {
                    vcpu,
                    priority: None,
                    budget,
                    cpu: Some(cpu),
                }
            };
            let calls = [
                moves(1),
                Call::HELLO,
                moves(7),
                moves(0),
                moves(1),
                Call::HELLO,
            ];
            let numbers = calls.map(|call| ring.push(&call.encode(), 0).unwrap());
            let raw = RawCall {
                verb: Verb::Submit.number(),
                arguments: [RING.0, 31, 0, 0, 0],
            };
            let [done, ..] = guest.raw_call(raw)?.unwrap();
            assert_eq!(done, calls.len() as u64);
            for (number, call) in numbers.into_iter().zip(calls) {
                let is_refused = call == moves(7);
                let reply = ring.reply(number);
                let expected = Some(Reply::Error(Error::BadArgument));
                assert_eq!(reply == expected, is_refused, "{call:?}: {reply:?}");
            }
            page(guest)?[COUNT].store(1, Release);
            wait(guest, Deadline::NEVER).map(drop)
        },
    );
}
