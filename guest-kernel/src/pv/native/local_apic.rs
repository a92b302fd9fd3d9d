//! The registers of the local APIC (Intel SDM 3A, chapter 10; AMD APM 2, chapter 16): in memory, or as
//! model-specific registers where the CPU has x2APIC.
// UNSAFETY: registers in memory and MSRs.
#![allow(unsafe_code)]

use core::ptr::{read_volatile, write_volatile};
use core::sync::atomic::{fence, Ordering};

use spin::Once;

use crate::instructions::{cpuid, read_msr, write_msr};
use crate::interface::Refusal;
use crate::mm::active;

/// Registers by their numbers: the offset in memory divided by 16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Register {
    /// Its own number.
    Id = 0x02,
    /// Task priority: 0 lets all vectors in.
    TaskPriority = 0x08,
    /// Written to when an interrupt has been handled.
    EndOfInterrupt = 0x0B,
    /// Spurious vector, and the switch that lets it take interrupts.
    Spurious = 0x0F,
    /// Errors since it was last written to.
    ErrorStatus = 0x28,
    /// How the timer interrupts.
    TimerEntry = 0x32,
    /// What the line LINT0 does, the old interrupt controller's.
    Line0Entry = 0x35,
    /// From what the timer counts down; writing starts it.
    InitialCount = 0x38,
    /// What is left of that.
    CurrentCount = 0x39,
    /// By how much the timer's clock is divided.
    DivideConfiguration = 0x3E,
}

/// Where the other half of the interrupt command stands in memory.
const COMMAND_LOW: usize = 0x300;
const COMMAND_HIGH: usize = 0x310;
const DELIVERY_PENDING: u32 = 1 << 12;

const MSR_BASE: u32 = 0x1B;
const BASE_ENABLED: u64 = 1 << 11;
const BASE_X2: u64 = 1 << 10;
const BASE_ADDRESS: u64 = 0x000F_FFFF_FFFF_F000;
const MSR_X2_FIRST: u32 = 0x800;
const MSR_X2_COMMAND: u32 = 0x830;
const REGISTER_BYTES: u64 = 0x400;

/// CPUID 1, EDX and ECX.
const HAS_APIC: u32 = 1 << 9;
const HAS_X2: u32 = 1 << 21;
const HAS_DEADLINE: u32 = 1 << 24;

/// How long a command may be on its way, in readings.
const MOST_READINGS: u32 = 1 << 20;

/// How the registers are reached.
#[derive(Clone, Copy, Debug)]
pub enum LocalApic {
    /// In memory at this address.
    Memory(u64),
    /// By model-specific registers.
    X2,
}

static APIC: Once<LocalApic> = Once::new();

impl LocalApic {
    /// The one of the CPU that asks, switched on: as x2APIC its registers are there only then.
    ///
    /// # Errors
    /// If there is none, or its registers cannot be mapped.
    pub fn find() -> Result<LocalApic, Refusal> {
        if let Some(apic) = APIC.get() {
            return Ok(*apic);
        }
        let [_, _, ecx, edx] = cpuid(1, 0);
        if edx & HAS_APIC == 0 {
            return Err(Refusal("the CPU has no local APIC"));
        }
        let found = if ecx & HAS_X2 != 0 {
            LocalApic::X2
        } else {
            // SAFETY: a CPU with a local APIC has the register.
            let base = unsafe { read_msr(MSR_BASE) } & BASE_ADDRESS;
            let mapped = active::map_device(base, REGISTER_BYTES);
            mapped.map_err(|_| Refusal("its registers cannot be mapped"))?;
            LocalApic::Memory(base)
        };
        found.switch_on();
        Ok(*APIC.call_once(|| found))
    }

    /// Whether its timer can be told a count of the time-stamp counter.
    pub fn has_deadline() -> bool {
        cpuid(1, 0)[2] & HAS_DEADLINE != 0
    }

    /// Switches it on, on the CPU that asks.
    pub fn switch_on(self) {
        // SAFETY: a CPU with a local APIC has the register; the registers stay where they are.
        unsafe {
            let base = read_msr(MSR_BASE) | BASE_ENABLED;
            write_msr(MSR_BASE, base);
            if let LocalApic::X2 = self {
                write_msr(MSR_BASE, base | BASE_X2);
            }
        }
    }

    /// Reads a register.
    pub fn read(self, register: Register) -> u32 {
        match self {
            LocalApic::Memory(base) => Self::read_memory(base, register as usize * 16),
            // SAFETY: a CPU in x2APIC mode has the register.
            LocalApic::X2 => unsafe { read_msr(MSR_X2_FIRST + register as u32) as u32 },
        }
    }

    /// Writes a register.
    pub fn write(self, register: Register, value: u32) {
        match self {
            LocalApic::Memory(base) => Self::write_memory(base, register as usize * 16, value),
            // SAFETY: as for `read`. What is written only has to do with interrupts, which the kernel is
            // ready for.
            LocalApic::X2 => unsafe { write_msr(MSR_X2_FIRST + register as u32, value.into()) },
        }
    }

    /// Its number.
    pub fn id(self) -> u32 {
        match self {
            LocalApic::Memory(_) => self.read(Register::Id) >> 24,
            LocalApic::X2 => self.read(Register::Id),
        }
    }

    /// Sends a command to the one with that number.
    pub fn send(self, to: u32, command: u32) {
        match self {
            LocalApic::Memory(base) => {
                Self::write_memory(base, COMMAND_HIGH, to << 24);
                Self::write_memory(base, COMMAND_LOW, command);
                // ENDS: after that many readings.
                for _ in 0..MOST_READINGS {
                    if Self::read_memory(base, COMMAND_LOW) & DELIVERY_PENDING == 0 {
                        break;
                    }
                    core::hint::spin_loop();
                }
            }
            LocalApic::X2 => {
                // What was written to memory before has to be seen by whoever is interrupted, and a write to
                // this register waits for nothing (Intel SDM 3A, 10.12.3).
                fence(Ordering::SeqCst);
                // SAFETY: as for `write`.
                unsafe { write_msr(MSR_X2_COMMAND, u64::from(to) << 32 | u64::from(command)) }
            }
        }
    }

    fn read_memory(base: u64, offset: usize) -> u32 {
        let address = base as usize + offset;
        // SAFETY: `find` has mapped the registers, which are read 4 bytes at a time.
        unsafe { read_volatile(address as *const u32) }
    }

    fn write_memory(base: u64, offset: usize, value: u32) {
        let address = base as usize + offset;
        // SAFETY: as for `read_memory`; only interrupts depend on what is written.
        unsafe { write_volatile(address as *mut u32, value) }
    }
}
