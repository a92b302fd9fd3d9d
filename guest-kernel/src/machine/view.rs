//! Memory outside our image: windows that a peer shares, and boot modules.
// UNSAFETY: copies to and from addresses that are no Rust objects.
#![allow(unsafe_code)]

use core::arch::asm;
use core::slice;
use core::sync::atomic::AtomicU64;

use nuncio_abi::{Module, PAGE_BYTES};

use crate::hv::SharedView;

/// A window onto shared memory.
pub struct WindowView {
    start: u64,
    bytes: u64,
    is_writable: bool,
}

impl WindowView {
    /// A window that has just been mapped with that access, and stays mapped.
    pub(super) const fn new(start: u64, bytes: u64, is_writable: bool) -> Self {
        WindowView {
            start,
            bytes,
            is_writable,
        }
    }

    /// A page of the window as words, if it is writable.
    pub fn words(&self, page: u64) -> Option<&[AtomicU64; 512]> {
        let offset = page.checked_mul(PAGE_BYTES)?;
        let start = self.address(offset, PAGE_BYTES as usize)?;
        // SAFETY: the page lies in the mapped window, which is page-aligned and writable. Whoever else
        // writes to it writes bytes or words, and here they are atomics.
        self.is_writable
            .then(|| unsafe { &*(start as *const [AtomicU64; 512]) })
    }

    fn address(&self, offset: u64, length: usize) -> Option<u64> {
        let end = offset.checked_add(length as u64)?;
        (end <= self.bytes).then_some(self.start + offset)
    }
}

impl SharedView for WindowView {
    fn length(&self) -> u64 {
        self.bytes
    }

    fn read(&self, offset: u64, bytes: &mut [u8]) -> bool {
        let Some(source) = self.address(offset, bytes.len()) else {
            return false;
        };
        // SAFETY: the source lies in the mapped window, the target is ours; they cannot overlap.
        unsafe { copy(source, bytes.as_mut_ptr().addr() as u64, bytes.len()) };
        true
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> bool {
        let Some(target) = self.address(offset, bytes.len()) else {
            return false;
        };
        if !self.is_writable {
            return false;
        }
        // SAFETY: the target lies in the mapped window, which is writable; the source is ours.
        unsafe { copy(bytes.as_ptr().addr() as u64, target, bytes.len()) };
        true
    }
}

/// The bytes of a module that has been checked to lie in mapped memory.
pub(super) fn module_bytes(module: &Module) -> &'static [u8] {
    // SAFETY: modules are read-only for every guest, so the bytes never change.
    unsafe { slice::from_raw_parts(module.address as *const u8, module.length as usize) }
}

/// Copies bytes by the CPU, so that another writer to them is a race of bytes and no more.
///
/// # Safety
/// Both ranges are mapped as needed, and if one of them holds Rust objects, the caller has them.
unsafe fn copy(source: u64, target: u64, length: usize) {
    // SAFETY: as promised by the caller; the direction flag is clear in all Rust code.
    unsafe {
        asm!(
            "rep movsq",
            "mov rcx, {rest}",
            "rep movsb",
            rest = in(reg) length % 8,
            inout("rcx") length / 8 => _,
            inout("rsi") source => _,
            inout("rdi") target => _,
            options(nostack, preserves_flags),
        );
    }
}
