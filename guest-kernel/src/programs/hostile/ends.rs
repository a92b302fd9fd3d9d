//! Programs that come to a simple end, or to none.
//!
//! - `triple-fault`: an exception with nothing there to take it.
//! - `spin`, `spin-no-interrupts`: never end.
//! - `halt-no-interrupts`: nothing can wake the domain.
//! - `port-io port=N`: reads an I/O port, the CMOS index by default.
//! - `deadlock`: waits for ever for what nobody can send.
//! - `exit-code code=N`: stops with that code.
//! - `panic`: the kernel gives up by itself.
// UNSAFETY: privileged instructions whose only effect is the end of the domain.
#![allow(unsafe_code)]

use core::arch::asm;

use nuncio_abi::{Call, Deadline};

use super::SURVIVED;
use crate::hv::Gate;
use crate::instructions::{disable_interrupts, enable_interrupts, halt_for_ever};
use crate::machine::Native;
use crate::programs::{Context, ExitCode};
use crate::trap::tables;

pub(super) fn triple_fault(_: &mut Context<'_, Native>) -> ExitCode {
    tables::remove_gates();
    // SAFETY: raises an exception; with no gates the domain ends here.
    unsafe { asm!("ud2", options(noreturn)) }
}

pub(super) fn spin(_: &mut Context<'_, Native>) -> ExitCode {
    enable_interrupts();
    loop {
        core::hint::spin_loop();
    }
}

pub(super) fn spin_no_interrupts(_: &mut Context<'_, Native>) -> ExitCode {
    disable_interrupts();
    loop {
        core::hint::spin_loop();
    }
}

pub(super) fn halt_no_interrupts(_: &mut Context<'_, Native>) -> ExitCode {
    halt_for_ever()
}

pub(super) fn port_io(context: &mut Context<'_, Native>) -> ExitCode {
    let port = match context.number("port", 0x70) {
        Ok(port) => port as u16,
        Err(code) => return code,
    };
    // SAFETY: a domain has no devices; if the read returns, it has changed AL and nothing else.
    unsafe { asm!("in al, dx", in("dx") port, out("al") _, options(nostack)) }
    SURVIVED
}

pub(super) fn deadlock(context: &mut Context<'_, Native>) -> ExitCode {
    let deadline = Deadline::NEVER;
    // Nothing is enabled, so there is no reason to wake up.
    match context.machine.invoke(Call::Wait { deadline }) {
        Ok(_) => SURVIVED,
        Err(error) => {
            let _ = writeln!(context.out, "the wait ended: {error}");
            SURVIVED
        }
    }
}

pub(super) fn exit_code(context: &mut Context<'_, Native>) -> ExitCode {
    context.number("code", 0).unwrap_or_else(|code| code)
}

pub(super) fn panic(_: &mut Context<'_, Native>) -> ExitCode {
    panic!("as the command line wishes")
}
