//! What holds of the entries of every vendor's nested page tables, as checks for their tests.

use nuncio_abi::Rights;

use super::{Entry, EntryFormat, Level};
use crate::mem::Frame;

const READ_WRITE: Rights = match Rights::from_bits(0b011) {
    Some(rights) => rights,
    None => panic!(),
};
const READ_EXECUTE: Rights = match Rights::from_bits(0b101) {
    Some(rights) => rights,
    None => panic!(),
};
const ALL_RIGHTS: [Rights; 4] = [Rights::READ, READ_WRITE, READ_EXECUTE, Rights::ACCESS];

/// The words that a format must give, by its manual.
pub struct Words {
    /// For a table in frame 123400h.
    pub table: u64,
    /// For a page of 4 KiB there with all rights.
    pub page: u64,
    /// The same, to read and execute.
    pub read_execute: u64,
    /// For 2 MiB there, to read and write.
    pub large_read_write: u64,
    /// For 1 GiB at 1 GiB, to read.
    pub gigabyte_read: u64,
    /// For a page of 4 KiB with all rights in a frame that does not exist.
    pub last_page: u64,
}

/// Checks a format that has all levels; `marks` are the bits that the CPU sets in entries it uses.
pub fn check(format: &dyn EntryFormat, marks: u64, words: &Words) {
    let frame = Frame(0x12_3400);
    let gigabyte = Frame(1 << 18);
    for (entry, expected) in [
        (format.table(frame), words.table),
        (format.leaf(frame, Rights::ACCESS, Level::Kib4), words.page),
        (
            format.leaf(frame, READ_EXECUTE, Level::Kib4),
            words.read_execute,
        ),
        (
            format.leaf(frame, READ_WRITE, Level::Mib2),
            words.large_read_write,
        ),
        (
            format.leaf(gigabyte, Rights::READ, Level::Gib1),
            words.gigabyte_read,
        ),
        // Frame numbers cannot reach the other bits.
        (
            format.leaf(Frame(u64::MAX), Rights::ACCESS, Level::Kib4),
            words.last_page,
        ),
    ] {
        assert_eq!(entry, expected, "{entry:#x} is not {expected:#x}");
    }
    what_is_written_is_read_back(format, marks);
}

fn what_is_written_is_read_back(format: &dyn EntryFormat, marks: u64) {
    for level in [Level::Kib4, Level::Mib2, Level::Gib1] {
        for access in ALL_RIGHTS {
            let frame = Frame(5 << 18);
            let entry = format.leaf(frame, access, level) | marks;
            assert_eq!(format.decode(entry, level), Entry::Leaf { frame, access });
        }
    }
    let table = format.table(Frame(9)) | marks;
    assert_eq!(format.decode(table, Level::Mib2), Entry::Table(Frame(9)));
    assert_eq!(format.decode(0, Level::Mib2), Entry::Absent);
}
