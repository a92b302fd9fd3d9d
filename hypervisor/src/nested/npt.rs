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

    const RW: Rights = match Rights::from_bits(0b011) {
        Some(rights) => rights,
        None => panic!(),
    };
    const RX: Rights = match Rights::from_bits(0b101) {
        Some(rights) => rights,
        None => panic!(),
    };

    #[test]
    fn entries_have_the_bits_of_the_manual() {
        let frame = Frame(0x12_3400);
        let cases = [
            (NPT.table(frame), 0x1_2340_0007),
            (NPT.leaf(frame, Rights::ACCESS, Level::Kib4), 0x1_2340_0007),
            (NPT.leaf(frame, RX, Level::Kib4), 0x1_2340_0005),
            (NPT.leaf(frame, RW, Level::Mib2), 1 << 63 | 0x1_2340_0087),
            (
                NPT_1G.leaf(Frame(1 << 18), Rights::READ, Level::Gib1),
                1 << 63 | 0x4000_0085,
            ),
        ];
        for (entry, expected) in cases {
            assert_eq!(entry, expected, "{entry:#x} is not {expected:#x}");
        }
    }

    #[test]
    fn what_is_written_is_read_back_whatever_the_cpu_marked() {
        let accessed_and_dirty = 0b11 << 5;
        for level in [Level::Kib4, Level::Mib2, Level::Gib1] {
            for access in [Rights::READ, RW, RX, Rights::ACCESS] {
                let frame = Frame(5 << 18);
                let entry = NPT_1G.leaf(frame, access, level) | accessed_and_dirty;
                assert_eq!(NPT_1G.decode(entry, level), Entry::Leaf { frame, access });
            }
        }
        let table = NPT.table(Frame(9)) | accessed_and_dirty;
        assert_eq!(NPT.decode(table, Level::Mib2), Entry::Table(Frame(9)));
        assert_eq!(NPT.decode(0, Level::Mib2), Entry::Absent);
    }

    #[test]
    fn frame_numbers_cannot_reach_the_other_bits() {
        let entry = NPT.leaf(Frame(u64::MAX), Rights::ACCESS, Level::Kib4);
        assert_eq!(entry, 0x000F_FFFF_FFFF_F007);
    }

    #[test]
    fn gigabyte_pages_are_used_only_where_the_cpu_has_them() {
        assert_eq!(NPT.largest_leaf(), Level::Mib2);
        assert_eq!(NPT_1G.largest_leaf(), Level::Gib1);
    }
}
