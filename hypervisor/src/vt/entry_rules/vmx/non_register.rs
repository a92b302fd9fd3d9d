//! Checks on what a guest has beside registers (Intel SDM vol. 3, 26.3.1.5).

use super::super::{Class, Field, Sample};
use super::events::{event, inject, EXCEPTION, EXTERNAL, NMI, TABLE};
use super::guest::RFLAGS_INTERRUPT;
use super::{bit, flip, is_address, set, to, too_far, Change, Limits, View, VmxRule};
use crate::vt::fields::vmx::*;

/// Activity states (24.4.2).
const HALTED: u64 = 1;
const SHUT_DOWN: u64 = 2;
const WAITING: u64 = 3;

/// IA32_VMX_MISC: the first of three bits that offer activity states but the active one.
const MISC_ACTIVITIES: u32 = 6;

/// Interruptibility (table 24-3): blocking by STI, by MOV SS, of SMIs.
const BY_STI: u64 = bit(0);
const BY_MOV_SS: u64 = bit(1);
const OF_SMI: u64 = bit(2);
const INTERRUPTIBILITY_RESERVED: u64 = 0xFFFF_FFE0;

/// Pending debug exceptions (table 24-4).
const SINGLE_STEP: u64 = bit(14);
const PENDING_RESERVED: u64 = !(0xF | bit(12) | SINGLE_STEP | bit(16));

const RFLAGS_TRAP: u64 = bit(8);
const DEBUGCTL_BRANCHES: u64 = bit(1);

const LEVEL: u64 = 3 << 5;
/// Exceptions that are injected into a halted guest: #DB, #MC.
const DEBUG: u64 = 1;
const MACHINE_CHECK: u64 = 18;
const INVALID_OPCODE: u64 = 6;
const OTHER: u64 = 7;

const INTERRUPTS_ON: Change = set(RFLAGS, RFLAGS_INTERRUPT);

const fn rule(
    name: &'static str,
    sentence: &'static str,
    fields: &'static [Field],
    holds: fn(&View<'_>) -> bool,
    broken_by: &'static [Sample<Limits>],
) -> VmxRule {
    VmxRule {
        name,
        class: Class::Guest,
        section: "26.3.1.5",
        sentence,
        fields,
        holds,
        broken_by,
    }
}

fn is_blocked(view: &View<'_>) -> bool {
    view.has(INTERRUPTIBILITY, BY_STI | BY_MOV_SS)
}

/// The activity state, if the CPU offers it.
const fn offered(limits: &Limits, state: u64) -> u64 {
    match limits.misc >> (MISC_ACTIVITIES as u64 + state - 1) & 1 {
        0 => 0,
        _ => state,
    }
}

fn takes_event(activity: u64, event: (u64, u64)) -> bool {
    match (activity, event) {
        (HALTED, (EXTERNAL | NMI, _) | (EXCEPTION, DEBUG | MACHINE_CHECK) | (OTHER, 0)) => true,
        (SHUT_DOWN, (NMI, _) | (EXCEPTION, MACHINE_CHECK)) => true,
        (HALTED | SHUT_DOWN | WAITING, _) => false,
        _ => true,
    }
}

pub const RULES: &[VmxRule] = &[
    rule(
        "activity",
        "The activity state must be 0, or up to 3 as IA32_VMX_MISC offers it.",
        &[ACTIVITY],
        |view| match view.get(ACTIVITY) {
            0 => true,
            state @ HALTED..=WAITING => offered(view.limits, state) != 0,
            _ => false,
        },
        &[&[to(ACTIVITY, 4)]],
    ),
    rule(
        "activity-level",
        "A halted guest must have privilege level 0 in SS.",
        &[ACTIVITY, SS_ACCESS],
        |view| view.get(ACTIVITY) != HALTED || !view.has(SS_ACCESS, LEVEL),
        &[&[
            flip(ACTIVITY, |limits| offered(limits, HALTED)),
            set(SS_ACCESS, LEVEL),
            set(CS_ACCESS, LEVEL),
            set(CS_SELECTOR, 3),
        ]],
    ),
    rule(
        "activity-blocking",
        "A guest with interrupts blocked by STI or MOV SS must be active.",
        &[ACTIVITY, INTERRUPTIBILITY],
        |view| view.get(ACTIVITY) == 0 || !is_blocked(view),
        &[&[
            flip(ACTIVITY, |limits| offered(limits, HALTED)),
            to(INTERRUPTIBILITY, BY_STI),
            INTERRUPTS_ON,
        ]],
    ),
    rule(
        "activity-event",
        "A halted guest must be sent nothing but an interrupt, an NMI, #DB, #MC or a trap-flag event, one that is shut down nothing but an NMI or #MC, one that waits for SIPI nothing.",
        &[ACTIVITY, ENTRY_EVENT],
        |view| event(view).is_none_or(|event| takes_event(view.get(ACTIVITY), event)),
        &[
            &[
                flip(ACTIVITY, |limits| offered(limits, SHUT_DOWN)),
                TABLE,
                inject(EXCEPTION, INVALID_OPCODE, 0),
            ],
            &[
                flip(ACTIVITY, |limits| offered(limits, HALTED)),
                TABLE,
                inject(EXCEPTION, INVALID_OPCODE, 0),
            ],
        ],
    ),
    rule(
        "interruptibility",
        "The interruptibility state must have bits 5 to 31 clear.",
        &[INTERRUPTIBILITY],
        |view| !view.has(INTERRUPTIBILITY, INTERRUPTIBILITY_RESERVED),
        &[&[set(INTERRUPTIBILITY, bit(5))], &[set(INTERRUPTIBILITY, bit(31))]],
    ),
    rule(
        "sti-and-mov-ss",
        "Interrupts must not be blocked by both STI and MOV SS.",
        &[INTERRUPTIBILITY],
        |view| view.get(INTERRUPTIBILITY) & (BY_STI | BY_MOV_SS) != BY_STI | BY_MOV_SS,
        &[&[to(INTERRUPTIBILITY, BY_STI | BY_MOV_SS), INTERRUPTS_ON]],
    ),
    rule(
        "sti-without-if",
        "Interrupts must not be blocked by STI while RFLAGS has IF clear.",
        &[INTERRUPTIBILITY, RFLAGS],
        |view| !view.has(INTERRUPTIBILITY, BY_STI) || view.has(RFLAGS, RFLAGS_INTERRUPT),
        &[&[to(INTERRUPTIBILITY, BY_STI)]],
    ),
    rule(
        "interrupt-while-blocked",
        "An external interrupt must not be injected while STI or MOV SS blocks interrupts.",
        &[INTERRUPTIBILITY, ENTRY_EVENT],
        |view| !matches!(event(view), Some((EXTERNAL, _))) || !is_blocked(view),
        &[
            &[TABLE, inject(EXTERNAL, 0x20, 0), INTERRUPTS_ON, to(INTERRUPTIBILITY, BY_STI)],
            &[TABLE, inject(EXTERNAL, 0x20, 0), INTERRUPTS_ON, to(INTERRUPTIBILITY, BY_MOV_SS)],
        ],
    ),
    rule(
        "nmi-while-blocked",
        "An NMI must not be injected while MOV SS blocks interrupts.",
        &[INTERRUPTIBILITY, ENTRY_EVENT],
        |view| {
            !matches!(event(view), Some((NMI, _))) || !view.has(INTERRUPTIBILITY, BY_MOV_SS)
        },
        &[&[TABLE, inject(NMI, 2, 0), to(INTERRUPTIBILITY, BY_MOV_SS)]],
    ),
    rule(
        "smi-blocked",
        "SMIs must not be blocked outside system-management mode.",
        &[INTERRUPTIBILITY],
        |view| !view.has(INTERRUPTIBILITY, OF_SMI),
        &[&[to(INTERRUPTIBILITY, OF_SMI)]],
    ),
    rule(
        "pending-debug",
        "The pending debug exceptions must have no bits but 0 to 3, 12, 14 and 16.",
        &[PENDING_DEBUG],
        |view| !view.has(PENDING_DEBUG, PENDING_RESERVED),
        &[&[set(PENDING_DEBUG, bit(5))], &[set(PENDING_DEBUG, bit(13))], &[set(PENDING_DEBUG, bit(63))]],
    ),
    rule(
        "pending-step",
        "A guest that is halted or blocks interrupts by STI or MOV SS must have a single step pending if RFLAGS has TF and IA32_DEBUGCTL has not BTF, and only then.",
        &[PENDING_DEBUG, INTERRUPTIBILITY, ACTIVITY, RFLAGS, DEBUGCTL],
        |view| {
            let is_stepped =
                view.has(RFLAGS, RFLAGS_TRAP) && !view.has(DEBUGCTL, DEBUGCTL_BRANCHES);
            let matters = is_blocked(view) || view.get(ACTIVITY) == HALTED;
            !matters || view.has(PENDING_DEBUG, SINGLE_STEP) == is_stepped
        },
        &[&[to(INTERRUPTIBILITY, BY_MOV_SS), set(RFLAGS, RFLAGS_TRAP)]],
    ),
    rule(
        "link-pointer",
        "The VMCS link pointer must be all ones, or a page that the physical-address width reaches and that begins with the CPU's revision.",
        &[LINK_POINTER],
        |view| view.get(LINK_POINTER) == u64::MAX || is_address(view, LINK_POINTER, 4096),
        &[&[to(LINK_POINTER, 1)], &[to(LINK_POINTER, 0), too_far(LINK_POINTER)]],
    ),
];
