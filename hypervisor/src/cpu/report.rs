//! The last words of a broken hypervisor: what happened, the registers, and how it got there.
//!
//! The CPU that breaks first stops all others and reports alone.
//!
//! Invariant: nothing here allocates, waits for ever, or reads memory that may not be there; a
//! second failure on the way ends the run at once.

// UNSAFETY: reads return addresses from the stacks, and control registers.
#![allow(unsafe_code)]

use core::arch::asm;
use core::fmt::{self, Write};
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

use spin::Once;
use x86_64::instructions::interrupts;
use x86_64::registers::control::{Cr2, Cr3};

use super::backtrace::walk;
use super::serial::{self, Unlocked};
use super::trap_frame::PAGE_FAULT;
use super::{machine_exit, per_cpu, stacks, stop, ExitCode, TrapFrame};
use crate::mem::HostRange;

static TEXT: Once<HostRange> = Once::new();
static BEGUN: AtomicBool = AtomicBool::new(false);

/// Makes the range of the hypervisor's code known, so that stacks can be walked.
pub fn install(text: HostRange) {
    TEXT.call_once(|| text);
}

/// Reports an exception in the hypervisor's own code.
pub(super) fn fatal_trap(frame: &TrapFrame) -> ! {
    begin();
    let mut out = Unlocked;
    let fault_address = Cr2::read_raw();
    let _ = write_trap(&mut out, frame, fault_address);
    write_control_registers(&mut out, fault_address);
    write_trace(&mut out, frame.rip, frame.rbp);
    end(&mut out)
}

/// Reports a Rust panic.
#[inline(never)]
pub fn panic(info: &PanicInfo<'_>) -> ! {
    begin();
    let mut out = Unlocked;
    let _ = write_panic(&mut out, info);
    write_control_registers(&mut out, Cr2::read_raw());
    let frame_pointer: u64;
    // SAFETY: copies a register. The image keeps frame pointers, so this is the frame of this
    // function; the walk checks it all the same.
    unsafe { asm!("mov {}, rbp", out(reg) frame_pointer, options(nomem, nostack)) };
    write_trace(&mut out, 0, frame_pointer);
    end(&mut out)
}

fn begin() {
    interrupts::disable();
    serial::silence_others();
    // Does not return if another CPU is here already: the first one reports.
    stop::others();
    serial::finish_line();
    if BEGUN.swap(true, Ordering::Relaxed) {
        end(&mut Unlocked);
    }
}

fn end(out: &mut dyn Write) -> ! {
    let _ = out.write_str("@end result=panic\n");
    machine_exit(ExitCode::Panic)
}

fn write_panic(out: &mut dyn Write, info: &PanicInfo<'_>) -> fmt::Result {
    write!(out, "@panic cpu={} text=", per_cpu::current().index())?;
    let mut line = OneLine(out);
    if let Some(location) = info.location() {
        write!(line, "{}:{}: ", location.file(), location.line())?;
    }
    write!(line, "{}", info.message())?;
    out.write_char('\n')
}

fn write_trap(out: &mut dyn Write, frame: &TrapFrame, fault_address: u64) -> fmt::Result {
    let name = frame.exception_name();
    let cpu = per_cpu::current().index();
    write!(
        out,
        "@panic cpu={cpu} text={name} (vector {}): ",
        frame.vector
    )?;
    if frame.vector != PAGE_FAULT {
        write!(out, "error code {:#x}", frame.error_code)?;
    } else if let Some(stack) = stacks::overflowed_at(fault_address) {
        write!(
            out,
            "stack overflow: {} full, at {fault_address:#x}",
            stack.name
        )?;
    } else {
        write!(out, "{} {fault_address:#x}", frame.page_fault_text())?;
    }
    writeln!(out, ", rip {:#x}", frame.rip)?;
    frame.write_registers(out)
}

fn write_control_registers(out: &mut dyn Write, cr2: u64) {
    let (table, flags) = Cr3::read_raw();
    let cr3 = table.start_address().as_u64() | u64::from(flags);
    let _ = writeln!(out, "  cr2    {cr2:#018x}  cr3    {cr3:#018x}");
}

/// One line for each return address; `rip` first, unless it is 0.
fn write_trace(out: &mut dyn Write, rip: u64, frame_pointer: u64) {
    if rip != 0 {
        let _ = writeln!(out, "@trace {rip:#x}");
    }
    let Some(text) = TEXT.get() else { return };
    let stacks = per_cpu::block().stacks.ranges().map(|stack| stack.body);
    let read = |address: u64| {
        let pointer = address as *const u64;
        // SAFETY: `walk` reads only aligned words that lie whole inside one of the stacks, which
        // are mapped. The word may change under a volatile read; any value will do.
        unsafe { pointer.read_volatile() }
    };
    for address in walk(frame_pointer, &stacks, *text, read) {
        let _ = writeln!(out, "@trace {address:#x}");
    }
}

/// Keeps a message in its line: what would end it, or is no text, becomes a space.
struct OneLine<'out>(&'out mut dyn Write);

impl Write for OneLine<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().try_for_each(|character| {
            let shown = if character.is_control() {
                ' '
            } else {
                character
            };
            self.0.write_char(shown)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;

    fn report(frame: &TrapFrame, fault_address: u64) -> String {
        let mut text = String::new();
        write_trap(&mut text, frame, fault_address).unwrap();
        text
    }

    #[test]
    fn a_page_fault_names_access_and_address() {
        let frame = TrapFrame {
            vector: PAGE_FAULT,
            error_code: 2,
            rip: 0x10_1234,
            ..TrapFrame::default()
        };
        let text = report(&frame, 0x10);
        assert!(
            text.starts_with(
                "@panic cpu=0 text=page fault (vector 14): write to an unmapped page, at 0x10, rip 0x101234\n"
            ),
            "{text}"
        );
    }

    #[test]
    fn a_guard_page_is_called_a_stack_overflow() {
        let frame = TrapFrame {
            vector: PAGE_FAULT,
            error_code: 2,
            ..TrapFrame::default()
        };
        let [main, ..] = per_cpu::block().stacks.ranges();
        let text = report(&frame, main.guard.start().0 + 8);
        assert!(text.contains("stack overflow: main stack"), "{text}");
    }

    #[test]
    fn other_exceptions_show_their_error_code() {
        let frame = TrapFrame {
            vector: 13,
            error_code: 0x18,
            ..TrapFrame::default()
        };
        let text = report(&frame, 0);
        assert!(text.contains("general protection fault (vector 13): error code 0x18"));
    }

    #[test]
    fn a_message_stays_in_its_line() {
        let mut text = String::new();
        OneLine(&mut text)
            .write_str("a\n@end result=ok\r\tb")
            .unwrap();
        assert_eq!(text, "a @end result=ok  b");
    }
}
