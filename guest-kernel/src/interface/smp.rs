//! The other CPUs.

use core::fmt;

use super::Signal;

/// A CPU, counted from 0, the one on which the kernel began.
pub type CpuNumber = usize;

/// Where a CPU begins.
#[derive(Clone, Copy, Debug)]
pub struct CpuStart {
    /// What it runs, with interrupts off: a function of the System V ABI that does not return, and gets `argument`.
    pub entry: extern "C" fn(argument: u64) -> !,
    /// The address just past its stack, a multiple of 16.
    pub stack_top: u64,
    /// The argument.
    pub argument: u64,
    /// The address of its page tables.
    pub page_table: u64,
}

/// Why a CPU does not start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartError {
    /// There is no such CPU, or it is this one.
    NoSuchCpu,
    /// It has been started already.
    Running,
    /// There is no memory for its stacks.
    NoMemory,
    /// It was told to start and did not.
    Silent,
    /// The hypervisor refused, with its number for that.
    Hypervisor(u64),
}

impl fmt::Display for StartError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::NoSuchCpu => formatter.write_str("there is no such CPU"),
            StartError::Running => formatter.write_str("it runs already"),
            StartError::NoMemory => formatter.write_str("there is no memory for its stacks"),
            StartError::Silent => formatter.write_str("it does not come up"),
            StartError::Hypervisor(number) => write!(formatter, "the hypervisor's error {number}"),
        }
    }
}

/// Starts CPUs, and carries signals between them.
pub trait Smp: Sync {
    /// How many CPUs there are, at least 1.
    fn count(&self) -> usize;

    /// Starts a CPU beside the one that asks.
    ///
    /// # Errors
    /// The reason; the CPU does not run then.
    fn start(&self, cpu: CpuNumber, start: &CpuStart) -> Result<(), StartError>;

    /// Interrupts a CPU that has been started, or this one. Signals of a kind that have not arrived may become
    /// one.
    fn signal(&self, cpu: CpuNumber, signal: Signal);
}
