//! Domains with several vcpus: how these start, stop and share what their domain has.

use alloc::vec;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use nuncio_abi::{
    BootInfo, BudgetChange, Call, CallToken, Create, Deadline, Error, Handle, Outgoing, Rights,
    StopReason, VcpuPage, MAX_VCPUS,
};

use super::domains::{close, grant, make_monitored, map, start, status, ONE, SLOT};
use super::machine::{run_on, script};
use super::objects::{create, used, Answered};
use super::{run, stop};
use crate::mem::{GuestPhysical, Words};
use crate::vt::fake::{Gone, Guest, ScriptResult};

const FOUR: &str = "nuncio-plan 1\n\
    domain kernel image=image memory=4194304 vcpus=4 background=no\n";

/// RAM that all vcpus of a domain from a plan use as they like.
pub(super) fn board(guest: &Guest) -> &'static Words {
    guest.words(GuestPhysical(0x20_0000)).unwrap()
}

pub(super) fn vcpu(info: &BootInfo, number: usize) -> Handle {
    Handle::from_raw(info.vcpus()[number]).unwrap()
}

/// Starts another vcpu of the same domain, which is told its number beside the address of the page that
/// the first is told.
pub(super) fn start_own(guest: &mut Guest, number: usize) -> Answered<()> {
    let info = guest.boot_info();
    let address = guest.start().argument.0 & !0xFFF;
    start(guest, vcpu(&info, number), address + number as u64)
}

fn own_number(guest: &Guest) -> usize {
    (guest.start().argument.0 & 0xFFF) as usize
}

/// Stops a vcpu, or ends a domain.
pub(super) fn stop_object(guest: &mut Guest, object: Handle) -> Answered<()> {
    let call = Call::Stop { object, code: 0 };
    Ok(guest.call(call)?.map(|_| ()))
}

pub(super) fn wait(guest: &mut Guest, deadline: Deadline) -> Answered<()> {
    Ok(guest.call(Call::Wait { deadline })?.map(|_| ()))
}

/// Waits until a word has a value, in turns with the other vcpus.
pub(super) fn until(guest: &mut Guest, place: usize, value: u64) -> ScriptResult {
    while board(guest)[place].load(Acquire) != value {
        wait(guest, Deadline(1)).map(|_| ())?;
        guest.compute(1_000_000)?;
    }
    Ok(())
}

/// Another vcpu of a domain from a plan: says that it runs, and sleeps for ever.
fn sits_there(guest: &mut Guest) -> ScriptResult {
    let number = own_number(guest);
    board(guest)[number].fetch_add(1, Release);
    wait(guest, Deadline::NEVER).map(|_| ())
}

/// Calls again and again: a CPU of the fake machine hears others only between two exits.
fn spins(guest: &mut Guest) -> ScriptResult {
    loop {
        let _ = wait(guest, Deadline::NOW)?;
    }
}

#[test]
fn a_domain_starts_its_other_vcpus_each_on_its_cpu() {
    for cpus in [1, 2, 4] {
        let outcome = run_on(
            cpus,
            FOUR,
            vec![
                script(|guest| {
                    let info = guest.boot_info();
                    assert_eq!(info.vcpus().len(), 4);
                    assert_eq!(
                        vcpu(&info, 0),
                        info.handle("vcpu").unwrap().handle().unwrap()
                    );
                    for number in 1..4 {
                        start_own(guest, number)?.unwrap();
                        assert_eq!(start_own(guest, number)?, Err(Error::WrongState));
                    }
                    for number in 1..4 {
                        until(guest, number, 1)?;
                    }
                    stop(guest, 7)
                }),
                script(sits_there),
                script(sits_there),
                script(sits_there),
            ],
        );
        assert_eq!(outcome.reports.len(), 1);
        assert_eq!(outcome.ending(0), (StopReason::Exited, 7));
        let waits = nuncio_abi::Verb::Wait.number() as usize;
        assert!(
            outcome.reports[0].counters.calls[waits] >= 3,
            "those of all"
        );
    }
}

#[test]
fn any_vcpu_ends_its_domain() {
    for cpus in [1, 3] {
        let outcome = run_on(
            cpus,
            FOUR,
            vec![
                script(|guest| {
                    start_own(guest, 1)?.unwrap();
                    start_own(guest, 2)?.unwrap();
                    spins(guest)
                }),
                script(|guest| wait(guest, Deadline::NEVER).map(|_| ())),
                script(|guest| {
                    let info = guest.boot_info();
                    let object = info.handle("domain").unwrap().handle().unwrap();
                    guest.call(Call::Stop { object, code: 3 }).map(|_| ())
                }),
                script(|_| unreachable!("nobody starts it")),
            ],
        );
        assert_eq!(outcome.ending(0), (StopReason::Exited, 3));
    }
}

#[test]
fn a_vcpu_that_was_stopped_can_be_started_again() {
    for cpus in [1, 2] {
        let mut scripts = vec![
            script(move |guest| {
                let info = guest.boot_info();
                let second = vcpu(&info, 1);
                assert_eq!(stop_object(guest, second)?, Err(Error::WrongState));
                let before = used(guest)?;
                start_own(guest, 1)?.unwrap();
                until(guest, 1, 1)?;
                stop_object(guest, second)?.unwrap();
                assert_eq!(stop_object(guest, second)?, Err(Error::WrongState));
                assert_eq!(used(guest)?, before, "what it took is free");
                start_own(guest, 1)?.unwrap();
                until(guest, 1, 2)?;
                if cpus == 1 {
                    // Meanwhile it stops by itself.
                    wait(guest, Deadline(1_000_000_000))?.unwrap_err();
                    assert_eq!(stop_object(guest, second)?, Err(Error::WrongState));
                }
                stop(guest, 0)
            }),
            script(sits_there),
            script(|guest| {
                board(guest)[1].fetch_add(1, Release);
                let own = vcpu(&guest.boot_info(), 1);
                // It does not come back, unless its domain has ended meanwhile on the other CPU.
                assert_eq!(stop_object(guest, own)?, Err(Error::PeerGone));
                sits_there(guest)
            }),
        ];
        if cpus == 2 {
            // Each CPU has every second one.
            scripts.insert(2, script(|_| unreachable!("nobody starts it")));
        }
        run_on(
            cpus,
            "nuncio-plan 1\ndomain kernel image=image memory=4194304 vcpus=2 background=no\n",
            scripts,
        );
    }
}

/// What the other vcpu sleeps in when it is stopped.
fn stopped_in(sleep: impl FnOnce(&mut Guest, Handle) -> ScriptResult + Send + 'static) {
    run(
        ONE,
        vec![
            script(|guest| {
                let (near, far) = create(
                    guest,
                    Create::Port {
                        capacity: 1,
                        slot: SLOT,
                    },
                )?
                .unwrap();
                let far = far.unwrap();
                let child = make_monitored(guest, None, None, None)?;
                let copy = grant(guest, far, Rights::SEND, child.domain)?.unwrap();
                start(guest, child.vcpu, copy.raw())?.unwrap();
                wait(guest, Deadline(50_000_000))?.unwrap_err();
                stop_object(guest, child.vcpu)?.unwrap();
                // Nobody waits for an answer any more, or for room.
                let receive = Call::Receive {
                    port: near,
                    deadline: Deadline::NOW,
                    buffer: 0,
                };
                if let Ok([header, ..]) = guest.call(receive)? {
                    if let Some(token) = CallToken::from_header(header) {
                        let answered = guest.call(Call::Reply {
                            port: near,
                            token,
                            message: Outgoing::registers(0, [0; 3]),
                            then_receive: false,
                        })?;
                        assert_eq!(answered.err(), Some(Error::PeerGone));
                    }
                }
                close(guest, child.domain)?.unwrap();
                stop(guest, 0)
            }),
            script(move |guest| {
                let port = Handle::from_raw(guest.start().argument.0).unwrap();
                sleep(guest, port)
            }),
        ],
    );
}

#[test]
fn a_vcpu_can_be_stopped_in_any_sleep() {
    stopped_in(|guest, port| {
        let call = Call::Call {
            port,
            message: Outgoing::registers(0, [0; 3]),
            deadline: Deadline::NEVER,
        };
        guest.call(call).map(|_| ())
    });
    stopped_in(|guest, port| {
        let message = Outgoing::registers(0, [0; 3]);
        guest.call(Call::Send { port, message })?.unwrap();
        let deadline = Deadline::NEVER;
        let call = Call::SendWaiting {
            port,
            message,
            deadline,
        };
        guest.call(call).map(|_| ())
    });
    stopped_in(|guest, _| wait(guest, Deadline::NEVER).map(|_| ()));
    stopped_in(|guest, _| guest.compute(u64::MAX / 2));
}

#[test]
fn the_room_that_a_call_keeps_is_free_when_its_vcpu_is_stopped() {
    const TIMES: usize = 300;
    let mut scripts = vec![script(|guest| {
        let what = Create::Port {
            capacity: 1,
            slot: SLOT,
        };
        let (near, far) = create(guest, what)?.unwrap();
        board(guest)[2].store(far.unwrap().raw(), Release);
        let other = vcpu(&guest.boot_info(), 1);
        for _ in 0..TIMES {
            start_own(guest, 1)?.unwrap();
            let receive = Call::Receive {
                port: near,
                deadline: Deadline::NEVER,
                buffer: 0,
            };
            guest.call(receive)?.unwrap();
            stop_object(guest, other)?.unwrap();
        }
        stop(guest, 0)
    })];
    scripts.extend((0..TIMES).map(|_| {
        script(|guest| {
            let call = Call::Call {
                port: Handle::from_raw(board(guest)[2].load(Acquire)).unwrap(),
                message: Outgoing::registers(0, [0; 3]),
                deadline: Deadline::NEVER,
            };
            guest.call(call)?.unwrap();
            unreachable!("it is never answered")
        })
    }));
    let plan = "nuncio-plan 1\nlimit-ms 60000\n\
        domain kernel image=image memory=4194304 vcpus=2 background=no\n";
    let outcome = run(plan, scripts);
    assert_eq!(outcome.ending(0), (StopReason::Exited, 0));
}

#[test]
fn a_child_whose_vcpus_have_all_stopped_lives_until_it_is_given_up() {
    let outcome = run(
        ONE,
        vec![
            script(|guest| {
                let first = vcpu(&guest.boot_info(), 0);
                assert_eq!(stop_object(guest, first)?, Err(Error::MissingRight));
                let child = make_monitored(guest, None, None, None)?;
                assert_eq!(stop_object(guest, child.vcpu)?, Err(Error::WrongState));
                start(guest, child.vcpu, 0)?.unwrap();
                wait(guest, Deadline(50_000_000))?.unwrap_err();
                stop_object(guest, child.vcpu)?.unwrap();
                assert_eq!(status(guest, child.domain)?, Ok((0, 0)));
                close(guest, child.domain)?.unwrap();
                assert_eq!(start(guest, child.vcpu, 0)?, Err(Error::PeerGone));
                stop(guest, 0)
            }),
            script(|guest| wait(guest, Deadline::NEVER).map(|_| ())),
        ],
    );
    assert_eq!(outcome.ending(0), (StopReason::Exited, 0));
}

#[test]
fn a_domain_without_a_vcpu_that_runs_ends_with_the_run() {
    let plan = "nuncio-plan 1\n\
        domain kernel image=image memory=4194304 vcpus=2 background=no\n";
    for cpus in [1, 2] {
        let outcome = run_on(
            cpus,
            plan,
            vec![
                script(|guest| {
                    start_own(guest, 1)?.unwrap();
                    wait(guest, Deadline::NEVER).map(|_| ())
                }),
                script(|guest| {
                    let own = vcpu(&guest.boot_info(), 1);
                    stop_object(guest, own).map(|_| ())
                }),
            ],
        );
        assert_eq!(outcome.ending(0), (StopReason::Deadlock, 0));
    }
}

#[test]
fn only_the_vcpu_that_made_a_port_receives_from_it() {
    let outcome = run(
        FOUR,
        vec![
            script(|guest| {
                let what = Create::Port {
                    capacity: 1,
                    slot: SLOT,
                };
                let (near, _) = create(guest, what)?.unwrap();
                board(guest)[2].store(near.raw(), Release);
                start_own(guest, 1)?.unwrap();
                let receive = Call::Receive {
                    port: near,
                    deadline: Deadline::NEVER,
                    buffer: 0,
                };
                // The other one closes the handle meanwhile.
                assert_eq!(guest.call(receive)?.err(), Some(Error::BadHandle));
                stop(guest, 0)
            }),
            script(|guest| {
                let near = Handle::from_raw(board(guest)[2].load(Acquire)).unwrap();
                let receive = Call::Receive {
                    port: near,
                    deadline: Deadline::NOW,
                    buffer: 0,
                };
                assert_eq!(guest.call(receive)?.err(), Some(Error::WrongState));
                close(guest, near)?.unwrap();
                wait(guest, Deadline::NEVER).map(|_| ())
            }),
        ],
    );
    assert_eq!(outcome.ending(0), (StopReason::Exited, 0));
}

#[test]
fn each_vcpu_has_a_page_of_its_own() {
    let outcome = run(
        FOUR,
        vec![
            script(|guest| {
                let info = guest.boot_info();
                for number in 0..4 {
                    let page = info.vcpu_page_of(number).unwrap();
                    let words = guest.words(GuestPhysical(page)).unwrap();
                    words[1000 / 8].store(number as u64 + 1, Relaxed);
                }
                assert_eq!(info.vcpu_page_of(4), None);
                start_own(guest, 3)?.unwrap();
                // The event of the other one is in its own page.
                until(guest, 8, 1)?;
                let bell = Handle::from_raw(board(guest)[9].load(Acquire)).unwrap();
                let call = Call::Notify {
                    event: bell,
                    bits: 0b10,
                };
                guest.call(call)?.unwrap();
                until(guest, 8, 2)?;
                stop(guest, 0)
            }),
            script(|guest| {
                let address = guest.boot_info().vcpu_page_of(own_number(guest)).unwrap();
                let words = guest.words(GuestPhysical(address)).unwrap();
                assert_eq!(words[1000 / 8].load(Relaxed), 4);
                let page = VcpuPage::new(words);
                let slot = page.slot(5).unwrap();
                slot.enable(u64::MAX);
                let what = Create::Event {
                    slot: 5,
                    interval_ns: 0,
                };
                let (_, bell) = create(guest, what)?.unwrap();
                board(guest)[9].store(bell.unwrap().raw(), Release);
                board(guest)[8].store(1, Release);
                wait(guest, Deadline::NEVER)?.unwrap();
                assert_eq!(slot.take(), 0b10);
                board(guest)[8].store(2, Release);
                wait(guest, Deadline::NEVER).map(|_| ())
            }),
        ],
    );
    assert_eq!(outcome.ending(0), (StopReason::Exited, 0));
}

#[test]
fn there_are_as_many_vcpus_in_a_domain_as_the_limit_says() {
    run(
        ONE,
        vec![script(|guest| {
            let child = make_monitored(guest, None, None, None)?;
            let vcpu = Create::Vcpu {
                domain: child.domain,
                page: child.memory,
                monitor: None,
                state: None,
            };
            for _ in 1..MAX_VCPUS {
                create(guest, vcpu)?.unwrap();
            }
            assert_eq!(create(guest, vcpu)?.err(), Some(Error::WrongState));
            stop(guest, 0)
        })],
    );
}

#[test]
fn domains_end_while_their_vcpus_start_and_stop_elsewhere() {
    for _ in 0..20 {
        let starts = |guest: &mut Guest| -> Result<(), Gone> {
            for _ in 0..20 {
                let _ = start_own(guest, 1)?;
                let second = vcpu(&guest.boot_info(), 1);
                let _ = stop_object(guest, second)?;
            }
            let _ = start_own(guest, 1)?;
            stop(guest, 0)
        };
        let mut scripts = vec![script(starts)];
        scripts.extend((0..41).map(|_| script(spins)));
        let outcome = run_on(
            2,
            "nuncio-plan 1\ndomain kernel image=image memory=4194304 vcpus=2 background=no\n",
            scripts,
        );
        assert_eq!(outcome.ending(0), (StopReason::Exited, 0));
    }
}

/// The word of its vcpu page in which a child counts: none that means anything.
pub(super) const COUNT: usize = 60;

/// The first page of a child's memory, in the caller's own space.
pub(super) fn look_into(guest: &mut Guest, memory: Handle) -> Result<&'static Words, Gone> {
    const WINDOW: GuestPhysical = GuestPhysical(0x4000_0000);
    let own = guest.boot_info().handle("space").unwrap().handle().unwrap();
    map(guest, own, memory, WINDOW.0)?.unwrap();
    Ok(guest.words(WINDOW).unwrap())
}

/// Waits until a child has said something.
pub(super) fn until_it_counts(guest: &mut Guest, there: &Words) -> ScriptResult {
    while there[COUNT].load(Acquire) == 0 {
        let _ = wait(guest, Deadline::NOW)?;
    }
    Ok(())
}

pub(super) fn move_to(guest: &mut Guest, vcpu: Handle, cpu: u8) -> Answered<()> {
    let call = Call::Schedule {
        vcpu,
        priority: Some(7),
        budget: BudgetChange::Keep,
        cpu: Some(cpu),
    };
    Ok(guest.call(call)?.map(|_| ()))
}
