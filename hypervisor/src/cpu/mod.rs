//! The CPU this code runs on: its modes, tables, interrupts, clock and timer, and its extended
//! registers.
//!
//! [`Platform`] is what the rest of the hypervisor sees; everything else here is set up once by
//! `main.rs` in the order in which the parts depend on each other: [`serial`], [`traps`],
//! [`features`], [`page_tables`], [`Platform`].
//!
//! Invariant: physical interrupts are off (IF=0) except inside [`Platform::service_interrupts`]
//! and [`Platform::idle`]; NMIs and exceptions can come at any time.

mod backtrace;
mod calibration;
mod clock_entry;
mod direct_map;
mod exit;
pub mod extended_state;
pub mod features;
pub mod fixup;
pub mod heap;
mod legacy_pic;
mod local_apic;
mod local_events;
pub mod msr;
pub mod page_tables;
pub mod per_cpu;
mod pit;
mod platform;
mod pm_timer;
mod refusal;
pub mod report;
mod running;
pub mod segments;
pub mod serial;
pub mod stacks;
pub mod startup;
mod stop;
pub mod system_registers;
mod time_options;
mod timer;
mod trap_frame;
pub mod traps;
mod x87;

pub use clock_entry::clock_entry;
pub use direct_map::DirectMap;
pub use exit::{machine_exit, ExitCode, BOCHS_PORT, DEBUG_EXIT_PORT};
pub use extended_state::ExtendedState;
pub use local_apic::{memory_address as local_apic_address, own_apic_id};
pub use platform::{ticks, timer_interrupts, Platform};
pub use pm_timer::PmTimer;
pub use refusal::Refusal;
pub use running::count;
pub use startup::OtherCpus;
pub use time_options::TimeOptions;
pub use trap_frame::TrapFrame;
