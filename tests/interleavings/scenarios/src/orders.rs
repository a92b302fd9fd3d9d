//! A test of a shared page under everything that the orders of its accesses allow.

use core_on_loom::sync::atomic::AtomicU64;
use loom::model::Builder;
use loom::sync::Arc;

/// Runs `test` in every order of its threads in which one that could go on lets another one go first no
/// more than `preemptions` times, and with everything that each load may see then.
/// `LOOM_MAX_PREEMPTIONS=N` has more or fewer.
pub fn explore_orders(preemptions: usize, test: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(preemptions));
    builder.check(test);
}

/// A page of which only some words may be accessed: those that have a value.
pub fn shared_page(word: impl Fn(usize) -> Option<u64>) -> Arc<Box<[AtomicU64; 512]>> {
    let word = |index| word(index).map_or_else(AtomicU64::untouched, AtomicU64::new);
    // On the heap from the beginning: loom's threads have small stacks.
    let words: Box<[AtomicU64]> = (0..512).map(word).collect();
    Arc::new(words.try_into().expect("512 words"))
}
