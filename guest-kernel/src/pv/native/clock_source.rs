//! The time-stamp counter.
#![forbid(unsafe_code)]

use nuncio_abi::ClockScale;
use spin::Once;

use super::pit;
use crate::instructions::time_stamp_counter;
use crate::interface::{ClockSource, Refusal};
use crate::pv::Place;

/// The counter, and what it counted when the kernel opened it.
struct TimeStampCounter {
    scale: ClockScale,
    first: u64,
}

static CLOCK: Once<TimeStampCounter> = Once::new();

impl ClockSource for TimeStampCounter {
    fn now_ns(&self) -> u64 {
        // What another CPU counts may be a little behind the first.
        let ticks = time_stamp_counter().saturating_sub(self.first);
        self.scale.convert(ticks)
    }
}

pub(super) fn open(place: &Place) -> Result<&'static dyn ClockSource, Refusal> {
    place.devices()?;
    let hz = pit::time_stamp_counter_hz().ok_or(Refusal("there is no 8254 to measure it by"))?;
    let scale = ClockScale::ticks_to_ns(hz).ok_or(Refusal("it stands still"))?;
    log::debug!("the time-stamp counter has {} kHz", hz / 1000);
    Ok(CLOCK.call_once(|| TimeStampCounter {
        scale,
        first: time_stamp_counter(),
    }))
}
