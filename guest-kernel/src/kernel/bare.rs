//! On a machine without a hypervisor: from what the boot loader says to the exit code.

use core::fmt::{self, Write};
use core::hint;

use spin::{Mutex, MutexGuard, Once};

use super::{begin_on, memory, start_log, stop, Platform};
use crate::boot::physical::PhysicalBytes;
use crate::boot::{self, ram, CommandLine, Handover};
use crate::instructions::halt_for_ever;
use crate::programs::{BAD_COMMAND_LINE, GOOD};
use crate::pv::native::acpi::{self, Hardware};
use crate::pv::native::exit::Exit;
use crate::pv::native::{self_test, Serial};
use crate::pv::Place;
use crate::{println, system, trap};

/// How often who gives up looks whether another CPU's line has ended.
const LAST_PATIENCE: u32 = 1 << 20;

static MACHINE: Bare = Bare {
    serial: Once::new(),
    exit: Once::new(),
};
static HANDOVER: Once<Handover> = Once::new();
static HARDWARE: Once<Hardware> = Once::new();

/// Runs the kernel on the first CPU, in the tables of `entry.S` and with interrupts off; `memory` is
/// read before these tables are given up, and `add_heap` is given the free RAM (start, bytes).
pub fn run(
    memory: &impl PhysicalBytes,
    magic: u32,
    information: u32,
    add_heap: impl FnMut(usize, usize),
) -> ! {
    trap::install();
    trap::load(0, &trap::FIRST_STACKS);
    MACHINE.serial.call_once(|| Serial::find().map(Mutex::new));
    begin_on(&MACHINE);
    let handover = match boot::read_handover(memory, magic, information.into()) {
        Ok(handover) => HANDOVER.call_once(|| handover),
        Err(problem) => panic!("the boot loader's information cannot be used: {problem}"),
    };
    let words = CommandLine::new(handover.command_line());
    let exit = words.value("exit").map_or(Some(Exit::Halt), Exit::named);
    MACHINE.exit.call_once(|| exit.unwrap_or_default());
    start_log(words);
    // They lie in memory that the kernel's own tables do not map.
    let hardware = acpi::read(memory, handover.root_pointer);
    memory::take(handover, |_| Ok(()), add_heap);
    warn(handover);
    say_hello(handover);
    match hardware {
        Ok(hardware) => show(HARDWARE.call_once(|| hardware)),
        Err(problem) => log::warn!("{problem}"),
    }
    if exit.is_none() {
        println!("no such exit=; there are: halt qemu bochs");
        stop(BAD_COMMAND_LINE)
    }
    if words.value("do").is_some() {
        let place = Place {
            handover: Some(handover),
            hardware: HARDWARE.get(),
            ..Place::default()
        };
        system::run(&place, words)
    }
    stop(work(words))
}

/// What the machine has, for the log.
fn show(hardware: &Hardware) {
    match &hardware.interrupts {
        Some(interrupts) => log::info!(
            "{} CPUs, local APICs at {:#x}, {} I/O APICs, {} overrides",
            interrupts.cpus().len(),
            interrupts.local_apic,
            interrupts.io_apics().len(),
            interrupts.overrides().len()
        ),
        None => log::warn!("the firmware does not say which CPUs there are"),
    }
    if let Some(timer) = hardware.pm_timer {
        log::info!(
            "power-management timer at port {:#x}, {} bits",
            timer.port,
            timer.bits
        );
    }
    if let Some(address) = hardware.hpet {
        log::info!("HPET at {address:#x}");
    }
}

fn warn(handover: &Handover) {
    if handover.ranges().is_empty() {
        log::warn!("the boot loader has no memory map, so there is no heap");
    }
    let beyond = ram::bytes_beyond_limit(handover);
    if beyond > 0 {
        log::warn!("{} MiB of RAM lie too high to be used", beyond >> 20);
    }
}

fn say_hello(handover: &Handover) {
    let (mut ranges, mut bytes) = (0, 0);
    ram::all(handover, |range| {
        ranges += 1;
        bytes += range.end - range.start;
    });
    println!(
        "hello from bare metal, loaded by {}: {} KiB of RAM in {ranges} ranges, {} modules",
        handover.loader.name(),
        bytes >> 10,
        handover.modules().len()
    );
}

/// What the command line asks for; the programs need a hypervisor.
fn work(words: CommandLine<'_>) -> u64 {
    if let Some(name) = words.value("program") {
        println!("no program={name} on bare metal");
        return BAD_COMMAND_LINE;
    }
    words.value("test").map_or(GOOD, self_test::run)
}

/// The machine that the kernel has for itself.
struct Bare {
    /// The serial port, if the machine has one.
    serial: Once<Option<Mutex<Serial>>>,
    exit: Once<Exit>,
}

impl Bare {
    fn port(&self) -> Option<&Mutex<Serial>> {
        self.serial.get().and_then(Option::as_ref)
    }
}

impl Platform for Bare {
    fn print(&self, text: fmt::Arguments<'_>) {
        if let Some(port) = self.port() {
            // The port cannot fail; it loses what it does not take.
            let _ = Text(&port.lock()).write_fmt(text);
        }
    }

    fn flush(&self) {
        if let Some(port) = self.port() {
            port.lock().flush();
        }
    }

    fn print_last(&self, print: &mut dyn FnMut(&mut dyn Write)) {
        let Some(port) = self.port() else { return };
        let locked = patient_lock(port);
        match &locked {
            Some(serial) => print(&mut Text(serial)),
            // Whoever holds the lock will not run again.
            None => {
                if let Some(serial) = Serial::find() {
                    print(&mut Text(&serial));
                }
            }
        }
    }

    fn stop(&self, code: u64) -> ! {
        self.print_last(&mut |console| {
            let _ = writeln!(console, "exit code {code}");
        });
        if let Some(serial) = self.port().and_then(Mutex::try_lock) {
            serial.flush();
        }
        let exit = self.exit.get().copied().unwrap_or_default();
        exit.end(code);
        halt_for_ever()
    }

    fn stand_aside(&self) -> ! {
        halt_for_ever()
    }
}

/// The port, if nobody has it who would not give it back.
fn patient_lock(port: &Mutex<Serial>) -> Option<MutexGuard<'_, Serial>> {
    let mut looks = (0..LAST_PATIENCE).map(|_| {
        hint::spin_loop();
        port.try_lock()
    });
    looks.find_map(|locked| locked)
}

/// Text for a terminal, which wants both ends of a line.
struct Text<'s>(&'s Serial);

impl Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for line in text.split_inclusive('\n') {
            match line.strip_suffix('\n') {
                Some(line) => {
                    self.0.write(line.as_bytes());
                    self.0.write(b"\r\n");
                }
                None => self.0.write(line.as_bytes()),
            }
        }
        Ok(())
    }
}
