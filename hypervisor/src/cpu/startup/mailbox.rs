//! Where a CPU finds what it needs before it has a stack, and the page in which it begins.

// UNSAFETY: writes code for other CPUs into a page below 1 MiB.
#![allow(unsafe_code)]

use core::mem::offset_of;
use core::sync::atomic::{AtomicU32, Ordering};

use crate::mem::{HostPhysical, PAGE_BYTES};

/// Nobody is expected, or who is has come.
pub const NO_OFFER: u32 = 0;

/// Read by `entry.S` on a CPU that starts: a stack is offered to one CPU at a time, which takes it by
/// changing the number of the offer, read before all else, to 0. No number comes twice. So a CPU that was
/// given up and comes late, even in the midst of reading, finds another number than it expects, and halts.
#[derive(Debug)]
#[repr(C)]
pub struct Mailbox {
    offer: AtomicU32,
    apic_id: AtomicU32,
    stack_top: AtomicU32,
}

/// Offsets for `entry.S`.
pub const OFFER_OFFSET: usize = offset_of!(Mailbox, offer);
/// See [`OFFER_OFFSET`].
pub const APIC_ID_OFFSET: usize = offset_of!(Mailbox, apic_id);
/// See [`OFFER_OFFSET`].
pub const STACK_OFFSET: usize = offset_of!(Mailbox, stack_top);

/// The one mailbox.
pub static MAILBOX: Mailbox = Mailbox::new();

impl Mailbox {
    const fn new() -> Self {
        Mailbox {
            offer: AtomicU32::new(NO_OFFER),
            apic_id: AtomicU32::new(0),
            stack_top: AtomicU32::new(0),
        }
    }

    /// Offers a stack to a CPU; `number` is not 0 and has not been used. The stack lies below 4 GiB, like
    /// all of the heap (`boot/handover.rs`).
    pub(super) fn open(&self, number: u32, apic_id: u32, stack_top: u64) {
        self.close();
        self.apic_id.store(apic_id, Ordering::Relaxed);
        self.stack_top.store(stack_top as u32, Ordering::Relaxed);
        self.offer.store(number, Ordering::Release);
    }

    /// Takes the offer back. Who has taken the stack keeps it.
    pub(super) fn close(&self) {
        self.offer.store(NO_OFFER, Ordering::SeqCst);
    }
}

/// The page in which other CPUs begin, in real mode.
#[derive(Debug)]
pub(super) struct Trampoline(HostPhysical);

impl Trampoline {
    /// Puts the code into the page, which is nobody's, mapped one to one when a CPU is started, and below
    /// 1 MiB: a start-up interrupt names it by 8 bits. `None` if it is not a page for that.
    pub(super) fn new(page: HostPhysical, code: &[u8]) -> Option<Self> {
        if !is_fit(page, code.len()) {
            return None;
        }
        // SAFETY: the page is RAM below 1 MiB that no Rust object lies in, since the heap and the image
        // lie above (`boot/handover.rs`); both the page tables of entry.S and those that the hypervisor
        // builds map it writable at its address.
        unsafe {
            core::ptr::copy_nonoverlapping(code.as_ptr(), page.0 as *mut u8, code.len());
        }
        Some(Trampoline(page))
    }

    /// What a start-up interrupt says.
    pub(super) fn page_number(&self) -> u8 {
        (self.0 .0 / PAGE_BYTES) as u8
    }
}

/// Page 0 is left unmapped; from 0xA0000 on there is no RAM, and vectors 0xA0 to 0xBF are reserved (Intel
/// SDM vol. 3, 8.4.4.1).
fn is_fit(page: HostPhysical, code_bytes: usize) -> bool {
    let is_low = (PAGE_BYTES..0xA_0000).contains(&page.0);
    is_low && page.0.is_multiple_of(PAGE_BYTES) && code_bytes as u64 <= PAGE_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_up_interrupt_can_name_the_page() {
        for (page, fits) in [
            (0, false),
            (0x1000, true),
            (0x1800, false),
            (0x9_F000, true),
            (0xA_0000, false),
            (0x10_0000, false),
        ] {
            assert_eq!(is_fit(HostPhysical(page), 64), fits, "{page:#x}");
        }
        assert!(!is_fit(HostPhysical(0x1000), 4097));
        assert_eq!(Trampoline(HostPhysical(0x9_E000)).page_number(), 0x9E);
    }

    #[test]
    fn an_offer_is_taken_once_and_not_after_it_has_gone() {
        let mailbox = Mailbox::new();
        // What entry.S does last.
        let take = |number| {
            let order = Ordering::SeqCst;
            let taken = mailbox
                .offer
                .compare_exchange(number, NO_OFFER, order, order);
            taken.is_ok()
        };
        assert!(!take(1));
        mailbox.open(1, 7, 0x123_4000);
        assert!(take(1) && !take(1));
        mailbox.open(2, 8, 0x223_4000);
        mailbox.close();
        assert!(!take(2));
        mailbox.open(3, 9, 0x323_4000);
        assert!(!take(2), "who was to have the second stack comes late");
    }
}
