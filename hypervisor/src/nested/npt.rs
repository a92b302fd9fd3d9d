//! AMD's nested page tables (AMD APM vol 2 §15.25): ordinary long-mode tables (§5.3).

use nuncio_abi::Rights;

use super::{Entry, EntryFormat, Level};
use crate::mem::{Frame, HostPhysical};

const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
/// The nested walk counts as a user access (§15.25), so entries without this bit deny all.
const USER: u64 = 1 << 2;
/// In a directory: the entry maps memory. In the last table the same bit belongs to the PAT index.
const LARGE: u64 = 1 << 7;
/// Reserved unless the host runs with EFER.NXE, which it must set before it enters a guest.
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000F_FFFF_FFFF_F000;

/// The format of SVM's nested paging. PAT index 0, write-back, is left to the guest to weaken.
pub struct Npt {
    /// Whether the CPU has 1 GiB pages (CPUID 8000_0001h EDX bit 26).
    pub gigabyte_pages: bool,
}

/// For CPUs without 1 GiB pages.
pub static NPT: Npt = Npt {
    gigabyte_pages: false,
};

/// For CPUs with 1 GiB pages.
pub static NPT_1G: Npt = Npt {
    gigabyte_pages: true,
};

impl EntryFormat for Npt {
    fn table(&self, next: Frame) -> u64 {
        address_bits(next) | PRESENT | WRITABLE | USER
    }

    fn leaf(&self, frame: Frame, access: Rights, level: Level) -> u64 {
        let mut entry = address_bits(frame) | PRESENT | USER;
        if level != Level::Kib4 {
            entry |= LARGE;
        }
        if access.contains(Rights::WRITE) {
            entry |= WRITABLE;
        }
        if !access.contains(Rights::EXECUTE) {
            entry |= NO_EXECUTE;
        }
        entry
    }

    #[inline]
    fn decode(&self, entry: u64, level: Level) -> Entry {
        let frame = HostPhysical(entry & ADDRESS).frame();
        if entry & PRESENT == 0 {
            Entry::Absent
        } else if level != Level::Kib4 && entry & LARGE == 0 {
            Entry::Table(frame)
        } else {
            let access = access_of(entry);
            Entry::Leaf { frame, access }
        }
    }

    fn largest_leaf(&self) -> Level {
        if self.gigabyte_pages {
            Level::Gib1
        } else {
            Level::Mib2
        }
    }
}

const fn address_bits(frame: Frame) -> u64 {
    frame.start().0 & ADDRESS
}

fn access_of(entry: u64) -> Rights {
    let mut access = Rights::READ;
    if entry & WRITABLE != 0 {
        access = access | Rights::WRITE;
    }
    if entry & NO_EXECUTE == 0 {
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
        let accessed_and_dirty = 0b11 << 5;
        let words = Words {
            table: 0x1_2340_0007,
            page: 0x1_2340_0007,
            read_execute: 0x1_2340_0005,
            large_read_write: 1 << 63 | 0x1_2340_0087,
            gigabyte_read: 1 << 63 | 0x4000_0085,
            last_page: 0x000F_FFFF_FFFF_F007,
        };
        check(&NPT_1G, accessed_and_dirty, &words);
    }

    #[test]
    fn gigabyte_pages_are_used_only_where_the_cpu_has_them() {
        assert_eq!(NPT.largest_leaf(), Level::Mib2);
        assert_eq!(NPT_1G.largest_leaf(), Level::Gib1);
    }
}
