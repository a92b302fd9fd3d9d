//! The end of a run.

// UNSAFETY: port I/O and HLT.
#![allow(unsafe_code)]

use x86_64::instructions::interrupts;
use x86_64::instructions::port::PortWriteOnly;

use super::{serial, stop};

/// QEMU's isa-debug-exit device; the emulator's exit status is twice the code plus 1.
pub const DEBUG_EXIT_PORT: u16 = 0xF4;

/// Bochs ends with status 1 when it has read `Shutdown` here, byte by byte. A `D` stops it in its
/// debugger, which the test bed tells to quit at the first stop, with status 0.
pub const BOCHS_PORT: u16 = 0x8900;
const BOCHS_STOP: &str = "D";
const BOCHS_SHUTDOWN: &str = "Shutdown";

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

impl ExitCode {
    /// What Bochs has to read. It tells success from the rest only; the report says more.
    const fn bochs_word(self) -> &'static str {
        match self {
            ExitCode::Ok => BOCHS_STOP,
            ExitCode::Failed | ExitCode::Refused | ExitCode::Panic => BOCHS_SHUTDOWN,
        }
    }
}

/// Stops all other CPUs, and ends the machine if something listens at the debug-exit port; else it stops
/// this CPU for ever, too.
pub fn machine_exit(code: ExitCode) -> ! {
    interrupts::disable();
    serial::silence_others();
    stop::others();
    serial::drain();
    // SAFETY: where the port belongs to a debug-exit device, nothing runs afterwards. On a PC
    // without one, 0xF4 belongs to nothing since the 80387 moved into the CPU.
    unsafe { PortWriteOnly::new(DEBUG_EXIT_PORT).write(code as u8) };
    // Not ended by that: it may be Bochs.
    for byte in code.bochs_word().bytes() {
        // SAFETY: nothing runs afterwards under Bochs. On other machines no device is known to
        // listen there, and a write that nobody claims has no effect.
        unsafe { PortWriteOnly::new(BOCHS_PORT).write(byte) };
    }
    stop::halt_for_ever()
}
