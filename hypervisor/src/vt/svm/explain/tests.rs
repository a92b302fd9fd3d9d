//! The state in which guests start, and AMD's rules.

use super::*;
use crate::mem::arena::Arena;
use crate::mem::{Account, Frame, GuestPhysical, HostPhysical, PhysicalMemory};
use crate::vt::entry_rules::svm::RULES;
use crate::vt::entry_rules::tests::{check, Words};
use crate::vt::svm::controls;
use crate::vt::svm::probe::tests::GOOD;
use crate::vt::{StartState, VirtualCpu};

const START: StartState = StartState {
    nested_root: Frame(0x99),
    entry: GuestPhysical(0x20_0000),
    page_table: GuestPhysical(0x30_0000),
    stack: GuestPhysical(0xFF_FFF8),
    argument: GuestPhysical(0x100_0000),
};

const LIMITS: Limits = Limits {
    physical_bits: 40,
    cr4: 0x37_0FFF,
    efer: 0x5D01,
    flush_by_asid: false,
};

fn started() -> SvmVcpu {
    let arena = Arena::leak(16, 4);
    let account = Account::new(arena.pool(), 4);
    let frame = account.allocate(0).unwrap();
    let words = arena.words(frame.first()).unwrap();
    let vcpu = SvmVcpu::new(frame, words, &START, &GOOD.features().unwrap());
    controls::write(vcpu.vmcb, HostPhysical(0x5000), HostPhysical(0x9000));
    vcpu.vmcb.set(vmcb::ASID_AND_TLB_CONTROL, 1 | 1 << 32);
    vcpu
}

fn words(vcpu: &SvmVcpu) -> Words {
    let offsets = (0..4096).step_by(8);
    offsets
        .filter_map(|offset| Some((offset, vcpu.vmcb.word(offset)?)))
        .collect()
}

#[test]
fn each_rule_is_broken_and_named_alone() {
    let (rules, samples) = check(RULES, &[(LIMITS, words(&started()))]);
    assert!(rules >= 20 && samples >= 35, "{rules} {samples}");
}

/// Every word of state that a rule looks at is remembered for the first entry.
#[test]
fn no_rule_looks_at_state_that_may_be_overwritten() {
    const STATE: u32 = 0x400;
    for rule in RULES.iter().copied().flatten() {
        for field in rule.fields.iter().filter(|field| field.number >= STATE) {
            let is_remembered = OVERWRITTEN.contains(&field.number);
            assert!(is_remembered, "{} {}", rule.name, field.name);
        }
    }
}

/// As on QEMU and Bochs, where the hypervisor's own state stands in the block after a refusal.
#[test]
fn an_entry_that_meets_new_state_is_explained_by_what_it_met() {
    let mut vcpu = started();
    for _ in 0..2 {
        vcpu.vmcb.set(vmcb::EFER, 0xD01);
        assert!(vcpu.remember_new_state());
        vcpu.vmcb.set(vmcb::EFER, 0x1D01);
        vcpu.vmcb.set(vmcb::EXIT_CODE, u64::MAX);
        let failure = vcpu.explain();
        assert_eq!(failure.rules.first().unwrap().name, "efer-svme");
        assert!(!vcpu.remember_new_state(), "once");
        assert_eq!(vcpu.explain().rules, [], "what it met is forgotten");
        vcpu.state_was_loaded();
    }
}
