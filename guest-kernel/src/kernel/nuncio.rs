//! In a domain of the hypervisor Nuncio: from the boot info to the program's exit code.

use core::fmt::{self, Write};

use nuncio_abi::{BootInfo, Call, Deadline, Rights, PAGE_BYTES};
use spin::mutex::{Mutex, MutexGuard};
use spin::{Once, RelaxStrategy};

use super::{begin_on, memory, start_log, stop, ConsoleWriter, Platform};
use crate::boot::{self, CommandLine, Handover};
use crate::console::Console;
use crate::hv::{rest_until, Client, Gate, Machine};
use crate::instructions::halt_for_ever;
use crate::machine::{self, Native};
use crate::mm::{Access, MapProblem, Mapper};
use crate::programs::{self, Context};
use crate::pv::Place;
use crate::system;
use crate::trap;

/// How long who waits for a lock lets others run before it looks again.
const YIELD_NS: u64 = 20_000;
/// How long who gives up waits for another vcpu's line to end.
const LAST_PATIENCE_NS: u64 = 10_000_000;

type NativeConsole = Console<'static, Native>;

static CONSOLE: Once<Mutex<NativeConsole, Yield>> = Once::new();

/// Runs the kernel; `add_heap` is given the free RAM (start, bytes).
pub fn run(boot_info: u64, add_heap: impl FnMut(usize, usize)) -> ! {
    // Without a boot info there is nobody to tell: a halt with interrupts off ends the domain.
    let Some(boot) = machine::boot_info(boot_info).filter(|boot| boot::check(boot).is_ok()) else {
        halt_for_ever()
    };
    trap::install();
    trap::load(0, &trap::FIRST_STACKS);
    let machine = Native::install(boot);
    CONSOLE.call_once(|| Mutex::new(new_console(machine)));
    begin_on(&Domain);
    match Handover::of_boot_info(boot) {
        Ok(handover) => memory::take(&handover, |mapper| map_shared_pages(mapper, boot), add_heap),
        Err(problem) => panic!("the boot info cannot be used: {problem}"),
    }
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
    if words.value("program").is_none() && words.value("do").is_some() {
        let place = Place {
            nuncio: Some(machine),
            ..Place::default()
        };
        system::run(&place, words)
    }
    let code = programs::run_by_name(&mut Context {
        machine,
        boot,
        words,
        out: &mut ConsoleWriter,
    });
    stop(code)
}

/// The pages that the hypervisor shares with the domain.
fn map_shared_pages(mapper: &mut Mapper<'_>, boot: &BootInfo) -> Result<(), MapProblem> {
    let boot_info = core::ptr::from_ref(boot).addr() as u64;
    let vcpus = boot.vcpus().len().max(1) as u64;
    for (page, pages, access) in [
        (boot_info, 1, Access::Read),
        (boot.vcpu_page, vcpus, Access::Write),
        (boot.time_page, 1, Access::Read),
        (boot.text_page, 1, Access::Execute),
    ] {
        mapper.map(page, page + pages * PAGE_BYTES, access)?;
    }
    Ok(())
}

/// The domain that the kernel runs in.
struct Domain;

impl Platform for Domain {
    fn print(&self, text: fmt::Arguments<'_>) {
        if let Some(mut console) = lock_console() {
            // The console cannot fail; what it loses it counts itself.
            let _ = console.write_fmt(text);
        }
    }

    fn flush(&self) {
        if let Some(mut console) = lock_console() {
            console.flush();
        }
    }

    fn print_last(&self, print: &mut dyn FnMut(&mut dyn Write)) {
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

    fn stop(&self, code: u64) -> ! {
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

    fn stand_aside(&self) -> ! {
        let deadline = Deadline::NEVER;
        while let Some(machine) = Native::current() {
            // Whatever wakes it, it has nothing to do.
            let _ = machine.invoke(Call::Wait { deadline });
        }
        halt_for_ever()
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

/// The console, for the vcpu that asks.
fn lock_console() -> Option<MutexGuard<'static, NativeConsole>> {
    let machine = Native::current()?;
    let mut console = CONSOLE.get()?.lock();
    console.move_to(machine);
    Some(console)
}
