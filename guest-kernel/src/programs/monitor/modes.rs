//! State that is loaded from the state page.

use nuncio_abi::{
    ExitKind, Resume, Rights, StateGroups, StatePage, StateSegment, StateWord, VcpuExit, PAGE_BYTES,
};

use super::code;
use super::stage::{Miss, Stage, Way, CODE, SEGMENT_BYTES, TASK};
use crate::trap::descriptor::{TASK_STATE, TASK_STATE_BYTES, USER_CODE, USER_DATA};

// Segment registers in the order of the state page.
const CS: usize = 1;
const LDTR: usize = 6;
const TR: usize = 7;

/// A task state segment that is in use.
const BUSY_TASK: u16 = 0x8B;
/// IA32_PAT after a reset.
const PAT_AT_RESET: u64 = 0x0007_0406_0007_0406;

/// The state of a CPU after a reset: real mode, at F000:FFF0.
pub fn reset(stage: &Stage<'_>) -> Result<(), Miss> {
    const SEGMENT: u16 = 0xF000;
    const BASE: u64 = 0xF_0000;
    const START: u64 = 0xFFF0;
    let guest = stage.child(Way::Run, &[], &[ExitKind::Port], StateGroups::NONE)?;
    // The page of the code is once more where the CPU begins.
    let (code, offset) = (code::begins(), START % PAGE_BYTES);
    stage.pages.write_bytes(CODE + offset, code)?;
    let page = BASE + START - offset;
    let memory = &stage.pages.memory;
    let access = Rights::READ | Rights::EXECUTE;
    guest
        .child
        .space
        .map(memory, page, CODE, PAGE_BYTES, access)?;
    let state = stage.state()?;
    state.set(StateWord::Rip, START);
    state.set(StateWord::Rflags, 2);
    state.set(StateWord::Cr0, 1 << 4);
    state.set(StateWord::Pat, PAT_AT_RESET);
    for number in 0..=TR {
        let (selector, access, base) = match number {
            CS => (SEGMENT, 0x9B, BASE),
            LDTR => (0, 0x82, 0),
            TR => (0, BUSY_TASK, 0),
            _ => (0, 0x93, 0),
        };
        let segment = StateSegment {
            selector,
            access,
            limit: 0xFFFF,
            base,
        };
        state.set_segment(number, segment);
    }
    state.set(StateWord::GdtrLimit, 0xFFFF);
    state.set(StateWord::IdtrLimit, 0xFFFF);
    state.set_load(StateGroups::INSTRUCTION | StateGroups::CONTROL | StateGroups::SEGMENTS);
    let exit = guest.go_until(Resume::GO, ExitKind::Port)?;
    let is_told = matches!(
        exit,
        VcpuExit::Port {
            port: 0x80,
            bytes: 1,
            is_input: false,
            value: 0x5A,
            ..
        }
    );
    if !is_told {
        return Err(Miss::Exit(exit));
    }
    state.set_load(StateGroups::NONE);
    guest.go_until(Resume::complete(0), ExitKind::Halt)?;
    guest.destroy()
}

/// Segments of code at CPL 3, with the tables that every child has.
pub fn set_user_segments(state: StatePage<'_>) {
    const CODE_64_BITS: u16 = 0xA0FB;
    const DATA: u16 = 0xC0F3;
    for number in 0..=TR {
        let (selector, access, limit, base) = match number {
            CS => (USER_CODE, CODE_64_BITS, u32::MAX, 0),
            LDTR => (0, 0, 0, 0),
            TR => (TASK_STATE, BUSY_TASK, TASK_STATE_BYTES as u32 - 1, TASK),
            _ => (USER_DATA, DATA, u32::MAX, 0),
        };
        let segment = StateSegment {
            selector,
            access,
            limit,
            base,
        };
        state.set_segment(number, segment);
    }
    state.set(StateWord::GdtrLimit, SEGMENT_BYTES - 1);
}
