//! Checks on the host's state (Intel SDM vol. 3, 26.2.2 to 26.2.4).

use super::super::{is_page_attribute_table, lowest, Class, Field, Sample};
use super::{bit, clear, fits, flip, is_canonical, set, to, too_far, Limits, View, VmxRule};
use crate::vt::fields::vmx::*;

const EXIT_LONG_HOST: u64 = bit(9);
const EXIT_LOAD_PAT: u64 = bit(19);
const EXIT_LOAD_EFER: u64 = bit(21);

const CR4_ADDRESS_EXTENSION: u64 = bit(5);
pub(super) const EFER_LONG_ENABLE: u64 = bit(8);
pub(super) const EFER_LONG_ACTIVE: u64 = bit(10);
/// SYSCALL, long mode and its being active, no-execute: what EFER has on Intel's CPUs.
pub(super) const EFER_BITS: u64 = bit(0) | EFER_LONG_ENABLE | EFER_LONG_ACTIVE | bit(11);

/// The privilege level and the table of a selector.
const SELECTOR_LOW: u64 = 7;

const SELECTORS: &[Field] = &[
    HOST_ES, HOST_CS, HOST_SS, HOST_DS, HOST_FS, HOST_GS, HOST_TR,
];
const BASES: &[Field] = &[
    HOST_FS_BASE,
    HOST_GS_BASE,
    HOST_TR_BASE,
    HOST_GDTR_BASE,
    HOST_IDTR_BASE,
];

pub(super) const NOT_CANONICAL: u64 = bit(63);

const fn rule(
    name: &'static str,
    section: &'static str,
    sentence: &'static str,
    fields: &'static [Field],
    holds: fn(&View<'_>) -> bool,
    broken_by: &'static [Sample<Limits>],
) -> VmxRule {
    VmxRule {
        name,
        class: Class::Host,
        section,
        sentence,
        fields,
        holds,
        broken_by,
    }
}

pub const RULES: &[VmxRule] = &[
    rule(
        "host-cr0",
        "26.2.2",
        "The host's CR0 must have the bits of IA32_VMX_CR0_FIXED0 and none that IA32_VMX_CR0_FIXED1 lacks.",
        &[HOST_CR0],
        |view| fits(view, HOST_CR0, view.limits.cr0[0], view.limits.cr0[1]),
        &[
            &[flip(HOST_CR0, |limits| lowest(limits.cr0[0]))],
            &[flip(HOST_CR0, |limits| lowest(!limits.cr0[1]))],
        ],
    ),
    rule(
        "host-cr4",
        "26.2.2",
        "The host's CR4 must have the bits of IA32_VMX_CR4_FIXED0 and none that IA32_VMX_CR4_FIXED1 lacks.",
        &[HOST_CR4],
        |view| fits(view, HOST_CR4, view.limits.cr4[0], view.limits.cr4[1]),
        &[
            &[flip(HOST_CR4, |limits| lowest(limits.cr4[0]))],
            &[flip(HOST_CR4, |limits| lowest(!limits.cr4[1]))],
        ],
    ),
    rule(
        "host-cr3",
        "26.2.2",
        "The host's CR3 must have no bit that the physical-address width does not reach.",
        &[HOST_CR3],
        |view| !view.has(HOST_CR3, view.limits.beyond_physical()),
        &[&[too_far(HOST_CR3)]],
    ),
    rule(
        "host-sysenter",
        "26.2.2",
        "The host's IA32_SYSENTER_ESP and IA32_SYSENTER_EIP must be canonical addresses.",
        &[HOST_SYSENTER_ESP, HOST_SYSENTER_EIP],
        |view| is_canonical(view, HOST_SYSENTER_ESP) && is_canonical(view, HOST_SYSENTER_EIP),
        &[
            &[to(HOST_SYSENTER_ESP, NOT_CANONICAL)],
            &[to(HOST_SYSENTER_EIP, NOT_CANONICAL)],
        ],
    ),
    rule(
        "host-pat",
        "26.2.2",
        "The host's IA32_PAT, if an exit loads it, must have only the types 0, 1, 4, 5, 6 and 7.",
        &[EXIT_CONTROLS, HOST_PAT],
        |view| !view.has(EXIT_CONTROLS, EXIT_LOAD_PAT) || is_page_attribute_table(view.get(HOST_PAT)),
        &[&[to(HOST_PAT, 2)], &[set(HOST_PAT, 0xFF << 56)]],
    ),
    rule(
        "host-efer",
        "26.2.2",
        "The host's IA32_EFER, if an exit loads it, must have no reserved bit.",
        &[EXIT_CONTROLS, HOST_EFER],
        |view| !view.has(EXIT_CONTROLS, EXIT_LOAD_EFER) || !view.has(HOST_EFER, !EFER_BITS),
        &[&[set(HOST_EFER, bit(1))], &[set(HOST_EFER, bit(63))]],
    ),
    rule(
        "host-efer-mode",
        "26.2.2",
        "The host's IA32_EFER, if an exit loads it, must have LME and LMA as the exit control \"host address-space size\" is.",
        &[EXIT_CONTROLS, HOST_EFER],
        |view| {
            let expected = if view.has(EXIT_CONTROLS, EXIT_LONG_HOST) {
                EFER_LONG_ENABLE | EFER_LONG_ACTIVE
            } else {
                0
            };
            let mode = view.get(HOST_EFER) & (EFER_LONG_ENABLE | EFER_LONG_ACTIVE);
            !view.has(EXIT_CONTROLS, EXIT_LOAD_EFER) || mode == expected
        },
        &[
            &[clear(HOST_EFER, EFER_LONG_ACTIVE)],
            &[clear(HOST_EFER, EFER_LONG_ENABLE)],
        ],
    ),
    rule(
        "host-selectors",
        "26.2.3",
        "The host's selectors must have bits 0 to 2 clear: privilege level 0, global table.",
        SELECTORS,
        |view| !SELECTORS.iter().any(|field| view.has(*field, SELECTOR_LOW)),
        &[
            &[set(HOST_DS, 3)],
            &[set(HOST_CS, 4)],
            &[set(HOST_TR, 4)],
            &[to(HOST_GS, 1)],
        ],
    ),
    rule(
        "host-cs-and-tr",
        "26.2.3",
        "The host's CS and TR must not be 0.",
        &[HOST_CS, HOST_TR],
        |view| view.get(HOST_CS) != 0 && view.get(HOST_TR) != 0,
        &[&[to(HOST_CS, 0)], &[to(HOST_TR, 0)]],
    ),
    rule(
        "host-bases",
        "26.2.3",
        "The host's bases of FS, GS, TR, GDTR and IDTR must be canonical addresses.",
        BASES,
        |view| BASES.iter().all(|field| is_canonical(view, *field)),
        &[
            &[to(HOST_FS_BASE, NOT_CANONICAL)],
            &[to(HOST_GS_BASE, NOT_CANONICAL)],
            &[to(HOST_TR_BASE, NOT_CANONICAL)],
            &[to(HOST_GDTR_BASE, NOT_CANONICAL)],
            &[to(HOST_IDTR_BASE, NOT_CANONICAL)],
        ],
    ),
    rule(
        "host-address-space",
        "26.2.4",
        "In IA-32e mode, where the hypervisor is, the exit control \"host address-space size\" must be 1.",
        &[EXIT_CONTROLS],
        |view| view.has(EXIT_CONTROLS, EXIT_LONG_HOST),
        &[&[
            clear(EXIT_CONTROLS, EXIT_LONG_HOST),
            clear(HOST_EFER, EFER_LONG_ENABLE | EFER_LONG_ACTIVE),
        ]],
    ),
    rule(
        "host-cr4-pae",
        "26.2.4",
        "The host's CR4 must have PAE, since the exit control \"host address-space size\" is 1.",
        &[EXIT_CONTROLS, HOST_CR4],
        |view| !view.has(EXIT_CONTROLS, EXIT_LONG_HOST) || view.has(HOST_CR4, CR4_ADDRESS_EXTENSION),
        &[&[clear(HOST_CR4, CR4_ADDRESS_EXTENSION)]],
    ),
    rule(
        "host-rip",
        "26.2.4",
        "The host's RIP must be a canonical address, since the exit control \"host address-space size\" is 1.",
        &[EXIT_CONTROLS, HOST_RIP],
        |view| !view.has(EXIT_CONTROLS, EXIT_LONG_HOST) || is_canonical(view, HOST_RIP),
        &[&[set(HOST_RIP, NOT_CANONICAL)]],
    ),
];
