//! Why a vcpu could not be entered, in the words of [`entry_rules`](crate::vt::entry_rules).
//!
//! QEMU and Bochs treat a VMRUN that they refuse like an exit: they store what they have in their
//! registers, which are the hypervisor's, over the guest's state, and take the injected event out. So
//! what an entry meets is remembered if the hypervisor has set it: the first one, and one after a monitor
//! has.

use alloc::boxed::Box;

use x86_64::instructions::tables::sgdt;

use crate::vt::entry_rules::self_test::{Entered, Subject};
use crate::vt::entry_rules::svm::{self as rules, Limits, OVERWRITTEN};
use crate::vt::entry_rules::{explain, EntryFailure, Rules, View};

use super::exit;
use super::vcpu::SvmVcpu;
use super::vmcb;

/// The words of [`OVERWRITTEN`] before an entry.
pub type StateWords = Box<[u64; OVERWRITTEN.len()]>;

impl SvmVcpu {
    /// Remembers what the next entry meets if that is new, and else forgets what the last one met.
    /// Returns whether there is anything to be forgotten.
    pub(super) fn remember_new_state(&mut self) -> bool {
        self.met_new_state = core::mem::take(&mut self.has_new_state);
        if self.met_new_state {
            *self.new_state = OVERWRITTEN.map(|offset| self.vmcb.word(offset).unwrap_or(0));
        }
        self.met_new_state
    }

    /// Whether the state in the block is the hypervisor's own.
    fn is_overwritten(&self) -> bool {
        self.vmcb.get(vmcb::GDTR_BASE) == sgdt().base.as_u64()
    }

    fn remembered(&self, offset: u32) -> Option<u64> {
        let index = OVERWRITTEN.iter().position(|known| *known == offset)?;
        self.met_new_state.then_some(self.new_state[index])
    }

    pub(super) fn explain(&self) -> EntryFailure {
        let code = self.vmcb.get(vmcb::EXIT_CODE);
        let is_lost = !self.met_new_state && self.is_overwritten();
        let refusal = if is_lost {
            rules::refused_and_overwritten(code)
        } else {
            rules::refused(code)
        };
        let view = View {
            read: &|offset| self.remembered(offset).or_else(|| self.vmcb.word(offset)),
            limits: &Limits::read(),
        };
        let place = if is_lost { 0 } else { view.get(vmcb::RIP) };
        explain(rules::RULES, &view, refusal, place)
    }
}

impl Subject for SvmVcpu {
    type Limits = Limits;
    const RULES: Rules<Limits> = rules::RULES;
    const REFUSED: (u32, u64) = (vmcb::DR7.number, 1 << 32 | 0x400);
    const PORT_CPUID_HALT: [u64; 3] = [exit::IOIO as u64, exit::CPUID as u64, exit::HLT as u64];

    fn limits() -> Limits {
        Limits::read()
    }

    fn entered(&self) -> Entered {
        match self.vmcb.get(vmcb::EXIT_CODE) as u32 {
            exit::INVALID => Entered::Refused,
            exit::NESTED_PAGE_FAULT => Entered::Fault,
            exit::INTR => Entered::Interrupt,
            code => Entered::Left(u64::from(code)),
        }
    }

    fn word(&self, number: u32) -> Option<u64> {
        self.vmcb.word(number)
    }

    // UNSAFETY: any word may be written; the trait says what the caller must hold.
    #[allow(unsafe_code)]
    unsafe fn set_word(&mut self, number: u32, value: u64) {
        self.vmcb.set_word(number, value);
        self.has_new_state = true;
    }

    fn settle(&mut self) {
        self.remember_new_state();
        self.asid_is_stale = false;
    }
}

#[cfg(test)]
mod tests;
