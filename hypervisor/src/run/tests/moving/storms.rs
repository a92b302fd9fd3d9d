//! Vcpus that are moved again and again, by several at once, and while their domains end.

use super::*;

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
                let [header, _, word, ..] = receive_from(guest, near, Deadline::NEVER)?.unwrap();
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
