//! A sleeper wakes soon after its time, while a neighbour on its CPU computes.

use alloc::format;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::{spawn_on, Judgement};
use crate::{system, task};

const SLEEPS: u64 = 20;
const SLEEP_NS: u64 = 2_000_000;
/// An emulator on a loaded machine stops for longer than any hardware.
const MOST_NS: u64 = 200_000_000;

pub(super) fn judge() -> Judgement {
    let is_over = Arc::new(AtomicBool::new(false));
    let spinner = {
        let is_over = is_over.clone();
        spawn_on(task::this_cpu(), "spinner", move || {
            while !is_over.load(Relaxed) {
                core::hint::spin_loop();
            }
        })?
    };
    let mut latest_ns = 0;
    for _ in 0..SLEEPS {
        let deadline_ns = system::now_ns() + SLEEP_NS;
        task::sleep_until(deadline_ns);
        latest_ns = latest_ns.max(system::now_ns().saturating_sub(deadline_ns));
    }
    is_over.store(true, Relaxed);
    task::join(&spinner);
    let measured = format!("at most {latest_ns} ns late");
    if latest_ns > MOST_NS {
        return Err(measured);
    }
    Ok(measured)
}
