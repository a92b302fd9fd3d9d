//! Threads can be made and end by the thousand, and leave nothing behind.

use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use super::{spawn_on, Judgement};
use crate::{system, task};

const ROUNDS: u64 = 50;
const THREADS: u64 = 20;
/// Lists may have grown; a few bytes for each of the threads would be more.
const MOST_GROWTH_BYTES: u64 = 8 << 10;

pub(super) fn judge() -> Judgement {
    let ran = Arc::new(AtomicU64::new(0));
    let before = task::all().len();
    make_all_stacks()?;
    let used_bytes = settled_bytes(before);
    for _ in 0..ROUNDS {
        let mut threads = Vec::new();
        for number in 0..THREADS {
            let ran = ran.clone();
            let cpu = number as usize % system::online_cpus();
            threads.push(spawn_on(cpu, "short", move || {
                ran.fetch_add(1, Relaxed);
            })?);
        }
        threads.iter().for_each(task::join);
    }
    let grown = settled_bytes(before).saturating_sub(used_bytes);
    let after = task::all().len();
    let expected = ROUNDS * THREADS;
    match ran.load(Relaxed) {
        count if count != expected => Err(format!("{count} of {expected} ran")),
        _ if after > before => Err(format!("{} threads stay", after - before)),
        _ if grown > MOST_GROWTH_BYTES => Err(format!("{grown} bytes stay")),
        _ => Ok(format!("{expected} threads")),
    }
}

/// Has more threads at a time than there will be, so that all stacks are made: they are kept for others. Twice as
/// many, because a thread that has ended keeps its stack until its CPU has another one to run.
fn make_all_stacks() -> Result<(), alloc::string::String> {
    let may_end = Arc::new(AtomicBool::new(false));
    let mut threads = Vec::new();
    for _ in 0..2 * THREADS {
        let may_end = may_end.clone();
        threads.push(spawn_on(0, "waiting", move || {
            while !may_end.load(Relaxed) {
                task::sleep_until(system::now_ns() + super::LOOK_AGAIN_NS);
            }
        })?);
    }
    may_end.store(true, Relaxed);
    threads.iter().for_each(task::join);
    Ok(())
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
