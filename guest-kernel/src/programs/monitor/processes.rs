//! A kernel with two processes: spaces of its own, code at CPL 3, and what it does as data.

use nuncio_abi::{
    ExitKind, Resume, Rights, StateGroups, StatePage, StateWord, VcpuExit, PAGE_BYTES,
};

use super::code;
use super::modes::set_user_segments;
use super::stage::{expect, Guest, Miss, Pages, Stage, Way, CODE, DATA, STACK_END, TEXT};
use crate::hv::Space;
use crate::machine::Native;

/// What a process touches, which is mapped only then.
const LATE: u64 = 0x10_0000;
/// What no page table of a process maps.
const NOWHERE: u64 = 0x20_0000;

// What the processes ask for, in RAX.
const TELL_NUMBER: u64 = 0x100;
const TELL_RESULTS: u64 = 0x101;

// Numbers of general registers.
const RAX: usize = 0;
const RSP: usize = 4;
const RDI: usize = 7;

const READ_AT_CPL_3: u32 = 0b100;

/// Registers of a process while it does not run.
struct Process<'m> {
    number: u64,
    space: Space<'m, Native>,
    pages: Pages<'m>,
    general: [u64; StatePage::GENERALS],
    instruction: u64,
    flags: u64,
}

/// What a process does next, one step after the other.
type Step<'m> = fn(&mut Process<'m>, VcpuExit) -> Result<(), Miss>;

/// Two processes take turns, each step in its own space.
pub fn in_two_spaces<'m>(stage: &Stage<'m>) -> Result<(), Miss> {
    let exits = [ExitKind::Memory, ExitKind::Exception];
    let guest = stage.child(
        Way::Run,
        &[],
        &exits,
        StateGroups::GENERAL | StateGroups::INSTRUCTION,
    )?;
    let state = stage.state()?;
    state.set_exceptions(1 << 0 | 1 << 6 | 1 << 14);
    set_user_segments(state);
    state.set_load(StateGroups::GENERAL | StateGroups::INSTRUCTION | StateGroups::SEGMENTS);
    let mut processes = [Process::new(stage, 7)?, Process::new(stage, 8)?];
    let steps: [Step<'m>; 6] = [
        Process::tells_its_number,
        Process::touches_memory,
        |process, exit| process.raises(exit, 6, None, 0, 2),
        |process, exit| process.raises(exit, 0, None, 0, 2),
        |process, exit| process.raises(exit, 14, Some(READ_AT_CPL_3), NOWHERE, 3),
        Process::tells_what_it_found,
    ];
    for step in steps {
        for process in &mut processes {
            let exit = process.run(&guest, state)?;
            step(process, exit)?;
        }
    }
    for process in processes {
        process.space.object().close()?;
        process.pages.memory.object().close()?;
    }
    guest.destroy()
}

impl<'m> Process<'m> {
    fn new(stage: &Stage<'m>, number: u64) -> Result<Self, Miss> {
        // Behind what it begins with lies the page that is mapped when it is touched.
        let pages = Pages::new(&stage.client, TEXT + PAGE_BYTES)?;
        pages.load(code::process())?;
        pages.write(DATA, &[number])?;
        pages.write(TEXT, &[number * 1000])?;
        let space = stage.client.create_space()?;
        pages.map(&stage.client, &space)?;
        let mut general = [0; StatePage::GENERALS];
        general[RSP] = STACK_END;
        Ok(Process {
            number,
            space,
            pages,
            general,
            instruction: CODE,
            flags: 2,
        })
    }

    /// Runs it until it exits.
    fn run(&mut self, guest: &Guest<'_>, state: StatePage<'_>) -> Result<VcpuExit, Miss> {
        for (number, value) in self.general.into_iter().enumerate() {
            state.set_general(number, value);
        }
        state.set(StateWord::Rip, self.instruction);
        state.set(StateWord::Rflags, self.flags);
        let exit = guest.vcpu.run(Some(&self.space), Resume::GO)?;
        self.general = core::array::from_fn(|number| state.general(number));
        self.instruction = state.get(StateWord::Rip);
        self.flags = state.get(StateWord::Rflags);
        Ok(exit)
    }

    /// It called from CPL 3: returns to it as the text page does.
    fn called(&mut self, exit: VcpuExit, verb: u64, result: u64) -> Result<(), Miss> {
        match exit {
            VcpuExit::Call {
                privilege: 3,
                verb: found,
                instruction: TEXT,
            } if found == verb => {}
            other => return Err(Miss::Exit(other)),
        }
        self.instruction = u64::from_le_bytes(self.pages.read(self.general[RSP])?);
        self.general[RSP] += 8;
        self.general[RAX] = result;
        Ok(())
    }

    fn tells_its_number(&mut self, exit: VcpuExit) -> Result<(), Miss> {
        expect("number", self.general[RDI], self.number)?;
        self.called(exit, TELL_NUMBER, self.number * 100)
    }

    fn touches_memory(&mut self, exit: VcpuExit) -> Result<(), Miss> {
        match exit {
            VcpuExit::Memory {
                address: LATE,
                access: Rights::READ,
                ..
            } => {}
            other => return Err(Miss::Exit(other)),
        }
        let memory = &self.pages.memory;
        let mapped = self.space.map(memory, LATE, TEXT, PAGE_BYTES, Rights::READ);
        Ok(mapped?)
    }

    fn raises(
        &mut self,
        exit: VcpuExit,
        vector: u8,
        error_code: Option<u32>,
        address: u64,
        instruction_bytes: u64,
    ) -> Result<(), Miss> {
        let expected = VcpuExit::Exception {
            vector,
            error_code,
            address,
            instruction: self.instruction,
        };
        if exit != expected {
            return Err(Miss::Exit(exit));
        }
        self.instruction += instruction_bytes;
        Ok(())
    }

    fn tells_what_it_found(&mut self, exit: VcpuExit) -> Result<(), Miss> {
        expect("answer", self.general[12], self.number * 100)?;
        expect("late memory", self.general[13], self.number * 1000)?;
        self.called(exit, TELL_RESULTS, 0)
    }
}
