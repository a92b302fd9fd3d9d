//! Where things lie in a domain's guest-physical memory.
//!
//! RAM begins at 0. Past it, from the next 2 MiB boundary, come the pages of the hypervisor, then
//! the modules, each at an address that is congruent to its frames modulo 2 MiB, so that large
//! pages fit.

use crate::mem::{Frame, GuestPhysical, PAGE_BYTES};

/// A large page, the alignment of everything past the RAM.
pub const LARGE_PAGE_BYTES: u64 = 2 << 20;

/// Addresses of what a domain finds past its RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The boot-info page.
    pub boot_info: GuestPhysical,
    /// The time page.
    pub time_page: GuestPhysical,
    /// The text page.
    pub text_page: GuestPhysical,
    /// The vcpu page of the first vcpu; those of the others follow.
    pub vcpu_page: GuestPhysical,
    /// Everything from here on is free.
    next: u64,
}

impl Layout {
    /// The layout of a domain with so many bytes of RAM.
    pub fn new(ram_bytes: u64) -> Self {
        let base = align_up(ram_bytes);
        let page = |index: u64| GuestPhysical(base.saturating_add(index * PAGE_BYTES));
        Layout {
            boot_info: page(0),
            time_page: page(1),
            text_page: page(2),
            vcpu_page: page(3),
            next: base.saturating_add(LARGE_PAGE_BYTES),
        }
    }

    /// Takes a place for a module of so many bytes that lies in frames from `first` on.
    pub fn place_module(&mut self, first: Frame, bytes: u64) -> GuestPhysical {
        let inside = first.start().0 % LARGE_PAGE_BYTES;
        let address = self.next.saturating_add(inside);
        self.next = align_up(address.saturating_add(bytes.max(1)));
        GuestPhysical(address)
    }

    /// The first address past everything.
    pub const fn end(&self) -> u64 {
        self.next
    }
}

fn align_up(address: u64) -> u64 {
    address
        .checked_next_multiple_of(LARGE_PAGE_BYTES)
        .unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nuncio_abi::MAX_VCPUS;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn places_do_not_overlap_and_allow_large_pages(
            ram_pages in 1u64..100_000,
            modules in proptest::collection::vec((0u64..100_000, 0u64..10_000_000), 0..8),
        ) {
            let mut layout = Layout::new(ram_pages * PAGE_BYTES);
            prop_assert!(layout.boot_info.0 >= ram_pages * PAGE_BYTES);
            let mut end = layout.vcpu_page.0 + MAX_VCPUS as u64 * PAGE_BYTES;
            for (frame, bytes) in modules {
                let address = layout.place_module(Frame(frame), bytes);
                prop_assert!(address.0 >= end && address.is_page_aligned());
                prop_assert_eq!(address.0 % LARGE_PAGE_BYTES, frame * PAGE_BYTES % LARGE_PAGE_BYTES);
                end = address.0 + bytes;
                prop_assert!(layout.end() >= end);
            }
        }
    }
}
