//! A machine on the host: memory, a platform whose clock the scripts drive, and a small image.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use std::sync::Mutex;
use std::time::Instant;

use nuncio_abi::{Call, StopReason, TimePage};

use crate::launch::{launch, LaunchError, LoadedModule, Machine};
use crate::mem::arena::Arena;
use crate::mem::{Account, Frame, OutOfFrames, PhysicalMemory, PAGE_BYTES};
use crate::object::Memory;
use crate::plan::Plan;
use crate::run::{Cpus, DomainReport, Platform, Runner};
use crate::sched::CpuIndex;
use crate::vt::fake::{Clock, Fake, Guest, Script, ScriptResult};

const FIRST_FRAME: u64 = 0x100;
const FRAMES: u64 = 6144;
const MODULE_FRAMES: u64 = 16;
/// The longest that a machine may run; the longest test takes some seconds.
const MOST_SECONDS: u64 = 120;

std::thread_local! {
    /// One machine's memory for each test thread, used by one run after the other.
    static ARENA: &'static Arena = Arena::leak(FIRST_FRAME, FRAMES);
}

/// The platform.
pub struct FakePlatform {
    clock: Arc<Mutex<Clock>>,
    pub lines: Arc<Mutex<Vec<String>>>,
    switches: Arc<Mutex<u64>>,
    index: CpuIndex,
    bus: Arc<Bus>,
}

/// What all CPUs of a machine see.
struct Bus {
    /// For each CPU whether it has been interrupted.
    interrupted: Vec<AtomicBool>,
    /// A CPU has panicked: the others would wait for it for ever.
    is_broken: AtomicBool,
    began: Instant,
}

impl Bus {
    fn new(cpus: u8) -> Arc<Bus> {
        Arc::new(Bus {
            interrupted: (0..cpus).map(|_| AtomicBool::new(false)).collect(),
            is_broken: AtomicBool::new(false),
            began: Instant::now(),
        })
    }

    /// Every CPU asks again and again, so that a test that would hang fails instead.
    fn check(&self) {
        if std::thread::panicking() {
            return;
        }
        assert!(
            !self.is_broken.load(Ordering::Relaxed),
            "another CPU has panicked, see above"
        );
        assert!(
            self.began.elapsed().as_secs() < MOST_SECONDS,
            "the machine still runs after {MOST_SECONDS} s"
        );
    }
}

impl FakePlatform {
    fn new(clock: Arc<Mutex<Clock>>, index: CpuIndex, bus: Arc<Bus>) -> FakePlatform {
        FakePlatform {
            clock,
            lines: Arc::default(),
            switches: Arc::default(),
            index,
            bus,
        }
    }
}

impl Drop for FakePlatform {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.bus.is_broken.store(true, Ordering::Relaxed);
        }
    }
}

impl Platform for FakePlatform {
    /// Whether the registers are in some CPU, and not in the vcpu.
    type Extended = bool;

    fn now_ns(&self) -> u64 {
        self.bus.check();
        self.clock.lock().unwrap().now_ns
    }

    fn ticks(&self) -> u64 {
        self.now_ns()
    }

    fn arm_timer(&mut self, deadline_ns: Option<u64>) {
        self.clock.lock().unwrap().timer_ns = deadline_ns;
    }

    fn ticks_until(&self, deadline_ns: u64) -> u64 {
        deadline_ns.saturating_sub(self.now_ns())
    }

    fn service_interrupts(&mut self) -> bool {
        core::mem::take(&mut self.clock.lock().unwrap().fired)
    }

    fn interrupt(&self, cpu: CpuIndex) {
        self.bus.interrupted[cpu.index()].store(true, Ordering::SeqCst);
    }

    fn wait_while(&self, _cpu: CpuIndex, is_there: &dyn Fn() -> bool) {
        while is_there() {
            self.bus.check();
            std::thread::yield_now();
        }
    }

    fn idle(&mut self) {
        let mut clock = self.clock.lock().unwrap();
        // As on hardware: an interrupt that is pending already ends the sleep at once.
        if core::mem::take(&mut clock.fired) {
            return;
        }
        if let Some(timer_ns) = clock.timer_ns {
            clock.now_ns = clock.now_ns.max(timer_ns);
            clock.timer_ns = None;
            return;
        }
        drop(clock);
        assert!(
            self.bus.interrupted.len() > 1,
            "an idle machine has something to wait for"
        );
        while !self.bus.interrupted[self.index.index()].swap(false, Ordering::SeqCst) {
            self.bus.check();
            std::thread::yield_now();
        }
    }

    fn new_extended_state(&mut self, _account: &Arc<Account>) -> Result<bool, OutOfFrames> {
        Ok(false)
    }

    fn switch_extended_state(&mut self, from: Option<&mut bool>, to: &mut bool) {
        if let Some(from) = from {
            assert!(core::mem::take(from), "the CPU holds others");
        }
        assert!(!core::mem::replace(to, true), "a CPU holds them yet");
        *self.switches.lock().unwrap() += 1;
    }

    fn save_extended_state(&mut self, extended: &mut bool) {
        assert!(core::mem::take(extended), "the CPU holds others");
    }

    fn set_extended_features(&mut self, value: u64) -> bool {
        value & !0b111 == 0 && value & 1 != 0
    }

    fn cpuid(&self, _leaf: u32, _subleaf: u32) -> [u32; 4] {
        [u32::MAX; 4]
    }

    fn console_line(&mut self, domain: &str, line: &str) {
        // A serial line of 115,200 baud.
        let bytes = domain.len() as u64 + line.len() as u64 + 4;
        self.clock.lock().unwrap().pass(bytes * 87_000);
        self.lines
            .lock()
            .unwrap()
            .push(alloc::format!("[{domain}] {line}"));
    }
}

/// What a run left behind.
pub struct Outcome {
    pub reports: Vec<DomainReport>,
    pub lines: Vec<String>,
    pub frames_before: u64,
    pub frames_after: u64,
    /// Times that the extended state changed hands.
    pub switches: u64,
    pub now_ns: u64,
}

impl Outcome {
    /// Why the domain with this number ended, and the detail.
    pub fn ending(&self, domain: usize) -> (StopReason, u64) {
        let ending = self.reports[domain].ending;
        (ending.reason, ending.detail)
    }

    /// Checks that every frame came back.
    pub fn assert_nothing_leaked(&self) {
        assert_eq!(self.frames_before, self.frames_after, "frames leaked");
    }
}

/// Runs a plan with one script a domain. Checks that no frame is lost.
pub fn run(plan: &str, scripts: Vec<Script>) -> Outcome {
    try_run(plan, scripts, &image()).unwrap_or_else(|error| panic!("{error}"))
}

/// Runs a plan on several CPUs, each of which is a thread of the host's. The domains are spread over them
/// in turn, and so are the scripts. Checks that no frame is lost.
pub fn run_on(count: u8, plan: &str, scripts: Vec<Script>) -> Outcome {
    let arena = ARENA.with(|arena| *arena);
    let cpus = Cpus::new(usize::from(count));
    let bus = Bus::new(count);
    let mut by_cpu: Vec<Vec<Script>> = (0..count).map(|_| Vec::new()).collect();
    for (number, script) in scripts.into_iter().enumerate() {
        by_cpu[number % usize::from(count)].push(script);
    }
    let mut by_cpu = by_cpu.into_iter();
    let own = by_cpu.next().unwrap_or_default();
    std::thread::scope(|scope| {
        for (index, scripts) in (1..).map(CpuIndex).zip(by_cpu) {
            let (cpus, bus) = (cpus.clone(), bus.clone());
            scope.spawn(move || {
                let clock = Arc::new(Mutex::new(Clock::default()));
                let platform = FakePlatform::new(clock.clone(), index, bus);
                let vendor = Fake::new(arena, clock, scripts);
                Runner::new(cpus, index, vendor, platform, None).serve();
            });
        }
        let outcome = run_boot_cpu(cpus, bus, plan, own, &image(), false);
        outcome.unwrap_or_else(|error| panic!("{error}"))
    })
}

/// As [`run`], and records the calls.
pub fn run_traced(plan: &str, scripts: Vec<Script>) -> Outcome {
    run_with(plan, scripts, &image(), true).unwrap_or_else(|error| panic!("{error}"))
}

/// As [`run`], with an image of one's own, and without a panic if the launch is refused.
pub fn try_run(plan: &str, scripts: Vec<Script>, image: &[u8]) -> Result<Outcome, LaunchError> {
    run_with(plan, scripts, image, false)
}

fn run_with(
    plan: &str,
    scripts: Vec<Script>,
    image: &[u8],
    is_tracing: bool,
) -> Result<Outcome, LaunchError> {
    run_boot_cpu(Cpus::new(1), Bus::new(1), plan, scripts, image, is_tracing)
}

fn run_boot_cpu(
    cpus: Arc<Cpus>,
    bus: Arc<Bus>,
    plan: &str,
    scripts: Vec<Script>,
    image: &[u8],
    is_tracing: bool,
) -> Result<Outcome, LaunchError> {
    let arena = ARENA.with(|arena| *arena);
    let pool = crate::mem::FramePool::new(arena);
    pool.add(Frame(FIRST_FRAME), FRAMES - MODULE_FRAMES);
    let account = Account::new(pool.clone(), u64::MAX);
    let clock = Arc::new(Mutex::new(Clock::default()));
    let platform = FakePlatform::new(clock.clone(), CpuIndex::BOOT, bus);
    let (lines, switches) = (platform.lines.clone(), platform.switches.clone());
    let plan = Plan::parse(plan.as_bytes()).unwrap_or_else(|error| panic!("{error}"));
    let machine = Machine {
        physical: arena,
        pool: pool.clone(),
        account: account.clone(),
        modules: load_modules(arena, image),
        time_page: time_page(arena, &account),
        clock_entry: crate::cpu::clock_entry(),
        address_limit: 1 << 39,
    };
    let vendor = Fake::new(arena, clock.clone(), scripts);
    let limit_ns = plan.limit_ms.map(|limit_ms| limit_ms * 1_000_000);
    let mut runner = Runner::new(cpus, CpuIndex::BOOT, vendor, platform, limit_ns);
    if is_tracing {
        runner.trace_calls();
    }
    let given = if plan.domains.iter().any(|domain| !domain.modules.is_empty()) {
        1
    } else {
        0
    };
    let frames_before = pool.free_frames() + given;
    launch(&mut runner, &machine, &plan)?;
    let reports = runner.run();
    drop(runner);
    let outcome = Outcome {
        reports,
        lines: lines.lock().unwrap().clone(),
        frames_before,
        frames_after: pool.free_frames(),
        switches: *switches.lock().unwrap(),
        now_ns: clock.lock().unwrap().now_ns,
    };
    outcome.assert_nothing_leaked();
    Ok(outcome)
}

/// A script from a closure.
pub fn script(body: impl FnOnce(&mut Guest) -> ScriptResult + Send + 'static) -> Script {
    Box::new(body)
}

/// Ends the script's own domain.
pub fn stop(guest: &mut Guest, code: u64) -> ScriptResult {
    let domain = guest
        .boot_info()
        .handle("domain")
        .unwrap()
        .handle()
        .unwrap();
    guest
        .call(Call::Stop {
            object: domain,
            code,
        })
        .map(|_| ())
}

/// The image in the first module frames, a text of 5 bytes in the last.
fn load_modules(arena: &'static Arena, image: &[u8]) -> Vec<LoadedModule> {
    let first = FIRST_FRAME + FRAMES - MODULE_FRAMES;
    let last = FIRST_FRAME + FRAMES - 1;
    store(arena, first, image);
    store(
        arena,
        last,
        b"input and what the boot loader left behind it",
    );
    let module = |name: &str, frame: u64, length: u64| LoadedModule {
        name: name.to_string(),
        start: Frame(frame).start(),
        length,
    };
    vec![
        module("image", first, image.len() as u64),
        module("file", last, 5),
    ]
}

fn store(arena: &Arena, frame: u64, bytes: &[u8]) {
    for (number, page) in (frame..).zip(bytes.chunks(PAGE_BYTES as usize)) {
        let words = arena.words(Frame(number)).unwrap();
        for (word, chunk) in words.iter().zip(page.chunks(8)) {
            let mut bytes = [0; 8];
            bytes[..chunk.len()].copy_from_slice(chunk);
            word.store(
                u64::from_le_bytes(bytes),
                core::sync::atomic::Ordering::Relaxed,
            );
        }
    }
}

fn time_page(arena: &'static Arena, account: &Arc<Account>) -> Arc<Memory> {
    let page = Memory::allocate(account, 1).unwrap();
    let clock = TimePage {
        base_ticks: 0,
        base_ns: 0,
        scale: nuncio_abi::ClockScale::ticks_to_ns(1_000_000_000).unwrap(),
        disruption: 0,
        frequency_hz: 1_000_000_000,
    };
    clock.publish(arena.words(page.frame(0).unwrap()).unwrap());
    Arc::new(page)
}

/// The smallest image: one executable segment of 8 bytes at 1 MiB, and the note.
pub fn image() -> Vec<u8> {
    const ENTRY: u64 = 0x10_0000;
    let mut file = b"\x7FELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    file.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    for word in [ENTRY, 64, 0] {
        file.extend(word.to_le_bytes());
    }
    file.extend([0; 4]);
    for half in [64u16, 56, 2, 0, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    program_header(&mut file, [1, 5], [176, ENTRY, 8, 8, 4096]);
    program_header(&mut file, [4, 4], [184, 0, 36, 36, 4]);
    file.extend(*b"\x90\x90\x90\x90\x90\x90\x90\xF4");
    for word in [7u32, 16, 1] {
        file.extend(word.to_le_bytes());
    }
    file.extend(*b"Nuncio\0\0");
    file.extend(nuncio_abi::VERSION.to_raw().to_le_bytes());
    file.extend([0; 4]);
    file.extend(ENTRY.to_le_bytes());
    file
}

fn program_header(
    file: &mut Vec<u8>,
    kind_and_flags: [u32; 2],
    [offset, address, bytes, memory, alignment]: [u64; 5],
) {
    for word in kind_and_flags {
        file.extend(word.to_le_bytes());
    }
    for word in [offset, address, address, bytes, memory, alignment] {
        file.extend(word.to_le_bytes());
    }
}
