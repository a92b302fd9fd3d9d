//! Threads can be made and end by the thousand, and leave nothing behind.

use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::{spawn_on, Judgement};
use crate::{system, task};

const ROUNDS: u64 = 50;
const THREADS: u64 = 20;

pub(super) fn judge() -> Judgement {
    let ran = Arc::new(AtomicU64::new(0));
    let before = task::all().len();
    let mut used_bytes = 0;
    for round in 0..ROUNDS {
        let mut threads = Vec::new();
        for number in 0..THREADS {
            let ran = ran.clone();
            let cpu = number as usize % system::online_cpus();
            threads.push(spawn_on(cpu, "short", move || {
                ran.fetch_add(1, Relaxed);
            })?);
        }
        threads.iter().for_each(task::join);
        drop(threads);
        // The first round makes the stacks that all others use.
        if round == 0 {
            used_bytes = settled_bytes(before);
        }
    }
    let (after, grown) = (
        task::all().len(),
        settled_bytes(before).saturating_sub(used_bytes),
    );
    let expected = ROUNDS * THREADS;
    match ran.load(Relaxed) {
        count if count != expected => Err(format!("{count} of {expected} ran")),
        _ if after > before => Err(format!("{} threads stay", after - before)),
        _ if grown > 64 << 10 => Err(format!("{grown} bytes stay")),
        _ => Ok(format!("{expected} threads")),
    }
}

/// Bytes of the heap that are used when the threads that have ended are forgotten, too: that is done by whoever
/// runs after them.
fn settled_bytes(threads: usize) -> u64 {
    let give_up_ns = system::now_ns() + super::PATIENCE_NS;
    while task::all().len() > threads && system::now_ns() < give_up_ns {
        task::sleep_until(system::now_ns() + super::LOOK_AGAIN_NS);
    }
    system::heap_usage().used_bytes
}
