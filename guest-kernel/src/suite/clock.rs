//! The clock never goes back, whichever CPU reads it.

use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering::SeqCst};

use super::{spawn_on, Judgement};
use crate::{system, task};

const READINGS: u64 = 20_000;

pub(super) fn judge() -> Judgement {
    let latest_ns = Arc::new(AtomicU64::new(0));
    let times_back = Arc::new(AtomicU64::new(0));
    let mut threads = Vec::new();
    for cpu in 0..system::online_cpus() {
        let (latest_ns, times_back) = (latest_ns.clone(), times_back.clone());
        threads.push(spawn_on(cpu, "clock", move || {
            for _ in 0..READINGS {
                // Whoever has stored a later time has read it before this.
                let seen_ns = latest_ns.load(SeqCst);
                let now_ns = system::now_ns();
                if now_ns < seen_ns {
                    times_back.fetch_add(1, SeqCst);
                }
                latest_ns.fetch_max(now_ns, SeqCst);
            }
        })?);
    }
    threads.iter().for_each(task::join);
    match times_back.load(SeqCst) {
        0 => Ok(format!("{} CPUs", threads.len())),
        times => Err(format!("it went back {times} times")),
    }
}
