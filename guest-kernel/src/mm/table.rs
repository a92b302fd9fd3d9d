//! Page tables and the bits of their entries (Intel SDM 3A, 4.5; AMD APM 2, 5.3).
#![forbid(unsafe_code)]

use core::sync::atomic::AtomicU64;

use nuncio_abi::PAGE_BYTES;

pub(super) const ENTRIES: usize = 512;

pub(super) const PRESENT: u64 = 1 << 0;
pub(super) const WRITABLE: u64 = 1 << 1;
pub(super) const USER: u64 = 1 << 2;
/// Write-through and no cache at all: with what the page attribute table holds at a reset, these two make
/// memory uncacheable (Intel SDM 3A, 11.12.4; AMD APM 2, 7.8.2).
pub(super) const UNCACHED: u64 = 1 << 3 | 1 << 4;
pub(super) const ACCESSED_AND_DIRTY: u64 = 1 << 5 | 1 << 6;
pub(super) const LARGE: u64 = 1 << 7;
pub(super) const NO_EXECUTE: u64 = 1 << 63;
pub(super) const ADDRESS_MASK: u64 = 0x000F_FFFF_FFFF_F000;

/// A page table of any level.
#[repr(C, align(4096))]
pub struct Table([AtomicU64; ENTRIES]);

impl Default for Table {
    fn default() -> Self {
        Table::new()
    }
}

impl Table {
    /// A table that maps nothing.
    pub const fn new() -> Self {
        Table([const { AtomicU64::new(0) }; ENTRIES])
    }
}

/// The tables that a [`Mapper`] may use, and the address of the first one.
#[derive(Clone, Copy)]
pub struct TablePool<'t> {
    tables: &'t [Table],
    pub(super) address: u64,
}

impl<'t> TablePool<'t> {
    /// A pool of consecutive tables, of which the first lies at that guest-physical address.
    pub const fn new(tables: &'t [Table], address: u64) -> Self {
        TablePool { tables, address }
    }

    pub(super) fn table(self, index: usize) -> Option<&'t [AtomicU64; ENTRIES]> {
        self.tables.get(index).map(|table| &table.0)
    }

    pub(super) fn address_of(self, index: usize) -> u64 {
        self.address + index as u64 * PAGE_BYTES
    }

    /// The table that an entry points to.
    pub(super) fn below(self, entry: u64) -> Option<&'t [AtomicU64; ENTRIES]> {
        let offset = (entry & ADDRESS_MASK).checked_sub(self.address)?;
        self.table((offset / PAGE_BYTES) as usize)
    }
}

/// What may be done with a page. Every mapped page can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading only.
    Read,
    /// Reading and writing.
    Write,
    /// Reading and executing.
    Execute,
    /// Reading and writing the registers of a device.
    Device,
    /// Reading and executing, at CPL 3 too.
    UserExecute,
    /// Reading and writing, at CPL 3 too.
    UserWrite,
}

impl Access {
    pub(super) const fn bits(self) -> u64 {
        match self {
            Access::Read => NO_EXECUTE,
            Access::Write => WRITABLE | NO_EXECUTE,
            Access::Device => WRITABLE | NO_EXECUTE | UNCACHED,
            Access::Execute => 0,
            Access::UserExecute => USER,
            Access::UserWrite => USER | WRITABLE | NO_EXECUTE,
        }
    }
}
