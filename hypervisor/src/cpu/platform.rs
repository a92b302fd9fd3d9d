//! The clock, the timer and the interrupts of the CPU that this code runs on.

// UNSAFETY: RDTSC, STI, HLT.
#![allow(unsafe_code)]

use core::arch::asm;
use core::cell::Cell;
use core::sync::atomic::Ordering;

use nuncio_abi::{ClockScale, TimePage};

use super::calibration::{measure, Reference};
use super::features::CpuFeatures;
use super::local_apic::{self, Command, LocalApic};
use super::local_events::LocalEvents;
use super::per_cpu;
use super::running::RUNNING;
use super::time_options::{TimeOptions, TimerKind};
use super::timer::Timer;
use super::{legacy_pic, stop, traps, PmTimer, Refusal};

/// One CPU's clock, timer and interrupts. Not `Sync`: it stays on its CPU.
#[derive(Debug)]
pub struct Platform {
    events: &'static LocalEvents,
    apic: &'static LocalApic,
    index: usize,
    clock: TimePage,
    timer: Timer,
    reference: Reference,
    ns_to_ticks: ClockScale,
    /// The deadline for which the timer was last programmed.
    armed: Cell<Option<u64>>,
}

/// What the platforms of all CPUs have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Template {
    clock: TimePage,
    timer: Timer,
    reference: Reference,
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

/// How often the timers of all CPUs have fired.
pub fn timer_interrupts() -> u64 {
    let count =
        |block: &per_cpu::CpuBlock| block.cpu().events.timer_interrupts.load(Ordering::Relaxed);
    per_cpu::blocks().map(count).sum()
}

impl Platform {
    /// Sets up the boot CPU's interrupts and measures its clocks; the system clock starts at 0. `pm_timer`
    /// is what the firmware's tables name.
    ///
    /// The page tables must map the local APIC. Called once.
    pub fn new(
        features: &CpuFeatures,
        options: TimeOptions,
        pm_timer: Option<PmTimer>,
    ) -> Result<Self, Refusal> {
        legacy_pic::disable();
        let apic = local_apic::init(features.x2apic)?;
        let (rates, reference) = measure(apic, options.reference, pm_timer)?;
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
        let timer = match timer_kind(features, options)? {
            TimerKind::OneShot => Timer::OneShot { ns_to_counts },
            TimerKind::TscDeadline => Timer::TscDeadline { ns_to_ticks },
        };
        log::info!(
            "{}, timer {} Hz, time-stamp counter {} Hz by the {}; the timer is used as {}",
            apic.mode_name(),
            rates.timer_hz,
            rates.tsc_hz,
            reference.name(),
            timer.name(),
        );
        RUNNING.set_boot_cpu(local_apic::own_apic_id());
        let template = Template {
            clock: TimePage {
                base_ticks: ticks(),
                base_ns: 0,
                scale: ticks_to_ns,
                disruption: 0,
                frequency_hz: rates.tsc_hz,
            },
            timer,
            reference,
            ns_to_ticks,
        };
        Ok(Platform::from_template(template, apic))
    }

    /// The platform of the CPU that this runs on, whose local APIC is on; once a CPU.
    pub(super) fn from_template(template: Template, apic: &'static LocalApic) -> Self {
        let cpu = per_cpu::current();
        template.timer.set_up(apic);
        Platform {
            events: &cpu.events,
            apic,
            index: cpu.index() as usize,
            clock: template.clock,
            timer: template.timer,
            reference: template.reference,
            ns_to_ticks: template.ns_to_ticks,
            armed: Cell::new(None),
        }
    }

    pub(super) fn template(&self) -> Template {
        Template {
            clock: self.clock,
            timer: self.timer,
            reference: self.reference,
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

    /// How the timer is programmed, and against what the clocks were measured: words for the report.
    pub const fn time_sources(&self) -> (&'static str, &'static str) {
        (self.timer.name(), self.reference.name())
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
                self.timer.stop(self.apic);
                self.events.timer_running.store(false, Ordering::Relaxed);
            }
            Some(deadline_ns) if !running || self.armed.get() != Some(deadline_ns) => {
                self.events.timer_running.store(true, Ordering::Relaxed);
                self.timer.start(self.apic, &self.clock, deadline_ns);
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

/// How this CPU's timer is to be programmed.
fn timer_kind(features: &CpuFeatures, options: TimeOptions) -> Result<TimerKind, Refusal> {
    match (options.timer, features.tsc_deadline) {
        (Some(TimerKind::TscDeadline), false) => Err(Refusal::new(
            "bad-command-line",
            "the command line says timer=tsc-deadline, and this CPU's timer knows no deadlines",
        )),
        (Some(wanted), _) => Ok(wanted),
        (None, true) => Ok(TimerKind::TscDeadline),
        (None, false) => Ok(TimerKind::OneShot),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_are_used_where_they_are_unless_a_word_says_otherwise() {
        let kind = |tsc_deadline, words| {
            let features = CpuFeatures {
                tsc_deadline,
                ..CpuFeatures::default()
            };
            timer_kind(&features, TimeOptions::parse(words).unwrap()).ok()
        };
        assert_eq!(kind(true, ""), Some(TimerKind::TscDeadline));
        assert_eq!(kind(false, ""), Some(TimerKind::OneShot));
        assert_eq!(kind(true, "timer=one-shot"), Some(TimerKind::OneShot));
        assert_eq!(kind(false, "timer=tsc-deadline"), None);
    }
}
