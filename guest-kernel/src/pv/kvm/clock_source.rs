//! KVM's clock: words that KVM keeps up to date.
// UNSAFETY: an MSR that has KVM write to memory.
#![allow(unsafe_code)]

use core::sync::atomic::AtomicU64;

use super::{features, Place};
use crate::instructions::{time_stamp_counter, write_msr};
use crate::interface::{ClockSource, Refusal};
use crate::pv::pvclock::{PvClock, WORDS};

/// The second version of the clock, by the MSR below.
const FEATURE_CLOCK: u32 = 1 << 3;
const MSR_CLOCK: u32 = 0x4B56_4D01;
const ENABLED: u64 = 1;

/// Not across a page: the alignment is the size.
#[repr(align(32))]
struct Shared([AtomicU64; WORDS]);

static SHARED: Shared = Shared([const { AtomicU64::new(0) }; WORDS]);

struct KvmClock;

impl ClockSource for KvmClock {
    fn now_ns(&self) -> u64 {
        match PvClock::read(&SHARED.0, time_stamp_counter) {
            Some((clock, ticks)) => clock.ns_at(ticks),
            // Its rate made sense when the clock was opened; KVM would have broken its word.
            None => 0,
        }
    }
}

pub(super) fn open(place: &Place) -> Result<&'static dyn ClockSource, Refusal> {
    if features(place)? & FEATURE_CLOCK == 0 {
        return Err(Refusal("KVM does not offer its clock"));
    }
    let address = core::ptr::from_ref(&SHARED).addr() as u64;
    // SAFETY: KVM has the register, as it says. Addresses are where they seem to be, and KVM writes to atomics
    // only, for as long as the kernel runs.
    unsafe { write_msr(MSR_CLOCK, address | ENABLED) }
    let read = PvClock::read(&SHARED.0, time_stamp_counter);
    match read {
        // All CPUs read the words of the first.
        Some((clock, ticks)) if clock.is_one_for_all() && clock.ns_at(ticks) > 0 => Ok(&KvmClock),
        other => {
            // SAFETY: as above.
            unsafe { write_msr(MSR_CLOCK, 0) }
            Err(Refusal(match other {
                Some(_) => "it is not the same for all CPUs here",
                None => "its rate makes no sense",
            }))
        }
    }
}
