//! The machine as the vcpu loop sees it.

use alloc::sync::Arc;

use raw_cpuid::native_cpuid::cpuid_count;

use crate::cpu::extended_state::{self, Capabilities};
use crate::cpu::{self, serial, ExtendedState};
use crate::mem::{Account, KernelCharge, OutOfFrames};
use crate::run::{CpuIndex, Platform};
use crate::vt::{Vendor, VirtualCpu};

/// The CPU that this code runs on, with its console.
pub(super) struct HardwarePlatform {
    cpu: cpu::Platform,
    capabilities: Capabilities,
    /// A guest may run on although an interrupt is pending.
    needs_nmi: bool,
}

/// How long another CPU gets to leave its guest before it is interrupted once more, in nanoseconds.
const PATIENCE_NS: u64 = 1_000_000;

/// A vcpu's extended state, and what its account has paid for it.
pub(super) struct PaidState {
    state: ExtendedState,
    _charge: KernelCharge,
}

impl HardwarePlatform {
    /// Once all CPUs that will run do.
    pub(super) fn new<V: Vendor>(cpu: cpu::Platform) -> Self {
        let capabilities = Capabilities::detect();
        HardwarePlatform {
            cpu,
            capabilities: match cpu::count() {
                1 => capabilities,
                _ => capabilities.beside_others(),
            },
            // Where guests have to be limited because they may not leave for the timer's interrupt, they
            // may not leave for another CPU's either.
            needs_nmi: V::Vcpu::LIMITS_RUNS,
        }
    }

    pub(super) fn halt(&self) -> ! {
        self.cpu.halt()
    }
}

impl Platform for HardwarePlatform {
    type Extended = PaidState;

    #[inline]
    fn now_ns(&self) -> u64 {
        self.cpu.now_ns()
    }

    #[inline]
    fn ticks(&self) -> u64 {
        self.cpu.ticks()
    }

    fn arm_timer(&mut self, deadline_ns: Option<u64>) {
        self.cpu.arm_timer(deadline_ns);
    }

    fn ticks_until(&self, deadline_ns: u64) -> u64 {
        self.cpu.ticks_until(deadline_ns)
    }

    fn service_interrupts(&mut self) -> bool {
        self.cpu.service_interrupts();
        self.cpu.timer_fired()
    }

    fn idle(&mut self) {
        self.cpu.idle();
        // What has fired is looked at by the caller, whatever woke the CPU.
        self.cpu.timer_fired();
    }

    fn interrupt(&self, cpu: CpuIndex) {
        // All CPUs that have a loop run.
        let _ = self.cpu.interrupt(cpu.index());
        if self.needs_nmi {
            let _ = self.cpu.send_nmi(cpu.index());
        }
    }

    fn wait_while(&self, cpu: CpuIndex, is_there: &dyn Fn() -> bool) {
        let mut next_ns = self.cpu.now_ns().saturating_add(PATIENCE_NS);
        // ENDS: the other CPU is interrupted again and again, and leaves its guest for that; it waits for
        // nobody until it has said so.
        while is_there() {
            core::hint::spin_loop();
            let now_ns = self.cpu.now_ns();
            if now_ns >= next_ns {
                // An NMI that comes right before the guest is entered is lost for this.
                self.interrupt(cpu);
                next_ns = now_ns.saturating_add(PATIENCE_NS);
            }
        }
    }

    fn new_extended_state(&mut self, account: &Arc<Account>) -> Result<PaidState, OutOfFrames> {
        Ok(PaidState {
            _charge: account.charge_kernel(&[self.capabilities.area_bytes])?,
            state: ExtendedState::new(self.capabilities),
        })
    }

    fn switch_extended_state(&mut self, from: Option<&mut PaidState>, to: &mut PaidState) {
        ExtendedState::switch(from.map(|from| &mut from.state), &to.state);
    }

    fn save_extended_state(&mut self, extended: &mut PaidState) {
        extended.state.take_out();
    }

    fn set_extended_features(&mut self, value: u64) -> bool {
        let is_known = value & !self.capabilities.supported == 0;
        is_known && extended_state::try_write_xcr0(value).is_some()
    }

    fn cpuid(&self, leaf: u32, subleaf: u32) -> [u32; 4] {
        let answer = cpuid_count(leaf, subleaf);
        [answer.eax, answer.ebx, answer.ecx, answer.edx]
    }

    fn console_line(&mut self, domain: &str, line: &str) {
        serial::print(format_args!("[{domain}] {line}\n"));
    }
}
