//! Vcpus that have a monitor: exits that are messages or the values of `run`, and the answers.

use alloc::vec;

use core::sync::atomic::Ordering::Relaxed;

use nuncio_abi::{
    Arrival, Call, CallToken, Create, Deadline, Error, ExitKind, Handle, Outgoing, RawCall, Resume,
    Rights, StateGroups, StatePage, StateWord, StopReason, VcpuExit, VcpuPage,
};

use super::domains::{close, grant, make_monitored, map, start, status, Child, ONE, SLOT};
use super::machine::script;
use super::objects::{create, used, Answered};
use super::talking::handle;
use super::{run, stop};
use crate::mem::GuestPhysical;
use crate::vt::fake::{Gone, Guest, FAULT_ADDRESS};
use crate::vt::{Access, Exit};

/// Where the maker maps the state page of what it has made.
pub const STATE_ADDRESS: u64 = 0x7000_0000;

/// A domain whose vcpu has a monitor, and the state page.
pub struct Monitored {
    pub child: Child,
    pub page: StatePage<'static>,
    pub receiver: Option<Handle>,
}

/// Makes it, with a port of so many messages or without one, and names the exits that are told of.
pub fn make(
    guest: &mut Guest,
    event: Option<Handle>,
    capacity: Option<u64>,
    exits: &[ExitKind],
) -> Result<Monitored, Gone> {
    let (receiver, port) = match capacity {
        Some(capacity) => {
            let slot = SLOT + 1;
            let (receiver, port) = create(guest, Create::Port { capacity, slot })?.unwrap();
            (Some(receiver), port)
        }
        None => (None, None),
    };
    let (state, _) = create(guest, Create::Memory { bytes: 0x1000 })?.unwrap();
    let space = handle(guest, "space");
    map(guest, space, state, STATE_ADDRESS)?.unwrap();
    let page = StatePage::new(guest.words(GuestPhysical(STATE_ADDRESS)).unwrap());
    page.set_exits(exits.iter().fold(0, |bits, kind| bits | kind.bit()));
    let child = make_monitored(guest, event, port, Some(state))?;
    if let Some(port) = port {
        // The monitor has its own.
        close(guest, port)?.unwrap();
    }
    Ok(Monitored {
        child,
        page,
        receiver,
    })
}

fn run_vcpu(guest: &mut Guest, vcpu: Handle, resume: Resume) -> Answered<VcpuExit> {
    run_in(guest, vcpu, None, resume)
}

fn run_in(
    guest: &mut Guest,
    vcpu: Handle,
    space: Option<Handle>,
    resume: Resume,
) -> Answered<VcpuExit> {
    let call = Call::Run {
        vcpu,
        space,
        resume,
    };
    Ok(guest
        .call(call)?
        .map(|[first, second, third, ..]| VcpuExit::from_words([first, second, third]).unwrap()))
}

/// The next exit that comes as a message, and the token of the call.
fn next_exit(guest: &mut Guest, port: Handle) -> Result<(VcpuExit, CallToken), Gone> {
    let call = Call::Receive {
        port,
        deadline: Deadline::NEVER,
        buffer: 0,
    };
    let [header, _, first, second, third] = guest.call(call)?.unwrap();
    assert_eq!(header & 0xFFF, 24);
    let exit = VcpuExit::from_words([first, second, third]).unwrap();
    Ok((exit, CallToken::from_header(header).unwrap()))
}

fn reply(guest: &mut Guest, port: Handle, token: CallToken, words: [u64; 3]) -> Answered<()> {
    let call = Call::Reply {
        port,
        token,
        message: Outgoing::registers(24, words),
        then_receive: false,
    };
    Ok(guest.call(call)?.map(|_| ()))
}

fn stop_vcpu(guest: &mut Guest, vcpu: Handle) -> Answered<()> {
    let call = Call::Stop {
        object: vcpu,
        code: 0,
    };
    Ok(guest.call(call)?.map(|_| ()))
}

const INPUT: Exit = Exit::Io {
    port: 0x3FD,
    bytes: 1,
    is_read: true,
    is_string: false,
    repeats: false,
};
const HALT: Exit = Exit::Halt {
    interrupts_enabled: true,
};
const MEMORY: Exit = Exit::Memory {
    address: GuestPhysical(0xFEE0_0000),
    access: Access::Write,
};

#[test]
fn a_runner_gets_each_exit_and_says_what_becomes_of_it() {
    let outcome = run(
        ONE,
        vec![
            script(|guest| {
                let before = used(guest)?;
                let kinds = [ExitKind::Port, ExitKind::Cpuid, ExitKind::Memory];
                let made = make(guest, None, None, &kinds)?;
                let vcpu = made.child.vcpu;
                let early = run_vcpu(guest, vcpu, Resume::GO)?;
                assert_eq!(early, Err(Error::WrongState), "it has not been started");
                start(guest, vcpu, 0)?.unwrap();
                let nothing_to_complete = run_vcpu(guest, vcpu, Resume::complete(0))?;
                assert_eq!(nothing_to_complete, Err(Error::BadArgument));
                let exit = run_vcpu(guest, vcpu, Resume::GO)?.unwrap();
                assert_eq!(exit.kind(), ExitKind::Cpuid);
                let resume = Resume::complete_with([2 << 32 | 1, 4 << 32 | 3]);
                let exit = run_vcpu(guest, vcpu, resume)?.unwrap();
                let is_input = matches!(
                    exit,
                    VcpuExit::Port {
                        port: 0x3FD,
                        bytes: 1,
                        is_input: true,
                        ..
                    }
                );
                assert!(is_input, "{exit:?}");
                let exit = run_vcpu(guest, vcpu, Resume::complete(0x61))?.unwrap();
                let VcpuExit::Memory {
                    address, access, ..
                } = exit
                else {
                    panic!("{exit:?}")
                };
                assert_eq!((address, access), (0xFEE0_0000, Rights::WRITE));
                assert_eq!(
                    run_vcpu(guest, vcpu, Resume::complete(0))?,
                    Err(Error::BadArgument),
                    "nobody but the monitor knows which instruction that is"
                );
                // HLT and calls always come back, CPUID without its bit does not.
                made.page.set_exits(0);
                let exit = run_vcpu(guest, vcpu, Resume::GO)?.unwrap();
                assert_eq!(exit.kind(), ExitKind::Halt);
                let exit = run_vcpu(guest, vcpu, Resume::complete(0))?.unwrap();
                let is_call = matches!(exit, VcpuExit::Call { privilege: 3, .. });
                assert!(is_call, "{exit:?}");
                close(guest, made.child.domain)?.unwrap();
                assert!(used(guest)?[0] > before[0]);
                stop(guest, 0)
            }),
            script(|guest| {
                let exit = Exit::Cpuid {
                    leaf: 1,
                    subleaf: 2,
                };
                let effects = guest.exit(exit)?;
                assert_eq!(effects.answer, Some(4 << 32 | 1), "EDX and EAX");
                let effects = guest.exit(INPUT)?;
                assert_eq!(effects.answer.map(|answer| answer & 0xFF), Some(0x61));
                guest.exit(MEMORY)?;
                guest.exit(exit)?;
                guest.exit(HALT)?;
                guest.exit(Exit::Call { privilege: 3 })?;
                unreachable!("its maker has ended it")
            }),
        ],
    );
    assert_eq!(outcome.ending(0), (StopReason::Exited, 0));
}

#[test]
fn an_event_ends_the_run_and_nothing_is_lost() {
    let outcome = run(
        ONE,
        vec![
            script(|guest| {
                let info = guest.boot_info();
                let page = VcpuPage::new(guest.words(GuestPhysical(info.vcpu_page)).unwrap());
                let slot = page.slot(SLOT as usize).unwrap();
                slot.enable(u64::MAX);
                let (_, bell) = create(
                    guest,
                    Create::Event {
                        slot: SLOT,
                        interval_ns: 0,
                    },
                )?
                .unwrap();
                let event = bell.unwrap();
                let (timer, _) = create(guest, Create::Timer { event, bits: 1 })?.unwrap();
                let made = make(guest, None, None, &[])?;
                let vcpu = made.child.vcpu;
                start(guest, vcpu, 0)?.unwrap();
                for deadline in [Deadline(1_000_000), Deadline(2_000_000)] {
                    guest.call(Call::Arm { timer, deadline })?.unwrap();
                    let exit = run_vcpu(guest, vcpu, Resume::GO)?.unwrap();
                    assert_eq!(exit.kind(), ExitKind::Recalled);
                    let again = run_vcpu(guest, vcpu, Resume::GO)?;
                    assert_eq!(again, Err(Error::Interrupted), "it is still pending");
                    assert_eq!(slot.take(), 1);
                }
                let exit = run_vcpu(guest, vcpu, Resume::GO)?.unwrap();
                assert_eq!(exit.kind(), ExitKind::Halt, "the work is done");
                stop(guest, 0)
            }),
            script(|guest| {
                guest.compute(3_000_000)?;
                guest.exit(HALT)?;
                Ok(())
            }),
        ],
    );
    assert_eq!(outcome.ending(0), (StopReason::Exited, 0));
    assert!(outcome.now_ns >= 3_000_000);
}

#[test]
fn a_runner_learns_that_the_domain_has_ended() {
    let outcome = run(
        ONE,
        vec![
            script(|guest| {
                let made = make(guest, None, None, &[])?;
                start(guest, made.child.vcpu, 0)?.unwrap();
                let ran = run_vcpu(guest, made.child.vcpu, Resume::GO)?;
                assert_eq!(ran, Err(Error::PeerGone));
                let fault = StopReason::TripleFault.number();
                assert_eq!(status(guest, made.child.domain)?, Ok((fault, 0)));
                let ran = run_vcpu(guest, made.child.vcpu, Resume::GO)?;
                assert_eq!(ran, Err(Error::PeerGone));
                stop(guest, 0)
            }),
            script(|guest| guest.exit(Exit::Shutdown).map(|_| ())),
        ],
    );
    assert_eq!(outcome.ending(0), (StopReason::Exited, 0));
}

/// Where the vcpu finds a number that differs from space to space.
const PLACE: u64 = 0x5000;

/// A space that has a number at [`PLACE`].
fn numbered_space(guest: &mut Guest, number: u64) -> Result<Handle, Gone> {
    let own = handle(guest, "space");
    let address = 0x7100_0000 + number * 0x1000;
    let (memory, _) = create(guest, Create::Memory { bytes: 0x1000 })?.unwrap();
    map(guest, own, memory, address)?.unwrap();
    guest.words(GuestPhysical(address)).unwrap()[0].store(number, Relaxed);
    let (space, _) = create(guest, Create::Space)?.unwrap();
    map(guest, space, memory, PLACE)?.unwrap();
    Ok(space)
}

#[test]
fn a_vcpu_runs_in_the_space_that_its_runner_names() {
    run(
        ONE,
        vec![
            script(|guest| {
                let made = make(guest, None, None, &[])?;
                start(guest, made.child.vcpu, 0)?.unwrap();
                let (first, second) = (numbered_space(guest, 1)?, numbered_space(guest, 2)?);
                let runs = [
                    (None, 0),
                    (Some(first), 1),
                    (Some(second), 2),
                    (Some(second), 2),
                ];
                let mut resume = Resume::GO;
                for (space, number) in runs.into_iter().chain([(Some(first), 1), (None, 0)]) {
                    let exit = run_in(guest, made.child.vcpu, space, resume)?.unwrap();
                    let is_it = matches!(exit, VcpuExit::Call { verb, .. } if verb == number);
                    assert!(is_it, "{number}: {exit:?}");
                    resume = Resume::complete(0);
                }
                stop(guest, 0)
            }),
            script(|guest| loop {
                let words = guest.words(GuestPhysical(PLACE));
                let verb = words.map_or(0, |words| words[0].load(Relaxed));
                let arguments = [0; 5];
                guest.raw_call(RawCall { verb, arguments })?.unwrap();
            }),
        ],
    );
}

#[test]
fn what_is_taken_out_of_a_space_between_two_runs_is_not_cached_any_more() {
    run(
        ONE,
        vec![
            script(|guest| {
                let made = make(guest, None, None, &[])?;
                start(guest, made.child.vcpu, 0)?.unwrap();
                let space = numbered_space(guest, 1)?;
                let (memory, _) = create(guest, Create::Memory { bytes: 0x1000 })?.unwrap();
                let (address, length) = (2 * PLACE, 0x1000);
                let mut resume = Resume::GO;
                for _ in 0..4 {
                    map(guest, space, memory, address)?.unwrap();
                    run_in(guest, made.child.vcpu, Some(space), resume)?.unwrap();
                    let call = Call::Unmap {
                        space,
                        address,
                        length,
                    };
                    guest.call(call)?.unwrap();
                    resume = Resume::complete(0);
                }
                stop(guest, 0)
            }),
            script(|guest| {
                let mut before = guest.exit(HALT)?.flushes;
                loop {
                    let flushes = guest.exit(HALT)?.flushes;
                    assert!(flushes > before, "{flushes}");
                    before = flushes;
                }
            }),
        ],
    );
}

#[test]
fn a_space_gives_back_what_it_took() {
    run(
        ONE,
        vec![script(|guest| {
            // The table of handles stays as large as it gets.
            let space = numbered_space(guest, 1)?;
            close(guest, space)?.unwrap();
            let before = used(guest)?;
            let (space, _) = create(guest, Create::Space)?.unwrap();
            assert!(used(guest)? > before);
            close(guest, space)?.unwrap();
            assert_eq!(used(guest)?, before);
            stop(guest, 0)
        })],
    );
}

#[test]
fn exits_are_messages_and_answers_are_checked() {
    let outcome = run(
        ONE,
        vec![
            script(|guest| {
                let kinds = [ExitKind::Port, ExitKind::Exception, ExitKind::Halt];
                let made = make(guest, None, Some(2), &kinds)?;
                let port = made.receiver.unwrap();
                made.page.set_exceptions(1 << 14);
                let ran = run_vcpu(guest, made.child.vcpu, Resume::GO)?;
                assert_eq!(ran, Err(Error::WrongState), "it has a port");
                let own = grant(guest, made.child.domain, Rights::STOP, made.child.domain)?;
                start(guest, made.child.vcpu, own.unwrap().raw())?.unwrap();
                let (exit, token) = next_exit(guest, port)?;
                assert_eq!(exit.kind(), ExitKind::Port);
                for words in [[2, 0, 0], [1 << 8, 0, 0], [1 << 16 | 1 << 17, 0, 0]] {
                    let refused = reply(guest, port, token, words)?;
                    assert_eq!(refused, Err(Error::BadArgument), "{words:?}");
                }
                let answer = Resume::complete(0x42).to_words();
                assert_eq!(reply(guest, port, token, answer)?, Ok(()));
                assert_eq!(reply(guest, port, token, answer)?, Err(Error::PeerGone));
                let (exit, token) = next_exit(guest, port)?;
                let VcpuExit::Exception {
                    vector,
                    address,
                    error_code,
                    ..
                } = exit
                else {
                    panic!("{exit:?}")
                };
                assert_eq!((vector, address, error_code), (14, FAULT_ADDRESS, Some(2)));
                let answer = Resume::complete(0).to_words();
                assert_eq!(reply(guest, port, token, answer)?, Err(Error::BadArgument));
                assert_eq!(reply(guest, port, token, Resume::GO.to_words())?, Ok(()));
                let (exit, token) = next_exit(guest, port)?;
                assert_eq!(exit.kind(), ExitKind::Halt);
                let resume = Resume::complete(0).with(Arrival::Interrupt(0x20));
                reply(guest, port, token, resume.to_words())?.unwrap();
                let call = Call::Receive {
                    port,
                    deadline: Deadline::NEVER,
                    buffer: 0,
                };
                assert_eq!(
                    guest.call(call)?,
                    Err(Error::PeerGone),
                    "nobody sends any more"
                );
                let exited = StopReason::Exited.number();
                assert_eq!(status(guest, made.child.domain)?, Ok((exited, 7)));
                stop(guest, 0)
            }),
            script(|guest| {
                let effects = guest.exit(INPUT)?;
                assert_eq!(effects.answer.map(|answer| answer & 0xFF), Some(0x42));
                let fault = |vector| Exit::Exception {
                    vector,
                    error_code: Some(2),
                };
                assert_eq!(guest.exit(fault(14))?.injected, []);
                assert_eq!(
                    guest.exit(fault(17))?.injected.len(),
                    1,
                    "nobody asked for it"
                );
                assert_eq!(guest.exit(HALT)?.upcall, Some(0x20));
                // Its calls are its own.
                let object = Handle::from_raw(guest.start().argument.0).unwrap();
                guest.call(Call::Stop { object, code: 7 })?.unwrap();
                Ok(())
            }),
        ],
    );
    assert_eq!(outcome.ending(0), (StopReason::Exited, 0));
}

#[test]
fn without_a_monitor_that_lives_exits_mean_what_they_mean_for_all() {
    let outcome = run(
        ONE,
        vec![
            script(|guest| {
                let slot_of = |guest: &Guest| {
                    let address = guest.boot_info().vcpu_page;
                    let page = VcpuPage::new(guest.words(GuestPhysical(address)).unwrap());
                    page.slot(SLOT as usize).unwrap()
                };
                slot_of(guest).enable(u64::MAX);
                let (_, bell) = create(
                    guest,
                    Create::Event {
                        slot: SLOT,
                        interval_ns: 0,
                    },
                )?
                .unwrap();
                let made = make(guest, bell, Some(2), &[ExitKind::Port, ExitKind::Cpuid])?;
                start(guest, made.child.vcpu, 0)?.unwrap();
                let (exit, _) = next_exit(guest, made.receiver.unwrap())?;
                assert_eq!(exit.kind(), ExitKind::Cpuid);
                close(guest, made.receiver.unwrap())?.unwrap();
                let deadline = Deadline::NEVER;
                guest.call(Call::Wait { deadline })?.unwrap();
                let port_io = StopReason::PortIo.number();
                assert_eq!(status(guest, made.child.domain)?, Ok((port_io, 0x3FD)));
                stop(guest, 0)
            }),
            script(|guest| {
                let exit = Exit::Cpuid {
                    leaf: 0,
                    subleaf: 0,
                };
                // The instruction is executed once more.
                assert_eq!(guest.exit(exit)?.answer, None);
                assert!(guest.exit(exit)?.answer.is_some());
                guest.exit(INPUT).map(|_| ())
            }),
        ],
    );
    assert_eq!(outcome.ending(0), (StopReason::Exited, 0));
}

#[test]
fn a_vcpu_is_stopped_wherever_it_is() {
    let outcome = run(
        ONE,
        vec![
            script(|guest| {
                let made = make(guest, None, Some(1), &[])?;
                let (vcpu, port) = (made.child.vcpu, made.receiver.unwrap());
                assert_eq!(
                    stop_vcpu(guest, vcpu)?,
                    Err(Error::WrongState),
                    "not started"
                );
                start(guest, vcpu, 0)?.unwrap();
                let with_code = Call::Stop {
                    object: vcpu,
                    code: 1,
                };
                assert_eq!(guest.call(with_code)?, Err(Error::BadArgument));
                // Before its first instruction, while it computes, in HLT, in a call of its own.
                for _ in 0..4 {
                    stop_vcpu(guest, vcpu)?.unwrap();
                    let (exit, token) = next_exit(guest, port)?;
                    assert_eq!(exit.kind(), ExitKind::Recalled);
                    assert_eq!(stop_vcpu(guest, vcpu)?, Ok(()), "it stands still already");
                    reply(guest, port, token, Resume::GO.to_words())?.unwrap();
                    guest.compute(6_000_000)?;
                }
                guest.compute(50_000_000)?;
                let (reason, _) = status(guest, made.child.domain)?.unwrap();
                assert_eq!(reason, StopReason::TripleFault.number());
                assert_eq!(stop_vcpu(guest, vcpu)?, Err(Error::PeerGone));
                stop(guest, 0)
            }),
            script(|guest| {
                guest.compute(8_000_000)?;
                let deadline = Deadline(30_000_000);
                let page = GuestPhysical(0);
                VcpuPage::new(guest.words(page).unwrap()).set_upcall_vector(0x40);
                assert_eq!(guest.call(Call::Wait { deadline })?, Err(Error::TimedOut));
                guest.compute(8_000_000)?;
                guest.exit(Exit::Shutdown).map(|_| ())
            }),
        ],
    );
    assert_eq!(outcome.ending(0), (StopReason::Exited, 0));
}

#[test]
fn state_that_cannot_be_loaded_is_refused_and_nothing_runs() {
    let outcome = run(
        ONE,
        vec![
            script(|guest| {
                let made = make(guest, None, None, &[])?;
                let vcpu = made.child.vcpu;
                start(guest, vcpu, 0)?.unwrap();
                made.page.set_save(StateGroups::GENERAL);
                let exit = run_vcpu(guest, vcpu, Resume::GO)?.unwrap();
                assert_eq!(exit.kind(), ExitKind::Halt);
                made.page.set_load(StateGroups::CONTROL);
                made.page.set(StateWord::Efer, 1 << 63);
                let exit = run_vcpu(guest, vcpu, Resume::complete(0))?.unwrap();
                assert_eq!(exit.kind(), ExitKind::Refused);
                made.page.set_load(StateGroups::NONE);
                let exit = run_vcpu(guest, vcpu, Resume::GO)?.unwrap();
                assert_eq!(exit.kind(), ExitKind::Call);
                stop(guest, 0)
            }),
            script(|guest| {
                guest.exit(HALT)?;
                guest.exit(Exit::Call { privilege: 0 }).map(|_| ())
            }),
        ],
    );
    assert_eq!(outcome.ending(0), (StopReason::Exited, 0));
}
