//! The wait verb: sleeping until something is pending or the time has come.

use nuncio_abi::{Call, Deadline, Error, EVENT_SLOTS};

use super::Machine;

/// Sleeps until an enabled event is pending or the deadline has passed.
///
/// Returns `Ok` when there is reason to look at the event words again.
///
/// # Errors
/// `TimedOut`; `Interrupted` if an enabled event was pending before the call.
pub(super) fn sleep<M: Machine>(machine: &M, deadline: Deadline) -> Result<(), Error> {
    if withdraw_stale_announcements(machine) {
        return Err(Error::Interrupted);
    }
    match machine.invoke(Call::Wait { deadline }) {
        // A deadline counts even if the hypervisor finds a reason to wake the vcpu every time.
        Ok(_) | Err(Error::Interrupted) if deadline.has_passed(machine.now_ns()) => {
            Err(Error::TimedOut)
        }
        Ok(_) | Err(Error::Interrupted) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Rests until the clock reaches that time, whatever else becomes pending.
pub fn rest_until<M: Machine>(machine: &M, time_ns: u64) {
    while machine.now_ns() < time_ns {
        if sleep(machine, Deadline(time_ns)).is_err() {
            core::hint::spin_loop();
        }
    }
}

/// Clears the ready bits of slots in which no bit is enabled; they would end every wait at once.
///
/// Such a bit is left behind when a bit is posted just while its slot is being disabled. Says
/// whether a slot is ready that has something enabled.
fn withdraw_stale_announcements<M: Machine>(machine: &M) -> bool {
    let page = machine.vcpu_page();
    let ready = page.ready();
    if ready == 0 {
        return false;
    }
    for slot in (0..EVENT_SLOTS).filter(|slot| ready >> slot & 1 != 0) {
        match page.slot(slot) {
            Some(word) if word.enabled() == 0 => drop(word.take()),
            Some(word) if word.pending() & word.enabled() == 0 => word.enable(withdraw(word)),
            _ => {}
        }
    }
    page.ready() != 0
}

/// Withdraws the announcement of a slot whose enabled bits have all been taken.
///
/// The bits are disabled while `take` runs, so that it cannot take one that comes just now; the
/// caller enables them again, which announces it.
fn withdraw(word: nuncio_abi::EventWord<'_>) -> u64 {
    let enabled = word.enabled();
    word.enable(0);
    word.take();
    enabled
}
