//! Checks on the guest's control registers, debug registers, model-specific registers, RIP and
//! RFLAGS (Intel SDM vol. 3, 26.3.1.1 and 26.3.1.4), and its page-directory pointers (26.3.1.6).

use super::super::{is_page_attribute_table, lowest, Class, Field, Sample};
use super::controls::{is_unrestricted, ENTRY_LONG_MODE};
use super::events::{event, inject, EXTERNAL, TABLE};
use super::host::{EFER_BITS, EFER_LONG_ACTIVE, EFER_LONG_ENABLE, NOT_CANONICAL};
use super::{
    bit, clear, fits, flip, is_canonical, is_long, set, to, too_far, Change, Limits, View, VmxRule,
};
use crate::vt::fields::vmx::*;

const ENTRY_LOAD_DEBUG: u64 = bit(2);
const ENTRY_LOAD_PAT: u64 = bit(14);
const ENTRY_LOAD_EFER: u64 = bit(15);

const CR0_PROTECTION: u64 = bit(0);
const CR0_PAGING: u64 = bit(31);
const CR4_ADDRESS_EXTENSION: u64 = bit(5);
const CR4_CONTEXTS: u64 = bit(17);
const EFER_LONG: u64 = EFER_LONG_ENABLE | EFER_LONG_ACTIVE;

/// IA32_DEBUGCTL (Intel SDM vol. 3, 17.4.1): LBR, BTF and bus-lock detection, then TR to RTM.
const DEBUGCTL_BITS: u64 = 0b111 | 0xFFC0;

/// Bits that every RFLAGS has clear, and the one that it has set.
const RFLAGS_CLEAR: u64 = !0x3F_FFFF | bit(15) | bit(5) | bit(3);
const RFLAGS_SET: u64 = bit(1);
pub(super) const RFLAGS_INTERRUPT: u64 = bit(9);
const RFLAGS_VIRTUAL_8086: u64 = bit(17);

const CS_LONG: u64 = bit(13);

const DIRECTORIES: [Field; 4] = [PDPTE0, PDPTE1, PDPTE2, PDPTE3];
/// A page-directory pointer (Intel SDM vol. 3, 4.4.1).
const DIRECTORY_PRESENT: u64 = bit(0);
const DIRECTORY_RESERVED: u64 = 0b110 | 0b1_1110_0000;

/// What leads out of IA-32e mode: 32-bit mode with its paging.
const NOT_LONG: [Change; 2] = [
    clear(ENTRY_CONTROLS, ENTRY_LONG_MODE),
    clear(EFER, EFER_LONG),
];

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
        class: Class::Guest,
        section,
        sentence,
        fields,
        holds,
        broken_by,
    }
}

pub const RULES: &[VmxRule] = &[
    rule(
        "cr0",
        "26.3.1.1",
        "CR0 must have the bits of IA32_VMX_CR0_FIXED0, but for PE and PG of unrestricted guests, and none that IA32_VMX_CR0_FIXED1 lacks.",
        &[CR0, PRIMARY_CONTROLS, SECONDARY_CONTROLS],
        |view| {
            let must = if is_unrestricted(view) {
                view.limits.cr0_of_unrestricted()
            } else {
                view.limits.cr0[0]
            };
            fits(view, CR0, must, view.limits.cr0[1])
        },
        &[
            &[flip(CR0, |limits| lowest(limits.cr0_of_unrestricted()))],
            &[flip(CR0, |limits| lowest(!limits.cr0[1]))],
        ],
    ),
    rule(
        "cr0-paging",
        "26.3.1.1",
        "CR0 must have PE if it has PG.",
        &[CR0],
        |view| !view.has(CR0, CR0_PAGING) || view.has(CR0, CR0_PROTECTION),
        &[&[clear(CR0, CR0_PROTECTION)]],
    ),
    rule(
        "cr4",
        "26.3.1.1",
        "CR4 must have the bits of IA32_VMX_CR4_FIXED0 and none that IA32_VMX_CR4_FIXED1 lacks.",
        &[CR4],
        |view| fits(view, CR4, view.limits.cr4[0], view.limits.cr4[1]),
        &[
            &[flip(CR4, |limits| lowest(limits.cr4[0]))],
            &[flip(CR4, |limits| lowest(!limits.cr4[1]))],
        ],
    ),
    rule(
        "debugctl",
        "26.3.1.1",
        "IA32_DEBUGCTL, if the entry loads debug controls, must have no reserved bit.",
        &[ENTRY_CONTROLS, DEBUGCTL],
        |view| !view.has(ENTRY_CONTROLS, ENTRY_LOAD_DEBUG) || !view.has(DEBUGCTL, !DEBUGCTL_BITS),
        &[&[set(DEBUGCTL, bit(63))]],
    ),
    rule(
        "cr4-pae",
        "26.3.1.1",
        "CR4 must have PAE if the guest is entered in IA-32e mode.",
        &[ENTRY_CONTROLS, CR4],
        |view| !is_long(view) || view.has(CR4, CR4_ADDRESS_EXTENSION),
        &[&[clear(CR4, CR4_ADDRESS_EXTENSION)]],
    ),
    rule(
        "cr0-pg",
        "26.3.1.1",
        "CR0 must have PG if the guest is entered in IA-32e mode.",
        &[ENTRY_CONTROLS, CR0],
        |view| !is_long(view) || view.has(CR0, CR0_PAGING),
        &[&[clear(CR0, CR0_PAGING)]],
    ),
    rule(
        "cr4-pcide",
        "26.3.1.1",
        "CR4 must not have PCIDE if the guest is not entered in IA-32e mode.",
        &[ENTRY_CONTROLS, CR4],
        |view| is_long(view) || !view.has(CR4, CR4_CONTEXTS),
        &[&[
            NOT_LONG[0],
            NOT_LONG[1],
            to(PDPTE0, 0), to(PDPTE1, 0), to(PDPTE2, 0), to(PDPTE3, 0),
            flip(CR4, |limits| limits.cr4[1] & CR4_CONTEXTS),
        ]],
    ),
    rule(
        "cr3",
        "26.3.1.1",
        "CR3 must have no bit that the physical-address width does not reach.",
        &[CR3],
        |view| !view.has(CR3, view.limits.beyond_physical()),
        &[&[too_far(CR3)], &[set(CR3, bit(63))]],
    ),
    rule(
        "dr7",
        "26.3.1.1",
        "DR7, if the entry loads debug controls, must have bits 32 to 63 clear.",
        &[ENTRY_CONTROLS, DR7],
        |view| !view.has(ENTRY_CONTROLS, ENTRY_LOAD_DEBUG) || view.get(DR7) >> 32 == 0,
        &[&[set(DR7, bit(32))]],
    ),
    rule(
        "sysenter",
        "26.3.1.1",
        "IA32_SYSENTER_ESP and IA32_SYSENTER_EIP must be canonical addresses.",
        &[SYSENTER_ESP, SYSENTER_EIP],
        |view| is_canonical(view, SYSENTER_ESP) && is_canonical(view, SYSENTER_EIP),
        &[
            &[to(SYSENTER_ESP, NOT_CANONICAL)],
            &[to(SYSENTER_EIP, NOT_CANONICAL)],
        ],
    ),
    rule(
        "pat",
        "26.3.1.1",
        "IA32_PAT, if the entry loads it, must have only the types 0, 1, 4, 5, 6 and 7.",
        &[ENTRY_CONTROLS, PAT],
        |view| !view.has(ENTRY_CONTROLS, ENTRY_LOAD_PAT) || is_page_attribute_table(view.get(PAT)),
        &[&[to(PAT, 2)], &[to(PAT, 8 << 56)]],
    ),
    rule(
        "efer",
        "26.3.1.1",
        "IA32_EFER, if the entry loads it, must have no reserved bit.",
        &[ENTRY_CONTROLS, EFER],
        |view| !view.has(ENTRY_CONTROLS, ENTRY_LOAD_EFER) || !view.has(EFER, !EFER_BITS),
        &[&[set(EFER, bit(1))], &[set(EFER, bit(63))]],
    ),
    rule(
        "efer-lma",
        "26.3.1.1",
        "IA32_EFER, if the entry loads it, must have LMA as the entry control \"IA-32e mode guest\" is.",
        &[ENTRY_CONTROLS, EFER],
        |view| {
            !view.has(ENTRY_CONTROLS, ENTRY_LOAD_EFER) || view.has(EFER, EFER_LONG_ACTIVE) == is_long(view)
        },
        &[&[clear(EFER, EFER_LONG)]],
    ),
    rule(
        "efer-lme",
        "26.3.1.1",
        "IA32_EFER, if the entry loads it, must have LME as it has LMA while CR0 has PG.",
        &[ENTRY_CONTROLS, EFER, CR0],
        |view| {
            !view.has(ENTRY_CONTROLS, ENTRY_LOAD_EFER)
                || !view.has(CR0, CR0_PAGING)
                || view.has(EFER, EFER_LONG_ENABLE) == view.has(EFER, EFER_LONG_ACTIVE)
        },
        &[&[clear(EFER, EFER_LONG_ENABLE)]],
    ),
    rule(
        "rip-32",
        "26.3.1.4",
        "RIP must have bits 32 to 63 clear outside 64-bit code.",
        &[ENTRY_CONTROLS, CS_ACCESS, RIP],
        |view| is_long(view) && view.has(CS_ACCESS, CS_LONG) || view.get(RIP) >> 32 == 0,
        &[&[clear(CS_ACCESS, CS_LONG), set(RIP, bit(32))]],
    ),
    rule(
        "rip-64",
        "26.3.1.4",
        "RIP must have all bits alike that the linear-address width does not reach, in 64-bit code.",
        &[ENTRY_CONTROLS, CS_ACCESS, RIP],
        |view| {
            let unreached = view.get(RIP) >> view.limits.linear_bits;
            let all = u64::MAX >> view.limits.linear_bits;
            let is_64 = is_long(view) && view.has(CS_ACCESS, CS_LONG);
            !is_64 || unreached == 0 || unreached == all
        },
        &[&[set(RIP, NOT_CANONICAL)]],
    ),
    rule(
        "rflags",
        "26.3.1.4",
        "RFLAGS must have bit 1, and must not have bits 3, 5, 15 and 22 to 63.",
        &[RFLAGS],
        |view| fits(view, RFLAGS, RFLAGS_SET, !RFLAGS_CLEAR),
        &[
            &[clear(RFLAGS, RFLAGS_SET)],
            &[set(RFLAGS, bit(3))],
            &[set(RFLAGS, bit(15))],
            &[set(RFLAGS, bit(32))],
        ],
    ),
    rule(
        "rflags-vm",
        "26.3.1.4",
        "RFLAGS must not have VM in IA-32e mode or without protected mode.",
        &[ENTRY_CONTROLS, RFLAGS, CR0],
        |view| {
            !view.has(RFLAGS, RFLAGS_VIRTUAL_8086)
                || !is_long(view) && view.has(CR0, CR0_PROTECTION)
        },
        &[&[set(RFLAGS, RFLAGS_VIRTUAL_8086)]],
    ),
    rule(
        "rflags-if",
        "26.3.1.4",
        "RFLAGS must have IF if an external interrupt is injected.",
        &[ENTRY_EVENT, RFLAGS],
        |view| match event(view) {
            Some((EXTERNAL, _)) => view.has(RFLAGS, RFLAGS_INTERRUPT),
            _ => true,
        },
        &[&[TABLE, inject(EXTERNAL, 0x20, 0)]],
    ),
    rule(
        "page-directory-pointers",
        "26.3.1.6",
        "The page-directory pointers that are present must have no reserved bit, if the guest is entered with PAE paging.",
        &[ENTRY_CONTROLS, CR0, CR4, PDPTE0, PDPTE1, PDPTE2, PDPTE3],
        |view| {
            let is_used = !is_long(view)
                && view.has(CR0, CR0_PAGING)
                && view.has(CR4, CR4_ADDRESS_EXTENSION);
            let reserved = DIRECTORY_RESERVED | view.limits.beyond_physical();
            let is_fine = |field: &Field| {
                !view.has(*field, DIRECTORY_PRESENT) || !view.has(*field, reserved)
            };
            !is_used || DIRECTORIES.iter().all(is_fine)
        },
        &[&[
            NOT_LONG[0],
            NOT_LONG[1],
            to(PDPTE0, 0b11), to(PDPTE1, 0), to(PDPTE2, 0), to(PDPTE3, 0),
        ]],
    ),
];
