//! Checks on the controls (Intel SDM vol. 3, 26.2.1.1 to 26.2.1.3), but for injected events.

use super::super::{lowest, Class, Field};
use super::limits::capability;
use super::{bit, clear, fits, flip, is_address, set, to, too_far, Limits, View, VmxRule};
use crate::vt::fields::vmx::*;

pub(super) const PIN_INTERRUPT_EXITING: u64 = bit(0);
pub(super) const PIN_NMI_EXITING: u64 = bit(3);
pub(super) const PIN_VIRTUAL_NMIS: u64 = bit(5);
const PIN_TIMER: u64 = bit(6);

const PRIMARY_TPR_SHADOW: u64 = bit(21);
const PRIMARY_NMI_WINDOW: u64 = bit(22);
const PRIMARY_IO_BITMAPS: u64 = bit(25);
const PRIMARY_MSR_BITMAPS: u64 = bit(28);
const PRIMARY_SECONDARY: u64 = bit(31);

const VIRTUAL_APIC_ACCESSES: u64 = bit(0);
const EPT: u64 = bit(1);
const VIRTUAL_X2APIC: u64 = bit(4);
const USE_VPID: u64 = bit(5);
const UNRESTRICTED: u64 = bit(7);
const APIC_REGISTERS: u64 = bit(8);
const INTERRUPT_DELIVERY: u64 = bit(9);
const PAGE_LOG: u64 = bit(17);
const SCALE_TSC: u64 = bit(25);

const EXIT_SAVE_TIMER: u64 = bit(22);

pub(super) const ENTRY_LONG_MODE: u64 = bit(9);
const ENTRY_TO_SMM: u64 = bit(10);
const ENTRY_LEAVES_DUAL_MONITOR: u64 = bit(11);

/// EPT pointer (24.6.11).
const EPT_MARKS: u64 = bit(6);
const EPT_SHADOW_STACKS: u64 = bit(7);
const EPT_RESERVED: u64 = 0xF00;

const fn must(capability: u64) -> u64 {
    capability & 0xFFFF_FFFF
}

const fn may(capability: u64) -> u64 {
    capability >> 32
}

/// The highest bit of 32 that must be 0; 0 if there is none.
const fn forbidden(capability: u64) -> u64 {
    let bits = !may(capability) & 0xFFFF_FFFF;
    if bits == 0 {
        0
    } else {
        bit(bits.ilog2())
    }
}

/// Those bits, if the CPU lets all of them be 1.
const fn allowed(capability: u64, bits: u64) -> u64 {
    if may(capability) & bits == bits {
        bits
    } else {
        0
    }
}

fn lets_secondary(limits: &Limits, bits: u64) -> u64 {
    allowed(limits.controls.secondary, bits)
}

/// Whether a secondary control is in force.
pub(super) fn secondary(view: &View<'_>, bits: u64) -> bool {
    view.has(PRIMARY_CONTROLS, PRIMARY_SECONDARY) && view.has(SECONDARY_CONTROLS, bits)
}

pub(super) fn is_unrestricted(view: &View<'_>) -> bool {
    secondary(view, UNRESTRICTED)
}

/// The count is 0, or the list begins at a multiple of 16 and ends in the physical-address width.
fn is_list(view: &View<'_>, count: Field, address: Field) -> bool {
    let count = view.get(count);
    let last = view
        .get(address)
        .wrapping_add(count.wrapping_mul(16))
        .wrapping_sub(1);
    count == 0 || is_address(view, address, 16) && last & view.limits.beyond_physical() == 0
}

const fn rule(
    name: &'static str,
    sentence: &'static str,
    fields: &'static [Field],
    holds: fn(&View<'_>) -> bool,
    broken_by: &'static [super::super::Sample<Limits>],
) -> VmxRule {
    VmxRule {
        name,
        class: Class::Controls,
        section: "26.2.1.1",
        sentence,
        fields,
        holds,
        broken_by,
    }
}

const fn at(section: &'static str, rule: VmxRule) -> VmxRule {
    VmxRule { section, ..rule }
}

pub const RULES: &[VmxRule] = &[
    rule(
        "pin-must",
        "The pin-based controls must set every bit that the lower half of IA32_VMX_PINBASED_CTLS has.",
        &[PIN_CONTROLS],
        |view| fits(view, PIN_CONTROLS, must(view.limits.controls.pin), u64::MAX),
        &[&[flip(PIN_CONTROLS, |limits| lowest(must(limits.controls.pin)))]],
    ),
    rule(
        "pin-may",
        "The pin-based controls must clear every bit that the upper half of IA32_VMX_PINBASED_CTLS lacks.",
        &[PIN_CONTROLS],
        |view| fits(view, PIN_CONTROLS, 0, may(view.limits.controls.pin)),
        &[&[flip(PIN_CONTROLS, |limits| forbidden(limits.controls.pin))]],
    ),
    rule(
        "primary-must",
        "The primary processor-based controls must set every bit that the lower half of IA32_VMX_PROCBASED_CTLS has.",
        &[PRIMARY_CONTROLS],
        |view| fits(view, PRIMARY_CONTROLS, must(view.limits.controls.primary), u64::MAX),
        &[&[flip(PRIMARY_CONTROLS, |limits| lowest(must(limits.controls.primary)))]],
    ),
    rule(
        "primary-may",
        "The primary processor-based controls must clear every bit that the upper half of IA32_VMX_PROCBASED_CTLS lacks.",
        &[PRIMARY_CONTROLS],
        |view| fits(view, PRIMARY_CONTROLS, 0, may(view.limits.controls.primary)),
        &[&[flip(PRIMARY_CONTROLS, |limits| forbidden(limits.controls.primary))]],
    ),
    rule(
        "secondary-may",
        "The secondary processor-based controls, if they are in force, must clear every bit that the upper half of IA32_VMX_PROCBASED_CTLS2 lacks.",
        &[PRIMARY_CONTROLS, SECONDARY_CONTROLS],
        |view| {
            !view.has(PRIMARY_CONTROLS, PRIMARY_SECONDARY)
                || fits(view, SECONDARY_CONTROLS, must(view.limits.controls.secondary), may(view.limits.controls.secondary))
        },
        &[&[flip(SECONDARY_CONTROLS, |limits| forbidden(limits.controls.secondary))]],
    ),
    rule(
        "cr3-target-count",
        "There must be no more CR3 targets than IA32_VMX_MISC says in bits 16 to 24.",
        &[CR3_TARGETS],
        |view| view.get(CR3_TARGETS) <= view.limits.misc >> 16 & 0x1FF,
        &[&[flip(CR3_TARGETS, |limits| (limits.misc >> 16 & 0x1FF) + 1)]],
    ),
    rule(
        "io-bitmaps",
        "The two I/O bitmaps, if they are used, must begin at pages that the physical-address width reaches.",
        &[PRIMARY_CONTROLS, IO_BITMAP_A, IO_BITMAP_B],
        |view| {
            !view.has(PRIMARY_CONTROLS, PRIMARY_IO_BITMAPS)
                || is_address(view, IO_BITMAP_A, 4096) && is_address(view, IO_BITMAP_B, 4096)
        },
        &[
            &[
                flip(PRIMARY_CONTROLS, |limits| allowed(limits.controls.primary, PRIMARY_IO_BITMAPS)),
                to(IO_BITMAP_A, 1),
                to(IO_BITMAP_B, 0),
            ],
            &[
                flip(PRIMARY_CONTROLS, |limits| allowed(limits.controls.primary, PRIMARY_IO_BITMAPS)),
                to(IO_BITMAP_A, 0),
                to(IO_BITMAP_B, bit(63)),
            ],
        ],
    ),
    rule(
        "msr-bitmap",
        "The MSR bitmap, if it is used, must begin at a page that the physical-address width reaches.",
        &[PRIMARY_CONTROLS, MSR_BITMAP],
        |view| !view.has(PRIMARY_CONTROLS, PRIMARY_MSR_BITMAPS) || is_address(view, MSR_BITMAP, 4096),
        &[&[set(MSR_BITMAP, 0x800)], &[too_far(MSR_BITMAP)]],
    ),
    rule(
        "virtual-apic-page",
        "The virtual-APIC page, if there is a TPR shadow, must begin at a page that the physical-address width reaches.",
        &[PRIMARY_CONTROLS, VIRTUAL_APIC],
        |view| !view.has(PRIMARY_CONTROLS, PRIMARY_TPR_SHADOW) || is_address(view, VIRTUAL_APIC, 4096),
        &[&[set(VIRTUAL_APIC, 1)], &[too_far(VIRTUAL_APIC)]],
    ),
    rule(
        "tpr-threshold",
        "The TPR threshold must have bits 4 to 31 clear if there is a TPR shadow and no virtual-interrupt delivery.",
        &[PRIMARY_CONTROLS, SECONDARY_CONTROLS, TPR_THRESHOLD],
        |view| {
            !view.has(PRIMARY_CONTROLS, PRIMARY_TPR_SHADOW)
                || secondary(view, INTERRUPT_DELIVERY)
                || !view.has(TPR_THRESHOLD, 0xFFFF_FFF0)
        },
        &[&[to(TPR_THRESHOLD, 0x10)]],
    ),
    rule(
        "apic-without-tpr-shadow",
        "Without a TPR shadow there must be no virtual x2APIC mode, APIC-register virtualization or virtual-interrupt delivery.",
        &[PRIMARY_CONTROLS, SECONDARY_CONTROLS],
        |view| {
            view.has(PRIMARY_CONTROLS, PRIMARY_TPR_SHADOW)
                || !secondary(view, VIRTUAL_X2APIC | APIC_REGISTERS | INTERRUPT_DELIVERY)
        },
        &[&[
            clear(PRIMARY_CONTROLS, PRIMARY_TPR_SHADOW),
            flip(SECONDARY_CONTROLS, |limits| lets_secondary(limits, VIRTUAL_X2APIC)),
        ]],
    ),
    rule(
        "virtual-nmis",
        "Without NMI exiting there must be no virtual NMIs.",
        &[PIN_CONTROLS],
        |view| view.has(PIN_CONTROLS, PIN_NMI_EXITING) || !view.has(PIN_CONTROLS, PIN_VIRTUAL_NMIS),
        &[&[
            flip(PIN_CONTROLS, |limits| allowed(limits.controls.pin, PIN_VIRTUAL_NMIS)),
            clear(PIN_CONTROLS, PIN_NMI_EXITING),
        ]],
    ),
    rule(
        "nmi-window",
        "Without virtual NMIs there must be no NMI-window exiting.",
        &[PIN_CONTROLS, PRIMARY_CONTROLS],
        |view| view.has(PIN_CONTROLS, PIN_VIRTUAL_NMIS) || !view.has(PRIMARY_CONTROLS, PRIMARY_NMI_WINDOW),
        &[&[flip(PRIMARY_CONTROLS, |limits| allowed(limits.controls.primary, PRIMARY_NMI_WINDOW))]],
    ),
    rule(
        "apic-access-page",
        "The APIC-access page, if there is one, must begin at a page that the physical-address width reaches.",
        &[PRIMARY_CONTROLS, SECONDARY_CONTROLS, APIC_ACCESS],
        |view| !secondary(view, VIRTUAL_APIC_ACCESSES) || is_address(view, APIC_ACCESS, 4096),
        &[&[
            flip(SECONDARY_CONTROLS, |limits| lets_secondary(limits, VIRTUAL_APIC_ACCESSES)),
            to(APIC_ACCESS, 1),
        ]],
    ),
    rule(
        "apic-and-x2apic",
        "With virtual x2APIC mode there must be no virtual APIC accesses.",
        &[PRIMARY_CONTROLS, SECONDARY_CONTROLS],
        |view| !secondary(view, VIRTUAL_X2APIC) || !secondary(view, VIRTUAL_APIC_ACCESSES),
        &[&[
            flip(SECONDARY_CONTROLS, |limits| lets_secondary(limits, VIRTUAL_APIC_ACCESSES | VIRTUAL_X2APIC)),
            to(APIC_ACCESS, 0),
        ]],
    ),
    rule(
        "interrupt-delivery",
        "With virtual-interrupt delivery, external interrupts must exit.",
        &[PIN_CONTROLS, PRIMARY_CONTROLS, SECONDARY_CONTROLS],
        |view| {
            !secondary(view, INTERRUPT_DELIVERY) || view.has(PIN_CONTROLS, PIN_INTERRUPT_EXITING)
        },
        &[&[
            clear(PIN_CONTROLS, PIN_INTERRUPT_EXITING),
            flip(SECONDARY_CONTROLS, |limits| lets_secondary(limits, INTERRUPT_DELIVERY)),
        ]],
    ),
    rule(
        "vpid",
        "The virtual-processor identifier must not be 0 if it is used.",
        &[PRIMARY_CONTROLS, SECONDARY_CONTROLS, VPID],
        |view| !secondary(view, USE_VPID) || view.get(VPID) != 0,
        &[&[
            flip(VPID, |limits| u64::from(lets_secondary(limits, USE_VPID) != 0)),
            to(VPID, 0),
        ]],
    ),
    rule(
        "ept-memory-type",
        "The EPT pointer must have a memory type in bits 0 to 2 that IA32_VMX_EPT_VPID_CAP allows: 0, uncacheable, or 6, write-back.",
        &[PRIMARY_CONTROLS, SECONDARY_CONTROLS, EPT_POINTER],
        |view| {
            !secondary(view, EPT)
                || match view.get(EPT_POINTER) & 7 {
                    0 => view.limits.ept & capability::EPT_UNCACHED != 0,
                    6 => view.limits.ept & capability::EPT_WRITE_BACK != 0,
                    _ => false,
                }
        },
        &[&[set(EPT_POINTER, 7)]],
    ),
    rule(
        "ept-levels",
        "The EPT pointer must have the number of levels less 1 in bits 3 to 5, as IA32_VMX_EPT_VPID_CAP allows it: 3, or 4.",
        &[PRIMARY_CONTROLS, SECONDARY_CONTROLS, EPT_POINTER],
        |view| {
            !secondary(view, EPT)
                || match view.get(EPT_POINTER) >> 3 & 7 {
                    3 => view.limits.ept & capability::EPT_WALK_OF_4 != 0,
                    4 => view.limits.ept & capability::EPT_WALK_OF_5 != 0,
                    _ => false,
                }
        },
        &[&[clear(EPT_POINTER, bit(3))]],
    ),
    rule(
        "ept-marks",
        "The EPT pointer must not have bit 6 if IA32_VMX_EPT_VPID_CAP does not offer accessed and dirty flags.",
        &[PRIMARY_CONTROLS, SECONDARY_CONTROLS, EPT_POINTER],
        |view| {
            !secondary(view, EPT)
                || !view.has(EPT_POINTER, EPT_MARKS)
                || view.limits.ept & capability::EPT_ACCESSED_DIRTY != 0
        },
        &[&[flip(EPT_POINTER, |limits| {
            if limits.ept & capability::EPT_ACCESSED_DIRTY == 0 { EPT_MARKS } else { 0 }
        })]],
    ),
    rule(
        "ept-reserved",
        "The EPT pointer must have bits 8 to 11 clear, bit 7 too without shadow stacks for supervisors, and every bit that the physical-address width does not reach.",
        &[PRIMARY_CONTROLS, SECONDARY_CONTROLS, EPT_POINTER],
        |view| {
            let shadow_stacks = if view.limits.ept & capability::EPT_SHADOW_STACKS == 0 {
                EPT_SHADOW_STACKS
            } else {
                0
            };
            let reserved = EPT_RESERVED | shadow_stacks | view.limits.beyond_physical();
            !secondary(view, EPT) || !view.has(EPT_POINTER, reserved)
        },
        &[&[set(EPT_POINTER, bit(8))], &[too_far(EPT_POINTER)]],
    ),
    rule(
        "unrestricted-without-ept",
        "Without EPT a guest must not be unrestricted.",
        &[PRIMARY_CONTROLS, SECONDARY_CONTROLS],
        |view| !is_unrestricted(view) || secondary(view, EPT),
        &[&[clear(SECONDARY_CONTROLS, EPT)]],
    ),
    rule(
        "page-modification-log",
        "The page-modification log, if there is one, must begin at a page that the physical-address width reaches, and needs EPT.",
        &[PRIMARY_CONTROLS, SECONDARY_CONTROLS, PML_ADDRESS],
        |view| {
            !secondary(view, PAGE_LOG)
                || secondary(view, EPT) && is_address(view, PML_ADDRESS, 4096)
        },
        &[&[
            flip(SECONDARY_CONTROLS, |limits| lets_secondary(limits, PAGE_LOG)),
            to(PML_ADDRESS, 1),
        ]],
    ),
    rule(
        "tsc-multiplier",
        "The multiplier of the time-stamp counter must not be 0 if it is used.",
        &[PRIMARY_CONTROLS, SECONDARY_CONTROLS, TSC_MULTIPLIER],
        |view| !secondary(view, SCALE_TSC) || view.get(TSC_MULTIPLIER) != 0,
        &[&[
            flip(SECONDARY_CONTROLS, |limits| lets_secondary(limits, SCALE_TSC)),
            to(TSC_MULTIPLIER, 0),
        ]],
    ),
];

pub const EXIT_AND_ENTRY: &[VmxRule] = &[
    at("26.2.1.2", rule(
        "exit-must",
        "The exit controls must set every bit that the lower half of IA32_VMX_EXIT_CTLS has.",
        &[EXIT_CONTROLS],
        |view| fits(view, EXIT_CONTROLS, must(view.limits.controls.exit), u64::MAX),
        &[&[flip(EXIT_CONTROLS, |limits| lowest(must(limits.controls.exit)))]],
    )),
    at("26.2.1.2", rule(
        "exit-may",
        "The exit controls must clear every bit that the upper half of IA32_VMX_EXIT_CTLS lacks.",
        &[EXIT_CONTROLS],
        |view| fits(view, EXIT_CONTROLS, 0, may(view.limits.controls.exit)),
        &[&[flip(EXIT_CONTROLS, |limits| forbidden(limits.controls.exit))]],
    )),
    at("26.2.1.2", rule(
        "save-timer",
        "Without the VMX-preemption timer an exit must not save its value.",
        &[PIN_CONTROLS, EXIT_CONTROLS],
        |view| view.has(PIN_CONTROLS, PIN_TIMER) || !view.has(EXIT_CONTROLS, EXIT_SAVE_TIMER),
        &[&[clear(PIN_CONTROLS, PIN_TIMER)]],
    )),
    at("26.2.1.2", rule(
        "exit-msr-store",
        "The list of registers that an exit stores, if it is not empty, must begin at a multiple of 16 and end where the physical-address width reaches.",
        &[EXIT_STORE_COUNT, EXIT_STORE],
        |view| is_list(view, EXIT_STORE_COUNT, EXIT_STORE),
        &[&[to(EXIT_STORE_COUNT, 1), to(EXIT_STORE, 8)]],
    )),
    at("26.2.1.2", rule(
        "exit-msr-load",
        "The list of registers that an exit loads, if it is not empty, must begin at a multiple of 16 and end where the physical-address width reaches.",
        &[EXIT_LOAD_COUNT, EXIT_LOAD],
        |view| is_list(view, EXIT_LOAD_COUNT, EXIT_LOAD),
        &[&[to(EXIT_LOAD_COUNT, 1), to(EXIT_LOAD, 8)]],
    )),
    at("26.2.1.3", rule(
        "entry-must",
        "The entry controls must set every bit that the lower half of IA32_VMX_ENTRY_CTLS has.",
        &[ENTRY_CONTROLS],
        |view| fits(view, ENTRY_CONTROLS, must(view.limits.controls.entry), u64::MAX),
        &[&[flip(ENTRY_CONTROLS, |limits| lowest(must(limits.controls.entry)))]],
    )),
    at("26.2.1.3", rule(
        "entry-may",
        "The entry controls must clear every bit that the upper half of IA32_VMX_ENTRY_CTLS lacks.",
        &[ENTRY_CONTROLS],
        |view| fits(view, ENTRY_CONTROLS, 0, may(view.limits.controls.entry)),
        &[&[flip(ENTRY_CONTROLS, |limits| forbidden(limits.controls.entry))]],
    )),
    at("26.2.1.3", rule(
        "entry-msr-load",
        "The list of registers that the entry loads, if it is not empty, must begin at a multiple of 16 and end where the physical-address width reaches.",
        &[ENTRY_LOAD_COUNT, ENTRY_LOAD],
        |view| is_list(view, ENTRY_LOAD_COUNT, ENTRY_LOAD),
        &[&[to(ENTRY_LOAD_COUNT, 1), to(ENTRY_LOAD, 8)]],
    )),
    at("26.2.1.3", rule(
        "entry-smm",
        "Outside system-management mode an entry must neither go there nor end the dual-monitor treatment.",
        &[ENTRY_CONTROLS],
        |view| !view.has(ENTRY_CONTROLS, ENTRY_TO_SMM | ENTRY_LEAVES_DUAL_MONITOR),
        &[&[flip(ENTRY_CONTROLS, |limits| allowed(limits.controls.entry, ENTRY_LEAVES_DUAL_MONITOR))]],
    )),
];
