//! Vcpus that are moved while they sleep in a call.

use super::*;

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
                let [header, _, word, ..] = receive_from(guest, near, Deadline::NEVER)?.unwrap();
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
                let [_, _, word, ..] = receive_from(guest, near, Deadline::NEVER)?.unwrap();
                assert_eq!(word, 5);
                Ok(())
            },
            |guest, _, near| {
                let [_, _, _, raw, ..] = receive_from(guest, near, Deadline::NEVER)?.unwrap();
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
                    receive_from(guest, near, Deadline::NEVER)?.unwrap();
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
                        let [header, ..] =
                            receive_from(guest, made.receiver.unwrap(), Deadline::NEVER)?.unwrap();
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
