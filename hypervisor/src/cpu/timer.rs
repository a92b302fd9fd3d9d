//! The two ways in which the local APIC's timer fires once (Intel SDM vol. 3, 10.5.4): at the end of a count
//! of its own clock, or when the time-stamp counter has come to a deadline.
//!
//! A deadline is one WRMSR, and needs neither the time of now nor the timer's own rate; so it is used where
//! the CPU has it. AMD's CPUs and QEMU's interpreter count alone.

#![forbid(unsafe_code)]

use nuncio_abi::{ClockScale, TimePage};

use super::local_apic::LocalApic;
use super::ticks;

/// How a CPU's timer is programmed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Timer {
    /// It counts down once.
    OneShot { ns_to_counts: ClockScale },
    /// It waits for the time-stamp counter.
    TscDeadline { ns_to_ticks: ClockScale },
}

impl Timer {
    /// Its word on the command line and in the report.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Timer::OneShot { .. } => super::time_options::ONE_SHOT,
            Timer::TscDeadline { .. } => super::time_options::TSC_DEADLINE,
        }
    }

    /// Puts a CPU's local APIC, whose timer stands, into the right mode.
    pub(super) fn set_up(self, apic: &LocalApic) {
        match self {
            Timer::OneShot { .. } => apic.stop_timer(),
            Timer::TscDeadline { .. } => apic.use_deadlines(),
        }
    }

    /// Makes it fire at the deadline; at once if that has passed.
    pub(super) fn start(self, apic: &LocalApic, clock: &TimePage, deadline_ns: u64) {
        match self {
            Timer::OneShot { ns_to_counts } => {
                let now_ns = clock.ns_at(ticks());
                apic.start_timer(counts_until(now_ns, deadline_ns, ns_to_counts));
            }
            Timer::TscDeadline { ns_to_ticks } => {
                apic.set_deadline(ticks_at(clock, deadline_ns, ns_to_ticks));
            }
        }
    }

    /// Makes it not fire.
    pub(super) fn stop(self, apic: &LocalApic) {
        match self {
            Timer::OneShot { .. } => apic.stop_timer(),
            Timer::TscDeadline { .. } => apic.set_deadline(0),
        }
    }
}

/// What to load into the timer: at least 1, since 0 would stop it, and at most what it holds. One
/// count more than the quotient, so that the timer does not fire before the deadline.
fn counts_until(now_ns: u64, deadline_ns: u64, ns_to_counts: ClockScale) -> u32 {
    match deadline_ns.checked_sub(now_ns) {
        None | Some(0) => 1,
        Some(wait_ns) => {
            let counts = ns_to_counts.convert(wait_ns).saturating_add(1);
            u32::try_from(counts).unwrap_or(u32::MAX)
        }
    }
}

/// What the counter shows at a time: never 0, which would stop the timer. Both scales are rounded down;
/// two ticks more than the quotient, and the clock has come to the deadline when the timer fires. After
/// two years it may lack a tick: then the timer is armed once more.
fn ticks_at(clock: &TimePage, deadline_ns: u64, ns_to_ticks: ClockScale) -> u64 {
    let since_base_ns = deadline_ns.saturating_sub(clock.base_ns);
    let ticks = ns_to_ticks.convert(since_base_ns).saturating_add(2);
    clock.base_ticks.saturating_add(ticks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scale(hz: u64) -> ClockScale {
        ClockScale::ns_to_ticks(hz).unwrap()
    }

    fn clock(hz: u64, base_ticks: u64) -> TimePage {
        TimePage {
            base_ticks,
            base_ns: 0,
            scale: ClockScale::ticks_to_ns(hz).unwrap(),
            disruption: 0,
            frequency_hz: hz,
        }
    }

    #[test]
    fn a_past_deadline_fires_at_once_and_a_far_one_at_the_counters_end() {
        let scale = scale(1_000_000_000);
        assert_eq!(counts_until(100, 100, scale), 1);
        assert_eq!(counts_until(100, 0, scale), 1);
        assert!((1000..=1001).contains(&counts_until(100, 1100, scale)));
        assert_eq!(counts_until(0, u64::MAX, scale), u32::MAX);
    }

    #[test]
    fn a_deadline_never_stops_the_timer_and_never_goes_round() {
        let scale = scale(3_000_000_000);
        assert_eq!(ticks_at(&clock(3_000_000_000, 0), 0, scale), 2);
        let last = clock(3_000_000_000, u64::MAX - 1);
        assert_eq!(ticks_at(&last, 5, scale), u64::MAX);
        assert_eq!(ticks_at(&last, u64::MAX, scale), u64::MAX);
    }

    proptest! {
        #[test]
        fn the_timer_never_fires_early_unless_the_counter_is_full(hz in 1_000_000u64..4_000_000_000, now in 0u64..1 << 60, wait in 0u64..1 << 40) {
            let counts = counts_until(now, now + wait, scale(hz));
            prop_assert!(counts > 0);
            if counts < u32::MAX {
                let fires_after_ns = u128::from(counts) * 1_000_000_000 / u128::from(hz);
                prop_assert!(fires_after_ns + 1 >= u128::from(wait));
            }
        }

        /// And no more than three ticks and a nanosecond late.
        #[test]
        fn a_deadline_is_met_on_the_clock(hz in 1_000_000u64..10_000_000_000, base in 0u64..1 << 62, deadline in 0u64..1 << 56) {
            let clock = clock(hz, base);
            let at = ticks_at(&clock, deadline, scale(hz));
            if at < u64::MAX {
                prop_assert!(clock.ns_at(at) >= deadline);
                let late_ns = clock.ns_at(at) - deadline;
                prop_assert!(late_ns <= 3_000_000_000 / hz + 1, "{late_ns}");
            }
        }
    }
}
