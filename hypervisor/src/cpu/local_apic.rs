//! The local APIC: its timer, and the end of interrupts (Intel SDM vol. 3, chapter 10; AMD APM
//! vol. 2, chapter 16).

// UNSAFETY: memory-mapped registers.
#![allow(unsafe_code)]

use core::hint::spin_loop;
use core::sync::atomic::{fence, Ordering};

use raw_cpuid::native_cpuid::cpuid_count;

use super::{msr, per_cpu, traps, Refusal};

const IA32_APIC_BASE: u32 = 0x1B;
const BASE_X2APIC: u64 = 1 << 10;
const BASE_ENABLED: u64 = 1 << 11;
const BASE_ADDRESS: u64 = 0x000F_FFFF_FFFF_F000;

const IA32_TSC_DEADLINE: u32 = 0x6E0;

/// MSR of the register at offset 0 in x2APIC mode; each 16 bytes of offset are one MSR.
const X2APIC_FIRST: u32 = 0x800;

const TASK_PRIORITY: u32 = 0x80;
const END_OF_INTERRUPT: u32 = 0xB0;
const SPURIOUS: u32 = 0xF0;
const COMMAND: u32 = 0x300;
const COMMAND_DESTINATION: u32 = 0x310;
const LVT_TIMER: u32 = 0x320;
const LVT_LINT0: u32 = 0x350;
const LVT_LINT1: u32 = 0x360;
const LVT_ERROR: u32 = 0x370;
const INITIAL_COUNT: u32 = 0x380;
const CURRENT_COUNT: u32 = 0x390;
const DIVIDE: u32 = 0x3E0;

const LVT_MASKED: u32 = 1 << 16;
const LVT_NMI: u32 = 0b100 << 8;
const LVT_TSC_DEADLINE: u32 = 0b10 << 17;
const SOFTWARE_ENABLE: u32 = 1 << 8;
const DIVIDE_BY_1: u32 = 0b1011;

/// The last command has not been taken yet (xAPIC only).
const DELIVERY_PENDING: u32 = 1 << 12;
/// More polls than a command takes to be delivered: some microseconds.
const MAX_DELIVERY_POLLS: u32 = 1 << 16;

/// CPUID leaves with the identifier of the local APIC (Intel SDM vol. 2, CPUID).
const LEAF_BASIC: u32 = 1;
const LEAF_TOPOLOGY: u32 = 0xB;

/// What one CPU can send to another (Intel SDM vol. 3, 10.6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// An interrupt at this vector.
    Interrupt(u8),
    /// An NMI.
    Nmi,
    /// INIT: the CPU waits for a start-up interrupt.
    Init,
    /// Start in real mode at the beginning of this page.
    StartUp { page: u8 },
}

impl Command {
    /// The lower half of the interrupt command register. Bit 14, "assert", is 1 but for one kind of INIT.
    const fn word(self) -> u32 {
        const ASSERT: u32 = 1 << 14;
        match self {
            Command::Interrupt(vector) => ASSERT | vector as u32,
            Command::Nmi => ASSERT | 0b100 << 8,
            Command::Init => ASSERT | 0b101 << 8,
            Command::StartUp { page } => ASSERT | 0b110 << 8 | page as u32,
        }
    }
}

/// The identifier of this CPU's local APIC, as the firmware's tables have it. `entry.S` reads it in the
/// same way.
pub fn own_apic_id() -> u32 {
    if cpuid_count(0, 0).eax >= LEAF_TOPOLOGY {
        let topology = cpuid_count(LEAF_TOPOLOGY, 0);
        if topology.ebx != 0 {
            return topology.edx;
        }
    }
    cpuid_count(LEAF_BASIC, 0).ebx >> 24
}

/// How the registers are reached.
#[derive(Debug)]
pub(super) enum LocalApic {
    /// In memory, at this address.
    Memory(u64),
    /// As MSRs.
    X2Apic,
}

/// Where the registers lie in memory, whether or not they are used that way.
pub fn memory_address() -> Option<u64> {
    Some(msr::read(IA32_APIC_BASE)? & BASE_ADDRESS)
}

/// Tells the APIC that an interrupt has been handled.
pub(super) fn end_of_interrupt() {
    if let Some(apic) = per_cpu::current().apic.get() {
        apic.write(END_OF_INTERRUPT, 0);
    }
}

/// Turns this CPU's APIC on, with its timer stopped and everything but NMIs masked.
pub(super) fn init(has_x2apic: bool) -> Result<&'static LocalApic, Refusal> {
    let apic = enable(has_x2apic).ok_or_else(|| {
        Refusal::new(
            "no-apic",
            "The local APIC cannot be turned on; Nuncio needs its timer.",
        )
    })?;
    apic.write(SPURIOUS, SOFTWARE_ENABLE | u32::from(traps::SPURIOUS));
    apic.write(TASK_PRIORITY, 0);
    apic.write(LVT_LINT0, LVT_MASKED);
    apic.write(LVT_LINT1, LVT_NMI);
    apic.write(LVT_ERROR, LVT_MASKED);
    apic.write(DIVIDE, DIVIDE_BY_1);
    apic.stop_timer();
    Ok(per_cpu::current().apic.call_once(|| apic))
}

/// x2APIC if there is one: it needs no mapping, and with it a write is complete when the
/// instruction is. It cannot be left again without turning the APIC off (Intel SDM vol. 3,
/// 10.12.5), so a firmware that turned it on decides.
fn enable(has_x2apic: bool) -> Option<LocalApic> {
    let base = msr::read(IA32_APIC_BASE)?;
    let use_x2apic = has_x2apic || base & BASE_X2APIC != 0;
    if base & BASE_ENABLED == 0 {
        write_base(base | BASE_ENABLED)?;
    }
    if use_x2apic {
        write_base(base | BASE_ENABLED | BASE_X2APIC)?;
        Some(LocalApic::X2Apic)
    } else {
        Some(LocalApic::Memory(base & BASE_ADDRESS))
    }
}

fn wait_for_stores() {
    // SAFETY: fences change nothing.
    unsafe {
        core::arch::x86_64::_mm_mfence();
        core::arch::x86_64::_mm_lfence();
    }
}

fn write_base(value: u64) -> Option<()> {
    // SAFETY: the address of the registers stays; only the mode changes, and before anyone uses
    // the registers.
    unsafe { msr::write(IA32_APIC_BASE, value) }
}

impl LocalApic {
    /// A word for the log.
    pub(super) fn mode_name(&self) -> &'static str {
        match self {
            LocalApic::Memory(_) => "xAPIC",
            LocalApic::X2Apic => "x2APIC",
        }
    }

    /// Whether CPUs are named by 32 bits, and not by 8.
    pub(super) fn is_x2apic(&self) -> bool {
        matches!(self, LocalApic::X2Apic)
    }

    /// Sends something to the CPU with this local APIC.
    pub(super) fn send(&self, apic_id: u32, command: Command) {
        // Who gets it is to see what was written before.
        fence(Ordering::SeqCst);
        match self {
            LocalApic::Memory(_) => {
                self.wait_for_delivery();
                self.write(COMMAND_DESTINATION, apic_id << 24);
                self.write(COMMAND, command.word());
                self.wait_for_delivery();
            }
            LocalApic::X2Apic => {
                // This write may pass earlier ones to memory, unless MFENCE and LFENCE stand before it (Intel
                // SDM vol. 3, 10.12.3).
                wait_for_stores();
                let word = u64::from(apic_id) << 32 | u64::from(command.word());
                // SAFETY: interrupts go to vectors with handlers; what starts a CPU starts it where code
                // for that is (`startup`).
                let _ = unsafe { msr::write(X2APIC_FIRST + (COMMAND >> 4), word) };
            }
        }
    }

    /// An APIC that never gets rid of a command must not stop the hypervisor.
    fn wait_for_delivery(&self) {
        for _ in 0..MAX_DELIVERY_POLLS {
            if self.read(COMMAND) & DELIVERY_PENDING == 0 {
                return;
            }
            spin_loop();
        }
    }

    /// Fires once, after that many counts.
    pub(super) fn start_timer(&self, counts: u32) {
        self.write(LVT_TIMER, u32::from(traps::TIMER));
        self.write(INITIAL_COUNT, counts);
    }

    /// Counts down without firing, for measurements.
    pub(super) fn start_masked_count(&self, counts: u32) {
        self.write(LVT_TIMER, LVT_MASKED | u32::from(traps::TIMER));
        self.write(INITIAL_COUNT, counts);
    }

    /// An initial count of 0 stops the timer (Intel SDM vol. 3, 10.5.4).
    pub(super) fn stop_timer(&self) {
        self.write(INITIAL_COUNT, 0);
        self.write(LVT_TIMER, LVT_MASKED | u32::from(traps::TIMER));
    }

    /// From now on the timer fires when the time-stamp counter has come to a deadline; none is set. The
    /// CPU must have this mode.
    pub(super) fn use_deadlines(&self) {
        self.write(LVT_TIMER, LVT_TSC_DEADLINE | u32::from(traps::TIMER));
        // In memory this write may come behind that of the first deadline, which would be lost then (Intel
        // SDM vol. 3, 10.5.4.1).
        wait_for_stores();
        self.set_deadline(0);
    }

    /// The count of the time-stamp counter at which the timer fires, once; 0 stops it.
    #[inline]
    pub(super) fn set_deadline(&self, ticks: u64) {
        // SAFETY: the timer's vector has a handler. The register is there: `use_deadlines` says so.
        let _ = unsafe { msr::write(IA32_TSC_DEADLINE, ticks) };
    }

    /// What is left of the count.
    pub(super) fn current_count(&self) -> u32 {
        self.read(CURRENT_COUNT)
    }

    fn read(&self, register: u32) -> u32 {
        match self {
            LocalApic::Memory(base) => {
                let pointer = (base + u64::from(register)) as *const u32;
                // SAFETY: the page tables map the page of the registers uncached, and the
                // registers of this module are aligned and readable.
                unsafe { pointer.read_volatile() }
            }
            // In x2APIC mode these registers exist (Intel SDM vol. 3, table 10-6).
            LocalApic::X2Apic => msr::read(X2APIC_FIRST + (register >> 4)).unwrap_or(0) as u32,
        }
    }

    fn write(&self, register: u32, value: u32) {
        match self {
            LocalApic::Memory(base) => {
                let pointer = (base + u64::from(register)) as *mut u32;
                // SAFETY: as for `read`. The values written here make the APIC deliver interrupts
                // only at vectors that have handlers.
                unsafe { pointer.write_volatile(value) };
            }
            LocalApic::X2Apic => {
                // SAFETY: as above; no register of the APIC touches memory.
                let _ = unsafe { msr::write(X2APIC_FIRST + (register >> 4), u64::from(value)) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_those_of_the_manual() {
        // Intel SDM vol. 3, 8.4.4.1 has the second and the third in its example.
        for (command, word) in [
            (Command::Interrupt(0x41), 0x4041),
            (Command::Init, 0x4500),
            (Command::StartUp { page: 0x9E }, 0x469E),
            (Command::Nmi, 0x4400),
        ] {
            assert_eq!(command.word(), word, "{command:?}");
        }
    }
}
