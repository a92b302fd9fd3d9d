//! Children that are interrupted, faulted, recalled, stopped.

use nuncio_abi::{
    Arrival, Deadline, Error, EventWord, ExitKind, Resume, StateGroups, StatePage, StateWord,
    VcpuExit,
};

use super::code;
use super::stage::{expect, Guest, Miss, Stage, Way, CODE, EVENT_SLOT, INTERRUPT, PROTECTION};
use crate::hv::{rest_until, Machine, Timer};
use crate::machine::Native;

const RAX: usize = 0;
const RCX: usize = 1;

/// An interrupt ends a HLT.
pub fn interrupt(stage: &Stage<'_>, way: Way) -> Result<(), Miss> {
    let guest = stage.child(way, code::waits(), &[ExitKind::Halt], StateGroups::GENERAL)?;
    let state = stage.state()?;
    let exit = guest.go_until(Resume::GO, ExitKind::Halt)?;
    if !is_halted(exit, true) {
        return Err(Miss::Exit(exit));
    }
    expect("interrupts before", state.general(RCX), 0)?;
    let resume = Resume::complete(0).with(Arrival::Interrupt(INTERRUPT));
    let exit = guest.go_until(resume, ExitKind::Halt)?;
    if !is_halted(exit, false) {
        return Err(Miss::Exit(exit));
    }
    expect("interrupts", state.general(RCX), 1)?;
    guest.destroy()
}

fn is_halted(exit: VcpuExit, enabled: bool) -> bool {
    matches!(exit, VcpuExit::Halt { interrupts_enabled, .. } if interrupts_enabled == enabled)
}

/// An exception instead of an instruction.
pub fn exception(stage: &Stage<'_>, way: Way) -> Result<(), Miss> {
    const ERROR_CODE: u32 = 0x1230;
    let guest = stage.child(
        way,
        code::faults(),
        &[ExitKind::Port, ExitKind::Halt],
        StateGroups::GENERAL,
    )?;
    let state = stage.state()?;
    guest.go_until(Resume::GO, ExitKind::Port)?;
    let resume = Resume::GO.with(Arrival::Exception {
        vector: PROTECTION,
        error_code: Some(ERROR_CODE),
    });
    guest.go_until(resume, ExitKind::Halt)?;
    expect("error code", state.general(RAX), ERROR_CODE.into())?;
    guest.destroy()
}

/// A timer ends the run of a vcpu that computes for ever.
pub fn recalled(stage: &Stage<'_>) -> Result<(), Miss> {
    let client = &stage.client;
    let ends = client.create_event(EVENT_SLOT)?;
    let timer = client.create_timer(&ends.far, 1)?;
    let guest = stage.child(Way::Run, code::counts(), &[], StateGroups::GENERAL)?;
    let state = stage.state()?;
    let word = ends.near.word()?;
    word.enable(1);
    let mut count = 0;
    for _ in 0..3 {
        run_until_due(&guest, &timer, word)?;
        count = grown(state, count)?;
        match guest.go(Resume::GO) {
            Err(Miss::Refused(Error::Interrupted)) => {}
            Ok(exit) => return Err(Miss::Exit(exit)),
            Err(miss) => return Err(miss),
        }
        expect("event", word.take(), 1)?;
    }
    word.enable(0);
    for object in [timer.object(), ends.near.object(), ends.far.object()] {
        object.close()?;
    }
    guest.destroy()
}

/// On a busy machine a timer may be due before the vcpu runs: then it is set to a later time.
fn run_until_due(
    guest: &Guest<'_>,
    timer: &Timer<'_, Native>,
    word: EventWord<'_>,
) -> Result<(), Miss> {
    let machine = guest.vcpu.object().machine();
    let mut delay_ns = 2_000_000;
    loop {
        timer.arm(Deadline(machine.now_ns() + delay_ns))?;
        match guest.go(Resume::GO) {
            Ok(VcpuExit::Recalled { .. }) => return Ok(()),
            Ok(other) => return Err(Miss::Exit(other)),
            Err(Miss::Refused(Error::Interrupted)) if delay_ns < 1 << 30 => {
                delay_ns *= 2;
                word.take();
            }
            Err(miss) => return Err(miss),
        }
    }
}

/// A vcpu that runs beside its monitor is stopped, and goes on.
pub fn stopped(stage: &Stage<'_>) -> Result<(), Miss> {
    let guest = stage.child(Way::Port, code::counts(), &[], StateGroups::GENERAL)?;
    let state = stage.state()?;
    let mut count = 0;
    for _ in 0..3 {
        rest(stage);
        guest.vcpu.stop()?;
        recalled_once(&guest)?;
        count = grown(state, count)?;
        // It stands still already.
        guest.vcpu.stop()?;
        rest(stage);
        guest.answer(Resume::GO)?;
    }
    guest.destroy()
}

fn recalled_once(guest: &Guest<'_>) -> Result<(), Miss> {
    match guest.next()? {
        VcpuExit::Recalled { instruction } if instruction >= CODE => Ok(()),
        other => Err(Miss::Exit(other)),
    }
}

fn grown(state: StatePage<'_>, before: u64) -> Result<u64, Miss> {
    match state.general(RCX) {
        count if count > before => Ok(count),
        count => Err(Miss::Number("count", count)),
    }
}

fn rest(stage: &Stage<'_>) {
    let machine = stage.client.machine();
    rest_until(machine, machine.now_ns() + 2_000_000);
}

/// State that is refused is repaired.
pub fn refused(stage: &Stage<'_>) -> Result<(), Miss> {
    const GARBAGE: u64 = 1 << 63;
    let guest = stage.child(
        Way::Run,
        code::halts(),
        &[],
        StateGroups::CONTROL | StateGroups::INSTRUCTION,
    )?;
    let state = stage.state()?;
    guest.go_until(Resume::GO, ExitKind::Halt)?;
    state.set_load(StateGroups::CONTROL);
    // What is in the page is written anew at each exit.
    state.set_save(StateGroups::NONE);
    let [efer, control] = [StateWord::Efer, StateWord::Cr4].map(|word| state.get(word));
    state.set(StateWord::Efer, efer | GARBAGE);
    guest.go_until(Resume::complete(0), ExitKind::Refused)?;
    state.set(StateWord::Cr4, control | GARBAGE);
    state.set(StateWord::Efer, efer);
    guest.go_until(Resume::GO, ExitKind::Refused)?;
    state.set(StateWord::Cr4, control);
    let exit = guest.go_until(Resume::GO, ExitKind::Halt)?;
    let is_again = matches!(
        exit,
        VcpuExit::Halt {
            instruction: CODE,
            ..
        }
    );
    if !is_again {
        return Err(Miss::Exit(exit));
    }
    guest.destroy()
}
