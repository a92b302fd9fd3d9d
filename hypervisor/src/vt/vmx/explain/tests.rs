//! The state in which guests start, and Intel's rules.

use super::super::probe::tests::GOOD;
use super::super::vmcs::Vmcs;
use super::super::{start_state, Findings};
use super::*;
use crate::mem::arena::Arena;
use crate::mem::{Account, Frame, GuestPhysical, PhysicalMemory};
use crate::vt::entry_rules::tests::{check, Words};
use crate::vt::entry_rules::vmx::Capabilities;
use crate::vt::StartState;

const START: StartState = StartState {
    nested_root: Frame(0x99),
    entry: GuestPhysical(0x20_0000),
    page_table: GuestPhysical(0x30_0000),
    stack: GuestPhysical(0xFF_FFF8),
    argument: GuestPhysical(0x100_0000),
};

/// A new CPU: what must be 1 in the lower half, what may in the upper, as such CPUs have it.
const NEW: Limits = Limits {
    misc: GOOD.limits.misc | 1 << 6 | 1 << 7,
    controls: Capabilities {
        pin: 0x7F_0000_0016,
        primary: 0xFFF9_FFFE_0400_6172,
        secondary: 0x0213_7FFF_0000_0000,
        exit: 0x007F_FFFF_0003_6DFB,
        entry: 0x0000_FFFF_0000_11FB,
    },
    ..GOOD.limits
};

/// An old one, without marks in the nested page tables.
const OLD: Limits = Limits {
    ept: GOOD.limits.ept & !(1 << 21),
    ..NEW
};

fn started(limits: Limits) -> VmxVcpu {
    let arena = Arena::leak(16, 4);
    let account = Account::new(arena.pool(), 4);
    let frames = [account.allocate(0).unwrap(), account.allocate(0).unwrap()];
    let [structure, virtual_apic] = [0, 1].map(|index: usize| frames[index].first().start());
    let features = Findings { limits, ..GOOD }.features().unwrap();
    let words = arena.words(frames[1].first()).unwrap();
    let vcpu = VmxVcpu::new(Vmcs::new(structure), frames, words, &START, &features);
    start_state::write(&vcpu.vmcs, &START, &features, vcpu.ept_pointer);
    let controls = features.controls;
    for (field, value) in [
        (vmcs::VPID, 1),
        (vmcs::PIN_CONTROLS, u64::from(controls.pin)),
        (vmcs::PRIMARY_CONTROLS, u64::from(controls.primary)),
        (vmcs::SECONDARY_CONTROLS, u64::from(controls.secondary)),
        (vmcs::EXIT_CONTROLS, u64::from(controls.exit)),
        (vmcs::ENTRY_CONTROLS, u64::from(controls.entry)),
        (vmcs::MSR_BITMAP, 0x1_2000),
        (vmcs::VIRTUAL_APIC, virtual_apic.0),
        (vmcs::HOST_CS, 0x08),
        (vmcs::HOST_SS, 0x10),
        (vmcs::HOST_DS, 0x10),
        (vmcs::HOST_ES, 0x10),
        (vmcs::HOST_TR, 0x18),
        (vmcs::HOST_CR0, 0x8001_0033),
        (vmcs::HOST_CR3, 0x10_1000),
        (vmcs::HOST_CR4, 0x2620),
        (vmcs::HOST_EFER, 0xD01),
        (vmcs::HOST_PAT, 0x0007_0406_0007_0406),
        (vmcs::HOST_RIP, 0x10_2000),
    ] {
        vcpu.vmcs.set(field, value);
    }
    vcpu
}

/// Every word that a rule may look at.
fn words(vcpu: &VmxVcpu) -> Words {
    let fields = rules::RULES.iter().copied().flatten();
    let numbers = fields
        .flat_map(|rule| rule.fields)
        .map(|field| field.number);
    numbers
        .map(|number| (number, vcpu.vmcs.word(number).unwrap_or(0)))
        .collect()
}

#[test]
fn each_rule_is_broken_and_named_alone() {
    let cpus = [NEW, OLD].map(|limits| (limits, words(&started(limits))));
    let (rules, samples) = check(rules::RULES, &cpus);
    assert!(rules >= 100 && samples >= 160, "{rules} {samples}");
}

#[test]
fn what_the_cpu_says_chooses_the_class() {
    use crate::vt::entry_rules::Class;
    let of_error = |error| rules::refused_at_once(error).class;
    assert_eq!(
        [7, 8, 5].map(of_error),
        [Class::Controls, Class::Host, Class::Any]
    );
    let of_exit = |reason| rules::refused_by_exit(reason, 0).class;
    let reasons = [0x8000_0021, 0x8000_0022];
    assert_eq!(reasons.map(of_exit), [Class::Guest, Class::RegisterList]);
    let list = rules::refused_by_exit(0x8000_0022, 3);
    assert_eq!((list.qualification, list.fields.len()), (3, 2));
}
