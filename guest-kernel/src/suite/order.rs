//! Sleepers wake in the order of their times, and none too early.

use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{spawn_on, Judgement};
use crate::sync::IrqLock;
use crate::{system, task};

const SLEEPERS: u64 = 20;
/// Far enough apart for them to wake one by one.
const STEP_NS: u64 = 3_000_000;

pub(super) fn judge() -> Judgement {
    let woken = Arc::new(IrqLock::new(Vec::new()));
    let begin_ns = system::now_ns() + 20_000_000;
    let mut threads = Vec::new();
    for number in 0..SLEEPERS {
        // Not in the order in which they are made.
        let place = number * 7 % SLEEPERS;
        let deadline_ns = begin_ns + place * STEP_NS;
        let woken = woken.clone();
        threads.push(spawn_on(0, "sleeper", move || {
            task::sleep_until(deadline_ns);
            let early_ns = deadline_ns.saturating_sub(system::now_ns());
            woken.lock().push((place, early_ns));
        })?);
    }
    threads.iter().for_each(task::join);
    let woken = woken.lock();
    if let Some((place, early_ns)) = woken.iter().find(|(_, early_ns)| *early_ns > 0) {
        return Err(format!("sleeper {place} woke {early_ns} ns too early"));
    }
    let is_in_order = woken.iter().map(|(place, _)| *place).eq(0..SLEEPERS);
    is_in_order
        .then(|| format!("{SLEEPERS} sleepers"))
        .ok_or_else(|| format!("they woke in the order {:?}", *woken))
}
