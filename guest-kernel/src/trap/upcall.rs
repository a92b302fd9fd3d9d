//! The upcall: collects the event bits that have become pending, for whoever waits for them.
#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicU64, Ordering};

use nuncio_abi::{VcpuPage, EVENT_SLOTS};

static UPCALLS: AtomicU64 = AtomicU64::new(0);

/// The bits that upcalls of one vcpu have collected, slot by slot.
pub struct Collected([AtomicU64; EVENT_SLOTS]);

impl Collected {
    /// Nothing yet.
    pub const fn new() -> Self {
        Collected([const { AtomicU64::new(0) }; EVENT_SLOTS])
    }

    /// Takes those of the bits in `mask` that have been collected for a slot.
    pub fn take(&self, slot: usize, mask: u64) -> u64 {
        let collected = self.0.get(slot);
        collected.map_or(0, |bits| bits.fetch_and(!mask, Ordering::Relaxed) & mask)
    }

    /// Takes everything that is pending and enabled in the page. An upcall is repeated while something is.
    pub fn take_from(&self, page: VcpuPage<'_>) {
        UPCALLS.fetch_add(1, Ordering::Relaxed);
        let ready = page.ready();
        for (slot, bits) in self.0.iter().enumerate() {
            if ready >> slot & 1 == 0 {
                continue;
            }
            if let Some(word) = page.slot(slot) {
                bits.fetch_or(word.take(), Ordering::Relaxed);
            }
        }
    }
}

impl Default for Collected {
    fn default() -> Self {
        Collected::new()
    }
}

/// How many upcalls have arrived, on all vcpus.
pub fn count() -> u64 {
    UPCALLS.load(Ordering::Relaxed)
}

/// Takes an upcall; false if there is no Nuncio that could have made one.
#[cfg(feature = "bare-metal")]
pub(super) fn collect() -> bool {
    use crate::hv::Machine;
    let Some(machine) = crate::machine::Native::current() else {
        return false;
    };
    machine.collected().take_from(machine.vcpu_page());
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upcall_takes_what_is_enabled_and_nothing_else() {
        let words = [const { AtomicU64::new(0) }; 512];
        let page = VcpuPage::new(&words);
        let word = page.slot(5).unwrap();
        word.enable(0b011);
        word.post(0b110);
        let collected = Collected::new();
        collected.take_from(page);
        assert_eq!((page.ready(), word.pending(), count()), (0, 0b100, 1));
        assert_eq!(collected.take(5, 0b111), 0b010);
        assert_eq!((collected.take(5, 0b111), collected.take(64, 1)), (0, 0));
    }
}
