//! What a CPU has to look at before it enters a guest, and who has to interrupt it for that.

use core::ops::BitOr;
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicU8, Ordering};

/// Where a CPU is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Place {
    /// In the hypervisor; it looks before it leaves it.
    Hypervisor,
    /// In a guest, or about to be.
    Guest,
    /// Asleep, or about to be.
    Asleep,
}

/// What a CPU is told: a set of bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told(u32);

impl Told {
    /// By its own scheduler: the CPU was handed over, and the running vcpu has not gone to sleep.
    pub const OFFER: Told = Told(1 << 0);
    /// By its own scheduler: anything else has changed.
    pub const NEWS: Told = Told(1 << 1);
    /// There is something in its mailbox.
    pub const MAIL: Told = Told(1 << 2);
    /// Cached translations of the space that it uses are wrong.
    pub const FLUSH: Told = Told(1 << 3);
    /// One of its timers is due earlier than it was.
    pub const TIMER: Told = Told(1 << 4);
    /// A domain was given up by its maker.
    pub const ORPHAN: Told = Told(1 << 5);
    /// There is a request. No vcpu may run while it is granted.
    pub const REQUEST: Told = Told(1 << 6);
    /// The run is over.
    pub const OVER: Told = Told(1 << 7);

    /// What comes from other CPUs, or concerns more than the scheduler.
    pub const FOREIGN: Told = Told(!(Self::OFFER.0 | Self::NEWS.0));

    /// Whether any of these is among them.
    pub const fn intersects(self, told: Told) -> bool {
        self.0 & told.0 != 0
    }
}

impl BitOr for Told {
    type Output = Told;

    fn bitor(self, other: Told) -> Told {
        Told(self.0 | other.0)
    }
}

/// Where one CPU is, and what it has been told.
///
/// The CPU says first that it goes, and looks then; others tell it first, and look then where it is. So
/// either it finds what it was told, or they find that it has to be interrupted.
pub struct Attention {
    told: AtomicU32,
    place: AtomicU8,
    /// The number of the space whose translations it uses.
    space: AtomicU64,
}

impl Default for Attention {
    fn default() -> Self {
        Attention {
            told: AtomicU32::new(0),
            place: AtomicU8::new(Place::Hypervisor as u8),
            space: AtomicU64::new(u64::MAX),
        }
    }
}

impl Attention {
    /// The CPU is about to go there, unless it has been told something.
    #[inline(always)]
    pub fn go(&self, place: Place) {
        self.place.store(place as u8, Ordering::SeqCst);
    }

    /// The CPU is back in the hypervisor.
    #[inline(always)]
    pub fn come_back(&self) {
        self.place.store(Place::Hypervisor as u8, Ordering::Release);
    }

    /// The space whose translations the CPU uses from now on. What it reads of the space afterwards is
    /// as new as the last change of which it is not told.
    #[inline]
    pub fn use_space(&self, space: u64) {
        // Only the CPU itself writes it.
        if self.space.load(Ordering::Relaxed) != space {
            self.space.store(space, Ordering::SeqCst);
        }
    }

    /// Whether the CPU uses translations of that space.
    pub fn uses_space(&self, space: u64) -> bool {
        self.space.load(Ordering::SeqCst) == space
    }

    /// Tells the CPU something. Whether it has to be interrupted to hear it soon.
    #[must_use]
    pub fn tell(&self, told: Told) -> bool {
        self.call(told);
        self.place.load(Ordering::SeqCst) != Place::Hypervisor as u8
    }

    /// Tells the CPU something, which is in the hypervisor: this is it.
    #[inline]
    pub fn call(&self, told: Told) {
        self.told.fetch_or(told.0, Ordering::SeqCst);
    }

    /// Takes something back that has not been heard.
    #[inline]
    pub fn take_back(&self, told: Told) {
        self.told.fetch_and(!told.0, Ordering::SeqCst);
    }

    /// Whether the CPU is in a guest and has not heard that.
    pub fn is_deaf_to(&self, told: Told) -> bool {
        Told(self.told.load(Ordering::SeqCst)).intersects(told)
            && self.place.load(Ordering::SeqCst) == Place::Guest as u8
    }

    /// Whether the CPU has been told anything.
    #[inline(always)]
    pub fn is_told(&self) -> bool {
        self.told.load(Ordering::SeqCst) != 0
    }

    /// Whether the CPU has been told anything that concerns more than its scheduler.
    #[inline]
    pub fn is_told_by_others(&self) -> bool {
        Told(self.told.load(Ordering::SeqCst)).intersects(Told::FOREIGN)
    }

    /// What the CPU has been told that concerns more than its scheduler; it has heard it now.
    pub fn hear_others(&self) -> Told {
        let told = self.told.fetch_and(!Told::FOREIGN.0, Ordering::SeqCst);
        Told(told & Told::FOREIGN.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_out_has_to_be_interrupted() {
        let attention = Attention::default();
        assert!(!attention.tell(Told::MAIL));
        for place in [Place::Guest, Place::Asleep] {
            attention.go(place);
            assert!(attention.tell(Told::FLUSH));
            assert_eq!(attention.is_deaf_to(Told::FLUSH), place == Place::Guest);
        }
        attention.come_back();
        assert!(!attention.is_deaf_to(Told::FLUSH) && attention.is_told_by_others());
        assert_eq!(attention.hear_others(), Told::MAIL | Told::FLUSH);
        assert!(!attention.is_told());
    }

    #[test]
    fn what_the_scheduler_has_to_say_is_not_foreign() {
        let attention = Attention::default();
        attention.call(Told::OFFER | Told::NEWS);
        assert!(attention.is_told() && !attention.is_told_by_others());
        assert!(!attention.hear_others().intersects(Told::NEWS));
        attention.take_back(Told::OFFER);
        assert!(attention.is_told());
        attention.take_back(Told::NEWS);
        assert!(!attention.is_told());
    }
}
