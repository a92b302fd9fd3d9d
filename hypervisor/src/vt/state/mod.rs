//! The state page ([`StatePage`]): between a vcpu and whoever monitors it.
//!
//! What stands in the page is an allegation. [`load`] reads it once, checks all of it, and then changes
//! the vcpu, or nothing. What the CPU would fault on while the hypervisor writes it is refused here; what
//! only makes the entry fail ends the guest as any other refused entry does.

#![forbid(unsafe_code)]

mod rows;
pub mod self_test;

use nuncio_abi::{StateGroups, StatePage, StateSegment, StateWord};

use crate::vt::start_state::{Segment, SegmentRegister, SEGMENT_REGISTERS};
use crate::vt::{ControlRegisters, Register, SystemRegister, VirtualCpu};

pub use rows::EFER_BITS;

use rows::{has_directory_pointers, is_cached, is_mode, Row, CR0_EXTENSION_TYPE, MOST_ROWS, ROWS};

/// Bit 0 of [`StateWord::Shadow`].
const SHADOW: u64 = 1 << 0;

/// The state page has what a vcpu cannot be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateRefused {
    /// The word that was refused first.
    pub word: usize,
}

/// Writes the groups of a vcpu into the page. The vcpu is the one that was loaded last.
pub fn save(vcpu: &impl VirtualCpu, groups: StateGroups, page: StatePage<'_>) {
    if groups.contains(StateGroups::GENERAL) {
        for number in 0..StatePage::GENERALS {
            page.set_general(number, vcpu.register(Register::numbered(number as u64)));
        }
    }
    for (group, rows) in &ROWS {
        if groups.contains(*group) {
            for row in *rows {
                page.set(row.word, vcpu.system_register(row.register));
            }
        }
    }
    if groups.contains(StateGroups::INSTRUCTION) {
        page.set(StateWord::Shadow, u64::from(vcpu.is_in_shadow()));
        let pending = vcpu.pending_upcall().map_or(0, u64::from);
        page.set(StateWord::Pending, pending);
    }
    if groups.contains(StateGroups::SEGMENTS) {
        for (number, register) in SEGMENT_REGISTERS.into_iter().enumerate() {
            let segment = vcpu.segment(register);
            page.set_segment(
                number,
                StateSegment {
                    selector: segment.selector,
                    access: segment.access,
                    limit: segment.limit,
                    base: segment.base,
                },
            );
        }
    }
}

/// Gives a vcpu the groups that the page has. The vcpu is the one that was loaded last, and it has moved
/// past the instruction that caused its exit, if it is to.
///
/// # Errors
/// The page has a value that no guest may have; the vcpu is as it was.
pub fn load(
    vcpu: &mut impl VirtualCpu,
    groups: StateGroups,
    page: StatePage<'_>,
) -> Result<(), StateRefused> {
    let state = State::read(page, groups);
    state.check(vcpu)?;
    state.put(vcpu);
    Ok(())
}

/// What was read out of a page, before anything is made of it.
struct State {
    groups: StateGroups,
    general: [u64; StatePage::GENERALS],
    /// In the order of [`ROWS`].
    system: [[u64; MOST_ROWS]; ROWS.len()],
    shadow: u64,
    segments: [StateSegment; StatePage::SEGMENTS],
}

impl State {
    fn read(page: StatePage<'_>, groups: StateGroups) -> Self {
        let mut state = State {
            groups,
            general: [0; StatePage::GENERALS],
            system: [[0; MOST_ROWS]; ROWS.len()],
            shadow: 0,
            segments: [StateSegment::default(); StatePage::SEGMENTS],
        };
        if groups.contains(StateGroups::GENERAL) {
            state.general = core::array::from_fn(|number| page.general(number));
        }
        for ((group, rows), values) in ROWS.iter().zip(&mut state.system) {
            if groups.contains(*group) {
                for (row, value) in rows.iter().zip(values) {
                    *value = page.get(row.word);
                }
            }
        }
        if groups.contains(StateGroups::INSTRUCTION) {
            state.shadow = page.get(StateWord::Shadow);
        }
        if groups.contains(StateGroups::SEGMENTS) {
            state.segments = core::array::from_fn(|number| page.segment(number));
        }
        state
    }

    /// The system registers of the groups that were read, with their values.
    fn rows(&self) -> impl Iterator<Item = (&'static Row, u64)> + '_ {
        let read = ROWS.iter().zip(&self.system);
        let read = read.filter(|((group, _), _)| self.groups.contains(*group));
        read.flat_map(|((_, rows), values)| rows.iter().zip(values.iter().copied()))
    }

    fn check(&self, vcpu: &impl VirtualCpu) -> Result<(), StateRefused> {
        let limits = vcpu.register_limits();
        for (row, value) in self.rows() {
            refuse_unless((row.allows)(value, &limits), row.word as usize)?;
        }
        refuse_unless(self.shadow & !SHADOW == 0, StateWord::Shadow as usize)?;
        for (number, segment) in self.segments.iter().enumerate() {
            let is_fine = segment.access & !Segment::ACCESS == 0;
            refuse_unless(is_fine, StatePage::segment_word(number))?;
        }
        if self.groups.contains(StateGroups::CONTROL) {
            self.check_mode(vcpu)?;
        }
        Ok(())
    }

    /// Whether the control registers go together.
    fn check_mode(&self, vcpu: &impl VirtualCpu) -> Result<(), StateRefused> {
        let value = |register| {
            let mut rows = self.rows();
            let found = rows.find(|(row, _)| row.register == register);
            found.map_or(0, |(_, value)| value)
        };
        let control = ControlRegisters {
            cr0: value(SystemRegister::Cr0),
            cr4: value(SystemRegister::Cr4),
            efer: value(SystemRegister::Efer),
            page_attributes: 0,
        };
        refuse_unless(is_mode(&control), StateWord::Efer as usize)?;
        // Such a CPU holds four entries that it has read when CR3 was loaded (Intel SDM vol. 3, 4.4.1).
        // Where it has them already it may keep them.
        let keeps_tables = has_directory_pointers(&vcpu.control_registers())
            && vcpu.system_register(SystemRegister::Cr3) == value(SystemRegister::Cr3);
        let is_fine = !has_directory_pointers(&control) || keeps_tables;
        refuse_unless(is_fine, StateWord::Cr3 as usize)
    }

    fn put(&self, vcpu: &mut impl VirtualCpu) {
        // An upcall that was to come with the next entry waits until the new flags take it.
        let takes_flags = self.groups.contains(StateGroups::INSTRUCTION);
        let upcall = takes_flags.then(|| vcpu.take_upcall()).flatten();
        if self.groups.contains(StateGroups::GENERAL) {
            for (number, value) in (0..).zip(self.general) {
                vcpu.set_register(Register::numbered(number), value);
            }
        }
        let mut flushes = false;
        for (row, value) in self.rows() {
            let value = match row.register {
                SystemRegister::Cr0 => value | CR0_EXTENSION_TYPE,
                _ => value,
            };
            flushes |= is_cached(row.register) && vcpu.system_register(row.register) != value;
            vcpu.set_system_register(row.register, value);
        }
        if flushes {
            vcpu.flush_translations();
        }
        if self.groups.contains(StateGroups::SEGMENTS) {
            for (register, segment) in SEGMENT_REGISTERS.into_iter().zip(self.segments) {
                vcpu.set_segment(&from_page(register, segment));
            }
        }
        if takes_flags {
            vcpu.set_shadow(self.shadow & SHADOW != 0);
        }
        if let Some(vector) = upcall {
            vcpu.request_upcall(vector);
        }
        vcpu.state_was_loaded();
    }
}

const fn refuse_unless(is_fine: bool, word: usize) -> Result<(), StateRefused> {
    if is_fine {
        Ok(())
    } else {
        Err(StateRefused { word })
    }
}

const fn from_page(register: SegmentRegister, segment: StateSegment) -> Segment {
    Segment {
        register,
        selector: segment.selector,
        access: segment.access,
        limit: segment.limit,
        base: segment.base,
    }
}
