//! Sleepers wake in the order of their times, and none too early.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{spawn_on, Judgement};
use crate::sync::IrqLock;
use crate::{system, task};

const SLEEPERS: u64 = 20;
/// Far enough apart for them to wake one by one, and how long all may take to fall asleep. Where that is too short,
/// it is tried again with four times as much: whoever is a step late may have been held up while it ran, after it woke
/// in its turn.
const STEP_NS: u64 = 3_000_000;
const ATTEMPTS: u32 = 5;

/// A sleeper that has woken.
#[derive(Clone, Copy, Debug)]
struct Woken {
    place: u64,
    early_ns: u64,
    /// Whether its time had come before it fell asleep, or that of the next one before it ran.
    was_late: bool,
}

pub(super) fn judge() -> Judgement {
    let mut woken = Vec::new();
    for attempt in 0..ATTEMPTS {
        woken = sleep(STEP_NS << (2 * attempt))?;
        if woken.iter().all(|woken| !woken.was_late) {
            break;
        }
    }
    if let Some(early) = woken.iter().find(|woken| woken.early_ns > 0) {
        return Err(format!("one woke too early: {early:?}"));
    }
    let is_in_order = woken.iter().map(|woken| woken.place).eq(0..SLEEPERS);
    is_in_order
        .then(|| format!("{SLEEPERS} sleepers"))
        .ok_or_else(|| format!("they woke in this order: {woken:?}"))
}

/// Has all of them sleep, `step_ns` apart, and gives them in the order in which they woke.
fn sleep(step_ns: u64) -> Result<Vec<Woken>, String> {
    let woken = Arc::new(IrqLock::new(Vec::new()));
    let begin_ns = system::now_ns() + SLEEPERS * step_ns;
    let mut threads = Vec::new();
    for number in 0..SLEEPERS {
        // Not in the order in which they are made.
        let place = number * 7 % SLEEPERS;
        let deadline_ns = begin_ns + place * step_ns;
        let woken = woken.clone();
        threads.push(spawn_on(0, "sleeper", move || {
            let slept_late = system::now_ns() + step_ns > begin_ns;
            task::sleep_until(deadline_ns);
            let early_ns = deadline_ns.saturating_sub(system::now_ns());
            // Under the lock, so that nothing comes between this time and the place in the list.
            let mut woken = woken.lock();
            let was_late = slept_late || system::now_ns() >= deadline_ns + step_ns;
            woken.push(Woken {
                place,
                early_ns,
                was_late,
            });
        })?);
    }
    threads.iter().for_each(task::join);
    let woken = core::mem::take(&mut *woken.lock());
    Ok(woken)
}
