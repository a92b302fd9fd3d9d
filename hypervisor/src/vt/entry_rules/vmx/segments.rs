//! Checks on the guest's segments and descriptor tables (Intel SDM vol. 3, 26.3.1.2 and 26.3.1.3),
//! as far as they hold for unrestricted guests outside virtual-8086 mode.

use super::super::{Class, Field, Sample};
use super::host::NOT_CANONICAL;
use super::{bit, clear, is_canonical, is_long, set, to, Change, Limits, View, VmxRule};
use crate::vt::fields::vmx::*;

/// Access rights (24.4.1).
const TYPE: u64 = 0xF;
const ACCESSED: u64 = bit(0);
const READABLE: u64 = bit(1);
const IS_CODE: u64 = bit(3);
const NO_SYSTEM: u64 = bit(4);
const PRESENT: u64 = bit(7);
const LONG: u64 = bit(13);
const DEFAULT_BIG: u64 = bit(14);
const GRANULAR: u64 = bit(15);
const UNUSABLE: u64 = bit(16);
const RESERVED: u64 = 0xFFFE_0F00;
const LEVEL: u64 = 3 << 5;

const CR0_PROTECTION: u64 = bit(0);
const SELECTOR_LOCAL: u64 = bit(2);

/// Read and write, accessed: a code segment of real mode.
const DATA_TYPE: u64 = 3;
const LOCAL_TABLE_TYPE: u64 = 2;
const BUSY_16: u64 = 3;
const BUSY_32: u64 = 11;
/// A local descriptor table that can be used.
const LOCAL_TABLE: u64 = PRESENT | LOCAL_TABLE_TYPE;

struct Segment {
    base: Field,
    limit: Field,
    access: Field,
}

const fn segment(base: Field, limit: Field, access: Field) -> Segment {
    Segment {
        base,
        limit,
        access,
    }
}

const CS: Segment = segment(CS_BASE, CS_LIMIT, CS_ACCESS);
const TR: Segment = segment(TR_BASE, TR_LIMIT, TR_ACCESS);
const LDTR: Segment = segment(LDTR_BASE, LDTR_LIMIT, LDTR_ACCESS);
/// SS, then the others that hold data.
const SS: Segment = segment(SS_BASE, SS_LIMIT, SS_ACCESS);
const DATA: [Segment; 4] = [
    segment(DS_BASE, DS_LIMIT, DS_ACCESS),
    segment(ES_BASE, ES_LIMIT, ES_ACCESS),
    segment(FS_BASE, FS_LIMIT, FS_ACCESS),
    segment(GS_BASE, GS_LIMIT, GS_ACCESS),
];

const ALL_ACCESS: &[Field] = &[
    CS_ACCESS, SS_ACCESS, DS_ACCESS, ES_ACCESS, FS_ACCESS, GS_ACCESS,
];
const ALL_LIMITS: &[Field] = &[
    CS_ACCESS, SS_ACCESS, DS_ACCESS, ES_ACCESS, FS_ACCESS, GS_ACCESS, CS_LIMIT, SS_LIMIT, DS_LIMIT,
    ES_LIMIT, FS_LIMIT, GS_LIMIT,
];

fn is_usable(view: &View<'_>, access: Field) -> bool {
    !view.has(access, UNUSABLE)
}

/// Whether it holds for CS and for each of the others that is usable.
fn all(view: &View<'_>, holds: fn(&View<'_>, &Segment) -> bool) -> bool {
    let mut others = DATA.iter().chain([&SS]);
    holds(view, &CS) && others.all(|it| !is_usable(view, it.access) || holds(view, it))
}

fn kind(view: &View<'_>, access: Field) -> u64 {
    view.get(access) & TYPE
}

fn level(view: &View<'_>, access: Field) -> u64 {
    view.get(access) & LEVEL
}

/// A limit whose lower bits are not all 1 counts bytes, one with any upper bit counts pages.
fn is_limit(view: &View<'_>, it: &Segment) -> bool {
    let limit = view.get(it.limit);
    let is_granular = view.has(it.access, GRANULAR);
    (limit & 0xFFF == 0xFFF || !is_granular) && (limit & 0xFFF0_0000 == 0 || is_granular)
}

/// Whether CS, SS, DS and ES have bases below 4 GiB.
fn are_bases_low(view: &View<'_>) -> bool {
    let [ds, es, ..] = &DATA;
    let mut others = [&SS, ds, es].into_iter();
    let is_low = |it: &Segment| view.get(it.base) >> 32 == 0;
    is_low(&CS) && others.all(|it| !is_usable(view, it.access) || is_low(it))
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
        class: Class::Guest,
        section: "26.3.1.2",
        sentence,
        fields,
        holds,
        broken_by,
    }
}

const fn table(
    name: &'static str,
    sentence: &'static str,
    fields: &'static [Field],
    holds: fn(&View<'_>) -> bool,
    broken_by: &'static [Sample<Limits>],
) -> VmxRule {
    VmxRule {
        section: "26.3.1.3",
        ..rule(name, sentence, fields, holds, broken_by)
    }
}

/// A task-state segment of that type.
const fn task(kind: u64) -> Change {
    to(TR_ACCESS, PRESENT | kind)
}

pub const RULES: &[VmxRule] = &[
    rule(
        "tr-selector",
        "TR's selector must have bit 2 clear: the global table.",
        &[TR_SELECTOR],
        |view| !view.has(TR_SELECTOR, SELECTOR_LOCAL),
        &[&[set(TR_SELECTOR, SELECTOR_LOCAL)]],
    ),
    rule(
        "ldtr-selector",
        "LDTR's selector, if it is usable, must have bit 2 clear: the global table.",
        &[LDTR_ACCESS, LDTR_SELECTOR],
        |view| !is_usable(view, LDTR_ACCESS) || !view.has(LDTR_SELECTOR, SELECTOR_LOCAL),
        &[&[to(LDTR_ACCESS, LOCAL_TABLE), to(LDTR_SELECTOR, SELECTOR_LOCAL)]],
    ),
    rule(
        "bases",
        "The bases of TR, FS, GS and, if it is usable, LDTR must be canonical addresses.",
        &[TR_BASE, FS_BASE, GS_BASE, LDTR_ACCESS, LDTR_BASE],
        |view| {
            [TR_BASE, FS_BASE, GS_BASE].iter().all(|field| is_canonical(view, *field))
                && (!is_usable(view, LDTR_ACCESS) || is_canonical(view, LDTR_BASE))
        },
        &[
            &[to(TR_BASE, NOT_CANONICAL)],
            &[to(FS_BASE, NOT_CANONICAL)],
            &[to(GS_BASE, NOT_CANONICAL)],
            &[to(LDTR_ACCESS, LOCAL_TABLE), to(LDTR_BASE, NOT_CANONICAL)],
        ],
    ),
    rule(
        "low-bases",
        "The bases of CS and, if they are usable, SS, DS and ES must have bits 32 to 63 clear.",
        &[CS_BASE, SS_ACCESS, SS_BASE, DS_ACCESS, DS_BASE, ES_ACCESS, ES_BASE],
        are_bases_low,
        &[
            &[to(CS_BASE, bit(32))],
            &[to(SS_BASE, bit(32))],
            &[to(DS_BASE, bit(32))],
            &[to(ES_BASE, bit(32))],
        ],
    ),
    rule(
        "cs-type",
        "CS must be code that has been accessed (type 9, 11, 13 or 15), or, of unrestricted guests, data (type 3).",
        &[CS_ACCESS],
        |view| matches!(kind(view, CS_ACCESS), 9 | 11 | 13 | 15 | DATA_TYPE),
        &[&[clear(CS_ACCESS, ACCESSED)]],
    ),
    rule(
        "ss-type",
        "SS, if it is usable, must be data that has been written to (type 3 or 7).",
        &[SS_ACCESS],
        |view| !is_usable(view, SS_ACCESS) || matches!(kind(view, SS_ACCESS), 3 | 7),
        &[&[clear(SS_ACCESS, ACCESSED)]],
    ),
    rule(
        "data-types",
        "DS, ES, FS and GS, if they are usable, must have been accessed, and readable if they are code.",
        &[DS_ACCESS, ES_ACCESS, FS_ACCESS, GS_ACCESS],
        |view| {
            DATA.iter().filter(|it| is_usable(view, it.access)).all(|it| {
                let is_readable = !view.has(it.access, IS_CODE) || view.has(it.access, READABLE);
                view.has(it.access, ACCESSED) && is_readable
            })
        },
        &[
            &[clear(DS_ACCESS, ACCESSED)],
            &[clear(GS_ACCESS, ACCESSED)],
            &[to(ES_ACCESS, PRESENT | NO_SYSTEM | IS_CODE | ACCESSED | GRANULAR)],
        ],
    ),
    rule(
        "no-system-segment",
        "CS and, if they are usable, SS, DS, ES, FS and GS must have bit 4 (S): no system segments.",
        ALL_ACCESS,
        |view| all(view, |view, it| view.has(it.access, NO_SYSTEM)),
        &[&[clear(CS_ACCESS, NO_SYSTEM)], &[clear(FS_ACCESS, NO_SYSTEM)]],
    ),
    rule(
        "cs-level",
        "CS must have the privilege level of SS, at most that if it is conforming, and 0 if it is data.",
        &[CS_ACCESS, SS_ACCESS],
        |view| {
            let (code, stack) = (level(view, CS_ACCESS), level(view, SS_ACCESS));
            match kind(view, CS_ACCESS) {
                DATA_TYPE => code == 0,
                9 | 11 => code == stack,
                13 | 15 => code <= stack,
                _ => true,
            }
        },
        &[&[set(CS_ACCESS, LEVEL)]],
    ),
    rule(
        "ss-level",
        "SS must have privilege level 0 if CS is data or the guest is not in protected mode.",
        &[CS_ACCESS, SS_ACCESS, CR0],
        |view| {
            let is_real = kind(view, CS_ACCESS) == DATA_TYPE || !view.has(CR0, CR0_PROTECTION);
            !is_real || level(view, SS_ACCESS) == 0
        },
        &[&[
            to(CS_ACCESS, PRESENT | NO_SYSTEM | DATA_TYPE | GRANULAR),
            set(SS_ACCESS, LEVEL),
        ]],
    ),
    rule(
        "present",
        "CS and, if they are usable, SS, DS, ES, FS and GS must be present.",
        ALL_ACCESS,
        |view| all(view, |view, it| view.has(it.access, PRESENT)),
        &[&[clear(CS_ACCESS, PRESENT)], &[clear(ES_ACCESS, PRESENT)]],
    ),
    rule(
        "access-reserved",
        "The access rights of CS and, if they are usable, SS, DS, ES, FS and GS must have bits 8 to 11 and 17 to 31 clear.",
        ALL_ACCESS,
        |view| all(view, |view, it| !view.has(it.access, RESERVED)),
        &[&[set(CS_ACCESS, bit(8))], &[set(DS_ACCESS, bit(17))], &[set(GS_ACCESS, bit(11))]],
    ),
    rule(
        "cs-long",
        "CS must not have both L and D/B in IA-32e mode.",
        &[ENTRY_CONTROLS, CS_ACCESS],
        |view| !is_long(view) || !view.has(CS_ACCESS, LONG) || !view.has(CS_ACCESS, DEFAULT_BIG),
        &[&[set(CS_ACCESS, DEFAULT_BIG)]],
    ),
    rule(
        "limits",
        "The limit of CS and, if they are usable, SS, DS, ES, FS and GS must go with G: without it no bit above 19, with it all bits below 12.",
        ALL_LIMITS,
        |view| all(view, is_limit),
        &[
            &[clear(CS_ACCESS, GRANULAR)],
            &[to(CS_LIMIT, 0xFFFF_F000)],
            &[to(DS_LIMIT, 0xFFFF_F000)],
            &[clear(FS_ACCESS, GRANULAR)],
        ],
    ),
    rule(
        "tr-type",
        "TR must be a busy task of 32 or 64 bits (type 11), or, outside IA-32e mode, of 16 (type 3).",
        &[ENTRY_CONTROLS, TR_ACCESS],
        |view| match kind(view, TR_ACCESS) {
            BUSY_32 => true,
            BUSY_16 => !is_long(view),
            _ => false,
        },
        &[&[task(9)], &[task(BUSY_16)]],
    ),
    rule(
        "tr-access",
        "TR must be a system segment, present and usable, with bits 8 to 11 and 17 to 31 of its access rights clear.",
        &[TR_ACCESS],
        |view| {
            view.has(TR_ACCESS, PRESENT)
                && !view.has(TR_ACCESS, NO_SYSTEM | UNUSABLE | RESERVED)
        },
        &[
            &[clear(TR_ACCESS, PRESENT)],
            &[set(TR_ACCESS, NO_SYSTEM)],
            &[set(TR_ACCESS, UNUSABLE)],
            &[set(TR_ACCESS, bit(8))],
        ],
    ),
    rule(
        "tr-limit",
        "The limit of TR must go with G: without it no bit above 19, with it all bits below 12.",
        &[TR_ACCESS, TR_LIMIT],
        |view| is_limit(view, &TR),
        &[&[to(TR_LIMIT, 0xFFFF_FFFF)], &[set(TR_ACCESS, GRANULAR), to(TR_LIMIT, 0x67)]],
    ),
    rule(
        "ldtr",
        "LDTR, if it is usable, must be a local descriptor table (type 2), a system segment, present, with bits 8 to 11 and 17 to 31 of its access rights clear.",
        &[LDTR_ACCESS],
        |view| {
            !is_usable(view, LDTR_ACCESS)
                || kind(view, LDTR_ACCESS) == LOCAL_TABLE_TYPE
                    && view.has(LDTR_ACCESS, PRESENT)
                    && !view.has(LDTR_ACCESS, NO_SYSTEM | RESERVED)
        },
        &[
            &[to(LDTR_ACCESS, PRESENT | 3)],
            &[to(LDTR_ACCESS, LOCAL_TABLE | NO_SYSTEM)],
            &[to(LDTR_ACCESS, LOCAL_TABLE_TYPE)],
        ],
    ),
    rule(
        "ldtr-limit",
        "The limit of LDTR, if it is usable, must go with G: without it no bit above 19, with it all bits below 12.",
        &[LDTR_ACCESS, LDTR_LIMIT],
        |view| !is_usable(view, LDTR_ACCESS) || is_limit(view, &LDTR),
        &[&[to(LDTR_ACCESS, LOCAL_TABLE), to(LDTR_LIMIT, bit(20))]],
    ),
    table(
        "table-bases",
        "The bases of GDTR and IDTR must be canonical addresses.",
        &[GDTR_BASE, IDTR_BASE],
        |view| is_canonical(view, GDTR_BASE) && is_canonical(view, IDTR_BASE),
        &[&[to(GDTR_BASE, NOT_CANONICAL)], &[to(IDTR_BASE, NOT_CANONICAL)]],
    ),
    table(
        "table-limits",
        "The limits of GDTR and IDTR must have bits 16 to 31 clear.",
        &[GDTR_LIMIT, IDTR_LIMIT],
        |view| view.get(GDTR_LIMIT) <= 0xFFFF && view.get(IDTR_LIMIT) <= 0xFFFF,
        &[&[to(GDTR_LIMIT, bit(16))], &[to(IDTR_LIMIT, bit(16))]],
    ),
];
