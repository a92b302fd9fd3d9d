//! Why a vcpu could not be entered, in the words of [`entry_rules`](crate::vt::entry_rules).
//!
//! QEMU and Bochs treat a VMRUN that they refuse like an exit: they store what they have in their
//! registers, which are the hypervisor's, over the guest's state, and take the injected event out. So
//! what the first entry meets is remembered.

use alloc::boxed::Box;

use x86_64::instructions::tables::sgdt;

use crate::vt::entry_rules::self_test::{Entered, Subject};
use crate::vt::entry_rules::svm::{self as rules, Limits, OVERWRITTEN};
use crate::vt::entry_rules::{explain, EntryFailure, Rules, View};

use super::exit;
use super::vcpu::SvmVcpu;
use super::vmcb;

/// The words of [`OVERWRITTEN`] before the first entry.
pub type StartWords = Box<[u64; OVERWRITTEN.len()]>;

impl SvmVcpu {
    /// Remembers what the first entry meets, but for upcalls, which are well-formed.
    #[inline]
    pub(super) fn remember_start(&mut self) {
        if self.start.is_none() {
            self.start = Some(self.words());
        }
    }

    #[cold]
    fn words(&self) -> StartWords {
        Box::new(OVERWRITTEN.map(|offset| self.vmcb.word(offset).unwrap_or(0)))
    }

    /// Whether the state in the block is the hypervisor's own.
    fn is_overwritten(&self) -> bool {
        self.vmcb.get(vmcb::GDTR_BASE) == sgdt().base.as_u64()
    }

    fn remembered(&self, offset: u32) -> Option<u64> {
        let index = OVERWRITTEN.iter().position(|known| *known == offset)?;
        Some(self.start.as_ref()?[index])
    }

    pub(super) fn explain(&self, is_first: bool) -> EntryFailure {
        let code = self.vmcb.get(vmcb::EXIT_CODE);
        let is_lost = !is_first && self.is_overwritten();
        let refusal = if is_lost {
            rules::refused_and_overwritten(code)
        } else {
            rules::refused(code)
        };
        let remembered = |offset| self.remembered(offset).filter(|_| is_first);
        let view = View {
            read: &|offset| remembered(offset).or_else(|| self.vmcb.word(offset)),
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
        self.start = None;
    }

    fn settle(&mut self) {
        self.asid_is_stale = false;
        self.remember_start();
    }
}

#[cfg(test)]
mod tests;
