//! The end of a run.

// UNSAFETY: port I/O and HLT.
#![allow(unsafe_code)]

use x86_64::instructions::port::PortWriteOnly;
use x86_64::instructions::{hlt, interrupts};

use super::serial;

/// QEMU's isa-debug-exit device; the emulator's exit status is twice the code plus 1.
const DEBUG_EXIT_PORT: u16 = 0xF4;

/// Bochs's shutdown port: `D` ends it with status 0, the word `Shutdown` with status 1.
const SHUTDOWN_PORT: u16 = 0x8900;

/// How the run ended. The numbers leave 0 and 1 free, which emulators use themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// Every foreground domain ended well.
    Ok = 0x10,
    /// Some domain did not.
    Failed = 0x11,
    /// The hypervisor cannot run here.
    Refused = 0x12,
    /// The hypervisor itself is broken.
    Panic = 0x13,
}

/// Ends the machine if something listens at the debug-exit port, else stops this CPU for ever.
pub fn machine_exit(code: ExitCode) -> ! {
    interrupts::disable();
    serial::drain();
    // SAFETY: where the port belongs to a debug-exit device, nothing runs afterwards. On a PC
    // without one, 0xF4 belongs to nothing since the 80387 moved into the CPU.
    unsafe { PortWriteOnly::new(DEBUG_EXIT_PORT).write(code as u8) };
    let word: &[u8] = match code {
        ExitCode::Ok => b"D",
        _ => b"Shutdown",
    };
    for byte in word {
        // SAFETY: as above; without Bochs the port belongs to nothing.
        unsafe { PortWriteOnly::new(SHUTDOWN_PORT).write(*byte) };
    }
    loop {
        hlt();
    }
}
