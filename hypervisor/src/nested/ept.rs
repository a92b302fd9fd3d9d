//! Intel's extended page tables (Intel SDM vol 3, 28.2.2).

use nuncio_abi::Rights;

use super::{Entry, EntryFormat, Level};
use crate::mem::{Frame, HostPhysical};

const READ: u64 = 1 << 0;
const WRITE: u64 = 1 << 1;
const EXECUTE: u64 = 1 << 2;
const ALL_ACCESS: u64 = READ | WRITE | EXECUTE;
/// Write-back, left to the guest's own tables to weaken (28.2.7.2).
const WRITE_BACK: u64 = 6 << 3;
/// In a directory: the entry maps memory. In the last table the bit is ignored.
const LARGE: u64 = 1 << 7;
const ADDRESS: u64 = 0x000F_FFFF_FFFF_F000;

/// The format of VT-x's nested paging.
pub struct Ept {
    /// The highest level at which the CPU maps memory (IA32_VMX_EPT_VPID_CAP bits 16 and 17).
    pub largest_leaf: Level,
}

/// For CPUs with 4 KiB pages alone.
pub static EPT_4K: Ept = Ept {
    largest_leaf: Level::Kib4,
};

/// For CPUs with 2 MiB pages.
pub static EPT_2M: Ept = Ept {
    largest_leaf: Level::Mib2,
};

/// For CPUs with 1 GiB pages.
pub static EPT_1G: Ept = Ept {
    largest_leaf: Level::Gib1,
};

impl EntryFormat for Ept {
    fn table(&self, next: Frame) -> u64 {
        next.start().0 & ADDRESS | ALL_ACCESS
    }

    fn leaf(&self, frame: Frame, access: Rights, level: Level) -> u64 {
        let mut entry = frame.start().0 & ADDRESS | WRITE_BACK | READ;
        if level != Level::Kib4 {
            entry |= LARGE;
        }
        if access.contains(Rights::WRITE) {
            entry |= WRITE;
        }
        if access.contains(Rights::EXECUTE) {
            entry |= EXECUTE;
        }
        entry
    }

    #[inline]
    fn decode(&self, entry: u64, level: Level) -> Entry {
        let frame = HostPhysical(entry & ADDRESS).frame();
        if entry & ALL_ACCESS == 0 {
            Entry::Absent
        } else if level != Level::Kib4 && entry & LARGE == 0 {
            Entry::Table(frame)
        } else {
            let access = access_of(entry);
            Entry::Leaf { frame, access }
        }
    }

    fn largest_leaf(&self) -> Level {
        self.largest_leaf
    }
}

fn access_of(entry: u64) -> Rights {
    let mut access = Rights::READ;
    if entry & WRITE != 0 {
        access = access | Rights::WRITE;
    }
    if entry & EXECUTE != 0 {
        access = access | Rights::EXECUTE;
    }
    access
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nested::entry_cases::{check, Words};

    #[test]
    fn entries_have_the_bits_of_the_manual() {
        let accessed_and_dirty = 0b11 << 8;
        let words = Words {
            table: 0x1_2340_0007,
            page: 0x1_2340_0037,
            read_execute: 0x1_2340_0035,
            large_read_write: 0x1_2340_00B3,
            gigabyte_read: 0x4000_00B1,
            last_page: 0x000F_FFFF_FFFF_F037,
        };
        check(&EPT_1G, accessed_and_dirty, &words);
    }

    #[test]
    fn large_pages_are_used_only_where_the_cpu_has_them() {
        assert_eq!(EPT_4K.largest_leaf(), Level::Kib4);
        assert_eq!(EPT_2M.largest_leaf(), Level::Mib2);
        assert_eq!(EPT_1G.largest_leaf(), Level::Gib1);
    }
}
