//! What a CPU does from its first Rust code on until it is let in.

#![forbid(unsafe_code)]

use core::hint::spin_loop;

use spin::Once;
use x86_64::structures::paging::PhysFrame;

use super::phase::Phase;
use super::{clock, LeftOut, Work};
use crate::cpu::extended_state::{self, Capabilities};
use crate::cpu::features::CpuFeatures;
use crate::cpu::local_apic::{self, LocalApic};
use crate::cpu::per_cpu::{self, PerCpu};
use crate::cpu::platform::Template;
use crate::cpu::{page_tables, segments, stop, traps, Platform};

/// What the boot CPU has, for the others.
pub(super) struct Setup {
    pub(super) features: CpuFeatures,
    pub(super) capabilities: Capabilities,
    pub(super) page_tables: PhysFrame,
    pub(super) apic_address: Option<u64>,
    pub(super) platform: Template,
    pub(super) work: Work,
}

/// Set before the first CPU is started.
pub(super) static SETUP: Once<Setup> = Once::new();

/// Called by `entry.S` on each other CPU, on its own stack and the page tables of entry.S.
pub extern "C" fn arrive() -> ! {
    let cpu = per_cpu::current();
    segments::load();
    traps::load_again();
    let Some(setup) = SETUP.get() else {
        stop::halt_for_ever()
    };
    match set_up(setup) {
        Ok(apic) => join(setup, cpu, apic),
        Err(reason) => {
            cpu.phase.become_unfit(reason);
            stop::halt_for_ever()
        }
    }
}

/// Makes this CPU like the boot CPU, as far as it can be.
fn set_up(setup: &Setup) -> Result<&'static LocalApic, LeftOut> {
    if !CpuFeatures::detect().has_all_of(&setup.features) {
        return Err(LeftOut::OtherFeatures);
    }
    setup.features.enable();
    // Their pages cannot be read before no-execute is on.
    page_tables::load_again(setup.page_tables);
    extended_state::enable(&setup.capabilities);
    if Capabilities::detect() != setup.capabilities {
        return Err(LeftOut::OtherFeatures);
    }
    // The page tables map the registers where the boot CPU has them.
    if local_apic::memory_address() != setup.apic_address {
        return Err(LeftOut::NoApic);
    }
    local_apic::init(setup.features.x2apic).map_err(|_| LeftOut::NoApic)
}

/// Answers the boot CPU until it has decided.
fn join(setup: &Setup, cpu: &'static PerCpu, apic: &'static LocalApic) -> ! {
    if !cpu.phase.change(Phase::Away, Phase::Here) {
        stop::halt_for_ever();
    }
    let mut answered = 0;
    // ENDS: the boot CPU lets it in or leaves it out, within its time limits.
    loop {
        clock::answer(cpu, &mut answered);
        match cpu.phase.get() {
            Phase::LetIn => (setup.work)(Platform::from_template(setup.platform, apic)),
            Phase::LeftOut => stop::halt_for_ever(),
            Phase::Away | Phase::Here | Phase::Unfit => spin_loop(),
        }
    }
}
