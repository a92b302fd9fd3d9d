//! The page tables that a guest starts with: its whole memory, one to one, in 2 MiB pages.
//!
//! They lie in the guest's own RAM (AMD APM volume 2, section 5.3; Intel SDM volume 3, section
//! 4.5) and are the guest's to replace.

use alloc::vec::Vec;

use super::layout::LARGE_PAGE_BYTES;
use crate::mem::PAGE_BYTES;

const PRESENT_WRITABLE: u64 = 0b11;
const LARGE: u64 = 1 << 7;
const ENTRIES: u64 = 512;
const DIRECTORY_SPAN: u64 = ENTRIES * LARGE_PAGE_BYTES;

/// Tables to be written at `base`, which is where the root lies.
pub struct FirstTables {
    base: u64,
    directories: u64,
}

impl FirstTables {
    /// Tables at `base` that map everything below `end`; `None` if one pointer table, 512 GiB,
    /// does not reach so far.
    pub const fn new(base: u64, end: u64) -> Option<Self> {
        let directories = end.div_ceil(DIRECTORY_SPAN);
        if directories > ENTRIES {
            return None;
        }
        Some(FirstTables { base, directories })
    }

    /// Bytes that they take.
    pub const fn bytes(&self) -> u64 {
        (2 + self.directories) * PAGE_BYTES
    }

    /// The root, the pointer table and the directories, one after the other.
    pub fn words(&self) -> Vec<u64> {
        let table = |index: u64| (self.base + index * PAGE_BYTES) | PRESENT_WRITABLE;
        let root = padded((0..1).map(|_| table(1)));
        let pointers = padded((0..self.directories).map(|index| table(2 + index)));
        let pages = (0..self.directories * ENTRIES)
            .map(|index| (index * LARGE_PAGE_BYTES) | PRESENT_WRITABLE | LARGE);
        root.chain(pointers).chain(pages).collect()
    }
}

fn padded(entries: impl Iterator<Item = u64>) -> impl Iterator<Item = u64> {
    entries.chain(core::iter::repeat(0)).take(ENTRIES as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Walks the tables as the CPU does.
    fn translate(base: u64, words: &[u64], address: u64) -> Option<u64> {
        let entry = |table: u64, index: u64| {
            let entry = words[((table - base) / 8 + index) as usize];
            (entry & 1 != 0).then_some(entry)
        };
        let pointers = entry(base, address >> 39 & 511)? & !0xFFF;
        let directory = entry(pointers, address >> 30 & 511)? & !0xFFF;
        let page = entry(directory, address >> 21 & 511)?;
        assert_ne!(page & LARGE, 0);
        Some(page & !(LARGE_PAGE_BYTES - 1) | address & (LARGE_PAGE_BYTES - 1))
    }

    #[test]
    fn everything_below_the_end_is_mapped_one_to_one() {
        let (base, end) = (0x40_0000, (2 << 30) + 1);
        let tables = FirstTables::new(base, end).unwrap();
        let words = tables.words();
        assert_eq!(words.len() as u64 * 8, tables.bytes());
        for address in [0, 0x1234_5678, (1 << 30) - 1, 1 << 30, end - 1] {
            assert_eq!(translate(base, &words, address), Some(address));
        }
        assert_eq!(translate(base, &words, 3 << 30), None);
    }

    #[test]
    fn more_than_512_gib_are_refused() {
        assert!(FirstTables::new(0, 512 << 30).is_some());
        assert!(FirstTables::new(0, (512 << 30) + 1).is_none());
    }
}
