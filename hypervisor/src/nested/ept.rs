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
            (EPT_2M.table(frame), 0x1_2340_0007),
            (
                EPT_2M.leaf(frame, Rights::ACCESS, Level::Kib4),
                0x1_2340_0037,
            ),
            (EPT_2M.leaf(frame, RX, Level::Kib4), 0x1_2340_0035),
            (EPT_2M.leaf(frame, RW, Level::Mib2), 0x1_2340_00B3),
            (
                EPT_1G.leaf(Frame(1 << 18), Rights::READ, Level::Gib1),
                0x4000_00B1,
            ),
        ];
        for (entry, expected) in cases {
            assert_eq!(entry, expected, "{entry:#x} is not {expected:#x}");
        }
    }

    #[test]
    fn what_is_written_is_read_back_whatever_the_cpu_marked() {
        let accessed_and_dirty = 0b11 << 8;
        for level in [Level::Kib4, Level::Mib2, Level::Gib1] {
            for access in [Rights::READ, RW, RX, Rights::ACCESS] {
                let frame = Frame(5 << 18);
                let entry = EPT_1G.leaf(frame, access, level) | accessed_and_dirty;
                assert_eq!(EPT_1G.decode(entry, level), Entry::Leaf { frame, access });
            }
        }
        let table = EPT_2M.table(Frame(9)) | accessed_and_dirty;
        assert_eq!(EPT_2M.decode(table, Level::Mib2), Entry::Table(Frame(9)));
        assert_eq!(EPT_2M.decode(0, Level::Mib2), Entry::Absent);
    }

    #[test]
    fn frame_numbers_cannot_reach_the_other_bits() {
        let entry = EPT_2M.leaf(Frame(u64::MAX), Rights::ACCESS, Level::Kib4);
        assert_eq!(entry, 0x000F_FFFF_FFFF_F037);
    }
}
