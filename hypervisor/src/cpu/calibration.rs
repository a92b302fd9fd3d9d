//! How fast the time-stamp counter and the local APIC's timer run, measured against a clock whose rate is
//! known: the 8254, or where that does not count, the timer of ACPI.
//!
//! CPUID leaves 0x15 and 0x16 are not asked: emulators report numbers that do not match.

#![forbid(unsafe_code)]

use alloc::vec::Vec;
use core::hint::{black_box, spin_loop};

use super::local_apic::LocalApic;
use super::time_options::{self, ReferenceKind};
use super::{pit, pm_timer, ticks, PmTimer, Refusal};

/// In counts of the 8254, about 1 ms and 11 ms. The difference of two windows is what counts: what it takes to start a
/// window and to notice its end is in both and cancels out.
const SHORT_COUNTS: u16 = 1_193;
const LONG_COUNTS: u16 = 13_125;

/// Two measurements agree if they differ by less than one part in this many.
const AGREEMENT: u64 = 20_000;
const MAX_MEASUREMENTS: usize = 8;

/// Slower and faster clocks than these are measuring errors.
const PLAUSIBLE_HZ: core::ops::RangeInclusive<u64> = 100_000..=100_000_000_000;

/// A clock whose rate is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reference {
    Pit,
    PmTimer(PmTimer),
}

/// Measured frequencies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rates {
    pub(super) tsc_hz: u64,
    pub(super) timer_hz: u64,
}

/// Measures against the clock that is wanted, or else against the first that counts.
pub(super) fn measure(
    apic: &LocalApic,
    wanted: Option<ReferenceKind>,
    pm_timer: Option<PmTimer>,
) -> Result<(Rates, Reference), Refusal> {
    try_each(references(wanted, pm_timer), |reference| {
        settle(|| measure_once(apic, reference))
    })
}

/// What can be measured against, the best first: the 8254 runs by itself, the other's port is the
/// firmware's word.
fn references(
    wanted: Option<ReferenceKind>,
    pm_timer: Option<PmTimer>,
) -> impl Iterator<Item = Reference> {
    let pit = (wanted != Some(ReferenceKind::PmTimer)).then_some(Reference::Pit);
    let pm_timer = pm_timer.filter(|_| wanted != Some(ReferenceKind::Pit));
    pit.into_iter().chain(pm_timer.map(Reference::PmTimer))
}

fn try_each(
    references: impl Iterator<Item = Reference>,
    mut rates: impl FnMut(Reference) -> Option<Rates>,
) -> Result<(Rates, Reference), Refusal> {
    for reference in references {
        if let Some(rates) = rates(reference) {
            return Ok((rates, reference));
        }
        log::warn!("{} does not count", reference.name());
    }
    Err(Refusal::new(
        "no-clock",
        "No clock counts that the CPU's could be measured against: neither the 8254 timer (PIT), nor the \
         power-management timer of the ACPI tables, if they have one; turn one on in the firmware's or \
         emulator's settings.",
    ))
}

/// Measures until two measurements agree, so that disturbances (an SMI, a busy host under an emulator) do no
/// harm. Of measurements that never agree the one in the middle is taken: a disturbance of the long window
/// makes a clock seem fast, one of the short window slow.
fn settle(mut measure_once: impl FnMut() -> Measurement) -> Option<Rates> {
    let mut seen: Vec<Rates> = Vec::new();
    for _ in 0..MAX_MEASUREMENTS {
        let next = match measure_once() {
            Measurement::Plausible(rates) => rates,
            Measurement::Disturbed => continue,
            Measurement::NoClock => break,
        };
        if seen.iter().any(|known| known.agrees(&next)) {
            return Some(next);
        }
        seen.push(next);
    }
    seen.sort_unstable_by_key(|rates| rates.tsc_hz);
    seen.get(seen.len() / 2).copied()
}

/// What came of one measurement.
enum Measurement {
    Plausible(Rates),
    /// A window was stretched so far that the difference of the two means nothing.
    Disturbed,
    /// The clock that is measured against does not count.
    NoClock,
}

impl Rates {
    fn agrees(&self, other: &Rates) -> bool {
        agree(self.tsc_hz, other.tsc_hz) && agree(self.timer_hz, other.timer_hz)
    }
}

fn measure_once(apic: &LocalApic, reference: Reference) -> Measurement {
    let windows = (
        window(apic, reference, SHORT_COUNTS),
        window(apic, reference, LONG_COUNTS),
    );
    let (Some(short), Some(long)) = windows else {
        return Measurement::NoClock;
    };
    rates(short, long).map_or(Measurement::Disturbed, Measurement::Plausible)
}

/// What three clocks did in a window.
#[derive(Clone, Copy, Debug)]
struct Window {
    /// Counts of the clock that is measured against, at the rate of the timer of ACPI.
    reference: u64,
    /// Of the time-stamp counter.
    ticks: u64,
    /// Of the local APIC's timer.
    timer: u64,
}

fn window(apic: &LocalApic, reference: Reference, counts: u16) -> Option<Window> {
    apic.start_masked_count(u32::MAX);
    let start = reference.start(counts);
    let (first_ticks, first_count) = (ticks(), apic.current_count());
    let gone = reference.wait(start, counts)?;
    let (last_ticks, last_count) = (ticks(), apic.current_count());
    apic.stop_timer();
    Some(Window {
        reference: gone,
        ticks: last_ticks.wrapping_sub(first_ticks),
        timer: u64::from(first_count.wrapping_sub(last_count)),
    })
}

impl Reference {
    /// Its word on the command line and in the report.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Reference::Pit => time_options::PIT,
            Reference::PmTimer(_) => time_options::PM_TIMER,
        }
    }

    /// Begins a window of so many counts of the 8254.
    fn start(self, counts: u16) -> u32 {
        match self {
            Reference::Pit => {
                pit::start(counts);
                0
            }
            Reference::PmTimer(timer) => timer.read(),
        }
    }

    /// Waits for its end; how long it was in counts of the timer of ACPI, which are a third.
    fn wait(self, start: u32, counts: u16) -> Option<u64> {
        let timer_counts = 3 * u32::from(counts);
        match self {
            Reference::Pit => pit::wait_for_end(counts).map(|()| timer_counts.into()),
            Reference::PmTimer(timer) => timer.wait(start, timer_counts).map(u64::from),
        }
    }
}

/// Some 200 instructions. An emulator that counts instructions takes much longer for a port than
/// for work like this, and would take seconds for windows full of polls.
pub(super) fn dwell() {
    for round in 0..64 {
        black_box(round);
    }
    spin_loop();
}

/// The rates of clocks that did that in two windows, if they are rates of clocks.
fn rates(short: Window, long: Window) -> Option<Rates> {
    let reference = long.reference.checked_sub(short.reference)?;
    let rates = Rates {
        tsc_hz: frequency(long.ticks.wrapping_sub(short.ticks), reference),
        timer_hz: frequency(long.timer.wrapping_sub(short.timer), reference),
    };
    let are_plausible =
        PLAUSIBLE_HZ.contains(&rates.tsc_hz) && PLAUSIBLE_HZ.contains(&rates.timer_hz);
    are_plausible.then_some(rates)
}

/// The rate of a clock that made that many ticks more in the long window than in the short one.
fn frequency(difference: u64, reference: u64) -> u64 {
    let product = u128::from(difference) * u128::from(pm_timer::HZ);
    let hz = product.checked_div(u128::from(reference));
    hz.and_then(|hz| u64::try_from(hz).ok()).unwrap_or(u64::MAX)
}

fn agree(first_hz: u64, second_hz: u64) -> bool {
    first_hz.abs_diff(second_hz) <= first_hz / AGREEMENT
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn ticks_in_a_window_become_hertz() {
        // 35796 counts are 10.0002 ms.
        let hz = frequency(10_000_000, 35_796);
        assert!(hz.abs_diff(1_000_000_000) < 20_000, "{hz}");
        assert_eq!(frequency(0, 35_796), 0);
        assert!(!PLAUSIBLE_HZ.contains(&frequency(u64::MAX, 35_796)));
        assert!(!PLAUSIBLE_HZ.contains(&frequency(1, 0)));
    }

    fn seen(reference: u64, ticks: u64, timer: u64) -> Window {
        Window {
            reference,
            ticks,
            timer,
        }
    }

    #[test]
    fn what_is_in_both_windows_cancels_out_and_their_lengths_are_their_own() {
        let hz = |windows: Option<Rates>| windows.map(|rates| (rates.tsc_hz, rates.timer_hz));
        let (short, long) = (3_579, 3_579 + 3_579_545 / 100);
        let measured = rates(
            seen(short, 1_000_777, 5_000),
            seen(long, 21_000_777, 105_000),
        );
        let (tsc_hz, timer_hz) = hz(measured).unwrap();
        assert!(tsc_hz.abs_diff(2_000_000_000) < 40_000, "{tsc_hz}");
        assert!(timer_hz.abs_diff(10_000_000) < 200, "{timer_hz}");
        // The second was no longer than the first, by the clock or by the counter.
        assert_eq!(rates(seen(long, 1, 1), seen(short, 9, 9)), None);
        assert_eq!(rates(seen(9, 1, 1), seen(9, 2, 2)), None);
        assert_eq!(rates(seen(9, 5, 5), seen(10_000, 4, 9)), None);
    }

    #[test]
    fn the_second_clock_is_taken_where_the_first_does_not_count() {
        let timer = Some(PmTimer::new(0x608, false));
        let rates = Rates {
            tsc_hz: 2_000_000_000,
            timer_hz: 1_000_000_000,
        };
        let chosen = |wanted, timer, counts: fn(Reference) -> bool| {
            let chosen = try_each(references(wanted, timer), |it| counts(it).then_some(rates));
            chosen.ok().map(|(_, reference)| reference.name())
        };
        assert_eq!(chosen(None, timer, |_| true), Some("pit"));
        let no_pit = |reference| reference != Reference::Pit;
        assert_eq!(chosen(None, timer, no_pit), Some("pm-timer"));
        assert_eq!(chosen(None, None, no_pit), None);
        assert_eq!(chosen(Some(ReferenceKind::Pit), timer, no_pit), None);
        let wanted = Some(ReferenceKind::PmTimer);
        assert_eq!(chosen(wanted, timer, |_| true), Some("pm-timer"));
        assert_eq!(chosen(wanted, None, |_| true), None);
    }

    fn settled(measurements: Vec<Measurement>) -> Option<u64> {
        let mut measurements = measurements.into_iter();
        let result = settle(|| measurements.next().unwrap_or(Measurement::Disturbed));
        result.map(|rates| rates.tsc_hz)
    }

    #[test]
    fn a_disturbed_measurement_is_made_again() {
        let good = |tsc_hz| {
            Measurement::Plausible(Rates {
                tsc_hz,
                timer_hz: 1_000_000_000,
            })
        };
        let disturbed = || Measurement::Disturbed;
        let twice = settled(vec![
            disturbed(),
            good(2_000_000_000),
            disturbed(),
            good(2_000_000_001),
        ]);
        assert_eq!(twice, Some(2_000_000_001));
        let once = settled(vec![disturbed(), good(2_000_000_000)]);
        assert_eq!(once, Some(2_000_000_000), "better than nothing");
        assert_eq!(
            settled(vec![good(1_000_000), good(2_000_000), good(2_000_000)]),
            Some(2_000_000)
        );
        let never = [3, 9, 1, 8, 7].map(|hz| good(hz * 100_000_000));
        assert_eq!(settled(never.into()), Some(700_000_000), "the middle");
        assert_eq!(settled(vec![]), None);
        assert_eq!(settled(vec![Measurement::NoClock, good(1), good(1)]), None);
    }

    #[test]
    fn agreement_is_relative() {
        assert!(agree(2_000_000_000, 2_000_050_000));
        assert!(!agree(2_000_000_000, 2_000_200_000));
        assert!(!agree(10_000_000, 10_001_000));
    }
}
