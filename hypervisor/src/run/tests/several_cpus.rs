//! Domains on several CPUs, each of which is a thread: what holds on one holds on all.

use alloc::format;
use alloc::string::String;
use alloc::vec;

use nuncio_abi::{Call, CallToken, Deadline, Error, Outgoing, StopReason, VcpuPage};

use super::machine::{run_on, script};
use super::stop;
use super::talking::{handle, receive, send, PAIR};
use crate::mem::GuestPhysical;
use crate::vt::fake::{Guest, ScriptResult};
use crate::vt::Exit;

const ROUNDS: u64 = 300;

/// A domain that only waits for ever.
fn wait_for_ever(guest: &mut Guest) -> ScriptResult {
    let deadline = Deadline::NEVER;
    guest.call(Call::Wait { deadline })?.unwrap();
    Ok(())
}

#[test]
fn messages_cross_from_cpu_to_cpu() {
    for _ in 0..10 {
        let outcome = run_on(
            2,
            PAIR,
            vec![
                script(|guest| {
                    for number in 0..ROUNDS {
                        let text = format!("{number:05}");
                        // The queue holds two; its receiver is on another CPU.
                        while send(guest, "mail", text.as_bytes())? == Err(Error::QueueFull) {}
                    }
                    stop(guest, 0)
                }),
                script(|guest| {
                    for number in 0..ROUNDS {
                        let [_, _, word, ..] = receive(guest, Deadline::NEVER)?.unwrap();
                        let bytes = word.to_le_bytes();
                        assert_eq!(&bytes[..5], format!("{number:05}").as_bytes());
                    }
                    stop(guest, 0)
                }),
            ],
        );
        assert_eq!(outcome.ending(0), (StopReason::Exited, 0));
        assert_eq!(outcome.ending(1), (StopReason::Exited, 0));
    }
}

#[test]
fn calls_are_answered_from_another_cpu() {
    for _ in 0..10 {
        let outcome = run_on(
            2,
            PAIR,
            vec![
                script(|guest| {
                    let port = handle(guest, "mail");
                    for number in 0..ROUNDS {
                        let message = Outgoing::registers(8, [number, 0, 0]);
                        let deadline = Deadline::NEVER;
                        let call = Call::Call {
                            port,
                            message,
                            deadline,
                        };
                        let [_, _, answer, ..] = guest.call(call)?.unwrap();
                        assert_eq!(answer, number + 1);
                    }
                    stop(guest, 0)
                }),
                script(|guest| {
                    let port = handle(guest, "mail");
                    let mut received = receive(guest, Deadline::NEVER)?;
                    while let Ok([header, _, word, ..]) = received {
                        let token = CallToken::from_header(header).unwrap();
                        received = guest.call(Call::Reply {
                            port,
                            token,
                            message: Outgoing::registers(8, [word + 1, 0, 0]),
                            then_receive: true,
                        })?;
                    }
                    assert_eq!(received, Err(Error::PeerGone), "the caller has ended");
                    stop(guest, 0)
                }),
            ],
        );
        assert_eq!(outcome.ending(0), (StopReason::Exited, 0));
        assert_eq!(outcome.ending(1), (StopReason::Exited, 0));
    }
}

#[test]
fn notifications_wake_a_vcpu_of_another_cpu() {
    for _ in 0..10 {
        let outcome = run_on(
            2,
            PAIR,
            vec![
                script(|guest| {
                    let event = handle(guest, "bell");
                    for bit in 0..64 {
                        let bits = 1 << bit;
                        guest.call(Call::Notify { event, bits })?.unwrap();
                    }
                    stop(guest, 0)
                }),
                script(|guest| {
                    let info = guest.boot_info();
                    let slot = info.handle("bell").unwrap().slot();
                    let page = VcpuPage::new(guest.words(GuestPhysical(info.vcpu_page)).unwrap());
                    let mut seen = 0;
                    page.slot(slot).unwrap().enable(u64::MAX);
                    while seen != u64::MAX {
                        let deadline = Deadline::NEVER;
                        guest.call(Call::Wait { deadline })?.unwrap();
                        seen |= page.slot(slot).unwrap().take();
                    }
                    stop(guest, 0)
                }),
            ],
        );
        assert_eq!(outcome.ending(1), (StopReason::Exited, 0));
    }
}

#[test]
fn when_no_cpu_can_ever_run_anything_again_all_end() {
    let outcome = run_on(4, PAIR, vec![script(wait_for_ever), script(wait_for_ever)]);
    assert_eq!(outcome.ending(0).0, StopReason::Deadlock);
    assert_eq!(outcome.ending(1).0, StopReason::Deadlock);
}

#[test]
fn the_end_of_the_run_reaches_a_guest_that_computes_on_another_cpu() {
    let plan = PAIR.replace(
        "domain receiver image=image memory=4194304 vcpus=1 background=no",
        "domain receiver image=image memory=4194304 vcpus=1 background=yes",
    );
    let outcome = run_on(
        2,
        &plan,
        vec![
            script(|guest| stop(guest, 3)),
            script(|guest| loop {
                guest.exit(Exit::Cpuid {
                    leaf: 0,
                    subleaf: 0,
                })?;
            }),
        ],
    );
    assert_eq!(outcome.ending(0), (StopReason::Exited, 3));
    assert_eq!(outcome.ending(1).0, StopReason::RunEnded);
}

#[test]
fn a_domain_runs_where_the_plan_says() {
    let plan = String::from(PAIR) + "cpu sender 1\ncpu receiver 0\n";
    let outcome = run_on(
        2,
        &plan,
        // The first script is CPU 0's.
        vec![
            script(|guest| {
                assert_eq!(guest.boot_info().name.as_str(), "receiver");
                stop(guest, 0)
            }),
            script(|guest| {
                assert_eq!(guest.boot_info().name.as_str(), "sender");
                stop(guest, 0)
            }),
        ],
    );
    assert_eq!(outcome.ending(0), (StopReason::Exited, 0));
}
