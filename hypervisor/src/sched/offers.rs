//! What sleeping vcpus lend to vcpus of other CPUs, where these CPUs find it.
//!
//! A lender's CPU writes what it lends, and then the number of the offer, which is odd. Whoever ends the
//! offer makes the number even: the lender's CPU when the lender wakes up, or the one that wakes it. No number comes
//! again, so a borrower that has noted it sees by one look that its loan is over. It adds up what it uses, and
//! the lender's CPU takes that and charges it.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::pieces::Pieces;
use super::{Allowance, Priority, VcpuId};

/// The offers of all vcpus.
pub struct Offers(Pieces<Place>);

/// What belongs to one vcpu.
#[derive(Default)]
struct Place {
    /// Of its last offer: odd while that stands.
    number: AtomicU64,
    /// To whom, and above that with which priority.
    to: AtomicU64,
    /// What is left of the budget that is lent; all 0 without one.
    allowance: [AtomicU64; Allowance::WORDS],
    /// What has been used of it since its own CPU took that last, in nanoseconds.
    used_ns: AtomicU64,
    /// The most urgent one who has made it an offer since it looked last, see [`Caller::pack`]; 0 if nobody.
    best: AtomicU64,
    /// How it is scheduled itself, see [`own`].
    own: AtomicU32,
}

/// An offer as its borrower sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Offered {
    pub(super) number: u64,
    pub(super) priority: Priority,
    /// What is left of the budget that is lent, if there is one.
    pub(super) allowance: Option<Allowance>,
}

/// Who has made an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Caller {
    pub(super) vcpu: VcpuId,
    pub(super) priority: Priority,
    /// Whether the borrower has been given its message, and does not find it in a queue.
    pub(super) is_served: bool,
}

impl Default for Offers {
    fn default() -> Self {
        Offers(Pieces::new())
    }
}

impl Offers {
    /// Makes room for a vcpu; false if there are too many.
    pub fn reserve(&self, id: VcpuId) -> bool {
        self.0.make(id).is_some()
    }

    /// Says how a vcpu is scheduled itself, for those that think of lending it something.
    pub(super) fn set_own(&self, id: VcpuId, priority: Priority, is_limited: bool) {
        if let Some(place) = self.0.get(id) {
            place
                .own
                .store(own(priority, is_limited), Ordering::Relaxed);
        }
    }

    /// Whether a vcpu has something of a loan with that priority, as far as is known here.
    pub(super) fn gains(&self, id: VcpuId, priority: Priority) -> bool {
        let place = self.0.get(id);
        place.is_some_and(|place| place.own.load(Ordering::Relaxed) < own(priority, false))
    }

    /// A vcpu offers another one what it has. Its earlier offer has ended.
    pub(super) fn make(
        &self,
        from: VcpuId,
        to: VcpuId,
        priority: Priority,
        allowance: Option<Allowance>,
    ) {
        let Some(place) = self.0.get(from) else {
            return;
        };
        // Whoever reads one of these values finds the number before them changed, too.
        let level = u64::from(priority.level()) << u32::BITS;
        place.to.store(level | u64::from(to.0), Ordering::Release);
        let words = allowance.map_or([0; Allowance::WORDS], Allowance::to_words);
        for (place, word) in place.allowance.iter().zip(words) {
            place.store(word, Ordering::Release);
        }
        // Others change an odd number only.
        place.number.fetch_add(1, Ordering::AcqRel);
    }

    /// Leaves word of an offer for the borrower's CPU. Of several the most urgent one stays.
    pub(super) fn announce(&self, to: VcpuId, caller: Caller) {
        if let Some(place) = self.0.get(to) {
            let packed = caller.pack();
            let keep_best = |best: u64| (best < packed).then_some(packed);
            let _ = place
                .best
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, keep_best);
        }
    }

    /// Takes the most urgent one who has left word.
    pub(super) fn take_best(&self, to: VcpuId) -> Option<Caller> {
        Caller::unpack(self.0.get(to)?.best.swap(0, Ordering::AcqRel))
    }

    /// What one vcpu offers another one now.
    pub(super) fn get(&self, from: VcpuId, to: VcpuId) -> Option<Offered> {
        let place = self.0.get(from)?;
        let number = place.number.load(Ordering::Acquire);
        let whom = place.to.load(Ordering::Acquire);
        let words = core::array::from_fn(|index| {
            let word = place.allowance.get(index);
            word.map_or(0, |word| word.load(Ordering::Acquire))
        });
        let stands = is_odd(number) && place.number.load(Ordering::Acquire) == number;
        let is_for_it = whom as u32 == to.0;
        (stands && is_for_it).then(|| Offered {
            number,
            priority: Priority::of_level((whom >> u32::BITS) as u8),
            allowance: Allowance::from_words(words),
        })
    }

    /// Whether a vcpu's offer of that number stands.
    pub(super) fn lasts(&self, from: VcpuId, number: u64) -> bool {
        let place = self.0.get(from);
        place.is_some_and(|place| place.number.load(Ordering::Acquire) == number)
    }

    /// A vcpu waits no longer: its offer is over, if there is one.
    pub fn end(&self, from: VcpuId) {
        if let Some(place) = self.0.get(from) {
            let end = |number: u64| is_odd(number).then(|| number.wrapping_add(1));
            let _ = place
                .number
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, end);
        }
    }

    /// So much time of what a vcpu has lent was used.
    pub(super) fn add_use(&self, from: VcpuId, ns: u64) {
        if let Some(place) = self.0.get(from) {
            place.used_ns.fetch_add(ns, Ordering::AcqRel);
        }
    }

    /// Takes how much was used since the last time.
    pub(super) fn take_use(&self, from: VcpuId) -> u64 {
        let place = self.0.get(from);
        place.map_or(0, |place| place.used_ns.swap(0, Ordering::AcqRel))
    }
}

const fn is_odd(number: u64) -> bool {
    number & 1 != 0
}

/// How a vcpu is scheduled, as a number that is less than that of any priority which is of use to it.
fn own(priority: Priority, is_limited: bool) -> u32 {
    if is_limited {
        return 0;
    }
    u32::from(priority.level()) + 1
}

impl Caller {
    /// One that is more urgent is a larger number, and so is, of two equals, the one that is served.
    fn pack(self) -> u64 {
        let urgency = u64::from(self.priority.level()) << 1 | u64::from(self.is_served);
        // Not 0, whatever it is.
        (urgency + 1) << u32::BITS | u64::from(self.vcpu.0)
    }

    fn unpack(packed: u64) -> Option<Self> {
        let urgency = (packed >> u32::BITS).checked_sub(1)?;
        Some(Caller {
            vcpu: VcpuId(packed as u32),
            priority: Priority::of_level((urgency >> 1) as u8),
            is_served: urgency & 1 != 0,
        })
    }
}

// The first piece of the table is made for the first vcpu.
const _: () = assert!(size_of::<Place>() == 64);

#[cfg(test)]
mod tests {
    use super::*;
    use nuncio_abi::Budget;

    const LENDER: VcpuId = VcpuId(3);
    const BORROWER: VcpuId = VcpuId(700);
    const LOW: Priority = Priority::of_level(10);
    const HIGH: Priority = Priority::of_level(40);

    fn offers() -> Offers {
        let offers = Offers::default();
        assert!(offers.reserve(LENDER) && offers.reserve(BORROWER));
        offers
    }

    #[test]
    fn an_offer_stands_until_somebody_ends_it_and_is_for_one() {
        let offers = offers();
        assert!(offers.get(LENDER, BORROWER).is_none());
        let budget = Budget::new(2_000_000, 10_000_000).unwrap();
        let allowance = Allowance::new(budget, 5);
        offers.make(LENDER, BORROWER, HIGH, Some(allowance));
        let offered = offers.get(LENDER, BORROWER).unwrap();
        assert_eq!(offered.priority, HIGH);
        let copy = offered.allowance.unwrap();
        assert_eq!(copy.to_words(), allowance.to_words());
        assert!(offers.lasts(LENDER, offered.number));
        assert!(offers.get(LENDER, LENDER).is_none());
        for _ in 0..2 {
            offers.end(LENDER);
            assert!(offers.get(LENDER, BORROWER).is_none());
        }
        assert!(!offers.lasts(LENDER, offered.number));
        offers.make(LENDER, BORROWER, LOW, None);
        assert!(!offers.lasts(LENDER, offered.number), "another one");
        assert!(offers.get(LENDER, BORROWER).unwrap().allowance.is_none());
    }

    #[test]
    fn the_most_urgent_word_stays_until_it_is_taken() {
        let offers = offers();
        let caller = |number, priority, is_served| Caller {
            vcpu: VcpuId(number),
            priority,
            is_served,
        };
        let least = caller(0, Priority::of_level(0), false);
        offers.announce(BORROWER, least);
        assert_eq!(offers.take_best(BORROWER), Some(least));
        offers.announce(BORROWER, caller(9, LOW, true));
        offers.announce(BORROWER, caller(1, HIGH, true));
        offers.announce(BORROWER, caller(8, HIGH, false));
        assert_eq!(offers.take_best(BORROWER), Some(caller(1, HIGH, true)));
        assert_eq!(offers.take_best(BORROWER), None);
    }

    #[test]
    fn who_is_as_urgent_gains_nothing_unless_its_own_time_is_limited() {
        let offers = offers();
        offers.set_own(BORROWER, LOW, false);
        assert!(!offers.gains(BORROWER, LOW) && offers.gains(BORROWER, HIGH));
        offers.set_own(BORROWER, HIGH, true);
        assert!(offers.gains(BORROWER, Priority::of_level(0)));
        assert!(!offers.gains(VcpuId(70_000), HIGH), "nobody");
    }

    #[test]
    fn what_was_used_is_taken_once() {
        let offers = offers();
        offers.add_use(LENDER, 5);
        offers.add_use(LENDER, 6);
        assert_eq!([offers.take_use(LENDER), offers.take_use(LENDER)], [11, 0]);
    }
}
