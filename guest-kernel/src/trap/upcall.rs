//! The upcall: collects the event bits that have become pending, for whoever waits for them.
#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicU64, Ordering};

use nuncio_abi::{VcpuPage, EVENT_SLOTS};

static COLLECTED: [AtomicU64; EVENT_SLOTS] = [const { AtomicU64::new(0) }; EVENT_SLOTS];
static UPCALLS: AtomicU64 = AtomicU64::new(0);

/// How many upcalls have arrived.
pub fn count() -> u64 {
    UPCALLS.load(Ordering::Relaxed)
}

/// Takes those of the bits in `mask` that upcalls have collected for a slot.
pub fn take(slot: usize, mask: u64) -> u64 {
    let collected = COLLECTED.get(slot);
    collected.map_or(0, |bits| bits.fetch_and(!mask, Ordering::Relaxed) & mask)
}

/// Takes everything that is pending and enabled in the page. An upcall is repeated while something is.
pub fn collect_from(page: VcpuPage<'_>) {
    UPCALLS.fetch_add(1, Ordering::Relaxed);
    let ready = page.ready();
    for (slot, bits) in COLLECTED.iter().enumerate() {
        if ready >> slot & 1 == 0 {
            continue;
        }
        if let Some(word) = page.slot(slot) {
            bits.fetch_or(word.take(), Ordering::Relaxed);
        }
    }
}

#[cfg(feature = "bare-metal")]
pub(super) fn collect() {
    use crate::hv::Machine;
    if let Some(machine) = crate::machine::Native::get() {
        collect_from(machine.vcpu_page());
    }
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
        collect_from(page);
        assert_eq!((page.ready(), word.pending(), count()), (0, 0b100, 1));
        assert_eq!(take(5, 0b111), 0b010);
        assert_eq!((take(5, 0b111), take(64, 1)), (0, 0));
    }
}
