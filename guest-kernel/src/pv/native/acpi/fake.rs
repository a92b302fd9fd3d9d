//! The tables of a PC, in memory of a test.

use crate::boot::physical::fake::Bytes;
use crate::boot::RootPointer;
use std::vec::Vec;

pub const START: u64 = 0xE_0000;
/// Where the parts lie; the tables follow the root table.
pub const POINTER: u64 = START + 0x40;
pub const ROOT: u64 = START + 0x100;
pub const TABLES: [u64; 3] = [START + 0x200, START + 0x400, START + 0x600];

/// Makes the sum of the bytes zero by the one at `place`.
pub fn seal(bytes: &mut [u8], place: usize) {
    bytes[place] = 0;
    let sum = bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    bytes[place] = sum.wrapping_neg();
}

/// A table with a header.
pub fn table(signature: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let mut bytes = signature.to_vec();
    bytes.extend((36 + content.len() as u32).to_le_bytes());
    bytes.resize(36, 0);
    bytes.extend(content);
    seal(&mut bytes, 9);
    bytes
}

/// A MADT with these entries.
pub fn madt(entries: &[&[u8]]) -> Vec<u8> {
    let mut content = 0xFEE0_0000u32.to_le_bytes().to_vec();
    content.extend([1, 0, 0, 0]);
    content.extend(entries.concat());
    table(b"APIC", &content)
}

/// A FADT whose timer is at this port.
pub fn fadt(port: u32, flags: u32) -> Vec<u8> {
    let mut content = std::vec![0; 244 - 36];
    content[76 - 36..80 - 36].copy_from_slice(&port.to_le_bytes());
    content[91 - 36] = 4;
    content[112 - 36..116 - 36].copy_from_slice(&flags.to_le_bytes());
    table(b"FACP", &content)
}

/// The table of an HPET.
pub fn hpet(address: u64) -> Vec<u8> {
    let mut content = std::vec![0; 20];
    content[8..16].copy_from_slice(&address.to_le_bytes());
    table(b"HPET", &content)
}

/// The root pointer of revision 0 or 2.
pub fn pointer(revision: u8) -> RootPointer {
    let mut bytes = [0; 36];
    bytes[..8].copy_from_slice(b"RSD PTR ");
    bytes[15] = revision;
    if revision == 0 {
        bytes[16..20].copy_from_slice(&(ROOT as u32).to_le_bytes());
        seal(&mut bytes[..20], 8);
    } else {
        bytes[20] = 36;
        bytes[24..32].copy_from_slice(&ROOT.to_le_bytes());
        seal(&mut bytes[..20], 8);
        seal(&mut bytes, 32);
    }
    RootPointer(bytes)
}

/// A ROM with a root pointer and these tables.
pub fn machine(revision: u8, tables: &[Vec<u8>]) -> Bytes {
    let mut memory = Bytes::zeros(START, 0x2_0000);
    let addresses = TABLES.iter().take(tables.len());
    let root = match revision {
        0 => table(
            b"RSDT",
            &addresses
                .flat_map(|at| (*at as u32).to_le_bytes())
                .collect::<Vec<_>>(),
        ),
        _ => table(
            b"XSDT",
            &addresses
                .flat_map(|at| at.to_le_bytes())
                .collect::<Vec<_>>(),
        ),
    };
    memory.put(ROOT, &root);
    memory.put(POINTER, &pointer(revision).0);
    for (at, table) in TABLES.iter().zip(tables) {
        memory.put(*at, table);
    }
    memory
}
