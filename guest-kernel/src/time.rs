//! The clock by hand: nanoseconds from the time page and the time-stamp counter. The text page has the
//! same as a function; this one judges it.
#![forbid(unsafe_code)]

use core::sync::atomic::AtomicU64;

use nuncio_abi::TimePage;

use crate::instructions::time_stamp_counter;

/// The time now, in nanoseconds since the hypervisor started.
#[inline]
pub fn now_ns(time_page: &[AtomicU64; 512]) -> u64 {
    TimePage::now_ns(time_page, time_stamp_counter)
}
