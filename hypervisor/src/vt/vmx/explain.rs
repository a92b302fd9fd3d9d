//! Why a vcpu could not be entered, in the words of [`entry_rules`](crate::vt::entry_rules).
//!
//! A failed entry leaves the guest's fields as they were (Intel SDM vol. 3, 26.7).

use crate::vt::entry_rules::self_test::{Entered, Subject};
use crate::vt::entry_rules::vmx::{self as rules, Limits};
use crate::vt::entry_rules::{explain, EntryFailure, Rules, View};

use super::exit;
use super::vcpu::VmxVcpu;
use super::vmcs::{self, Field};

impl VmxVcpu {
    pub(super) fn explain(&self) -> EntryFailure {
        let refusal = if self.entry_refused {
            rules::refused_at_once(self.vmcs.get(vmcs::INSTRUCTION_ERROR))
        } else {
            rules::refused_by_exit(self.reason, self.vmcs.get(vmcs::EXIT_QUALIFICATION))
        };
        let view = View {
            read: &|number| self.vmcs.word(number),
            limits: &Limits::read(),
        };
        explain(rules::RULES, &view, refusal, view.get(vmcs::RIP))
    }
}

impl Subject for VmxVcpu {
    type Limits = Limits;
    const RULES: Rules<Limits> = rules::RULES;
    const REFUSED: (u32, u64) = (vmcs::DR7.number, 1 << 32 | 0x400);
    const PORT_CPUID_HALT: [u64; 3] = [exit::IO as u64, exit::CPUID as u64, exit::HLT as u64];

    fn limits() -> Limits {
        Limits::read()
    }

    fn entered(&self) -> Entered {
        match self.reason as u16 {
            _ if self.entry_refused || self.reason & exit::ENTRY_FAILED != 0 => Entered::Refused,
            exit::EPT_VIOLATION => Entered::Fault,
            exit::EXTERNAL_INTERRUPT | exit::PREEMPTION_TIMER => Entered::Interrupt,
            _ => Entered::Left(u64::from(self.reason)),
        }
    }

    fn word(&self, number: u32) -> Option<u64> {
        self.vmcs.word(number)
    }

    // UNSAFETY: any field may be written; the trait says what the caller must hold.
    #[allow(unsafe_code)]
    unsafe fn set_word(&mut self, number: u32, value: u64) {
        self.vmcs.set(Field::word("any", number), value);
    }

    fn settle(&mut self) {
        self.needs_attention = false;
    }
}

#[cfg(test)]
mod tests;
