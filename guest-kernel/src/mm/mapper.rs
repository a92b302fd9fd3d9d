//! Four-level page tables (Intel SDM 3A, 4.5; AMD APM 2, 5.3) that map addresses where they are.
//!
//! Tables come from a fixed pool. A range is mapped in pages of 2 MiB where it can be; naming a
//! part of it again splits them, so that a later, finer wish wins over an earlier, coarser one.
//!
//! Invariant: the CPU never writes into a table, because accessed and dirty bits are set from the
//! start.
#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicU64, Ordering};

use nuncio_abi::PAGE_BYTES;

use super::table::{
    Access, TablePool, ACCESSED_AND_DIRTY, ADDRESS_MASK, ENTRIES, LARGE, PRESENT, USER, WRITABLE,
};

const LARGE_PAGE_BYTES: u64 = 2 << 20;
/// Half of what four levels can address; the upper half is not an identity map.
const ADDRESS_LIMIT: u64 = 1 << 47;

/// Why a range was not mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapProblem {
    /// It is not made of whole pages in the lower half of the address space.
    Range,
    /// The pool has no table left.
    OutOfTables,
}

/// Fills page tables.
pub struct Mapper<'t> {
    pool: TablePool<'t>,
    used: usize,
}

impl<'t> Mapper<'t> {
    /// A mapper of an address space in which nothing is mapped; its root is the first table.
    pub const fn new(pool: TablePool<'t>) -> Self {
        Mapper { pool, used: 1 }
    }

    /// The address for CR3.
    pub fn root_address(&self) -> u64 {
        self.pool.address
    }

    /// Maps the range where it is.
    ///
    /// # Errors
    /// See [`MapProblem`]; with `OutOfTables` a part of the range may have been mapped.
    pub fn map(&mut self, start: u64, end: u64, access: Access) -> Result<(), MapProblem> {
        let bits = PRESENT | ACCESSED_AND_DIRTY | access.bits();
        self.set(start, end, |page| page | bits)
    }

    /// Takes the range out.
    ///
    /// # Errors
    /// As [`Mapper::map`].
    pub fn unmap(&mut self, start: u64, end: u64) -> Result<(), MapProblem> {
        self.set(start, end, |_| 0)
    }

    /// The address to which a virtual address leads and the bits of its entry, as the CPU finds it.
    pub fn lookup(&self, address: u64) -> Option<(u64, u64)> {
        let mut table = self.pool.table(0)?;
        for shift in [39, 30, 21, 12] {
            let entry = entry(table, address, shift)?.load(Ordering::Relaxed);
            if entry & PRESENT == 0 {
                return None;
            }
            if shift == 12 || entry & LARGE != 0 {
                let inside = address & ((1 << shift) - 1);
                let page = entry & ADDRESS_MASK & !((1 << shift) - 1);
                return Some((page | inside, entry & !ADDRESS_MASK));
            }
            table = self.pool.below(entry)?;
        }
        None
    }

    fn set(&mut self, start: u64, end: u64, leaf: impl Fn(u64) -> u64) -> Result<(), MapProblem> {
        let is_whole = start.is_multiple_of(PAGE_BYTES) && end.is_multiple_of(PAGE_BYTES);
        if !is_whole || start > end || end > ADDRESS_LIMIT {
            return Err(MapProblem::Range);
        }
        let mut page = start;
        while page < end {
            let is_large = page.is_multiple_of(LARGE_PAGE_BYTES) && end - page >= LARGE_PAGE_BYTES;
            page += if is_large && self.set_large(page, &leaf)? {
                LARGE_PAGE_BYTES
            } else {
                self.set_small(page, leaf(page))?;
                PAGE_BYTES
            };
        }
        Ok(())
    }

    /// Sets a large page, unless there is a table already: that is not given up, because the
    /// CPU may have cached its address.
    fn set_large(&mut self, page: u64, leaf: impl Fn(u64) -> u64) -> Result<bool, MapProblem> {
        let table = self.table_for(page, &[39, 30])?;
        let place = entry(table, page, 21).ok_or(MapProblem::Range)?;
        let old = place.load(Ordering::Relaxed);
        if old & PRESENT != 0 && old & LARGE == 0 {
            return Ok(false);
        }
        let new = match leaf(page) {
            0 => 0,
            bits => bits | LARGE,
        };
        place.store(new, Ordering::Relaxed);
        Ok(true)
    }

    fn set_small(&mut self, page: u64, bits: u64) -> Result<(), MapProblem> {
        let table = self.table_for(page, &[39, 30, 21])?;
        let place = entry(table, page, 12).ok_or(MapProblem::Range)?;
        place.store(bits, Ordering::Relaxed);
        Ok(())
    }

    /// Walks down through these levels, adding the tables that are missing.
    fn table_for(
        &mut self,
        page: u64,
        shifts: &[u32],
    ) -> Result<&'t [AtomicU64; ENTRIES], MapProblem> {
        let mut table = self.pool.table(0).ok_or(MapProblem::OutOfTables)?;
        for shift in shifts {
            let place = entry(table, page, *shift).ok_or(MapProblem::Range)?;
            let old = place.load(Ordering::Relaxed);
            if old & PRESENT == 0 || old & LARGE != 0 {
                place.store(self.new_table(old)?, Ordering::Relaxed);
            }
            let entry = place.load(Ordering::Relaxed);
            table = self.pool.below(entry).ok_or(MapProblem::OutOfTables)?;
        }
        Ok(table)
    }

    /// A new table, which maps what the large page in `old` mapped; gives the entry for it.
    fn new_table(&mut self, old: u64) -> Result<u64, MapProblem> {
        let index = self.used;
        let table = self.pool.table(index).ok_or(MapProblem::OutOfTables)?;
        self.used += 1;
        for (number, place) in (0..).zip(table) {
            let small = match old & PRESENT {
                0 => 0,
                _ => (old & !LARGE) + number * PAGE_BYTES,
            };
            place.store(small, Ordering::Relaxed);
        }
        // What may be done is decided by the last level alone.
        let bits = PRESENT | WRITABLE | USER | ACCESSED_AND_DIRTY & !(1 << 6);
        Ok(self.pool.address_of(index) | bits)
    }
}

fn entry(table: &[AtomicU64; ENTRIES], address: u64, shift: u32) -> Option<&AtomicU64> {
    table.get((address >> shift & 511) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mm::table::{Table, NO_EXECUTE, UNCACHED};
    use proptest::prelude::*;
    use std::vec::Vec;

    const POOL: u64 = 0x70_0000;

    fn tables(count: usize) -> Vec<Table> {
        (0..count).map(|_| Table::new()).collect()
    }

    fn access_bits(access: Access) -> u64 {
        access.bits() & (WRITABLE | USER | NO_EXECUTE | UNCACHED)
    }

    fn found(mapper: &Mapper<'_>, address: u64) -> Option<u64> {
        let (leads_to, bits) = mapper.lookup(address)?;
        assert_eq!(leads_to, address, "every address is mapped where it is");
        Some(bits & (WRITABLE | USER | NO_EXECUTE | UNCACHED))
    }

    #[test]
    fn a_finer_wish_splits_a_large_page() {
        let tables = tables(8);
        let mut mapper = Mapper::new(TablePool::new(&tables, POOL));
        mapper.map(0, 0x60_0000, Access::Write).unwrap();
        assert_eq!(mapper.used, 3);
        mapper.map(0x20_1000, 0x20_2000, Access::Execute).unwrap();
        mapper.unmap(0, 0x1000).unwrap();
        assert_eq!(mapper.used, 5);
        assert_eq!(found(&mapper, 0xFFF), None);
        assert_eq!(found(&mapper, 0x1000), Some(access_bits(Access::Write)));
        assert_eq!(
            found(&mapper, 0x20_1FFF),
            Some(access_bits(Access::Execute))
        );
        assert_eq!(found(&mapper, 0x20_2000), Some(access_bits(Access::Write)));
        assert_eq!(found(&mapper, 0x60_0000), None);
    }

    #[test]
    fn a_device_is_neither_cached_nor_executed() {
        let tables = tables(8);
        let mut mapper = Mapper::new(TablePool::new(&tables, POOL));
        // As a part of a large page, and as one.
        mapper.map(0, 0x40_0000, Access::Write).unwrap();
        mapper.map(0x1000, 0x2000, Access::Device).unwrap();
        mapper.map(0x20_0000, 0x40_0000, Access::Device).unwrap();
        for (address, flags) in [(0x1000, 0x18), (0x2000, 0), (0x20_0000, 0x18)] {
            let (_, bits) = mapper.lookup(address).unwrap();
            assert_eq!(bits & 0x18, flags, "PWT and PCD at {address:#x}");
            assert_eq!(bits >> 63, 1);
        }
    }

    #[test]
    fn an_empty_pool_and_bad_ranges_are_told() {
        let tables = tables(3);
        let mut mapper = Mapper::new(TablePool::new(&tables, POOL));
        assert_eq!(
            mapper.map(0x1000, 0x2000, Access::Read),
            Err(MapProblem::OutOfTables)
        );
        assert_eq!(mapper.map(1, 0x1000, Access::Read), Err(MapProblem::Range));
        assert_eq!(
            mapper.map(0x2000, 0x1000, Access::Read),
            Err(MapProblem::Range)
        );
        assert_eq!(mapper.map(0, 1 << 48, Access::Read), Err(MapProblem::Range));
    }

    proptest! {
        /// The tables say of every page what the last wish that named it said.
        #[test]
        fn the_last_wish_counts(
            wishes in proptest::collection::vec((0u64..1600, 0u64..1600, 0usize..7), 1..12)
        ) {
            let kinds = [Access::Read, Access::Write, Access::Execute, Access::UserExecute, Access::UserWrite, Access::Device];
            let tables = tables(12);
            let mut mapper = Mapper::new(TablePool::new(&tables, POOL));
            let mut model = std::vec![None; 1600];
            for (first, second, kind) in wishes {
                let (start, end) = (first.min(second), first.max(second));
                let access = kinds.get(kind).copied();
                match access {
                    Some(access) => mapper.map(start * PAGE_BYTES, end * PAGE_BYTES, access),
                    None => mapper.unmap(start * PAGE_BYTES, end * PAGE_BYTES),
                }.unwrap();
                model[start as usize..end as usize].fill(access.map(access_bits));
            }
            for (page, expected) in model.iter().enumerate() {
                prop_assert_eq!(found(&mapper, page as u64 * PAGE_BYTES + 8), *expected);
            }
        }
    }
}
