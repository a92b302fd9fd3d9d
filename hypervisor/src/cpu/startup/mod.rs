//! The other CPUs: how they are started, looked at, and let in or left out.
//!
//! The boot CPU starts one after the other by INIT and start-up interrupts (Intel SDM vol. 3, 8.4.4).
//! Each begins in the low page with the code of `boot/entry.S`, finds its stack in the [`mailbox`], and
//! comes to [`arrive`](arrival::arrive), where it sets itself up like the boot CPU. Then the two compare
//! their time-stamp counters ([`clock`]), and the boot CPU lets it in.
//!
//! Invariant: what a CPU was given is never given to another one, and every step is a change of its
//! [`Phase`] that only one side can make. So a CPU that was given up may wake at any time: it halts.

mod arrival;
mod clock;
mod mailbox;
mod phase;
mod report;

use alloc::vec::Vec;
use core::hint::spin_loop;

use x86_64::registers::control::Cr3;

use super::extended_state::Capabilities;
use super::features::CpuFeatures;
use super::local_apic::{self, Command, LocalApic};
use super::per_cpu::{CpuBlock, MAX_CPUS};
use super::running::RUNNING;
use super::Platform;
use crate::mem::HostPhysical;

pub use arrival::arrive;
pub use mailbox::{Mailbox, APIC_ID_OFFSET, MAILBOX, NO_OFFER, OFFER_OFFSET, STACK_OFFSET};
pub use report::{CpuReport, LeftOut, LeftOutCpu};

pub(super) use clock::ClockExchange;
pub(super) use phase::PhaseCell;

use arrival::{Setup, SETUP};
use mailbox::Trampoline;
use phase::Phase;

/// Waits of the protocol (Intel SDM vol. 3, 8.4.4.1).
const AFTER_INIT_NS: u64 = 10_000_000;
const BETWEEN_STARTS_NS: u64 = 200_000;
/// A CPU that has not come this long after it was started does not come. A real one takes less than a
/// millisecond; that of an emulator on a loaded host is a thread that may have to wait.
const ARRIVAL_LIMIT_NS: u64 = 5_000_000_000;

/// In xAPIC mode a CPU is named by 8 bits, all of which mean everybody (Intel SDM vol. 3, 10.6.2.1).
const HIGHEST_XAPIC_ID: u32 = 254;

/// What an other CPU does when it is let in, with a platform of its own.
pub type Work = fn(Platform) -> !;

/// The CPUs beside the boot CPU, before they are started.
pub struct OtherCpus {
    candidates: Vec<Candidate>,
    trampoline: Option<Trampoline>,
    features: CpuFeatures,
    left_out_beyond: usize,
}

struct Candidate {
    /// Its place in the firmware's list, the boot CPU's being 0.
    position: usize,
    apic_id: u32,
    block: Option<&'static CpuBlock>,
    is_withheld: bool,
}

/// How many CPUs of a list are used beside the boot CPU.
pub fn usable_others(apic_ids: &[u32], boot_cpu: u32) -> usize {
    let others = apic_ids.iter().filter(|apic_id| **apic_id != boot_cpu);
    others.count().min(MAX_CPUS - 1)
}

impl OtherCpus {
    /// Makes blocks for the CPUs of this list without repetitions, in which the boot CPU has the local APIC
    /// `boot_cpu`; the heap must have room for [`usable_others`] blocks.
    ///
    /// To be called before the page tables are built, for which the blocks' guard pages matter.
    /// `low_page` is where they start, if there is a page for that: see [`Trampoline`].
    pub fn prepare(
        apic_ids: &[u32],
        boot_cpu: u32,
        features: CpuFeatures,
        low_page: Option<HostPhysical>,
        code: &'static [u8],
    ) -> Self {
        let others = apic_ids.iter().filter(|apic_id| **apic_id != boot_cpu);
        let candidates: Vec<Candidate> = others
            .zip(1..MAX_CPUS)
            .map(|(apic_id, position)| Candidate {
                position,
                apic_id: *apic_id,
                block: CpuBlock::allocate(),
                is_withheld: false,
            })
            .collect();
        let all = apic_ids.iter().filter(|it| **it != boot_cpu).count();
        OtherCpus {
            left_out_beyond: all - candidates.len(),
            candidates,
            trampoline: low_page.and_then(|page| Trampoline::new(page, code)),
            features,
        }
    }

    /// Makes the last of the CPUs one that never comes: for self tests.
    pub fn withhold_last(&mut self) {
        if let Some(last) = self.candidates.last_mut() {
            last.is_withheld = true;
        }
    }

    /// Starts them one after the other and has each that is like the boot CPU, on which this runs, do
    /// `work`. Takes some 11 ms a CPU, and 1 s for one that does not answer.
    ///
    /// Called once.
    pub fn start(self, platform: &Platform, work: Work) -> CpuReport {
        let setup = Setup {
            features: self.features,
            capabilities: Capabilities::detect(),
            page_tables: Cr3::read().0,
            apic_address: local_apic::memory_address(),
            platform: platform.template(),
            work,
        };
        SETUP.call_once(|| setup);
        let mut report = CpuReport::new(self.left_out_beyond);
        for candidate in &self.candidates {
            match candidate.bring_in(platform, self.trampoline.as_ref()) {
                Ok(()) => {}
                Err(reason) => report.left_out.push(LeftOutCpu {
                    position: candidate.position,
                    apic_id: candidate.apic_id,
                    reason,
                }),
            }
        }
        report.running = RUNNING.count();
        report
    }
}

impl Candidate {
    fn bring_in(
        &self,
        platform: &Platform,
        trampoline: Option<&Trampoline>,
    ) -> Result<(), LeftOut> {
        let trampoline = trampoline.ok_or(LeftOut::NoLowMemory)?;
        let block = self.block.ok_or(LeftOut::NoMemory)?;
        let cpu = block.cpu();
        let apic = platform.apic();
        if !apic.is_x2apic() && self.apic_id > HIGHEST_XAPIC_ID {
            return Err(LeftOut::Unreachable);
        }
        // A CPU that is not the one that the mailbox is for halts: so comes one that is withheld.
        let expected = if self.is_withheld {
            !self.apic_id
        } else {
            self.apic_id
        };
        MAILBOX.open(self.position as u32, expected, block.main_stack_top());
        self.wake(platform, apic, trampoline.page_number());
        let has_come = wait(platform, ARRIVAL_LIMIT_NS, || {
            cpu.phase.get() != Phase::Away
        });
        MAILBOX.close();
        if !has_come && cpu.phase.change(Phase::Away, Phase::LeftOut) {
            return Err(LeftOut::NoAnswer);
        }
        if cpu.phase.get() == Phase::Unfit {
            return Err(cpu.phase.reason());
        }
        let verdict = clock::compare(platform, cpu);
        let index = verdict.and_then(|()| RUNNING.add(self.apic_id).ok_or(LeftOut::NoMemory));
        match index {
            Ok(index) => {
                cpu.set_index(index);
                cpu.phase.change(Phase::Here, Phase::LetIn);
                Ok(())
            }
            Err(reason) => {
                cpu.phase.change(Phase::Here, Phase::LeftOut);
                Err(reason)
            }
        }
    }

    /// INIT, and the start-up interrupt twice, as the protocol has it; a CPU that runs ignores the second.
    fn wake(&self, platform: &Platform, apic: &LocalApic, page: u8) {
        apic.send(self.apic_id, Command::Init);
        wait(platform, AFTER_INIT_NS, || false);
        apic.send(self.apic_id, Command::StartUp { page });
        wait(platform, BETWEEN_STARTS_NS, || false);
        apic.send(self.apic_id, Command::StartUp { page });
    }
}

/// Waits until something holds, at most that long; whether it does.
fn wait(platform: &Platform, limit_ns: u64, mut holds: impl FnMut() -> bool) -> bool {
    let deadline_ns = platform.now_ns().saturating_add(limit_ns);
    loop {
        if holds() {
            return true;
        }
        if platform.now_ns() >= deadline_ns {
            return holds();
        }
        spin_loop();
    }
}
