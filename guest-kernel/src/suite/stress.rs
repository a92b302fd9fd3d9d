//! `stress`: threads on all CPUs are made, sleep, wake each other and end, at random.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::programs::{BAD_COMMAND_LINE, FAILED};
use crate::shell::Code;
use crate::sync::IrqLock;
use crate::task::Thread;
use crate::{println, system, task};

const WORKERS_PER_CPU: usize = 4;
const MOST_SLEEP_NS: u64 = 500_000;

/// Runs it for so many seconds, 1 if none are named.
pub fn run(words: &[&str]) -> Code {
    let Ok(seconds) = words.first().map_or(Ok(1), |word| word.parse::<u64>()) else {
        println!("stress wants a number of seconds");
        return BAD_COMMAND_LINE;
    };
    let end_ns = system::now_ns().saturating_add(seconds.saturating_mul(1_000_000_000));
    let steps = Arc::new(AtomicU64::new(0));
    let workers: Arc<IrqLock<Vec<Arc<Thread>>>> = Arc::new(IrqLock::new(Vec::new()));
    let mut threads = Vec::new();
    for number in 0..WORKERS_PER_CPU * system::online_cpus() {
        let (steps, others) = (steps.clone(), workers.clone());
        let cpu = number % system::online_cpus();
        let worker = task::spawn_on(cpu, "worker", move || {
            work(number as u64 + 1, end_ns, &steps, &others);
        });
        let Ok(worker) = worker else {
            println!("no memory for a thread");
            return FAILED;
        };
        workers.lock().push(worker.clone());
        threads.push(worker);
    }
    threads.iter().for_each(task::join);
    println!(
        "stress: {} steps of {} threads",
        steps.load(Relaxed),
        threads.len()
    );
    0
}

fn work(seed: u64, end_ns: u64, steps: &AtomicU64, others: &IrqLock<Vec<Arc<Thread>>>) {
    let mut chance = seed;
    while system::now_ns() < end_ns {
        // Marsaglia's xorshift64.
        chance ^= chance << 13;
        chance ^= chance >> 7;
        chance ^= chance << 17;
        match chance % 4 {
            0 => task::sleep_until(system::now_ns() + chance % MOST_SLEEP_NS),
            1 => {
                let other = {
                    let others = others.lock();
                    others.get(chance as usize % others.len().max(1)).cloned()
                };
                if let Some(other) = other {
                    task::unpark(&other);
                }
            }
            2 => task::park_until(system::now_ns() + chance % MOST_SLEEP_NS),
            _ => {
                if let Ok(child) = task::spawn("child", || {}) {
                    task::join(&child);
                }
            }
        }
        steps.fetch_add(1, Relaxed);
    }
}
