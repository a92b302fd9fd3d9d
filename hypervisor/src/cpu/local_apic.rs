//! The local APIC: its timer, and the end of interrupts (Intel SDM vol. 3, chapter 10; AMD APM
//! vol. 2, chapter 16).

// UNSAFETY: memory-mapped registers.
#![allow(unsafe_code)]

use spin::Once;

use super::{msr, traps, Refusal};

const IA32_APIC_BASE: u32 = 0x1B;
const BASE_X2APIC: u64 = 1 << 10;
const BASE_ENABLED: u64 = 1 << 11;
const BASE_ADDRESS: u64 = 0x000F_FFFF_FFFF_F000;

/// MSR of the register at offset 0 in x2APIC mode; each 16 bytes of offset are one MSR.
const X2APIC_FIRST: u32 = 0x800;

const TASK_PRIORITY: u32 = 0x80;
const END_OF_INTERRUPT: u32 = 0xB0;
const SPURIOUS: u32 = 0xF0;
const LVT_TIMER: u32 = 0x320;
const LVT_LINT0: u32 = 0x350;
const LVT_LINT1: u32 = 0x360;
const LVT_ERROR: u32 = 0x370;
const INITIAL_COUNT: u32 = 0x380;
const CURRENT_COUNT: u32 = 0x390;
const DIVIDE: u32 = 0x3E0;

const LVT_MASKED: u32 = 1 << 16;
const LVT_NMI: u32 = 0b100 << 8;
const SOFTWARE_ENABLE: u32 = 1 << 8;
const DIVIDE_BY_1: u32 = 0b1011;

/// The boot CPU's APIC, for the interrupt handlers.
static CURRENT: Once<LocalApic> = Once::new();

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
    if let Some(apic) = CURRENT.get() {
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
    Ok(CURRENT.call_once(|| apic))
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
