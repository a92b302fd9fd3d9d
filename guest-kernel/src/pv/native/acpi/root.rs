//! From the root pointer to tables by their names.

use super::AcpiProblem;
use crate::boot::physical::{PhysicalBytes, Record};
use crate::boot::RootPointer;

/// Where the root pointer may be, on a boundary of 16 bytes (5.2.5.1): in the BIOS's ROM, and in the first KiB of the
/// extended BIOS data area, whose segment stands at 0x40E.
const ROM: (u64, u64) = (0xE_0000, 0x10_0000);
const AREA_SEGMENT: u64 = 0x40E;
const AREA_BYTES: u64 = 1024;
const POINTER_STEP: usize = 16;

const HEADER_BYTES: u64 = 36;
/// Far more than any of the tables that are read.
const MOST_TABLE_BYTES: u64 = 1 << 20;

/// A table whose checksum is right.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table {
    pub(super) address: u64,
    pub(super) bytes: u64,
}

/// The table of tables.
pub(super) struct Root {
    table: Table,
    /// Bytes in each of its addresses.
    entry_bytes: u64,
}

/// Whether it says so itself and its checksums are right.
pub(super) fn is_sound(pointer: &RootPointer) -> bool {
    let (old, _) = pointer.0.split_at(RootPointer::OLD_BYTES);
    let is_new = is_new(pointer);
    pointer.0.starts_with(b"RSD PTR ") && sum(old) == 0 && (!is_new || sum(&pointer.0) == 0)
}

fn is_new(pointer: &RootPointer) -> bool {
    Record(pointer.0).u8(15) >= 2
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

/// Looks where the firmware may have left a root pointer.
pub(super) fn search(memory: &impl PhysicalBytes) -> Option<RootPointer> {
    let segment = memory.record::<2>(AREA_SEGMENT);
    let area = segment.map(|segment| u64::from(segment.u16(0)) << 4);
    let area = area.filter(|area| *area != 0);
    let area = area.map(|start| (start, start + AREA_BYTES));
    let mut places = area.into_iter().chain([ROM]);
    places.find_map(|(start, end)| {
        let mut addresses = (start..end).step_by(POINTER_STEP);
        addresses.find_map(|at| RootPointer::read(memory, at).filter(is_sound))
    })
}

/// The table that a root pointer leads to: the one with addresses of 64 bits if there is one.
pub(super) fn table(
    memory: &impl PhysicalBytes,
    pointer: &RootPointer,
) -> Result<Root, AcpiProblem> {
    let record = Record(pointer.0);
    let new = Some(record.u64(24)).filter(|address| is_new(pointer) && *address != 0);
    let (address, signature, entry_bytes) = match new {
        Some(address) => (address, b"XSDT", 8),
        None => (u64::from(record.u32(16)), b"RSDT", 4),
    };
    let table = Table::at(memory, address, signature);
    let table = table.ok_or(AcpiProblem::DamagedRoot(address))?;
    Ok(Root { table, entry_bytes })
}

impl Root {
    /// The first sound table of that name.
    pub(super) fn find(&self, memory: &impl PhysicalBytes, signature: &[u8; 4]) -> Option<Table> {
        let count = self.table.bytes.saturating_sub(HEADER_BYTES) / self.entry_bytes;
        (0..count).find_map(|number| {
            let at = self.table.address + HEADER_BYTES + number * self.entry_bytes;
            let address = match self.entry_bytes {
                8 => memory.record::<8>(at)?.u64(0),
                _ => u64::from(memory.record::<4>(at)?.u32(0)),
            };
            Table::at(memory, address, signature)
        })
    }
}

impl Table {
    /// The table at that address, if it has that name and its checksum is right.
    fn at(memory: &impl PhysicalBytes, address: u64, signature: &[u8; 4]) -> Option<Table> {
        let header = memory.record::<8>(address)?;
        let bytes = u64::from(header.u32(4));
        let is_long_enough = (HEADER_BYTES..=MOST_TABLE_BYTES).contains(&bytes);
        if header.bytes::<4>(0) != *signature || !is_long_enough {
            return None;
        }
        let end = address.checked_add(bytes)?;
        let mut sum = 0u8;
        for at in address..end {
            sum = sum.wrapping_add(memory.record::<1>(at)?.u8(0));
        }
        (sum == 0).then_some(Table { address, bytes })
    }

    /// The record at that distance from the table's start, if the table has all of it.
    pub(super) fn record<const BYTES: usize>(
        &self,
        memory: &impl PhysicalBytes,
        offset: u64,
    ) -> Option<Record<BYTES>> {
        let end = offset.checked_add(BYTES as u64)?;
        let address = self.address.checked_add(offset)?;
        (end <= self.bytes).then(|| memory.record(address))?
    }
}
