//! The time page, read by the text page's code: no exit.

use spin::Once;

use super::{machine, Place, Refusal};
use crate::interface::ClockSource;
use crate::machine::Clock;

struct TimePage(Clock);

static CLOCK: Once<TimePage> = Once::new();

impl ClockSource for TimePage {
    #[inline]
    fn now_ns(&self) -> u64 {
        self.0.now_ns()
    }
}

pub(super) fn open(place: &Place) -> Result<&'static dyn ClockSource, Refusal> {
    let machine = machine(place)?;
    Ok(CLOCK.call_once(|| TimePage(machine.clock())))
}
