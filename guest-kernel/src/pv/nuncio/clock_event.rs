//! A timer for each vcpu, which notifies its event.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use nuncio_abi::{Deadline, Handle};

use super::irq_chip::{far_end, TIMER};
use super::{machine_with_event, Place, Refusal};
use crate::hv::{Client, Object, Timer};
use crate::interface::ClockEvent;
use crate::machine::Native;
use crate::trap::VCPUS;

/// The handle of each vcpu's timer, which only the vcpu itself uses.
static TIMERS: [AtomicU64; VCPUS] = [const { AtomicU64::new(0) }; VCPUS];

struct Timers;

impl ClockEvent for Timers {
    fn start_cpu(&self) {
        let Some(machine) = Native::current() else {
            return;
        };
        let vcpu = machine.vcpu_number();
        let client = Client::new(machine, machine.boot_info());
        let made = far_end(machine, vcpu).map(|event| client.create_timer(&event, TIMER));
        match made {
            Some(Ok(timer)) => TIMERS[vcpu].store(timer.object().handle().raw(), Relaxed),
            Some(Err(error)) => panic!("the domain cannot pay for a timer: {error}"),
            None => panic!("vcpu {vcpu} has no event for its timer"),
        }
    }

    fn set(&self, deadline_ns: Option<u64>) {
        let Some(machine) = Native::current() else {
            return;
        };
        let raw = TIMERS[machine.vcpu_number()].load(Relaxed);
        if let Some(handle) = Handle::from_raw(raw) {
            let timer = Timer::new(Object::new(machine, handle));
            // A deadline of 0 has passed like any other; the timer is never closed, so this does not fail.
            let _ = timer.arm(deadline_ns.map_or(Deadline::NEVER, Deadline));
        }
    }
}

pub(super) fn open(place: &Place) -> Result<&'static dyn ClockEvent, Refusal> {
    machine_with_event(place)?;
    Ok(&Timers)
}
