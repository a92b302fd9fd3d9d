//! The timer of the local APIC: told a count of the time-stamp counter, or counting down by itself.
// UNSAFETY: an MSR.
#![allow(unsafe_code)]

use core::sync::atomic::{fence, Ordering};

use nuncio_abi::ClockScale;
use spin::Once;

use super::irq_chip::{chosen, TIMER_VECTOR};
use super::local_apic::{LocalApic, Register};
use super::pit;
use crate::instructions::{time_stamp_counter, write_msr};
use crate::interface::{ClockEvent, Refusal};
use crate::pv::Place;
use crate::system::now_ns;

const MSR_DEADLINE: u32 = 0x6E0;
const MASKED: u32 = 1 << 16;
const DEADLINE_MODE: u32 = 1 << 18;
/// Divides by 1 (Intel SDM 3A, figure 10-10).
const DIVIDE_BY_1: u32 = 0b1011;

/// A timer that counts down once.
struct OneShot {
    apic: LocalApic,
    scale: ClockScale,
}

/// A timer that compares with the time-stamp counter.
struct Deadline {
    apic: LocalApic,
    scale: ClockScale,
}

static ONE_SHOT: Once<OneShot> = Once::new();
static DEADLINE: Once<Deadline> = Once::new();

impl ClockEvent for OneShot {
    fn start_cpu(&self) {
        self.apic.write(Register::DivideConfiguration, DIVIDE_BY_1);
        self.apic.write(Register::InitialCount, 0);
        self.apic
            .write(Register::TimerEntry, u32::from(TIMER_VECTOR));
    }

    fn set(&self, deadline_ns: Option<u64>) {
        // A count of 0 stops it. A time that is farther away than it can count is interrupted on the way.
        let count = deadline_ns.map_or(0, |deadline_ns| {
            let ticks = self.scale.convert(deadline_ns.saturating_sub(now_ns()));
            u32::try_from(ticks).unwrap_or(u32::MAX).max(1)
        });
        self.apic.write(Register::InitialCount, count);
    }
}

impl ClockEvent for Deadline {
    fn start_cpu(&self) {
        let entry = DEADLINE_MODE | u32::from(TIMER_VECTOR);
        self.apic.write(Register::TimerEntry, entry);
        // In memory the write may be later than the next one to the MSR (Intel SDM 3A, 10.5.4.1).
        fence(Ordering::SeqCst);
    }

    fn set(&self, deadline_ns: Option<u64>) {
        // 0 stops it.
        let ticks = deadline_ns.map_or(0, |deadline_ns| {
            let left = self.scale.convert(deadline_ns.saturating_sub(now_ns()));
            time_stamp_counter().saturating_add(left).max(1)
        });
        // SAFETY: the CPU has the register; the interrupt that it causes is expected.
        unsafe { write_msr(MSR_DEADLINE, ticks) }
    }
}

pub(super) fn open_deadline(place: &Place) -> Result<&'static dyn ClockEvent, Refusal> {
    place.devices()?;
    let apic = chosen(place)?;
    if !LocalApic::has_deadline() {
        return Err(Refusal("the CPU's timer has no deadline mode"));
    }
    let scale = scale_of(pit::time_stamp_counter_hz())?;
    Ok(DEADLINE.call_once(|| Deadline { apic, scale }))
}

pub(super) fn open_one_shot(place: &Place) -> Result<&'static dyn ClockEvent, Refusal> {
    place.devices()?;
    let apic = chosen(place)?;
    apic.write(Register::TimerEntry, MASKED);
    apic.write(Register::DivideConfiguration, DIVIDE_BY_1);
    apic.write(Register::InitialCount, u32::MAX);
    let hz = pit::measure(|| u64::from(u32::MAX - apic.read(Register::CurrentCount)));
    apic.write(Register::InitialCount, 0);
    let scale = scale_of(hz)?;
    Ok(ONE_SHOT.call_once(|| OneShot { apic, scale }))
}

fn scale_of(hz: Option<u64>) -> Result<ClockScale, Refusal> {
    let hz = hz.ok_or(Refusal("there is no 8254 to measure it by"))?;
    ClockScale::ns_to_ticks(hz).ok_or(Refusal("it stands still"))
}
