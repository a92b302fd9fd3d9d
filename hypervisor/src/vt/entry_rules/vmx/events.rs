//! Checks on the event that the entry injects (Intel SDM vol. 3, 26.2.1.3).

use super::super::{Class, Field, Sample};
use super::{bit, controls, flip, to, Change, Limits, View, VmxRule};
use crate::vt::fields::vmx::*;

/// VM-entry interruption information (24.8.3).
const VALID: u64 = bit(31);
const HAS_CODE: u64 = bit(11);
const RESERVED: u64 = 0x7FFF_F000;

pub(super) const EXTERNAL: u64 = 0;
pub(super) const NMI: u64 = 2;
pub(super) const EXCEPTION: u64 = 3;
const SOFTWARE_INTERRUPT: u64 = 4;
const SOFTWARE_EXCEPTION: u64 = 6;
const OTHER: u64 = 7;

/// IA32_VMX_BASIC: error codes go with any exception.
const ANY_CODE: u64 = bit(56);
/// IA32_VMX_MISC: software events may have length 0.
const LENGTH_0: u64 = bit(30);
/// Primary control: the monitor trap flag, which an event of type 7 stands for.
const PRIMARY_TRAP_FLAG: u32 = 27;
const CR0_PROTECTION: u64 = bit(0);

/// The type and the vector of the event, if there is one.
pub(super) fn event(view: &View<'_>) -> Option<(u64, u64)> {
    let event = view.get(ENTRY_EVENT);
    (event & VALID != 0).then_some((event >> 8 & 7, event & 0xFF))
}

/// An event in the field; what it has beside type and vector.
pub(super) const fn inject(kind: u64, vector: u64, more: u64) -> Change {
    to(ENTRY_EVENT, VALID | kind << 8 | vector | more)
}

/// An interrupt table with limit, so that an event that the CPU delivers after all needs memory and
/// exits, and is no triple fault.
pub(super) const TABLE: Change = to(IDTR_LIMIT, 0xFFF);

const GENERAL_PROTECTION: u64 = 13;

/// Vectors that push an error code: #DF, #TS, #NP, #SS, #GP, #PF, #AC.
const fn pushes_code(vector: u64) -> bool {
    matches!(vector, 8 | 10..=14 | 17)
}

const fn rule(
    name: &'static str,
    sentence: &'static str,
    fields: &'static [Field],
    holds: fn(&View<'_>) -> bool,
    broken_by: &'static [Sample<Limits>],
) -> VmxRule {
    VmxRule {
        name,
        class: Class::Controls,
        section: "26.2.1.3",
        sentence,
        fields,
        holds,
        broken_by,
    }
}

pub const RULES: &[VmxRule] = &[
    rule(
        "event-type",
        "An injected event must have a type other than 1, and 7 only where there is a monitor trap flag.",
        &[ENTRY_EVENT],
        |view| match event(view) {
            Some((1, _)) => false,
            Some((OTHER, _)) => view.limits.controls.primary >> 32 & bit(PRIMARY_TRAP_FLAG) != 0,
            _ => true,
        },
        &[&[TABLE, inject(1, 0x20, 0)]],
    ),
    rule(
        "event-vector",
        "An injected NMI must have vector 2, an exception a vector up to 31, an event of type 7 vector 0.",
        &[ENTRY_EVENT],
        |view| match event(view) {
            Some((NMI, vector)) => vector == 2,
            Some((EXCEPTION, vector)) => vector <= 31,
            Some((OTHER, vector)) => vector == 0,
            _ => true,
        },
        &[
            &[TABLE, inject(NMI, 3, 0)],
            &[TABLE, inject(EXCEPTION, 32, 0)],
        ],
    ),
    rule(
        "event-has-code",
        "An injected event must bring an error code if it is an exception that pushes one and the guest is in protected mode, and only then.",
        &[ENTRY_EVENT, CR0, PRIMARY_CONTROLS, SECONDARY_CONTROLS],
        |view| {
            let Some((kind, vector)) = event(view) else { return true };
            let is_protected =
                !controls::is_unrestricted(view) || view.has(CR0, CR0_PROTECTION);
            let expected = kind == EXCEPTION && pushes_code(vector) && is_protected;
            // A CPU with that bit takes any protected-mode exception with or without a code.
            let is_free = view.limits.basic & ANY_CODE != 0 && kind == EXCEPTION && is_protected;
            is_free || view.has(ENTRY_EVENT, HAS_CODE) == expected
        },
        &[
            &[TABLE, inject(EXTERNAL, 0x20, HAS_CODE), to(RFLAGS, 0x202)],
            &[TABLE, inject(NMI, 2, HAS_CODE)],
            &[
                TABLE,
                flip(ENTRY_EVENT, |limits| match limits.basic & ANY_CODE {
                    0 => VALID | EXCEPTION << 8 | GENERAL_PROTECTION,
                    _ => 0,
                }),
            ],
        ],
    ),
    rule(
        "event-reserved",
        "An injected event must have bits 12 to 30 clear.",
        &[ENTRY_EVENT],
        |view| event(view).is_none() || !view.has(ENTRY_EVENT, RESERVED),
        &[&[TABLE, inject(EXCEPTION, 6, bit(12))], &[TABLE, inject(EXCEPTION, 6, bit(30))]],
    ),
    rule(
        "event-code",
        "The error code of an injected event must have bits 16 to 31 clear.",
        &[ENTRY_EVENT, ENTRY_ERROR_CODE],
        |view| {
            event(view).is_none()
                || !view.has(ENTRY_EVENT, HAS_CODE)
                || !view.has(ENTRY_ERROR_CODE, 0xFFFF_0000)
        },
        &[&[TABLE, inject(EXCEPTION, 13, HAS_CODE), to(ENTRY_ERROR_CODE, bit(16))]],
    ),
    rule(
        "event-length",
        "An injected software interrupt or exception must have an instruction length of 1 to 15, or 0 where IA32_VMX_MISC bit 30 allows it.",
        &[ENTRY_EVENT, ENTRY_INSTRUCTION_LENGTH],
        |view| match event(view) {
            Some((SOFTWARE_INTERRUPT..=SOFTWARE_EXCEPTION, _)) => {
                let least = u64::from(view.limits.misc & LENGTH_0 == 0);
                (least..=15).contains(&view.get(ENTRY_INSTRUCTION_LENGTH))
            }
            _ => true,
        },
        &[&[TABLE, inject(SOFTWARE_INTERRUPT, 0x20, 0), to(ENTRY_INSTRUCTION_LENGTH, 16)]],
    ),
];
