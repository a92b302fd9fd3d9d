//! AMD's rules: the checks of VMRUN (AMD APM volume 2, 15.5.1 and the sections on what they check).
//!
//! The CPU has one answer for all of them, VMEXIT_INVALID. What no guest of the hypervisor has is
//! left out: encrypted guests, shadow stacks, the virtual interrupt controller.

#![forbid(unsafe_code)]

use raw_cpuid::CpuId;

use crate::vt::fields::svm::*;

use super::{
    beyond, is_page_attribute_table, lowest, Class, Field, Refusal, Rule, Rules, Sample, To,
};

const MANUAL: &str = "AMD APM vol. 2";

/// What is fixed for a CPU with SVM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bits of a physical address.
    pub physical_bits: u32,
    /// Bits of CR4 that it has.
    pub cr4: u64,
    /// Bits of EFER that it has.
    pub efer: u64,
    /// It can flush the translations of one identifier.
    pub flush_by_asid: bool,
}

/// A bit of a register and whether the CPU has it.
type Feature = (u32, bool);

fn bits(always: u64, features: &[Feature]) -> u64 {
    let present = features.iter().filter(|(_, has)| *has);
    present.fold(always, |bits, (number, _)| bits | bit(*number))
}

impl Limits {
    /// Reads this CPU's (AMD APM volume 2, 3.1.3 and 3.1.7).
    pub fn read() -> Self {
        let cpuid = CpuId::new();
        let basic = cpuid.get_feature_info();
        let more = cpuid.get_extended_feature_info();
        let extended = cpuid.get_extended_processor_and_feature_identifiers();
        let widths = cpuid.get_processor_capacity_feature_info();
        let capacity = raw_cpuid::cpuid!(0x8000_0008_u32).ebx;
        let identifiers = raw_cpuid::cpuid!(0x8000_0000_u32).eax;
        let second = match identifiers {
            0x8000_0021.. => raw_cpuid::cpuid!(0x8000_0021_u32).eax,
            _ => 0,
        };
        let (basic, more, extended) = (basic.as_ref(), more.as_ref(), extended.as_ref());
        Limits {
            physical_bits: widths
                .as_ref()
                .map_or(36, |widths| u32::from(widths.physical_address_bits())),
            cr4: bits(
                0x7FF,
                &[
                    (11, more.is_some_and(|more| more.has_umip())),
                    (12, more.is_some_and(|more| more.has_la57())),
                    (16, more.is_some_and(|more| more.has_fsgsbase())),
                    (17, basic.is_some_and(|basic| basic.has_pcid())),
                    (18, basic.is_some_and(|basic| basic.has_xsave())),
                    (20, more.is_some_and(|more| more.has_smep())),
                    (21, more.is_some_and(|more| more.has_smap())),
                    (22, more.is_some_and(|more| more.has_pku())),
                    (23, more.is_some_and(|more| more.has_cet_ss())),
                ],
            ),
            efer: bits(
                EFER_ALWAYS,
                &[
                    // The limit of segments in 64-bit mode, unless the CPU says that it has none.
                    (13, u64::from(capacity) & bit(20) == 0),
                    (
                        14,
                        extended.is_some_and(|extended| extended.has_fast_fxsave_fxstor()),
                    ),
                    (15, raw_cpuid::cpuid!(0x8000_0001_u32).ecx & 1 << 17 != 0),
                    (17, u64::from(capacity) & bit(8) != 0),
                    (18, u64::from(capacity) & bit(13) != 0),
                    (20, u64::from(second) & bit(7) != 0),
                    (21, u64::from(second) & bit(8) != 0),
                ],
            ),
            flush_by_asid: cpuid
                .get_svm_info()
                .is_some_and(|details| details.has_flush_by_asid()),
        }
    }
}

/// A refusal by VMEXIT_INVALID.
pub fn refused(code: u64) -> Refusal {
    Refusal {
        manual: MANUAL,
        class: Class::Any,
        code,
        qualification: 0,
        sentence: "The CPU refused to run the guest (VMEXIT_INVALID).",
        fields: &[RIP, RFLAGS],
    }
}

/// A refusal by a CPU that has put its own state into the control block, as QEMU and Bochs do, so
/// that only what stands in its first part can be looked at.
pub fn refused_and_overwritten(code: u64) -> Refusal {
    Refusal {
        class: Class::Controls,
        sentence: "The CPU refused to run the guest (VMEXIT_INVALID) and has overwritten the guest's state, so that only the controls could be looked at.",
        fields: &[],
        ..refused(code)
    }
}

/// The words that a CPU may overwrite although it has refused them: state, and the injected event.
pub const OVERWRITTEN: [u32; 11] = [
    EVENT_INJECTION.number,
    CS.number,
    EFER.number,
    CR4.number,
    CR3.number,
    CR0.number,
    DR7.number,
    DR6.number,
    RFLAGS.number,
    RIP.number,
    G_PAT.number,
];

const VMRUN: u64 = bit(0);
const CR0_PROTECTION: u64 = bit(0);
const CR0_NOT_WRITE_THROUGH: u64 = bit(29);
const CR0_CACHE_DISABLE: u64 = bit(30);
const CR0_PAGING: u64 = bit(31);
const CR4_ADDRESS_EXTENSION: u64 = bit(5);
const EFER_LONG_ENABLE: u64 = bit(8);
const EFER_LONG_ACTIVE: u64 = bit(10);
const EFER_SVME: u64 = bit(12);
const EFER_ALWAYS: u64 = bit(0) | EFER_LONG_ENABLE | EFER_LONG_ACTIVE | bit(11) | EFER_SVME;
/// Segment attributes: L and D.
const LONG: u64 = bit(9);
const DEFAULT_BIG: u64 = bit(10);

const IOPM_BYTES: u64 = 0x3000;
const MSRPM_BYTES: u64 = 0x2000;

const FLUSH_ALL: u64 = 1;
const FLUSH_ASID: u64 = 3;
const FLUSH_ASID_LOCAL: u64 = 7;

/// Event injection (15.20).
const VALID: u64 = bit(31);
const EXCEPTION: u64 = 3;
const NMI_VECTOR: u64 = 2;
const BOUND_VECTOR: u64 = 5;

type SvmRule = Rule<Limits>;
type View<'a> = super::View<'a, Limits>;
type Change = super::Change<Limits>;

const fn bit(number: u32) -> u64 {
    1 << number
}

const fn to(field: Field, value: u64) -> Change {
    Change {
        field,
        to: To::Value(value),
    }
}

const fn set(field: Field, bits: u64) -> Change {
    Change {
        field,
        to: To::Set(bits),
    }
}

const fn clear(field: Field, bits: u64) -> Change {
    Change {
        field,
        to: To::Clear(bits),
    }
}

const fn flip(field: Field, mask: fn(&Limits) -> u64) -> Change {
    Change {
        field,
        to: To::Flip(mask),
    }
}

/// An event, and an interrupt table with limit, so that an event that is delivered after all needs
/// memory and exits, and is no shutdown.
const TABLE: Change = to(IDTR_LIMIT, 0xFFF);
const fn inject(kind: u64, vector: u64) -> Change {
    to(EVENT_INJECTION, VALID | kind << 8 | vector)
}

fn event(view: &View<'_>) -> Option<(u64, u64)> {
    let event = view.get(EVENT_INJECTION);
    (event & VALID != 0).then_some((event >> 8 & 7, event & 0xFF))
}

const fn beyond_physical(limits: &Limits) -> u64 {
    beyond(limits.physical_bits)
}

/// Whether a map of that many bytes lies in the physical-address width; bits 0 to 11 do not count.
fn reaches(view: &View<'_>, base: Field, bytes: u64) -> bool {
    let last = (view.get(base) & !0xFFF).checked_add(bytes - 1);
    last.is_some_and(|last| last & beyond_physical(view.limits) == 0)
}

fn has_long_paging(view: &View<'_>) -> bool {
    view.has(EFER, EFER_LONG_ENABLE) && view.has(CR0, CR0_PAGING)
}

const fn rule(
    name: &'static str,
    section: &'static str,
    sentence: &'static str,
    fields: &'static [Field],
    holds: fn(&View<'_>) -> bool,
    broken_by: &'static [Sample<Limits>],
) -> SvmRule {
    SvmRule {
        name,
        class: Class::Guest,
        section,
        sentence,
        fields,
        holds,
        broken_by,
    }
}

const fn control(rule: SvmRule) -> SvmRule {
    SvmRule {
        class: Class::Controls,
        ..rule
    }
}

/// Every rule, as in the manual.
pub const RULES: Rules<Limits> = &[ROWS];

const ROWS: &[SvmRule] = &[
    rule(
        "efer-svme",
        "15.5.1",
        "EFER must have SVME.",
        &[EFER],
        |view| view.has(EFER, EFER_SVME),
        &[&[clear(EFER, EFER_SVME)]],
    ),
    rule(
        "cr0-nw",
        "15.5.1",
        "CR0 must have CD if it has NW.",
        &[CR0],
        |view| !view.has(CR0, CR0_NOT_WRITE_THROUGH) || view.has(CR0, CR0_CACHE_DISABLE),
        &[&[set(CR0, CR0_NOT_WRITE_THROUGH)]],
    ),
    rule(
        "cr0-upper",
        "15.5.1",
        "CR0 must have bits 32 to 63 clear.",
        &[CR0],
        |view| view.get(CR0) >> 32 == 0,
        &[&[set(CR0, bit(32))], &[set(CR0, bit(63))]],
    ),
    rule(
        "cr3",
        "15.5.1",
        "CR3 must have no bit that the physical-address width does not reach, in long mode.",
        &[CR3, EFER, CR0],
        |view| !has_long_paging(view) || !view.has(CR3, beyond_physical(view.limits)),
        &[&[flip(CR3, |limits| lowest(beyond_physical(limits)))]],
    ),
    rule(
        "cr4",
        "15.5.1",
        "CR4 must have no bit that the CPU does not have.",
        &[CR4],
        |view| !view.has(CR4, !view.limits.cr4),
        &[
            &[flip(CR4, |limits| lowest(!limits.cr4 & !0xFFF))],
            &[set(CR4, bit(15))],
            &[set(CR4, bit(31))],
            &[set(CR4, bit(32))],
        ],
    ),
    rule(
        "dr6-upper",
        "15.5.1",
        "DR6 must have bits 32 to 63 clear.",
        &[DR6],
        |view| view.get(DR6) >> 32 == 0,
        &[&[set(DR6, bit(32))], &[set(DR6, bit(63))]],
    ),
    rule(
        "dr7-upper",
        "15.5.1",
        "DR7 must have bits 32 to 63 clear.",
        &[DR7],
        |view| view.get(DR7) >> 32 == 0,
        &[&[set(DR7, bit(32))], &[set(DR7, bit(63))]],
    ),
    rule(
        "efer",
        "15.5.1",
        "EFER must have no bit that the CPU does not have.",
        &[EFER],
        |view| !view.has(EFER, !view.limits.efer),
        &[&[set(EFER, bit(1))], &[set(EFER, bit(31))], &[set(EFER, bit(32))]],
    ),
    rule(
        "long-mode-pae",
        "15.5.1",
        "CR4 must have PAE if EFER has LME and CR0 has PG.",
        &[EFER, CR0, CR4],
        |view| !has_long_paging(view) || view.has(CR4, CR4_ADDRESS_EXTENSION),
        &[&[clear(CR4, CR4_ADDRESS_EXTENSION)]],
    ),
    rule(
        "long-mode-protection",
        "15.5.1",
        "CR0 must have PE if EFER has LME and CR0 has PG.",
        &[EFER, CR0],
        |view| !has_long_paging(view) || view.has(CR0, CR0_PROTECTION),
        &[&[clear(CR0, CR0_PROTECTION)]],
    ),
    rule(
        "cs-long",
        "15.5.1",
        "CS must not have both L and D if EFER has LME, CR0 has PG and CR4 has PAE.",
        &[EFER, CR0, CR4, CS_ATTRIBUTES],
        |view| {
            let is_long = has_long_paging(view) && view.has(CR4, CR4_ADDRESS_EXTENSION);
            !is_long || !view.has(CS_ATTRIBUTES, LONG) || !view.has(CS_ATTRIBUTES, DEFAULT_BIG)
        },
        &[&[set(CS_ATTRIBUTES, DEFAULT_BIG)]],
    ),
    control(rule(
        "vmrun-intercept",
        "15.5.1",
        "VMRUN must be intercepted.",
        &[INTERCEPTS_4],
        |view| view.has(INTERCEPTS_4, VMRUN),
        &[&[clear(INTERCEPTS_4, VMRUN)]],
    )),
    control(rule(
        "msr-map",
        "15.5.1",
        "The MSR permission map must end where the physical-address width reaches.",
        &[MSRPM_BASE],
        |view| reaches(view, MSRPM_BASE, MSRPM_BYTES),
        &[&[set(MSRPM_BASE, bit(63))], &[flip(MSRPM_BASE, |limits| lowest(beyond_physical(limits)))]],
    )),
    control(rule(
        "io-map",
        "15.5.1",
        "The I/O permission map must end where the physical-address width reaches.",
        &[IOPM_BASE],
        |view| reaches(view, IOPM_BASE, IOPM_BYTES),
        &[&[set(IOPM_BASE, bit(63))], &[flip(IOPM_BASE, |limits| lowest(beyond_physical(limits)))]],
    )),
    control(rule(
        "asid",
        "15.5.1",
        "The address-space identifier must not be 0, which is the host's.",
        &[ASID],
        |view| view.get(ASID) != 0,
        &[&[to(ASID, 0)]],
    )),
    control(rule(
        "tlb-control",
        "15.16.1",
        "TLB_CONTROL must be 0 or 1, or 3 or 7 on CPUs that flush by identifier.",
        &[TLB_CONTROL],
        |view| match view.get(TLB_CONTROL) {
            0 | FLUSH_ALL => true,
            FLUSH_ASID | FLUSH_ASID_LOCAL => view.limits.flush_by_asid,
            _ => false,
        },
        &[&[to(TLB_CONTROL, 2)]],
    )),
    control(rule(
        "event-type",
        "15.20",
        "An injected event must have type 0, 2, 3 or 4.",
        &[EVENT_INJECTION],
        |view| event(view).is_none_or(|(kind, _)| matches!(kind, 0 | 2..=4)),
        &[
            &[TABLE, inject(1, 0x20)],
            &[TABLE, inject(5, 0x20)],
            &[TABLE, inject(6, 0x20)],
            &[TABLE, inject(7, 0)],
        ],
    )),
    control(rule(
        "event-vector",
        "15.20",
        "An injected exception must have a vector that an exception has: up to 31, not 2.",
        &[EVENT_INJECTION],
        |view| {
            event(view).is_none_or(|(kind, vector)| {
                kind != EXCEPTION || vector <= 31 && vector != NMI_VECTOR
            })
        },
        &[&[TABLE, inject(EXCEPTION, NMI_VECTOR)], &[TABLE, inject(EXCEPTION, 32)], &[TABLE, inject(EXCEPTION, 0xFF)]],
    )),
    rule(
        "event-mode",
        "15.20",
        "An injected exception must be possible in the guest's mode: no #BR in 64-bit code.",
        &[EVENT_INJECTION, EFER, CR0, CS_ATTRIBUTES],
        |view| {
            let is_64 = has_long_paging(view) && view.has(CS_ATTRIBUTES, LONG);
            !is_64 || event(view) != Some((EXCEPTION, BOUND_VECTOR))
        },
        &[&[TABLE, inject(EXCEPTION, BOUND_VECTOR)]],
    ),
    control(rule(
        "nested-cr3",
        "15.25.4",
        "The root of the nested page tables must have no bit that the physical-address width does not reach.",
        &[NESTED, NESTED_CR3],
        |view| !view.has(NESTED, 1) || !view.has(NESTED_CR3, beyond_physical(view.limits)),
        &[&[flip(NESTED_CR3, |limits| lowest(beyond_physical(limits)))], &[set(NESTED_CR3, bit(63))]],
    )),
    rule(
        "g-pat",
        "15.25.4",
        "G_PAT, with nested paging, must have only the types 0, 1, 4, 5, 6 and 7.",
        &[NESTED, G_PAT],
        |view| !view.has(NESTED, 1) || is_page_attribute_table(view.get(G_PAT)),
        &[&[to(G_PAT, 2)], &[to(G_PAT, 3 << 8)], &[to(G_PAT, 8 << 56)]],
    ),
];
