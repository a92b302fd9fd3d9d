//! Puts the parts together: from the boot info to the program's exit code.
//!
//! The console is everybody's, behind a lock; who waits for it lets others run. No upcall or exception that
//! returns takes a lock, so a vcpu never waits for itself.
#![forbid(unsafe_code)]

use core::fmt::{self, Write};
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicUsize, Ordering};

use log::{Level, LevelFilter, Log, Metadata, Record};
use nuncio_abi::{Call, Deadline, Rights, PAGE_BYTES};
use spin::mutex::{Mutex, MutexGuard};
use spin::{Once, RelaxStrategy};

use crate::boot::{self, CommandLine};
use crate::console::Console;
use crate::hv::{rest_until, Client, Gate, Machine};
use crate::instructions::halt_for_ever;
use crate::machine::{self, Native};
use crate::mm::active;
use crate::programs::{self, Context};
use crate::trap;

/// Exit code of a kernel that panicked.
pub const PANIC_EXIT_CODE: u64 = 101;

/// How long who waits for a lock lets others run before it looks again.
const YIELD_NS: u64 = 20_000;
/// How long who gives up waits for another vcpu's line to end.
const LAST_PATIENCE_NS: u64 = 10_000_000;

type NativeConsole = Console<'static, Native>;

static CONSOLE: Once<Mutex<NativeConsole, Yield>> = Once::new();
/// The vcpu that gives up, counted from 1.
static GIVING_UP: AtomicUsize = AtomicUsize::new(0);
static LOGGER: ConsoleLog = ConsoleLog;

/// Runs the kernel; `add_heap` is given the free RAM (start, bytes).
pub fn run(boot_info: u64, add_heap: impl FnOnce(usize, usize)) -> ! {
    // Without a boot info there is nobody to tell: a halt with interrupts off ends the domain.
    let Some(boot) = machine::boot_info(boot_info).filter(|boot| boot::check(boot).is_ok()) else {
        halt_for_ever()
    };
    trap::install();
    trap::load(0, &trap::FIRST_STACKS);
    let machine = Native::install(boot);
    CONSOLE.call_once(|| Mutex::new(new_console(machine)));
    if let Err(problem) = active::install(boot) {
        panic!("cannot map {} bytes of RAM: {problem:?}", boot.ram_bytes);
    }
    let free_start = boot.free_start.next_multiple_of(PAGE_BYTES);
    add_heap(
        free_start as usize,
        boot.ram_bytes.saturating_sub(free_start) as usize,
    );
    let words = CommandLine::new(boot.command_line());
    start_log(words);
    if let Err(error) = Client::new(machine, boot).hello() {
        panic!("the hypervisor does not say hello: {error}");
    }
    log::info!(
        "{} with {} bytes of RAM",
        boot.name.as_str(),
        boot.ram_bytes
    );
    let code = programs::run_by_name(&mut Context {
        machine,
        boot,
        words,
        out: &mut ConsoleWriter,
    });
    stop(code)
}

/// Flushes the console and ends the domain.
pub fn stop(code: u64) -> ! {
    let Some(machine) = Native::current() else {
        halt_for_ever()
    };
    if let Some(mut console) = CONSOLE.get().and_then(Mutex::try_lock) {
        console.move_to(machine);
        console.flush();
    }
    let domain = Client::new(machine, machine.boot_info()).domain();
    // An error means that the handle was closed; then halting is the only end that is left.
    let _ = domain.and_then(|domain| domain.stop(code));
    halt_for_ever()
}

/// Prints where the kernel gave up, and ends the domain.
pub fn panic(info: &PanicInfo<'_>) -> ! {
    give_up(PANIC_EXIT_CODE, |console| {
        let _ = writeln!(console, "\n{info}");
    })
}

/// Prints the last words and ends the domain. The first vcpu that comes here has them.
pub fn give_up(code: u64, print: impl FnOnce(&mut dyn Write)) -> ! {
    let own = trap::current_vcpu() + 1;
    match GIVING_UP.compare_exchange(0, own, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => {
            with_last_console(print);
            stop(code)
        }
        // An exception while it prints must not print another one.
        Err(vcpu) if vcpu == own => stop(code),
        Err(_) => stand_aside(),
    }
}

/// Waits for the end of the domain, which another vcpu brings about.
fn stand_aside() -> ! {
    let deadline = Deadline::NEVER;
    while let Some(machine) = Native::current() {
        // Whatever wakes it, it has nothing to do.
        let _ = machine.invoke(Call::Wait { deadline });
    }
    halt_for_ever()
}

/// Gives the console to somebody who must print now, even if it is locked.
fn with_last_console(print: impl FnOnce(&mut dyn Write)) {
    let (Some(machine), Some(console)) = (Native::current(), CONSOLE.get()) else {
        return;
    };
    match patient_lock(machine, console) {
        Some(mut console) => {
            console.move_to(machine);
            print(&mut *console);
            console.flush();
        }
        // Whoever holds the lock will not run again; only its unfinished line is lost.
        None => {
            let mut console = new_console(machine);
            print(&mut console);
            console.flush();
        }
    }
}

/// The console, if nobody has it who would not give it back.
fn patient_lock(
    machine: &'static Native,
    console: &'static Mutex<NativeConsole, Yield>,
) -> Option<MutexGuard<'static, NativeConsole>> {
    let is_alone = machine.boot_info().vcpus().len() <= 1;
    let give_up_ns = machine.now_ns() + LAST_PATIENCE_NS;
    loop {
        let locked = console.try_lock();
        if locked.is_some() || is_alone || machine.now_ns() >= give_up_ns {
            return locked;
        }
        Yield::relax();
    }
}

fn new_console(machine: &'static Native) -> NativeConsole {
    let client = Client::new(machine, machine.boot_info());
    Console::new(client.port("console", Rights::SEND).ok())
}

/// Lets others run, such as the vcpu that has the lock.
struct Yield;

impl RelaxStrategy for Yield {
    fn relax() {
        if let Some(machine) = Native::current() {
            rest_until(machine, machine.now_ns() + YIELD_NS);
        }
    }
}

/// Writes to the console; the one that programs print to.
pub struct ConsoleWriter;

impl Write for ConsoleWriter {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        lock_console().map_or(Ok(()), |mut console| console.write_str(text))
    }

    /// All of it at once, so that vcpus do not write into each other's lines.
    fn write_fmt(&mut self, text: fmt::Arguments<'_>) -> fmt::Result {
        lock_console().map_or(Ok(()), |mut console| console.write_fmt(text))
    }
}

/// The console, for the vcpu that asks.
fn lock_console() -> Option<MutexGuard<'static, NativeConsole>> {
    let machine = Native::current()?;
    let mut console = CONSOLE.get()?.lock();
    console.move_to(machine);
    Some(console)
}

/// Prints to the console.
#[macro_export]
macro_rules! print {
    ($($arguments:tt)*) => {{
        use core::fmt::Write as _;
        // The console cannot fail; what it loses it counts itself.
        let _ = write!($crate::kernel::ConsoleWriter, $($arguments)*);
    }};
}

/// Prints a line to the console.
#[macro_export]
macro_rules! println {
    ($($arguments:tt)*) => {{
        use core::fmt::Write as _;
        // The console cannot fail; what it loses it counts itself.
        let _ = writeln!($crate::kernel::ConsoleWriter, $($arguments)*);
    }};
}

/// The backend of the `log` crate.
struct ConsoleLog;

impl Log for ConsoleLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let level = match record.level() {
            Level::Error => "error: ",
            Level::Warn => "warning: ",
            Level::Info | Level::Debug | Level::Trace => "",
        };
        crate::println!("{level}{}", record.args());
    }

    fn flush(&self) {
        if let Some(mut console) = lock_console() {
            console.flush();
        }
    }
}

/// `log=LEVEL` on the command line; warnings without it.
fn start_log(words: CommandLine<'_>) {
    let level = words.value("log").and_then(|level| level.parse().ok());
    // It fails only if there is a logger already, and this runs once.
    let _ = log::set_logger(&LOGGER);
    log::set_max_level(level.unwrap_or(LevelFilter::Warn));
}
