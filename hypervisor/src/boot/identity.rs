//! The first 4 GiB as `entry.S` maps them, readable for the parsers of boot information.

// UNSAFETY: boot information lies at addresses that the boot loader chose.
#![allow(unsafe_code)]

use super::PhysicalBytes;

/// Reads the memory that `entry.S` maps.
pub struct IdentityBytes(());

impl IdentityBytes {
    const LIMIT: u64 = 1 << 32;

    /// Gives access to the first 4 GiB.
    ///
    /// # Safety
    ///
    /// The page tables of `entry.S` are in use for as long as the value lives, and nobody writes
    /// to memory that is read through it.
    pub unsafe fn new() -> Self {
        IdentityBytes(())
    }
}

impl PhysicalBytes for IdentityBytes {
    fn read(&self, address: u64, into: &mut [u8]) -> Option<()> {
        let end = address.checked_add(into.len() as u64)?;
        if address == 0 || end > Self::LIMIT {
            return None;
        }
        for (source, byte) in (address..end).zip(into) {
            let pointer = source as *const u8;
            // SAFETY: the address is not null and below 4 GiB, where every address is mapped
            // (`new`). It may be a device's or nobody's; a volatile read of those gives some
            // number. Nobody writes to it meanwhile (`new`).
            *byte = unsafe { pointer.read_volatile() };
        }
        Some(())
    }
}
