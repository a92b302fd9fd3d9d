//! What values the system registers of a state page may have, one row a register.

#![forbid(unsafe_code)]

use nuncio_abi::{StateGroups, StateWord};

use crate::vt::entry_rules::{is_canonical, is_page_attribute_table};
use crate::vt::{start_state, ControlRegisters, RegisterLimits, SystemRegister};

const CR0_PROTECTION: u64 = 1 << 0;
const CR0_NOT_WRITE_THROUGH: u64 = 1 << 29;
const CR0_CACHE_DISABLE: u64 = 1 << 30;
const CR0_PAGING: u64 = 1 << 31;
/// PE, MP, EM, TS, ET, NE, WP, AM, NW, CD, PG.
const CR0_BITS: u64 = 0xE005_003F;
/// ET, which no CPU lets anybody clear.
pub const CR0_EXTENSION_TYPE: u64 = 1 << 4;
const CR4_ADDRESS_EXTENSION: u64 = 1 << 5;
const EFER_LONG_ENABLE: u64 = 1 << 8;
const EFER_LONG_ACTIVE: u64 = 1 << 10;
/// All that guests have (`policy/msr.rs`) is on at the start.
pub const EFER_BITS: u64 = start_state::EFER;
/// Bits that every RFLAGS has clear, and VM: no guest is entered in virtual-8086 mode.
const RFLAGS_CLEAR: u64 = !0x3F_FFFF | 1 << 17 | 1 << 15 | 1 << 5 | 1 << 3;
const RFLAGS_SET: u64 = 1 << 1;
const MOST_TASK_PRIORITY: u64 = 15;
const MOST_TABLE_LIMIT: u64 = 0xFFFF;

/// A system register in the page.
pub struct Row {
    /// Where.
    pub word: StateWord,
    /// Which.
    pub register: SystemRegister,
    /// Whether a guest may have this value, as far as the value itself says.
    pub allows: fn(u64, &RegisterLimits) -> bool,
}

const fn row(
    word: StateWord,
    register: SystemRegister,
    allows: fn(u64, &RegisterLimits) -> bool,
) -> Row {
    Row {
        word,
        register,
        allows,
    }
}

const fn anything(_: u64, _: &RegisterLimits) -> bool {
    true
}

const fn is_address(value: u64, limits: &RegisterLimits) -> bool {
    is_canonical(value, limits.linear_bits)
}

const fn is_half(value: u64, _: &RegisterLimits) -> bool {
    value >> 32 == 0
}

const fn is_table_limit(value: u64, _: &RegisterLimits) -> bool {
    value <= MOST_TABLE_LIMIT
}

const fn are_flags(value: u64, _: &RegisterLimits) -> bool {
    value & RFLAGS_CLEAR == 0 && value & RFLAGS_SET != 0
}

fn is_cr0(value: u64, _: &RegisterLimits) -> bool {
    let has = |bits| value & bits != 0;
    value & !CR0_BITS == 0
        && (!has(CR0_PAGING) || has(CR0_PROTECTION))
        && (!has(CR0_NOT_WRITE_THROUGH) || has(CR0_CACHE_DISABLE))
}

/// The system registers of each group.
pub const ROWS: [(StateGroups, &[Row]); 4] = [
    (
        StateGroups::INSTRUCTION,
        &[
            row(StateWord::Rip, SystemRegister::Rip, anything),
            row(StateWord::Rflags, SystemRegister::Rflags, are_flags),
        ],
    ),
    (
        StateGroups::CONTROL,
        &[
            row(StateWord::Cr0, SystemRegister::Cr0, is_cr0),
            row(StateWord::Cr2, SystemRegister::Cr2, anything),
            row(StateWord::Cr3, SystemRegister::Cr3, anything),
            row(StateWord::Cr4, SystemRegister::Cr4, |value, limits| {
                value & !limits.cr4 == 0
            }),
            row(StateWord::Efer, SystemRegister::Efer, |value, _| {
                value & !EFER_BITS == 0
            }),
            row(
                StateWord::Pat,
                SystemRegister::PageAttributes,
                |value, _| is_page_attribute_table(value),
            ),
            row(StateWord::Cr8, SystemRegister::Cr8, |value, _| {
                value <= MOST_TASK_PRIORITY
            }),
        ],
    ),
    (
        StateGroups::SEGMENTS,
        &[
            row(StateWord::GdtrBase, SystemRegister::GdtrBase, anything),
            row(
                StateWord::GdtrLimit,
                SystemRegister::GdtrLimit,
                is_table_limit,
            ),
            row(StateWord::IdtrBase, SystemRegister::IdtrBase, anything),
            row(
                StateWord::IdtrLimit,
                SystemRegister::IdtrLimit,
                is_table_limit,
            ),
        ],
    ),
    (
        StateGroups::SYSTEM,
        &[
            row(StateWord::Star, SystemRegister::Star, anything),
            row(StateWord::Lstar, SystemRegister::Lstar, is_address),
            row(StateWord::Cstar, SystemRegister::Cstar, is_address),
            row(StateWord::Fmask, SystemRegister::Fmask, is_half),
            row(
                StateWord::KernelGsBase,
                SystemRegister::KernelGsBase,
                is_address,
            ),
            row(StateWord::SysenterCs, SystemRegister::SysenterCs, is_half),
            row(
                StateWord::SysenterEsp,
                SystemRegister::SysenterEsp,
                is_address,
            ),
            row(
                StateWord::SysenterEip,
                SystemRegister::SysenterEip,
                is_address,
            ),
        ],
    ),
];

/// The longest group of [`ROWS`].
pub const MOST_ROWS: usize = 8;

/// Whether translations are cached under the register's value.
pub const fn is_cached(register: SystemRegister) -> bool {
    matches!(
        register,
        SystemRegister::Cr0
            | SystemRegister::Cr3
            | SystemRegister::Cr4
            | SystemRegister::Efer
            | SystemRegister::PageAttributes
    )
}

/// Whether the CPU holds page-directory pointers: PAE paging outside long mode.
pub const fn has_directory_pointers(control: &ControlRegisters) -> bool {
    control.cr0 & CR0_PAGING != 0
        && control.cr4 & CR4_ADDRESS_EXTENSION != 0
        && control.efer & EFER_LONG_ENABLE == 0
}

/// Whether LMA is as LME and PG say.
pub const fn is_mode(control: &ControlRegisters) -> bool {
    let is_long = control.efer & EFER_LONG_ENABLE != 0 && control.cr0 & CR0_PAGING != 0;
    is_long == (control.efer & EFER_LONG_ACTIVE != 0)
}
