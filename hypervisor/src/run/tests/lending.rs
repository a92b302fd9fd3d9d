//! Callers that wait for a server which somebody more urgent would keep from the CPU: on the same CPU, and on
//! another one.

use alloc::format;
use alloc::string::String;
use alloc::vec;

use nuncio_abi::{Call, CallToken, Deadline, Error, Outgoing, StopReason, VcpuPage};

use super::machine::{run_on, script};
use super::objects::Answered;
use super::talking::{handle, receive};
use super::{run, stop, Outcome};
use crate::mem::GuestPhysical;
use crate::vt::fake::{Guest, ScriptResult};
use crate::vt::Exit;

/// The client is less urgent than the spinner, and so is the server.
const PLAN: &str = "nuncio-plan 1\n\
    limit-ms 200\n\
    domain caller image=image memory=4194304 vcpus=1 background=no\n\
    domain server image=image memory=4194304 vcpus=1 background=yes\n\
    domain spinner image=image memory=4194304 vcpus=1 background=yes\n\
    domain client image=image memory=4194304 vcpus=1 background=yes\n\
    port mail capacity=4\n\
    event busy\n\
    give caller port mail send\n\
    give client port mail send\n\
    give server port mail receive\n\
    give server event busy notify\n\
    give caller event busy wait\n\
    schedule server priority=20 budget-us=0 period-us=0\n\
    schedule client priority=10 budget-us=0 period-us=0\n";

/// So long the server works for each call.
const WORK_NS: u64 = 5_000_000;
const WORD: Outgoing = Outgoing::Registers {
    length: 8,
    handles: 0,
    words: [1, 0, 0],
};

fn plan(priority: u8, budget_us: u64, places: &str) -> String {
    let period_us = if budget_us == 0 { 0 } else { 100_000 };
    format!(
        "{PLAN}schedule caller priority={priority} budget-us={budget_us} period-us={period_us}\n\
         {places}"
    )
}

/// Computes so that the CPU hears what others tell it, as it does by an interrupt.
fn compute(guest: &mut Guest, ns: u64) -> ScriptResult {
    let exit = || Exit::Cpuid {
        leaf: 0,
        subleaf: 0,
    };
    // Each of them takes so long.
    for _ in 0..ns / 1_000 {
        guest.exit(exit())?;
    }
    Ok(())
}

fn wait_until(guest: &mut Guest, deadline_ns: u64) -> ScriptResult {
    let deadline = Deadline(deadline_ns);
    guest.call(Call::Wait { deadline })?.unwrap_err();
    Ok(())
}

fn call(guest: &mut Guest, deadline: Deadline) -> Answered<()> {
    let port = handle(guest, "mail");
    let message = WORD;
    let call = Call::Call {
        port,
        message,
        deadline,
    };
    Ok(guest.call(call)?.map(|_| ()))
}

/// Waits until the server is busy with somebody else's call.
fn wait_for_busy(guest: &mut Guest) -> ScriptResult {
    let info = guest.boot_info();
    let slot = info.handle("busy").unwrap().slot();
    let page = VcpuPage::new(guest.words(GuestPhysical(info.vcpu_page)).unwrap());
    let word = page.slot(slot).unwrap();
    word.enable(u64::MAX);
    while word.take() == 0 {
        let deadline = Deadline::NEVER;
        guest.call(Call::Wait { deadline })?.unwrap();
    }
    Ok(())
}

/// Says that it is busy, works, and answers; again and again.
fn serve(guest: &mut Guest) -> ScriptResult {
    let (port, event) = (handle(guest, "mail"), handle(guest, "busy"));
    let mut received = receive(guest, Deadline::NEVER)?;
    loop {
        let token = match received {
            Ok([header, ..]) => CallToken::from_header(header).unwrap(),
            // Nobody waits for the answer any more.
            Err(Error::PeerGone) => {
                received = receive(guest, Deadline::NEVER)?;
                continue;
            }
            Err(error) => panic!("{error:?}"),
        };
        guest.call(Call::Notify { event, bits: 1 })?.unwrap();
        compute(guest, WORK_NS)?;
        received = guest.call(Call::Reply {
            port,
            token,
            message: WORD,
            then_receive: true,
        })?;
    }
}

fn client(guest: &mut Guest) -> ScriptResult {
    wait_until(guest, 1_000_000)?;
    loop {
        let _ = call(guest, Deadline::NEVER)?;
    }
}

/// Computes for ever from then on.
fn spin_from(guest: &mut Guest, ns: u64) -> ScriptResult {
    wait_until(guest, ns)?;
    loop {
        compute(guest, 1_000_000_000)?;
    }
}

/// Calls the server, busy with the client, while the spinner has the CPU.
fn call_busy(guest: &mut Guest) -> ScriptResult {
    wait_for_busy(guest)?;
    call(guest, Deadline::NEVER)?.unwrap();
    stop(guest, 0)
}

#[test]
fn a_queued_call_gets_its_server_past_one_who_is_more_urgent() {
    let outcome = run(
        &plan(40, 0, ""),
        vec![
            script(call_busy),
            script(serve),
            script(|guest| spin_from(guest, 2_000_000)),
            script(client),
        ],
    );
    assert_eq!(outcome.ending(0), (StopReason::Exited, 0));
    // What is left of the client's call, and its own.
    assert!(outcome.now_ns < 13_000_000, "{} ns", outcome.now_ns);
}

#[test]
fn a_queued_call_that_is_given_up_leaves_the_cpu_to_who_is_more_urgent() {
    let outcome = run(
        &plan(40, 0, ""),
        vec![
            script(|guest| {
                wait_for_busy(guest)?;
                let deadline = Deadline(3_000_000);
                assert_eq!(call(guest, deadline)?, Err(Error::TimedOut));
                wait_until(guest, 50_000_000)?;
                stop(guest, 0)
            }),
            script(serve),
            script(|guest| spin_from(guest, 1_500_000)),
            script(client),
        ],
    );
    assert_eq!(outcome.ending(0), (StopReason::Exited, 0));
    let [server, spinner] = [1, 2].map(|domain| outcome.reports[domain].counters.ticks);
    assert!(server < 3_000_000, "{server}");
    assert!(spinner > 45_000_000, "{spinner}");
}

#[test]
fn the_server_of_a_queued_call_is_paid_by_the_caller() {
    // 1 ms is not enough for its call and the other one.
    let outcome = run(
        &plan(40, 1_000, ""),
        vec![
            script(call_busy),
            script(serve),
            script(|guest| spin_from(guest, 1_500_000)),
            script(client),
        ],
    );
    assert_eq!(outcome.ending(0), (StopReason::TimeLimit, 0));
    let server = outcome.reports[1].counters.ticks;
    assert!((1_000_000..2_000_000).contains(&server), "{server}");
}

/// Server, spinner and client on one CPU, the caller on another one. Each CPU has a clock of its own here, so
/// there is no limit: whoever is not served fails the test by the time that it takes.
fn run_afar(caller: fn(&mut Guest) -> ScriptResult, is_busy: bool) -> Outcome {
    let places = "cpu caller 0\ncpu server 1\ncpu spinner 1\ncpu client 1\n";
    let nobody = || script(|_| Ok(()));
    run_on(
        2,
        &plan(40, 0, places).replace("limit-ms 200\n", ""),
        // Every second script is CPU 1's.
        vec![
            script(caller),
            script(serve),
            nobody(),
            script(|guest| spin_from(guest, 2_000_000)),
            nobody(),
            script(move |guest| match is_busy {
                true => client(guest),
                false => wait_until(guest, 1_000_000_000),
            }),
        ],
    )
}

#[test]
fn a_call_gets_its_server_on_another_cpu_past_one_who_is_more_urgent() {
    let call = |guest: &mut Guest| {
        call(guest, Deadline::NEVER)?.unwrap();
        stop(guest, 0)
    };
    for _ in 0..5 {
        let outcome = run_afar(call, false);
        assert_eq!(outcome.ending(0), (StopReason::Exited, 0));
        let server = outcome.reports[1].counters.ticks;
        assert!(server < 2 * WORK_NS, "{server}");
    }
}

#[test]
fn a_queued_call_gets_its_busy_server_on_another_cpu_past_one_who_is_more_urgent() {
    for _ in 0..5 {
        let outcome = run_afar(call_busy, true);
        assert_eq!(outcome.ending(0), (StopReason::Exited, 0));
    }
}
