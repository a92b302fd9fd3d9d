//! The clock, the timer and the interrupts of the CPU that this code runs on.

// UNSAFETY: RDTSC, STI, HLT.
#![allow(unsafe_code)]

use core::arch::asm;
use core::cell::Cell;
use core::sync::atomic::Ordering;

use nuncio_abi::{ClockScale, TimePage};

use super::calibration::measure;
use super::features::CpuFeatures;
use super::local_apic::{self, Command, LocalApic};
use super::local_events::LocalEvents;
use super::per_cpu;
use super::running::RUNNING;
use super::{legacy_pic, stop, traps, Refusal};

/// One CPU's clock, timer and interrupts. Not `Sync`: it stays on its CPU.
#[derive(Debug)]
pub struct Platform {
    events: &'static LocalEvents,
    apic: &'static LocalApic,
    index: usize,
    clock: TimePage,
    ns_to_counts: ClockScale,
    ns_to_ticks: ClockScale,
    /// The deadline for which the timer was last programmed.
    armed: Cell<Option<u64>>,
}

/// What the platforms of all CPUs have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Template {
    clock: TimePage,
    ns_to_counts: ClockScale,
    ns_to_ticks: ClockScale,
}

/// The time-stamp counter, read behind all loads before this and before all that follows (Intel SDM vol. 2,
/// RDTSC).
pub(super) fn ordered_ticks() -> u64 {
    // SAFETY: LFENCE changes nothing.
    unsafe { core::arch::x86_64::_mm_lfence() };
    let now = ticks();
    // SAFETY: as above.
    unsafe { core::arch::x86_64::_mm_lfence() };
    now
}

/// The time-stamp counter.
#[inline]
pub fn ticks() -> u64 {
    // SAFETY: RDTSC changes nothing but its result, and CR4.TSD does not matter in ring 0.
    unsafe { core::arch::x86_64::_rdtsc() }
}

impl Platform {
    /// Sets up the boot CPU's interrupts and measures its clocks; the system clock starts at 0.
    ///
    /// The page tables must map the local APIC. Called once.
    pub fn new(features: &CpuFeatures) -> Result<Self, Refusal> {
        legacy_pic::disable();
        let apic = local_apic::init(features.x2apic)?;
        let rates = measure(apic)?;
        log::info!(
            "{}, timer {} Hz, time-stamp counter {} Hz",
            apic.mode_name(),
            rates.timer_hz,
            rates.tsc_hz
        );
        let scales = (
            ClockScale::ticks_to_ns(rates.tsc_hz),
            ClockScale::ns_to_ticks(rates.timer_hz),
            ClockScale::ns_to_ticks(rates.tsc_hz),
        );
        let (Some(ticks_to_ns), Some(ns_to_counts), Some(ns_to_ticks)) = scales else {
            return Err(Refusal::new(
                "no-clock",
                "A clock of this CPU stands still.",
            ));
        };
        RUNNING.set_boot_cpu(local_apic::own_apic_id());
        let template = Template {
            clock: TimePage {
                base_ticks: ticks(),
                base_ns: 0,
                scale: ticks_to_ns,
                disruption: 0,
                frequency_hz: rates.tsc_hz,
            },
            ns_to_counts,
            ns_to_ticks,
        };
        Ok(Platform::from_template(template, apic))
    }

    /// The platform of the CPU that this runs on, whose local APIC is on; once a CPU.
    pub(super) fn from_template(template: Template, apic: &'static LocalApic) -> Self {
        let cpu = per_cpu::current();
        Platform {
            events: &cpu.events,
            apic,
            index: cpu.index() as usize,
            clock: template.clock,
            ns_to_counts: template.ns_to_counts,
            ns_to_ticks: template.ns_to_ticks,
            armed: Cell::new(None),
        }
    }

    pub(super) fn template(&self) -> Template {
        Template {
            clock: self.clock,
            ns_to_counts: self.ns_to_counts,
            ns_to_ticks: self.ns_to_ticks,
        }
    }

    pub(super) fn apic(&self) -> &'static LocalApic {
        self.apic
    }

    /// The number of this CPU: 0 for the boot CPU, below [`count`](super::count).
    #[inline]
    pub fn index(&self) -> usize {
        self.index
    }

    /// The identifier of this CPU's local APIC.
    pub fn apic_id(&self) -> u32 {
        RUNNING.apic_id(self.index).unwrap_or_default()
    }

    /// Interrupts another CPU: its guest exits, if it has one that was entered with interrupts on, it wakes
    /// from [`Platform::idle`], and its [`Platform::was_signalled`] says so. What was written to memory
    /// before is seen by it then. `false` if no CPU has that number.
    pub fn interrupt(&self, other: usize) -> bool {
        self.send(other, Command::Interrupt(traps::SIGNAL))
    }

    /// Sends an NMI to another CPU: its guest exits, whatever its interrupt flag is, and
    /// [`Platform::nmi_count`] goes up there. `false` if no CPU has that number.
    pub fn send_nmi(&self, other: usize) -> bool {
        self.send(other, Command::Nmi)
    }

    fn send(&self, other: usize, command: Command) -> bool {
        let apic_id = RUNNING.apic_id(other);
        if let Some(apic_id) = apic_id {
            self.apic.send(apic_id, command);
        }
        apic_id.is_some()
    }

    /// Whether another CPU has interrupted this one since this was last asked.
    pub fn was_signalled(&self) -> bool {
        self.events.signalled.swap(false, Ordering::Relaxed)
    }

    /// The time-stamp counter.
    #[inline]
    pub fn ticks(&self) -> u64 {
        ticks()
    }

    /// Nanoseconds since the clock was set up.
    #[inline]
    pub fn now_ns(&self) -> u64 {
        self.clock.ns_at(ticks())
    }

    /// Ticks of the time-stamp counter until the deadline; 0 if it has passed.
    pub fn ticks_until(&self, deadline_ns: u64) -> u64 {
        let wait_ns = deadline_ns.saturating_sub(self.now_ns());
        self.ns_to_ticks.convert(wait_ns)
    }

    /// The clock as guests read it.
    pub fn time_page(&self) -> TimePage {
        self.clock
    }

    /// Makes the timer fire at the deadline, or not at all.
    ///
    /// A deadline in the past fires at once. One further away than the counter reaches fires
    /// early: whoever sees [`Platform::timer_fired`] arms the timer anew. Programming the deadline
    /// for which the timer already runs costs nothing.
    pub fn arm_timer(&self, deadline_ns: Option<u64>) {
        let running = self.events.timer_running.load(Ordering::Relaxed);
        match deadline_ns {
            None if running => {
                self.apic.stop_timer();
                self.events.timer_running.store(false, Ordering::Relaxed);
            }
            Some(deadline_ns) if !running || self.armed.get() != Some(deadline_ns) => {
                let counts = timer_counts(self.now_ns(), deadline_ns, self.ns_to_counts);
                self.events.timer_running.store(true, Ordering::Relaxed);
                self.apic.start_timer(counts);
            }
            _ => {}
        }
        self.armed.set(deadline_ns);
    }

    /// Lets the handlers of pending physical interrupts run.
    #[inline]
    pub fn service_interrupts(&self) {
        // STI takes effect after the instruction that follows it (Intel SDM vol. 2, STI), so the
        // NOP is what makes room for the interrupts.
        //
        // SAFETY: every vector has a handler that saves all registers and returns.
        unsafe { asm!("sti", "nop", "cli", options(nostack)) };
    }

    /// Sleeps until a physical interrupt has been handled.
    pub fn idle(&self) {
        // An interrupt that was already pending is taken after HLT has begun, because of the
        // shadow of STI, and wakes it: none is slept through.
        //
        // SAFETY: as for `service_interrupts`.
        unsafe { asm!("sti", "hlt", "cli", options(nostack)) };
    }

    /// Halts this CPU for ever, with interrupts off. NMIs still come: another CPU can stop it.
    pub fn halt(&self) -> ! {
        stop::halt_for_ever()
    }

    /// Whether the timer has fired since this was last asked.
    pub fn timer_fired(&self) -> bool {
        self.events.timer_fired.swap(false, Ordering::Relaxed)
    }

    /// NMIs that the hypervisor's own handler has seen.
    pub fn nmi_count(&self) -> u64 {
        self.events.nmis.load(Ordering::Relaxed)
    }

    /// Debug exceptions that came to the hypervisor instead of a guest.
    pub fn debug_exception_count(&self) -> u64 {
        self.events.debug_exceptions.load(Ordering::Relaxed)
    }

    /// Interrupts at vectors that nobody programmed.
    pub fn unexpected_interrupt_count(&self) -> u64 {
        self.events.unexpected_interrupts.load(Ordering::Relaxed)
    }
}

/// What to load into the timer: at least 1, since 0 would stop it, and at most what it holds. One
/// count more than the quotient, so that the timer does not fire before the deadline.
fn timer_counts(now_ns: u64, deadline_ns: u64, ns_to_counts: ClockScale) -> u32 {
    match deadline_ns.checked_sub(now_ns) {
        None | Some(0) => 1,
        Some(wait_ns) => {
            let counts = ns_to_counts.convert(wait_ns).saturating_add(1);
            u32::try_from(counts).unwrap_or(u32::MAX)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scale(hz: u64) -> ClockScale {
        ClockScale::ns_to_ticks(hz).unwrap()
    }

    #[test]
    fn a_past_deadline_fires_at_once_and_a_far_one_at_the_counters_end() {
        let scale = scale(1_000_000_000);
        assert_eq!(timer_counts(100, 100, scale), 1);
        assert_eq!(timer_counts(100, 0, scale), 1);
        assert!((1000..=1001).contains(&timer_counts(100, 1100, scale)));
        assert_eq!(timer_counts(0, u64::MAX, scale), u32::MAX);
    }

    proptest! {
        #[test]
        fn the_timer_never_fires_early_unless_the_counter_is_full(hz in 1_000_000u64..4_000_000_000, now in 0u64..1 << 60, wait in 0u64..1 << 40) {
            let counts = timer_counts(now, now + wait, scale(hz));
            prop_assert!(counts > 0);
            if counts < u32::MAX {
                let fires_after_ns = u128::from(counts) * 1_000_000_000 / u128::from(hz);
                prop_assert!(fires_after_ns + 1 >= u128::from(wait));
            }
        }
    }
}
