//! Puts the parts together: from the boot info to the program's exit code.
#![forbid(unsafe_code)]

use core::fmt::{self, Write};
use core::panic::PanicInfo;

use log::{Level, LevelFilter, Log, Metadata, Record};
use nuncio_abi::{BootInfo, Rights, PAGE_BYTES};
use spin::{Mutex, Once};

use crate::boot::{self, CommandLine};
use crate::console::Console;
use crate::hv::Client;
use crate::instructions::halt_for_ever;
use crate::machine::{self, Native};
use crate::mm::active;
use crate::programs::{self, Context};
use crate::trap;

/// Exit code of a kernel that panicked.
pub const PANIC_EXIT_CODE: u64 = 101;

static BOOT: Once<&'static BootInfo> = Once::new();
static CONSOLE: Once<Mutex<Console<'static, Native>>> = Once::new();
static LOGGER: ConsoleLog = ConsoleLog;

/// Runs the kernel; `add_heap` is given the free RAM (start, bytes).
pub fn run(boot_info: u64, add_heap: impl FnOnce(usize, usize)) -> ! {
    // Without a boot info there is nobody to tell: a halt with interrupts off ends the domain.
    let Some(boot) = machine::boot_info(boot_info).filter(|boot| boot::check(boot).is_ok()) else {
        halt_for_ever()
    };
    BOOT.call_once(|| boot);
    trap::install();
    let machine = Native::install(boot);
    CONSOLE.call_once(|| Mutex::new(new_console(machine, boot)));
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
    if let Some(mut console) = CONSOLE.get().and_then(Mutex::try_lock) {
        console.flush();
    }
    if let (Some(machine), Some(boot)) = (Native::get(), BOOT.get()) {
        let domain = Client::new(machine, boot).domain();
        // An error means that the handle was closed; then halting is the only end that is left.
        let _ = domain.and_then(|domain| domain.stop(code));
    }
    halt_for_ever()
}

/// Prints where the kernel gave up, and ends the domain.
pub fn panic(info: &PanicInfo<'_>) -> ! {
    with_last_console(|console| {
        let _ = writeln!(console, "\n{info}");
    });
    stop(PANIC_EXIT_CODE)
}

/// Gives the console to somebody who must print now, even if it is locked.
pub fn with_last_console(print: impl FnOnce(&mut dyn Write)) {
    let (Some(machine), Some(boot)) = (Native::get(), BOOT.get()) else {
        return;
    };
    let Some(console) = CONSOLE.get() else {
        return;
    };
    match console.try_lock() {
        Some(mut console) => {
            print(&mut *console);
            console.flush();
        }
        // Whoever holds the lock will not run again; only its unfinished line is lost.
        None => {
            let mut console = new_console(machine, boot);
            print(&mut console);
            console.flush();
        }
    }
}

fn new_console(machine: &'static Native, boot: &'static BootInfo) -> Console<'static, Native> {
    Console::new(
        Client::new(machine, boot)
            .port("console", Rights::SEND)
            .ok(),
    )
}

/// Writes to the console; the one that programs print to.
pub struct ConsoleWriter;

impl Write for ConsoleWriter {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        match CONSOLE.get() {
            Some(console) => console.lock().write_str(text),
            None => Ok(()),
        }
    }
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
        if let Some(mut console) = CONSOLE.get().and_then(Mutex::try_lock) {
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
