//! The kernel proper, as far as it is the same everywhere: opens the services, starts the CPUs, runs threads.
#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use spin::Once;

use crate::boot::CommandLine;
use crate::instructions::{control_registers, halt_for_ever};
use crate::interface::{Console, CpuNumber, CpuStart, Forced, Services, StartError};
use crate::mm::heap::{self, HeapUsage};
use crate::pv::{self, Place};
use crate::trap::{self, Stacks, VCPUS};
use crate::{irq, shell, task};

static SERVICES: Once<Services> = Once::new();
static BEGAN_NS: AtomicU64 = AtomicU64::new(0);
static ONLINE: AtomicUsize = AtomicUsize::new(1);
/// What each CPU beside the first needs to begin.
static SEATS: [Once<Stacks>; VCPUS] = [const { Once::new() }; VCPUS];
/// A bit for each CPU that has come up.
static ARRIVED: AtomicU64 = AtomicU64::new(1);

/// How long a CPU may take to come up.
const START_PATIENCE_NS: u64 = 1_000_000_000;
/// How often that is looked at.
const START_LOOK_NS: u64 = 100_000;

/// What serves the kernel here.
///
/// # Panics
/// Before they are open: the kernel has no threads then.
pub fn services() -> &'static Services {
    SERVICES
        .get()
        .expect("the services are open before anybody uses them")
}

/// The console, once the services are open.
pub fn console() -> Option<&'static dyn Console> {
    SERVICES.get()?.console.get()
}

/// The time, in nanoseconds since some moment before the kernel began.
pub fn now_ns() -> u64 {
    let clock = services().clock_source.get();
    clock.map_or(0, |clock| clock.now_ns())
}

/// When the services were opened.
pub fn began_ns() -> u64 {
    BEGAN_NS.load(Ordering::Relaxed)
}

/// How much of the heap is used.
pub fn heap_usage() -> HeapUsage {
    heap::usage()
}

/// How many CPUs run.
pub fn online_cpus() -> usize {
    ONLINE.load(Ordering::Acquire)
}

/// Opens the services and starts all CPUs; a first thread runs the shell.
pub fn run(place: &Place, words: CommandLine<'static>) -> ! {
    let forced = Forced {
        backend: words.value("pv"),
        fallback: pv::FALLBACK,
    };
    let services = match Services::open(pv::BACKENDS, forced, place) {
        Ok(services) => SERVICES.call_once(|| services),
        Err(missing) => panic!("{missing}"),
    };
    BEGAN_NS.store(now_ns(), Ordering::Relaxed);
    trap::interrupts::hand_to(irq::arrive);
    for (kind, identity, ..) in services.all() {
        match identity {
            Some(identity) => log::info!("{kind}: {identity}"),
            None => log::info!("{kind}: nothing"),
        }
    }
    start_this_cpu();
    let script = words.value("do").unwrap_or("shell");
    let first = move || {
        start_other_cpus();
        shell::run_script(script)
    };
    if task::spawn_on(0, "shell", first).is_err() {
        panic!("there is no memory for the first thread");
    }
    task::idle()
}

fn start_this_cpu() {
    let services = services();
    if let Some(irq_chip) = services.irq_chip.get() {
        irq_chip.start_cpu();
    }
    if let Some(clock_event) = services.clock_event.get() {
        clock_event.start_cpu();
    }
    task::start_cpu();
}

/// CPUs that do not come up are reported and left out, and those behind them, too: CPUs are counted.
fn start_other_cpus() {
    let Some(smp) = services().smp.get() else {
        return;
    };
    for cpu in 1..smp.count().min(VCPUS) {
        if let Err(error) = start_cpu(cpu) {
            log::warn!("CPU {cpu} does not start: {error}");
            return;
        }
        ONLINE.store(cpu + 1, Ordering::Release);
    }
}

fn start_cpu(cpu: CpuNumber) -> Result<(), StartError> {
    let smp = services().smp.get().ok_or(StartError::NoSuchCpu)?;
    let stacks = Stacks::allocate().ok_or(StartError::NoMemory)?;
    let seat = SEATS.get(cpu).ok_or(StartError::NoSuchCpu)?;
    let stacks = seat.call_once(|| stacks);
    let [_, page_table, _] = control_registers();
    smp.start(
        cpu,
        &CpuStart {
            entry: begin,
            stack_top: stacks.main.top(),
            argument: cpu as u64,
            page_table,
        },
    )?;
    let give_up_ns = now_ns() + START_PATIENCE_NS;
    while ARRIVED.load(Ordering::Acquire) >> cpu & 1 == 0 {
        if now_ns() > give_up_ns {
            return Err(StartError::Silent);
        }
        task::sleep_until(now_ns() + START_LOOK_NS);
    }
    Ok(())
}

/// Where a CPU beside the first begins.
extern "C" fn begin(cpu: u64) -> ! {
    let Some(stacks) = SEATS.get(cpu as usize).and_then(Once::get) else {
        halt_for_ever()
    };
    trap::load(cpu as usize, stacks);
    start_this_cpu();
    ARRIVED.fetch_or(1 << cpu, Ordering::Release);
    task::idle()
}
