//! Which CPUs and which timer the machine has, from the firmware's ACPI tables (ACPI specification 6.5,
//! section 5.2): root pointer, root table, the table of interrupt controllers (MADT), and the one of fixed
//! hardware (FADT).
//!
//! Invariant: nothing in the tables is trusted. A bad length, checksum or pointer ends in an
//! [`AcpiError`], and the machine is used with one CPU and without this timer.

#![forbid(unsafe_code)]

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use super::PhysicalBytes;
use crate::cpu::PmTimer;

mod fixed_hardware;

/// The segment of the extended BIOS data area stands here (5.2.5.1).
const EBDA_SEGMENT: u64 = 0x40E;
const EBDA_BYTES: u64 = 1024;
const BIOS_START: u64 = 0xE_0000;
const BIOS_END: u64 = 0x10_0000;
const ROOT_POINTER_STEP: usize = 16;
const ROOT_POINTER_SIGNATURE: &[u8] = b"RSD PTR ";
/// The root pointer of ACPI 1.0, and what later versions have.
const OLD_ROOT_POINTER_BYTES: usize = 20;
const ROOT_POINTER_BYTES: usize = 36;
const HEADER_BYTES: usize = 36;
/// 8 bytes a CPU or 16, and some more: far more than any machine has.
const MAX_TABLE_BYTES: usize = 64 * 1024;

/// Where the entries of the MADT begin.
const MADT_ENTRIES: usize = 44;
const LOCAL_APIC: u8 = 0;
const LOCAL_X2APIC: u8 = 9;
/// Flag of an entry: the CPU is there and may be used.
const ENABLED: u32 = 1;
/// The identifiers of all CPUs at once, which are nobody's.
const XAPIC_BROADCAST: u8 = 0xFF;
const X2APIC_BROADCAST: u32 = u32::MAX;

/// Why the tables do not say what is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcpiError {
    /// There is no root pointer.
    NoRootPointer,
    /// There is no table of that name.
    NoTable(&'static str),
    /// A table is not what its length and its checksum say.
    Damaged(&'static str),
}

impl fmt::Display for AcpiError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AcpiError::NoRootPointer => formatter.write_str("the firmware has no ACPI tables"),
            AcpiError::NoTable(name) => {
                write!(formatter, "the firmware's ACPI tables have no {name}")
            }
            AcpiError::Damaged(name) => {
                write!(formatter, "the firmware's ACPI table {name} is damaged")
            }
        }
    }
}

/// The local APICs of the CPUs that can be used, in the firmware's order, each once. `root_pointer` is
/// where the boot loader has it; without that it is searched for as on a PC with a BIOS.
///
/// # Errors
/// There are no tables, or they are damaged.
pub fn processors(
    root_pointer: Option<u64>,
    memory: &impl PhysicalBytes,
) -> Result<Vec<u32>, AcpiError> {
    let madt = root(root_pointer, memory)?.named(b"APIC", "MADT", memory)?;
    entries(&madt).ok_or(AcpiError::Damaged("MADT"))
}

/// The power-management timer, if the machine has one. The root pointer is as for [`processors`].
///
/// # Errors
/// There are no tables, or they are damaged.
pub fn pm_timer(
    root_pointer: Option<u64>,
    memory: &impl PhysicalBytes,
) -> Result<Option<PmTimer>, AcpiError> {
    let fadt = root(root_pointer, memory)?.named(b"FACP", "FADT", memory)?;
    Ok(fixed_hardware::pm_timer(&fadt))
}

fn root(root_pointer: Option<u64>, memory: &impl PhysicalBytes) -> Result<RootTables, AcpiError> {
    root_pointer
        .and_then(|address| root_tables(address, memory))
        .or_else(|| search(memory))
        .ok_or(AcpiError::NoRootPointer)
}

/// Addresses of the two root tables; 0 if there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RootTables {
    /// With addresses of 32 bits.
    rsdt: u64,
    /// With addresses of 64 bits.
    xsdt: u64,
}

/// What a root pointer says, if there is a sound one.
fn root_tables(address: u64, memory: &impl PhysicalBytes) -> Option<RootTables> {
    let mut old = [0; OLD_ROOT_POINTER_BYTES];
    memory.read(address, &mut old)?;
    if !old.starts_with(ROOT_POINTER_SIGNATURE) || !adds_up(&old) {
        return None;
    }
    let rsdt = u64::from(u32_at(&old, 16)?);
    let revision = *old.get(15)?;
    let xsdt = if revision >= 2 {
        extended_root_table(address, memory).unwrap_or(0)
    } else {
        0
    };
    Some(RootTables { rsdt, xsdt })
}

fn extended_root_table(address: u64, memory: &impl PhysicalBytes) -> Option<u64> {
    let mut whole = [0; ROOT_POINTER_BYTES];
    memory.read(address, &mut whole)?;
    if u32_at(&whole, 20)? as usize != ROOT_POINTER_BYTES || !adds_up(&whole) {
        return None;
    }
    u64_at(&whole, 24)
}

/// Looks where a BIOS leaves its root pointer (5.2.5.1).
fn search(memory: &impl PhysicalBytes) -> Option<RootTables> {
    let mut segment = [0; 2];
    let ebda = memory
        .read(EBDA_SEGMENT, &mut segment)
        .map(|()| u64::from(u16::from_le_bytes(segment)) << 4)
        .filter(|start| *start != 0);
    let ebda = ebda.unwrap_or(0)..ebda.map_or(0, |start| start.saturating_add(EBDA_BYTES));
    ebda.step_by(ROOT_POINTER_STEP)
        .chain((BIOS_START..BIOS_END).step_by(ROOT_POINTER_STEP))
        .find_map(|address| root_tables(address, memory))
}

impl RootTables {
    /// The table with that signature, which errors call by its `name`.
    fn named(
        &self,
        signature: &[u8; 4],
        name: &'static str,
        memory: &impl PhysicalBytes,
    ) -> Result<Vec<u8>, AcpiError> {
        let xsdt = table(self.xsdt, b"XSDT", memory).map(|xsdt| addresses(&xsdt, u64_at, 8));
        let rsdt =
            || table(self.rsdt, b"RSDT", memory).map(|rsdt| addresses(&rsdt, u32_address, 4));
        let listed = xsdt
            .or_else(rsdt)
            .ok_or(AcpiError::Damaged("RSDT or XSDT"))?;
        let mut named = listed
            .into_iter()
            .filter(|address| has_signature(*address, signature, memory));
        let address = named.next().ok_or(AcpiError::NoTable(name))?;
        table(address, signature, memory).ok_or(AcpiError::Damaged(name))
    }
}

fn has_signature(address: u64, signature: &[u8; 4], memory: &impl PhysicalBytes) -> bool {
    let mut found = [0; 4];
    memory.read(address, &mut found).is_some() && found == *signature
}

/// The bytes of a table, if it is whole.
fn table(address: u64, signature: &[u8; 4], memory: &impl PhysicalBytes) -> Option<Vec<u8>> {
    if address == 0 || !has_signature(address, signature, memory) {
        return None;
    }
    let mut header = [0; HEADER_BYTES];
    memory.read(address, &mut header)?;
    let length = u32_at(&header, 4)? as usize;
    if !(HEADER_BYTES..=MAX_TABLE_BYTES).contains(&length) {
        return None;
    }
    let mut bytes = vec![0; length];
    memory.read(address, &mut bytes)?;
    adds_up(&bytes).then_some(bytes)
}

/// The addresses in a root table, each of `size` bytes.
fn addresses(table: &[u8], read: fn(&[u8], usize) -> Option<u64>, size: usize) -> Vec<u64> {
    let offsets = (HEADER_BYTES..table.len()).step_by(size);
    offsets.map_while(|offset| read(table, offset)).collect()
}

/// The APIC identifiers of enabled CPUs (5.2.12.2 and 5.2.12.12); `None` if an entry has a length that it
/// cannot have.
fn entries(madt: &[u8]) -> Option<Vec<u32>> {
    let mut found = Vec::new();
    let mut rest = madt.get(MADT_ENTRIES..)?;
    while let [kind, length, ..] = *rest {
        let entry = rest
            .get(..usize::from(length))
            .filter(|entry| entry.len() >= 2)?;
        let identifier = match kind {
            LOCAL_APIC => {
                let identifier = *entry.get(3)?;
                enabled(entry, 4)?
                    .then_some(u32::from(identifier))
                    .filter(|_| identifier != XAPIC_BROADCAST)
            }
            LOCAL_X2APIC => {
                let identifier = u32_at(entry, 4)?;
                enabled(entry, 8)?
                    .then_some(identifier)
                    .filter(|identifier| *identifier != X2APIC_BROADCAST)
            }
            _ => None,
        };
        found.extend(identifier);
        rest = rest.get(entry.len()..)?;
    }
    Some(without_repetitions(found))
}

fn enabled(entry: &[u8], offset: usize) -> Option<bool> {
    Some(u32_at(entry, offset)? & ENABLED != 0)
}

/// Each number once, where it comes first. There are up to some thousand.
fn without_repetitions(numbers: Vec<u32>) -> Vec<u32> {
    let mut seen = alloc::collections::BTreeSet::new();
    numbers
        .into_iter()
        .filter(|number| seen.insert(*number))
        .collect()
}

/// The checksum of every structure: its bytes add up to 0.
fn adds_up(bytes: &[u8]) -> bool {
    bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)) == 0
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    let bytes = bytes.get(offset..offset.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

fn u32_address(bytes: &[u8], offset: usize) -> Option<u64> {
    u32_at(bytes, offset).map(u64::from)
}

fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    let bytes = bytes.get(offset..offset.checked_add(8)?)?;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests;
