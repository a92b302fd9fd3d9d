//! What came of starting the other CPUs.

#![forbid(unsafe_code)]

use alloc::vec::Vec;
use core::fmt;

/// Which CPUs run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuReport {
    /// How many, with the boot CPU.
    pub running: usize,
    /// Those that do not, in the firmware's order.
    pub left_out: Vec<LeftOutCpu>,
    /// How many the machine has beyond the most that are used; none of them was touched.
    pub beyond: usize,
}

/// A CPU that is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeftOutCpu {
    /// Its place in the firmware's list, in which the boot CPU's is 0.
    pub position: usize,
    /// Its local APIC.
    pub apic_id: u32,
    /// Why.
    pub reason: LeftOut,
}

/// Why a CPU is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum LeftOut {
    /// It did not come within a second.
    NoAnswer,
    /// There is no page of RAM below 1 MiB in which it could begin.
    NoLowMemory,
    /// There is no memory for its stacks.
    NoMemory,
    /// Its local APIC has a number that the boot CPU's cannot send to.
    Unreachable,
    /// It lacks something that the boot CPU has.
    OtherFeatures,
    /// Its local APIC cannot be turned on, or lies where the boot CPU's does not.
    NoApic,
    /// Its time-stamp counter is not the boot CPU's.
    OtherClock,
}

impl LeftOut {
    /// Every reason.
    pub const ALL: [LeftOut; 7] = [
        LeftOut::NoAnswer,
        LeftOut::NoLowMemory,
        LeftOut::NoMemory,
        LeftOut::Unreachable,
        LeftOut::OtherFeatures,
        LeftOut::NoApic,
        LeftOut::OtherClock,
    ];

    /// A word for the report.
    pub const fn name(self) -> &'static str {
        match self {
            LeftOut::NoAnswer => "no-answer",
            LeftOut::NoLowMemory => "no-low-memory",
            LeftOut::NoMemory => "no-memory",
            LeftOut::Unreachable => "unreachable",
            LeftOut::OtherFeatures => "other-features",
            LeftOut::NoApic => "no-apic",
            LeftOut::OtherClock => "other-clock",
        }
    }
}

impl CpuReport {
    pub(super) fn new(beyond: usize) -> Self {
        CpuReport {
            running: 1,
            left_out: Vec::new(),
            beyond,
        }
    }
}

/// The record of the report.
impl fmt::Display for LeftOutCpu {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (position, apic_id) = (self.position, self.apic_id);
        let reason = self.reason.name();
        write!(
            formatter,
            "@cpu index={position} apic_id={apic_id} left_out={reason}"
        )
    }
}
