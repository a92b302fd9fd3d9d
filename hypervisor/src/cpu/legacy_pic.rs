//! The two 8259 interrupt controllers: moved away from the exceptions' vectors, and masked.

// UNSAFETY: port I/O.
#![allow(unsafe_code)]

use x86_64::instructions::port::PortWriteOnly;

use super::traps;

const FIRST_COMMAND: u16 = 0x20;
const FIRST_DATA: u16 = 0x21;
const SECOND_COMMAND: u16 = 0xA0;
const SECOND_DATA: u16 = 0xA1;

/// Silences both. They are moved first because even a masked 8259 can raise a spurious interrupt,
/// and from the BIOS's vectors that would look like an exception.
pub(super) fn disable() {
    // Initialisation words 1 to 4 (Intel 8259A data sheet): start, cascaded, with word 4; vector;
    // where the second hangs on the first; 8086 mode. Then the mask.
    for (port, value) in [
        (FIRST_COMMAND, 0x11),
        (SECOND_COMMAND, 0x11),
        (FIRST_DATA, traps::LEGACY_PIC),
        (SECOND_DATA, traps::LEGACY_PIC + 8),
        (FIRST_DATA, 1 << 2),
        (SECOND_DATA, 2),
        (FIRST_DATA, 1),
        (SECOND_DATA, 1),
        (FIRST_DATA, 0xFF),
        (SECOND_DATA, 0xFF),
    ] {
        // SAFETY: only this function uses the 8259s' ports, and interrupts are off.
        unsafe { PortWriteOnly::<u8>::new(port).write(value) };
    }
}
