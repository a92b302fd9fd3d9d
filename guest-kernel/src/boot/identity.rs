//! Physical memory where the tables of the entry map it: the first 4 GiB, each address where it is.
// UNSAFETY: reads addresses that a loader names.
#![allow(unsafe_code)]

use core::ptr;

use super::physical::PhysicalBytes;

/// What the entry maps.
const MAPPED_END: u64 = 4 << 30;

/// The first 4 GiB, until the kernel loads tables of its own. Nothing is at address 0.
pub struct IdentityMap(());

impl IdentityMap {
    /// The memory that the entry has mapped.
    ///
    /// # Safety
    /// The tables of `entry.S` are loaded as long as this is used.
    pub const unsafe fn new() -> Self {
        IdentityMap(())
    }
}

impl PhysicalBytes for IdentityMap {
    fn read(&self, address: u64, bytes: &mut [u8]) -> bool {
        let end = address.checked_add(bytes.len() as u64);
        if address == 0 || end.is_none_or(|end| end > MAPPED_END) {
            return false;
        }
        for (place, at) in bytes.iter_mut().zip(address..) {
            // SAFETY: it is mapped, as promised to `new`; volatile, because whatever lies there is not Rust's.
            *place = unsafe { ptr::with_exposed_provenance::<u8>(at as usize).read_volatile() };
        }
        true
    }
}
