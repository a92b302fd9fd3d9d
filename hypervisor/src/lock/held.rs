//! What each CPU holds: a word with a bit for each rank, by its place in the table.
//!
//! A CPU's word is its own; on the host, where threads stand for CPUs, each thread has one.

use super::rank::{self, Rank};
use super::Ranks;

/// That a lock of that rank is held; gone with it.
pub(super) struct Held {
    place: usize,
}

impl Held {
    /// The CPU is about to wait for a lock of that rank.
    pub(super) fn take<R: Rank>() -> Held {
        let held = of_this_cpu();
        if let Some(row) = in_the_way(held, R::PLACE) {
            panic!(
                "out of order: this CPU holds the lock of {} and takes that of {}",
                row.name,
                rank::ALL[R::PLACE].name
            );
        }
        change(|word| word | 1 << R::PLACE);
        Held { place: R::PLACE }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        change(|word| word & !(1 << self.place));
    }
}

/// The first that is held and must not be when that one is taken.
fn in_the_way(held: Ranks, place: usize) -> Option<&'static rank::Row> {
    let level = rank::ALL[place].level;
    let rows = rank::ALL.iter().enumerate();
    let mut held = rows.filter(|(place, _)| held.0 & 1 << place != 0);
    held.find_map(|(_, row)| (row.level >= level).then_some(row))
}

/// What the CPU holds that asks.
pub(super) fn of_this_cpu() -> Ranks {
    let mut ranks = 0;
    change(|word| {
        ranks = word;
        word
    });
    Ranks(ranks)
}

#[cfg(not(target_os = "none"))]
fn change(change: impl FnOnce(u64) -> u64) {
    use core::cell::Cell;

    std::thread_local! {
        static WORD: Cell<u64> = const { Cell::new(0) };
    }
    WORD.with(|word| word.set(change(word.get())));
}

#[cfg(target_os = "none")]
mod bare_metal {
    use core::sync::atomic::{AtomicU64, Ordering};

    use spin::Once;

    static WORD_OF_CPU: Once<fn() -> &'static AtomicU64> = Once::new();

    pub(in super::super) fn keep_in(word: fn() -> &'static AtomicU64) {
        WORD_OF_CPU.call_once(|| word);
    }

    /// No handler of an interrupt takes a lock, and no other CPU touches the word.
    pub(super) fn change(change: impl FnOnce(u64) -> u64) {
        if let Some(word) = WORD_OF_CPU.get() {
            let word = word();
            word.store(change(word.load(Ordering::Relaxed)), Ordering::Relaxed);
        }
    }
}
#[cfg(target_os = "none")]
use bare_metal::change;
#[cfg(target_os = "none")]
pub(super) use bare_metal::keep_in;
