//! Clocks: the power-management timer (ACPI 6.4, 4.8.3.3 and 5.2.9), and the HPET (IA-PC HPET 1.0a, 3.2.4).

use super::root::Table;
use crate::boot::physical::PhysicalBytes;

/// Places in the table of fixed hardware.
const TIMER_PORT: u64 = 76;
const TIMER_BYTES: u64 = 91;
const FLAGS: u64 = 112;
const NEW_TIMER: u64 = 208;
/// Flag: the timer has 32 bits, not 24.
const TIMER_IS_WIDE: u32 = 1 << 8;
/// Flag: the machine has none of this hardware.
const NO_FIXED_HARDWARE: u32 = 1 << 20;

/// The place of a register in the HPET's table.
const HPET_REGISTER: u64 = 40;

/// What kind of address a generic address is (5.2.3.2).
const MEMORY: u8 = 0;
const PORTS: u8 = 1;

/// A counter that runs at 3.579545 MHz.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PmTimer {
    /// The I/O port at which it is read, 32 bits at once.
    pub port: u16,
    /// Bits that count.
    pub bits: u32,
}

/// The timer that the table of fixed hardware (FADT) describes.
pub(super) fn pm_timer(memory: &impl PhysicalBytes, table: Table) -> Option<PmTimer> {
    let flags = table.record::<4>(memory, FLAGS)?.u32(0);
    if flags & NO_FIXED_HARDWARE != 0 {
        return None;
    }
    let new = table.record::<12>(memory, NEW_TIMER);
    let new = new.filter(|register| register.u8(0) == PORTS && register.u64(4) != 0);
    let port = match new {
        Some(register) => register.u64(4),
        // Whoever has no timer says that it has no bytes.
        None if table.record::<1>(memory, TIMER_BYTES)?.u8(0) != 4 => return None,
        None => table.record::<4>(memory, TIMER_PORT)?.u32(0).into(),
    };
    Some(PmTimer {
        port: u16::try_from(port).ok().filter(|port| *port != 0)?,
        bits: if flags & TIMER_IS_WIDE == 0 { 24 } else { 32 },
    })
}

/// The address of the registers that the HPET's table names.
pub(super) fn hpet(memory: &impl PhysicalBytes, table: Table) -> Option<u64> {
    let register = table.record::<12>(memory, HPET_REGISTER)?;
    let address = register.u64(4);
    (register.u8(0) == MEMORY && address != 0).then_some(address)
}
