//! Whether another CPU's time-stamp counter is the boot CPU's: there is one clock for all.
//!
//! The boot CPU asks and the other answers with its counter, many times. An answer was given between the
//! question and its arrival; so the other counter's lead over the boot CPU's lies between what it showed
//! less what the boot CPU's showed at the arrival, and the same less the question's. All exchanges
//! together leave a range. If 0 is in it, nothing that happened has shown a difference.

#![forbid(unsafe_code)]

use core::hint::spin_loop;
use core::sync::atomic::{AtomicU64, Ordering};

use super::{wait, LeftOut};
use crate::cpu::per_cpu::PerCpu;
use crate::cpu::platform::ordered_ticks;
use crate::cpu::Platform;

/// The first exchanges are slow, because code and data come from memory.
const EXCHANGES: u64 = 64;
/// An answer that takes longer than this does not come.
const ANSWER_LIMIT_NS: u64 = 5_000_000_000;

/// Where question and answer lie.
#[derive(Debug)]
pub(crate) struct ClockExchange {
    asked: AtomicU64,
    answered: AtomicU64,
    ticks: AtomicU64,
}

impl ClockExchange {
    pub(crate) const fn new() -> Self {
        ClockExchange {
            asked: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            ticks: AtomicU64::new(0),
        }
    }
}

/// Answers the boot CPU, if it has asked since `answered`.
pub(super) fn answer(cpu: &PerCpu, answered: &mut u64) {
    let exchange = &cpu.clock_exchange;
    let asked = exchange.asked.load(Ordering::Acquire);
    if asked != *answered {
        *answered = asked;
        exchange.ticks.store(ordered_ticks(), Ordering::Relaxed);
        exchange.answered.store(asked, Ordering::Release);
    }
}

/// Compares the counter of a CPU that answers with this one's.
pub(super) fn compare(platform: &Platform, cpu: &PerCpu) -> Result<(), LeftOut> {
    let mut lead = Lead::default();
    for number in 1..=EXCHANGES {
        lead.add(ask(platform, cpu, number).ok_or(LeftOut::NoAnswer)?);
    }
    if lead.is_none() {
        return Ok(());
    }
    log::warn!("a CPU's time-stamp counter is ahead of the boot CPU's by {lead:?} ticks");
    Err(LeftOut::OtherClock)
}

fn ask(platform: &Platform, cpu: &PerCpu, number: u64) -> Option<Exchange> {
    let exchange = &cpu.clock_exchange;
    let asked = ordered_ticks();
    exchange.asked.store(number, Ordering::Release);
    let has_answered = || exchange.answered.load(Ordering::Acquire) == number;
    // The clock is looked at only if it takes long, for it takes time.
    let is_quick = (0..1000).any(|_| {
        let is_there = has_answered();
        if !is_there {
            spin_loop();
        }
        is_there
    });
    let is_there = is_quick || wait(platform, ANSWER_LIMIT_NS, has_answered);
    let arrived = ordered_ticks();
    is_there.then(|| Exchange {
        asked,
        answered: exchange.ticks.load(Ordering::Relaxed),
        arrived,
    })
}

/// One question: the boot CPU's counter, the other one's, and the boot CPU's again.
#[derive(Clone, Copy, Debug)]
struct Exchange {
    asked: u64,
    answered: u64,
    arrived: u64,
}

/// By how many ticks the other counter is ahead: at least and at most.
#[derive(Clone, Copy, Debug)]
struct Lead {
    least: i128,
    most: i128,
    shortest: u64,
}

impl Default for Lead {
    /// Nothing is known.
    fn default() -> Self {
        Lead {
            least: i128::from(i64::MIN),
            most: i128::from(i64::MAX),
            shortest: u64::MAX,
        }
    }
}

impl Lead {
    fn add(&mut self, exchange: Exchange) {
        let answered = i128::from(exchange.answered);
        self.least = self.least.max(answered - i128::from(exchange.arrived));
        self.most = self.most.min(answered - i128::from(exchange.asked));
        let round_trip = exchange.arrived.saturating_sub(exchange.asked);
        self.shortest = self.shortest.min(round_trip);
    }

    /// Whether both counters are one. Half of the shortest round trip is allowed for what rounds: it is
    /// less than a message takes from CPU to CPU, so nobody sees a clock go back. A range without an inside
    /// is that of counters with other rates, and then one of its ends is too far from 0 sooner or later.
    fn is_none(&self) -> bool {
        let allowed = i128::from(self.shortest / 2);
        self.least <= allowed && self.most >= -allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What is found where the other counter is ahead by `lead` and messages take these times.
    fn found(lead: i64, start: u64, ways: &[(u64, u64)]) -> bool {
        let mut found = Lead::default();
        let mut now = start;
        for (there, back) in ways {
            let (asked, seen) = (now, now + there);
            now = seen + back;
            found.add(Exchange {
                asked,
                answered: seen.wrapping_add_signed(lead),
                arrived: now,
            });
        }
        found.is_none()
    }

    #[test]
    fn a_counter_that_differs_by_more_than_a_message_takes_is_found_out() {
        let ways = [(5000, 90), (100, 110), (90, 4000)];
        assert!(found(0, 1 << 40, &ways));
        assert!(found(40, 1 << 40, &ways) && found(-40, 1 << 40, &ways));
        for lead in [300, -300, 1_000_000_000, -1_000_000_000] {
            assert!(!found(lead, 1 << 40, &ways), "{lead}");
        }
    }

    #[test]
    fn a_counter_that_runs_away_is_found_out() {
        let mut lead = Lead::default();
        for round in 0..64 {
            let asked = 1_000_000 + round * 1000;
            lead.add(Exchange {
                asked,
                answered: asked + 100 + round * 50,
                arrived: asked + 200,
            });
        }
        assert!(!lead.is_none(), "{lead:?}");
    }

    #[test]
    fn nothing_is_known_without_an_exchange() {
        let lead = Lead::default();
        assert!(lead.least < 0 && lead.most > 0);
    }

    proptest! {
        #[test]
        fn one_counter_for_both_is_never_refused(start in 0u64..1 << 62, ways in prop::collection::vec((0u64..1 << 40, 0u64..1 << 40), 1..20)) {
            prop_assert!(found(0, start, &ways));
        }

        #[test]
        fn a_lead_of_more_than_the_longest_round_trip_is_always_refused(start in 1u64 << 50..1 << 62, ways in prop::collection::vec((0u64..1 << 40, 1u64..1 << 40), 1..20), is_behind: bool) {
            let longest = ways.iter().map(|(there, back)| there + back).max().unwrap_or(0) as i64;
            let lead = 2 * longest + 1;
            let lead = if is_behind { -lead } else { lead };
            prop_assert!(!found(lead, start, &ways));
        }

        #[test]
        fn any_numbers_are_survived(numbers in prop::collection::vec(any::<(u64, u64, u64)>(), 0..20)) {
            let mut lead = Lead::default();
            for (asked, answered, arrived) in numbers {
                lead.add(Exchange { asked, answered, arrived });
            }
            let _ = lead.is_none();
        }
    }
}
