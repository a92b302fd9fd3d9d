//! Vcpus that move to another CPU, whatever they do. What they leave behind is in `leaving.rs`.

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

/// A child that sleeps is moved in its sleep, to and fro, and then woken.
fn moved_while(
    sleeps: impl Fn(&mut Guest, Handle) -> ScriptResult + Send + Clone + 'static,
    wakes: impl FnOnce(&mut Guest, Child, Handle) -> ScriptResult + Send + 'static,
    moves: u8,
) {
    with_child(
        3,
        move |guest, child, there| {
            let (near, far) = create(
                guest,
                Create::Port {
                    capacity: 1,
                    slot: SLOT,
                },
            )?
            .unwrap();
            let to = child.domain;
            let copy = grant(guest, far.unwrap(), Rights::SEND, to)?.unwrap();
            start(guest, child.vcpu, copy.raw())?.unwrap();
            // It sleeps meanwhile, on this CPU.
            wait(guest, Deadline(10_000_000))?.unwrap_err();
            for round in 1..=moves {
                move_to(guest, child.vcpu, round % 3)?.unwrap();
            }
            wakes(guest, child, near)?;
            let vcpu = child.vcpu;
            while there[COUNT].load(Acquire) == 0 {
                // On the first CPU it runs only while this one sleeps.
                let next_ns = guest.call(Call::Wait {
                    deadline: Deadline(1),
                })?;
                assert_eq!(next_ns, Err(Error::TimedOut));
                if moves.is_multiple_of(3) {
                    move_to(guest, vcpu, 1)?.unwrap();
                }
            }
            Ok(())
        },
        move |guest| {
            let port = Handle::from_raw(guest.start().argument.0).unwrap();
            sleeps(guest, port)?;
            page(guest)?[COUNT].store(1, Release);
            wait(guest, Deadline::NEVER).map(drop)
        },
    );
}

#[test]
fn who_sleeps_in_a_call_gets_its_answer_elsewhere() {
    for moves in 0..5 {
        moved_while(
            |guest, port| {
                let call = Call::Call {
                    port,
                    message: Outgoing::registers(8, [17, 0, 0]),
                    deadline: Deadline::NEVER,
                };
                let [_, _, word, ..] = guest.call(call)?.unwrap();
                assert_eq!(word, 18);
                Ok(())
            },
            |guest, _, near| {
                let receive = Call::Receive {
                    port: near,
                    deadline: Deadline::NEVER,
                    buffer: 0,
                };
                let [header, _, word, ..] = guest.call(receive)?.unwrap();
                let answer = Call::Reply {
                    port: near,
                    token: CallToken::from_header(header).unwrap(),
                    message: Outgoing::registers(8, [word + 1, 0, 0]),
                    then_receive: false,
                };
                guest.call(answer)?.unwrap();
                Ok(())
            },
            moves,
        );
    }
}

#[test]
fn who_sleeps_in_receive_gets_its_message_elsewhere() {
    for moves in 0..5 {
        moved_while(
            |guest, port| {
                let what = Create::Port {
                    capacity: 1,
                    slot: SLOT,
                };
                let (near, far) = create(guest, what)?.unwrap();
                send_transfer(guest, port, far.unwrap(), Rights::SEND)?.unwrap();
                let receive = Call::Receive {
                    port: near,
                    deadline: Deadline::NEVER,
                    buffer: 0,
                };
                let [_, _, word, ..] = guest.call(receive)?.unwrap();
                assert_eq!(word, 5);
                Ok(())
            },
            |guest, _, near| {
                let receive = Call::Receive {
                    port: near,
                    deadline: Deadline::NEVER,
                    buffer: 0,
                };
                let [_, _, _, raw, ..] = guest.call(receive)?.unwrap();
                let port = Transfer::from_raw(raw).unwrap().handle;
                let message = Outgoing::registers(8, [5, 0, 0]);
                guest.call(Call::Send { port, message })?.unwrap();
                Ok(())
            },
            moves,
        );
    }
}

#[test]
fn who_stands_in_the_line_of_a_port_gets_its_room_elsewhere() {
    for moves in 0..5 {
        moved_while(
            |guest, port| {
                let message = Outgoing::registers(8, [17, 0, 0]);
                guest.call(Call::Send { port, message })?.unwrap();
                let deadline = Deadline::NEVER;
                let call = Call::SendWaiting {
                    port,
                    message,
                    deadline,
                };
                assert!(guest.call(call)?.is_ok());
                Ok(())
            },
            |guest, _, near| {
                for _ in 0..2 {
                    let receive = Call::Receive {
                        port: near,
                        deadline: Deadline::NEVER,
                        buffer: 0,
                    };
                    guest.call(receive)?.unwrap();
                }
                Ok(())
            },
            moves,
        );
    }
}

#[test]
fn a_deadline_is_kept_where_one_has_been_moved() {
    const DUE: Deadline = Deadline(40_000_000);
    for moves in 0..4 {
        moved_while(
            |guest, _| {
                assert_eq!(wait(guest, DUE)?, Err(Error::TimedOut));
                Ok(())
            },
            |_, _, _| Ok(()),
            moves,
        );
        moved_while(
            |guest, port| {
                let call = Call::Call {
                    port,
                    message: Outgoing::registers(8, [17, 0, 0]),
                    deadline: DUE,
                };
                assert_eq!(guest.call(call)?.err(), Some(Error::TimedOut));
                Ok(())
            },
            |_, _, _| Ok(()),
            moves,
        );
    }
}

#[test]
fn who_sleeps_for_ever_is_found_to_whichever_cpu_it_has_gone() {
    let outcome = run_on(
        2,
        ONE,
        vec![
            script(|guest| {
                let child = make(guest, None)?;
                start(guest, child.vcpu, 0)?.unwrap();
                wait(guest, Deadline(10_000_000))?.unwrap_err();
                move_to(guest, child.vcpu, 1)?.unwrap();
                wait(guest, Deadline::NEVER).map(drop)
            }),
            script(|_| unreachable!("it starts on the first CPU")),
            script(|guest| wait(guest, Deadline::NEVER).map(drop)),
        ],
    );
    assert_eq!(outcome.ending(0).0, StopReason::Deadlock);
}

#[test]
fn who_uses_the_budget_of_another_stays_with_it() {
    let plan = alloc::format!("{ONE}schedule maker priority=32 budget-us=20000 period-us=100000\n");
    let outcome = run_on(
        2,
        &plan,
        vec![script(|guest| {
            let child = make(guest, None)?;
            assert_eq!(move_to(guest, child.vcpu, 1)?, Err(Error::WrongState));
            stop(guest, 0)
        })],
    );
    assert_eq!(outcome.ending(0), (StopReason::Exited, 0));
}

#[test]
fn a_vcpu_of_a_monitor_moves_while_it_waits_for_the_answer() {
    for moves in 0..5u8 {
        let outcome = run_on(
            3,
            ONE,
            vec![
                script(move |guest| {
                    let made = monitors::make(guest, None, Some(1), &[ExitKind::Cpuid])?;
                    let there = look_into(guest, made.child.memory)?;
                    start(guest, made.child.vcpu, 0)?.unwrap();
                    for round in 0..20 {
                        let receive = Call::Receive {
                            port: made.receiver.unwrap(),
                            deadline: Deadline::NEVER,
                            buffer: 0,
                        };
                        let [header, ..] = guest.call(receive)?.unwrap();
                        for number in 0..moves {
                            move_to(guest, made.child.vcpu, (round + number) % 3)?.unwrap();
                        }
                        let answer = Call::Reply {
                            port: made.receiver.unwrap(),
                            token: CallToken::from_header(header).unwrap(),
                            message: Outgoing::registers(16, [1, 4711, 0]),
                            then_receive: false,
                        };
                        guest.call(answer)?.unwrap();
                    }
                    while there[COUNT].load(Acquire) == 0 {
                        wait(guest, Deadline(1))?.unwrap_err();
                        move_to(guest, made.child.vcpu, 1)?.unwrap();
                    }
                    stop(guest, 0)
                }),
                script(|_| unreachable!("it starts on the first CPU")),
                script(|_| unreachable!("it starts on the first CPU")),
                script(|guest| {
                    for _ in 0..20 {
                        let (leaf, subleaf) = (0, 0);
                        let effects = guest.exit(Exit::Cpuid { leaf, subleaf })?;
                        assert!(effects.answer.is_some());
                    }
                    page(guest)?[COUNT].store(1, Release);
                    wait(guest, Deadline::NEVER).map(drop)
                }),
            ],
        );
        assert_eq!(outcome.ending(0), (StopReason::Exited, 0));
    }
}

#[test]
fn calls_of_one_that_is_moved_all_the_time_are_answered() {
    const CALLS: u64 = 500;
    for _ in 0..4 {
        let received = move |guest: &mut Guest, child: Child, _: &'static Words| {
            let what = Create::Port {
                capacity: 1,
                slot: SLOT,
            };
            let (near, far) = create(guest, what)?.unwrap();
            let copy = grant(guest, far.unwrap(), Rights::SEND, child.domain)?.unwrap();
            let own = itself(guest, child)?;
            start(guest, child.vcpu, copy.raw() | own.raw() << 32)?.unwrap();
            let mut random = 1u64;
            for number in 0..CALLS {
                let receive = Call::Receive {
                    port: near,
                    deadline: Deadline::NEVER,
                    buffer: 0,
                };
                let [header, _, word, ..] = guest.call(receive)?.unwrap();
                assert_eq!(word, number);
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                // Before the answer, and while it is on its way.
                let cpu = (random >> 33) % 3;
                if random >> 40 & 1 == 0 {
                    move_to(guest, child.vcpu, cpu as u8)?.unwrap();
                }
                let answer = Call::Reply {
                    port: near,
                    token: CallToken::from_header(header).unwrap(),
                    message: Outgoing::registers(8, [word + 1, 0, 0]),
                    then_receive: false,
                };
                guest.call(answer)?.unwrap();
                if random >> 41 & 1 == 0 {
                    move_to(guest, child.vcpu, 1 + cpu as u8 % 2)?.unwrap();
                }
            }
            Ok(())
        };
        with_child(3, received, |guest| {
            let argument = guest.start().argument.0;
            let port = Handle::from_raw(argument & 0xFFFF_FFFF).unwrap();
            let own = Handle::from_raw(argument >> 32).unwrap();
            for number in 0..CALLS {
                let call = Call::Call {
                    port,
                    message: Outgoing::registers(8, [number, 0, 0]),
                    deadline: Deadline::NEVER,
                };
                let [_, _, word, ..] = guest.call(call)?.unwrap();
                assert_eq!(word, number + 1);
                if number % 3 == 0 {
                    move_to(guest, own, (number % 5 % 3) as u8)?.unwrap();
                }
            }
            wait(guest, Deadline::NEVER).map(drop)
        });
    }
}

#[test]
fn who_is_moved_by_two_at_once_is_moved_by_both() {
    let moves = |guest: &mut Guest, vcpu: Handle, step: u8| -> ScriptResult {
        for round in 0..200u8 {
            assert_eq!(move_to(guest, vcpu, (round % 3 * step) % 3)?, Ok(()));
        }
        Ok(())
    };
    let maker = script(move |guest| {
        let (mover, moved) = (make(guest, None)?, make(guest, None)?);
        let theirs = look_into(guest, mover.memory)?;
        let handle = grant(guest, moved.vcpu, Rights::SCHEDULE, mover.domain)?.unwrap();
        start(guest, moved.vcpu, 0)?.unwrap();
        move_to(guest, mover.vcpu, 1)?.unwrap();
        start(guest, mover.vcpu, handle.raw())?.unwrap();
        until_it_counts(guest, theirs)?;
        moves(guest, moved.vcpu, 1)?;
        breathe_until(guest, || theirs[COUNT].load(Acquire) == 2)?;
        stop(guest, 0)
    });
    let mover = script(move |guest| {
        page(guest)?[COUNT].store(1, Release);
        let moved = Handle::from_raw(guest.start().argument.0).unwrap();
        moves(guest, moved, 2)?;
        page(guest)?[COUNT].store(2, Release);
        wait(guest, Deadline::NEVER).map(drop)
    });
    let moved = script(|guest| loop {
        breathe(guest)?;
    });
    let nobody = script(|_| unreachable!("nothing starts there"));
    let outcome = run_on(3, ONE, vec![maker, mover, nobody, moved]);
    assert_eq!(outcome.ending(0), (StopReason::Exited, 0));
}

#[test]
fn one_that_moves_itself_all_the_time_can_be_stopped_and_started_again() {
    const TIMES: usize = 30;
    let mut scripts = vec![script(|guest| {
        let child = make(guest, None)?;
        let there = look_into(guest, child.memory)?;
        let own = itself(guest, child)?;
        for _ in 0..TIMES {
            // It starts on this CPU.
            move_to(guest, child.vcpu, 0)?.unwrap();
            let before = there[COUNT].load(Acquire);
            start(guest, child.vcpu, own.raw())?.unwrap();
            while there[COUNT].load(Acquire) < before + 20 {
                let soon = wait(guest, Deadline(1))?;
                assert_eq!(soon, Err(Error::TimedOut));
                guest.compute(1_000_000)?;
            }
            stop_object(guest, child.vcpu)?.unwrap();
            let stopped = there[COUNT].load(Relaxed);
            for _ in 0..20 {
                breathe(guest)?;
            }
            assert_eq!(there[COUNT].load(Relaxed), stopped);
        }
        stop(guest, 0)
    })];
    scripts.extend((0..TIMES).map(|_| script(wanders)));
    let outcome = run_on(3, PEERS, on_first(3, scripts));
    assert_eq!(outcome.ending(0), (StopReason::Exited, 0));
}

/// What the maker gives away is no less urgent than itself.
const PEERS: &str = "nuncio-plan 1\n\
    domain maker image=image memory=4194304 vcpus=1 background=no\n\
    schedule maker priority=7 budget-us=0 period-us=0\n";

#[test]
fn a_domain_whose_vcpu_is_on_its_way_ends() {
    const TIMES: usize = 40;
    let mut scripts = vec![script(|guest| {
        for number in 0..TIMES {
            let child = make(guest, None)?;
            let there = look_into(guest, child.memory)?;
            let own = itself(guest, child)?;
            start(guest, child.vcpu, own.raw())?.unwrap();
            while there[COUNT].load(Acquire) < number as u64 {
                assert_eq!(wait(guest, Deadline(1))?, Err(Error::TimedOut));
                guest.compute(1_000_000)?;
            }
            stop_object(guest, child.domain)?.unwrap();
            let stopped = there[COUNT].load(Relaxed);
            for _ in 0..5 {
                breathe(guest)?;
            }
            assert_eq!(there[COUNT].load(Relaxed), stopped);
            assert_eq!(move_to(guest, child.vcpu, 1)?, Err(Error::PeerGone));
            let own = guest.boot_info().handle("space").unwrap().handle().unwrap();
            unmap(guest, own)?;
            for handle in [child.memory, child.vcpu, child.space, child.domain] {
                close(guest, handle)?.unwrap();
            }
        }
        stop(guest, 0)
    })];
    scripts.extend((0..TIMES).map(|_| script(wanders)));
    let outcome = run_on(3, PEERS, on_first(3, scripts));
    assert_eq!(outcome.ending(0), (StopReason::Exited, 0));
}

fn unmap(guest: &mut Guest, space: Handle) -> ScriptResult {
    let call = Call::Unmap {
        space,
        address: 0x4000_0000,
        length: 0x1000,
    };
    guest.call(call)?.unwrap();
    Ok(())
}

/// What is on its way then ends with all others, and no frame of it is lost.
#[test]
fn the_run_ends_while_vcpus_move() {
    for rounds in 0..20 {
        let mut scripts = vec![script(move |guest| {
            let mut last = None;
            for _ in 0..3 {
                let child = make(guest, None)?;
                let own = itself(guest, child)?;
                start(guest, child.vcpu, own.raw())?.unwrap();
                last = Some(child);
            }
            let there = look_into(guest, last.unwrap().memory)?;
            while there[COUNT].load(Acquire) < rounds {
                assert_eq!(wait(guest, Deadline(1))?, Err(Error::TimedOut));
                guest.compute(1_000_000)?;
            }
            stop(guest, 0)
        })];
        scripts.extend((0..3).map(|_| script(wanders)));
        let outcome = run_on(3, PEERS, on_first(3, scripts));
        assert_eq!(outcome.ending(0), (StopReason::Exited, 0));
    }
}
