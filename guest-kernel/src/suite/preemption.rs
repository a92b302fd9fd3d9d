//! Threads that never wait share their CPU.

use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use super::{spawn_on, wait_until, Judgement, PATIENCE_NS};
use crate::{system, task};

const THREADS: usize = 3;
const ENOUGH: u64 = 1000;

pub(super) fn judge() -> Judgement {
    let is_over = Arc::new(AtomicBool::new(false));
    let cpus = system::online_cpus();
    let counts: Arc<[AtomicU64]> = (0..THREADS * cpus).map(|_| AtomicU64::new(0)).collect();
    let mut threads = Vec::new();
    for number in 0..counts.len() {
        let (counts, is_over) = (counts.clone(), is_over.clone());
        threads.push(spawn_on(number % cpus, "spinner", move || {
            while !is_over.load(Relaxed) {
                counts[number].fetch_add(1, Relaxed);
                core::hint::spin_loop();
            }
        })?);
    }
    let outcome = wait_until("all have computed", PATIENCE_NS, || {
        counts.iter().all(|count| count.load(Relaxed) >= ENOUGH)
    });
    is_over.store(true, Relaxed);
    threads.iter().for_each(task::join);
    outcome.map(|()| format!("{THREADS} threads on each of {cpus} CPUs"))
}
