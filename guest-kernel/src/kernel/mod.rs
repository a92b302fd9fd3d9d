//! Puts the parts together: from what is handed over to the exit code.
//!
//! `nuncio` and `bare` are the two ways, in a domain and on a machine; [`Platform`] is what differs between them
//! once the kernel runs. Printing, the log and the last words are the same. As soon as `system` has chosen a console,
//! that is used; the first and the last words go to the platform.
//!
//! The console is everybody's, behind a lock; who waits for it lets others run. No upcall, interrupt or exception
//! that returns takes a lock, so a CPU never waits for itself.
#![forbid(unsafe_code)]

pub mod bare;
mod memory;
pub mod nuncio;

use core::fmt::{self, Write};
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicUsize, Ordering};

use log::{Level, LevelFilter, Log, Metadata, Record};
use spin::Once;

use crate::boot::CommandLine;
use crate::instructions::halt_for_ever;
use crate::interface::Console;
use crate::sync::IrqLock;
use crate::{system, trap};

/// Exit code of a kernel that panicked.
pub const PANIC_EXIT_CODE: u64 = 101;

static PLATFORM: Once<&'static dyn Platform> = Once::new();
/// The CPU that gives up, counted from 1.
static GIVING_UP: AtomicUsize = AtomicUsize::new(0);
static LOGGER: ConsoleLog = ConsoleLog;

/// What the kernel speaks and ends by.
pub trait Platform: Sync {
    /// Prints a text, all of it at once, so that CPUs do not write into each other's lines.
    fn print(&self, text: fmt::Arguments<'_>);

    /// Sends what has been printed, though the line has not ended.
    fn flush(&self);

    /// Gives the console to somebody who must print now, even if it is locked.
    fn print_last(&self, print: &mut dyn FnMut(&mut dyn Write));

    /// Ends the kernel with that exit code, when everything has been printed.
    fn stop(&self, code: u64) -> !;

    /// Waits for the end, which another CPU brings about.
    fn stand_aside(&self) -> !;
}

/// Speaks and ends by `platform` from now on.
fn begin_on(platform: &'static dyn Platform) {
    PLATFORM.call_once(|| platform);
}

/// Sends what has been printed, and ends.
pub fn stop(code: u64) -> ! {
    match PLATFORM.get() {
        Some(platform) => platform.stop(code),
        None => halt_for_ever(),
    }
}

/// Prints where the kernel gave up, and ends.
pub fn panic(info: &PanicInfo<'_>) -> ! {
    give_up(PANIC_EXIT_CODE, |console| {
        let _ = writeln!(console, "\n{info}");
    })
}

/// Prints the last words and ends. The first CPU that comes here has them.
pub fn give_up(code: u64, mut print: impl FnMut(&mut dyn Write)) -> ! {
    let own = trap::current_vcpu() + 1;
    let Some(platform) = PLATFORM.get() else {
        halt_for_ever()
    };
    match GIVING_UP.compare_exchange(0, own, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => {
            platform.print_last(&mut print);
            platform.stop(code)
        }
        // An exception while it prints must not print another one.
        Err(cpu) if cpu == own => platform.stop(code),
        Err(_) => platform.stand_aside(),
    }
}

/// Writes to the console; the one that programs print to.
pub struct ConsoleWriter;

impl Write for ConsoleWriter {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.write_fmt(format_args!("{text}"))
    }

    /// All of it at once, so that CPUs do not write into each other's lines.
    fn write_fmt(&mut self, text: fmt::Arguments<'_>) -> fmt::Result {
        let Some(console) = system::console() else {
            print_by_platform(text);
            return Ok(());
        };
        let _whole = WHOLE_TEXTS.lock();
        ServedConsole(console).write_fmt(text)
    }
}

/// Prints without the services, which a console may itself be served by.
pub fn print_by_platform(text: fmt::Arguments<'_>) {
    if let Some(platform) = PLATFORM.get() {
        platform.print(text);
    }
}

/// One text after the other.
static WHOLE_TEXTS: IrqLock<()> = IrqLock::new(());

/// What serves as console.
struct ServedConsole(&'static dyn Console);

impl Write for ServedConsole {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
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
        if let Some(platform) = PLATFORM.get() {
            platform.flush();
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
