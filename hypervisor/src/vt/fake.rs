//! A vendor for host tests: each vcpu is a thread that runs a script, one at a time.
//!
//! A script is straight-line Rust that makes calls and causes exits as a guest would; the loop
//! under test cannot tell it from hardware. Time passes only when a script or the machine says
//! so, so every run is the same.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;
use std::sync::mpsc::{channel, Receiver, Sender};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::vec::Vec;

use nuncio_abi::{BootInfo, Call, Error, RawCall, Reply, MAX_VALUES};

use super::entry_rules::{vmx, EntryFailure};
use super::flush_log::{self, FlushRecorder};
use super::registers::{ARGUMENTS, VALUES};
use super::start_state::{self, SEGMENTS};
use super::{
    ControlRegisters, Exit, GuestException, Left, Register, RegisterLimits, Registers, Segment,
    SegmentRegister, StartState, SystemRegister, Vendor, VirtualCpu,
};
use crate::mem::{Account, Frame, GuestPhysical, OutOfFrames, PhysicalMemory, Words};
use crate::nested::{Entry, EntryFormat, Level, NPT};

/// The domain has ended under the script.
pub struct Gone;

/// What a script returns: nothing, unless its domain ended first.
pub type ScriptResult = Result<(), Gone>;

/// What a vcpu runs.
pub type Script = Box<dyn FnOnce(&mut Guest) -> ScriptResult + Send>;

/// The machine's clock and timer, shared with the fake platform.
#[derive(Default)]
pub struct Clock {
    /// Nanoseconds.
    pub now_ns: u64,
    /// When the timer fires.
    pub timer_ns: Option<u64>,
    /// The timer has fired and nobody has looked.
    pub fired: bool,
}

/// Where every page fault is.
pub const FAULT_ADDRESS: u64 = 0xFA_0000;

/// What an exit costs, in nanoseconds.
const EXIT_NS: u64 = 1_000;

/// The vendor.
pub struct Fake {
    physical: &'static dyn PhysicalMemory,
    clock: Arc<Mutex<Clock>>,
    scripts: VecDeque<Script>,
    recorder: Option<FlushRecorder>,
}

impl Fake {
    /// A vendor whose vcpus run these scripts, in the order in which they are made.
    pub fn new(
        physical: &'static dyn PhysicalMemory,
        clock: Arc<Mutex<Clock>>,
        scripts: Vec<Script>,
    ) -> Self {
        Fake {
            physical,
            clock,
            scripts: scripts.into(),
            recorder: None,
        }
    }
}

/// What the loop has done to a vcpu since its last exit.
#[derive(Clone, Debug, Default)]
pub struct Effects {
    /// The reply to its call.
    pub reply: Option<Reply>,
    /// EDX:EAX when the loop moved past an instruction that was no call.
    pub answer: Option<u64>,
    /// Exceptions injected.
    pub injected: Vec<GuestException>,
    /// The upcall that was requested.
    pub upcall: Option<u8>,
    /// Flushes asked for since the vcpu was made.
    pub flushes: u64,
}

/// Registers that are only kept.
struct State {
    system: BTreeMap<SystemRegister, u64>,
    segments: [Segment; 8],
    is_in_shadow: bool,
}

impl Default for State {
    fn default() -> Self {
        State {
            system: BTreeMap::new(),
            segments: SEGMENTS,
            is_in_shadow: false,
        }
    }
}

impl State {
    fn system_register(&self, register: SystemRegister) -> u64 {
        self.system.get(&register).copied().unwrap_or(0)
    }
}

#[derive(Default)]
struct Shared {
    call: Option<RawCall>,
    state: State,
    effects: Effects,
    /// The nested tables, if they are not those of the start.
    root: Option<Frame>,
    /// Exceptions that exit.
    caught: u32,
}

enum Step {
    Exit(Exit),
    Compute(u64),
}

/// A virtual CPU: the loop's end of the thread.
pub struct FakeVcpu {
    /// The CPU that has it, which every CPU's clock tells.
    cpu: Option<usize>,
    shared: Arc<Mutex<Shared>>,
    go: Sender<()>,
    steps: Receiver<Step>,
    /// Nanoseconds of a computation that are still to be spent.
    computing_ns: u64,
    /// Why it left the CPU.
    last_exit: Option<Exit>,
    calls_exit: bool,
    registers: Registers,
    /// Flushes that were asked for before it ran last.
    flushed: u64,
}

/// A virtual CPU: the script's end of the thread.
pub struct Guest {
    shared: Arc<Mutex<Shared>>,
    go: Receiver<()>,
    steps: Sender<Step>,
    physical: &'static dyn PhysicalMemory,
    start: StartState,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}

impl Guest {
    /// Exits, and returns what the loop did before the guest went on.
    pub fn exit(&mut self, exit: Exit) -> Result<Effects, Gone> {
        self.step(Step::Exit(exit))
    }

    /// Makes a call.
    pub fn call(&mut self, call: Call) -> Result<Result<[u64; MAX_VALUES], Error>, Gone> {
        self.raw_call(call.encode())
    }

    /// Makes a call with these registers.
    pub fn raw_call(&mut self, raw: RawCall) -> Result<Result<[u64; MAX_VALUES], Error>, Gone> {
        lock(&self.shared).call = Some(raw);
        // A monitor may have the instruction executed once more.
        loop {
            if let Some(reply) = self.exit(Exit::Call { privilege: 0 })?.reply {
                return Ok(reply.result());
            }
        }
    }

    /// Runs for so long without an exit of its own.
    pub fn compute(&mut self, ns: u64) -> ScriptResult {
        self.step(Step::Compute(ns)).map(|_| ())
    }

    /// Sets the control registers that the loop sees.
    pub fn set_control(&mut self, control: ControlRegisters) {
        let mut shared = lock(&self.shared);
        shared.state.system.extend([
            (SystemRegister::Cr0, control.cr0),
            (SystemRegister::Cr4, control.cr4),
            (SystemRegister::Efer, control.efer),
            (SystemRegister::PageAttributes, control.page_attributes),
        ]);
    }

    /// The boot-info page, read from where the guest was told.
    pub fn boot_info(&self) -> BootInfo {
        let words = self.words(self.start.argument).unwrap();
        let words: Vec<u64> = words
            .iter()
            .map(|word| word.load(core::sync::atomic::Ordering::Relaxed))
            .collect();
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        read_boot_info(&bytes)
    }

    /// The state in which the vcpu was started.
    pub const fn start(&self) -> &StartState {
        &self.start
    }

    /// The page at a guest-physical address, found as the CPU would find it.
    pub fn words(&self, address: GuestPhysical) -> Option<&'static Words> {
        let page = address.0 >> 12;
        let mut table = lock(&self.shared).root.unwrap_or(self.start.nested_root);
        for level in Level::DOWNWARD {
            let entry = self.physical.words(table)?[level.index(page)]
                .load(core::sync::atomic::Ordering::Relaxed);
            match NPT.decode(entry, level) {
                Entry::Absent => return None,
                Entry::Table(next) => table = next,
                Entry::Leaf { frame, .. } => {
                    return self.physical.words(Frame(frame.0 + level.offset(page)));
                }
            }
        }
        None
    }

    fn step(&mut self, step: Step) -> Result<Effects, Gone> {
        self.steps.send(step).map_err(|_| Gone)?;
        self.go.recv().map_err(|_| Gone)?;
        let mut shared = lock(&self.shared);
        let flushes = shared.effects.flushes;
        let effects = core::mem::take(&mut shared.effects);
        shared.effects.flushes = flushes;
        Ok(effects)
    }
}

/// Puts a boot-info page together from its bytes, field by field.
fn read_boot_info(bytes: &[u8]) -> BootInfo {
    use core::mem::offset_of;
    use nuncio_abi::{Module, Name, NamedHandle};

    let word = |offset: usize| u64::from_le_bytes(bytes[offset..offset + 8].try_into().unwrap());
    let name = |offset: usize| {
        let text = core::str::from_utf8(&bytes[offset..offset + 32]).unwrap();
        Name::new(text.trim_end_matches('\0')).unwrap()
    };
    let mut info = BootInfo {
        magic: word(offset_of!(BootInfo, magic)),
        version: word(offset_of!(BootInfo, version)),
        name: name(offset_of!(BootInfo, name)),
        ram_bytes: word(offset_of!(BootInfo, ram_bytes)),
        free_start: word(offset_of!(BootInfo, free_start)),
        vcpu_page: word(offset_of!(BootInfo, vcpu_page)),
        time_page: word(offset_of!(BootInfo, time_page)),
        text_page: word(offset_of!(BootInfo, text_page)),
        mapped_end: word(offset_of!(BootInfo, mapped_end)),
        address_limit: word(offset_of!(BootInfo, address_limit)),
        module_count: word(offset_of!(BootInfo, module_count)),
        handle_count: word(offset_of!(BootInfo, handle_count)),
        vcpu_count: word(offset_of!(BootInfo, vcpu_count)),
        ..BootInfo::EMPTY
    };
    let line = offset_of!(BootInfo, command_line);
    info.command_line
        .copy_from_slice(&bytes[line..line + nuncio_abi::COMMAND_LINE_BYTES]);
    for (index, module) in info.modules.iter_mut().enumerate() {
        let base = offset_of!(BootInfo, modules) + index * size_of::<Module>();
        *module = Module {
            name: name(base),
            address: word(base + 32),
            length: word(base + 40),
        };
    }
    for (index, handle) in info.handles.iter_mut().enumerate() {
        let base = offset_of!(BootInfo, handles) + index * size_of::<NamedHandle>();
        *handle = NamedHandle {
            name: name(base),
            handle: word(base + 32),
            description: word(base + 40),
        };
    }
    for (index, handle) in info.vcpus.iter_mut().enumerate() {
        *handle = word(offset_of!(BootInfo, vcpus) + index * 8);
    }
    info
}

impl Vendor for Fake {
    const NAME: &'static str = "fake";
    const CALL_INSTRUCTION: [u8; 3] = [0xCC; 3];
    type Vcpu = FakeVcpu;

    fn entry_format(&self) -> &'static dyn EntryFormat {
        &NPT
    }

    fn create_vcpu(
        &mut self,
        _account: &Arc<Account>,
        start: &StartState,
    ) -> Result<FakeVcpu, OutOfFrames> {
        let script = self.scripts.pop_front().expect("a script for each vcpu");
        let shared = Arc::new(Mutex::new(Shared::default()));
        let (go, wait_for_go) = channel();
        let (send_step, steps) = channel();
        let mut guest = Guest {
            shared: shared.clone(),
            go: wait_for_go,
            steps: send_step,
            physical: self.physical,
            start: *start,
        };
        thread::spawn(move || {
            if guest.go.recv().is_ok() && script(&mut guest).is_ok() {
                // A script that just ends is a guest that falls off its code, and whenever its
                // monitor has it go on, it does so again.
                let falls = || guest.steps.send(Step::Exit(Exit::Shutdown)).is_ok();
                while falls() && guest.go.recv().is_ok() {}
            }
        });
        Ok(FakeVcpu {
            cpu: Some(self.clock_id()),
            shared,
            go,
            steps,
            computing_ns: 0,
            last_exit: None,
            calls_exit: false,
            registers: Registers::default(),
            flushed: 0,
        })
    }

    fn record_flushes(&mut self, recorder: FlushRecorder) {
        self.recorder = Some(recorder);
    }

    fn load(&mut self, vcpu: &mut FakeVcpu) {
        assert_eq!(vcpu.cpu, Some(self.clock_id()), "it is another CPU's");
    }

    fn release(&mut self, vcpu: &mut FakeVcpu) {
        assert_eq!(
            vcpu.cpu.take(),
            Some(self.clock_id()),
            "it is another CPU's"
        );
    }

    fn adopt(&mut self, vcpu: &mut FakeVcpu) {
        assert_eq!(
            vcpu.cpu.replace(self.clock_id()),
            None,
            "it is on a CPU yet"
        );
        vcpu.flush_translations();
    }

    fn run(&mut self, vcpu: &mut FakeVcpu) -> Left {
        let flushes = lock(&vcpu.shared).effects.flushes;
        let before = core::mem::replace(&mut vcpu.flushed, flushes);
        if let (Some(recorder), true) = (&self.recorder, before != flushes) {
            let (how, identifier) = ("fake", 0);
            recorder.record(flush_log::Step::Done { how, identifier });
        }
        match self.next_exit(vcpu) {
            Exit::Call { privilege: 0 } if !vcpu.calls_exit => {
                vcpu.load_call();
                Left::ByCall
            }
            exit => {
                if let Exit::Call { .. } = exit {
                    vcpu.load_call();
                }
                vcpu.last_exit = Some(exit);
                Left::ByExit
            }
        }
    }
}

impl Fake {
    /// What no other CPU has.
    fn clock_id(&self) -> usize {
        Arc::as_ptr(&self.clock).addr()
    }

    fn next_exit(&mut self, vcpu: &mut FakeVcpu) -> Exit {
        loop {
            // As on hardware: a pending interrupt exits before the guest gets anywhere.
            if lock(&self.clock).fired {
                return Exit::Interrupt;
            }
            if vcpu.computing_ns > 0 {
                if lock(&self.clock).spend(&mut vcpu.computing_ns) {
                    return Exit::Interrupt;
                }
                continue;
            }
            vcpu.go.send(()).expect("the script of the vcpu is alive");
            match vcpu.steps.recv().expect("the script did not panic") {
                Step::Compute(ns) => vcpu.computing_ns = ns,
                Step::Exit(exit) => {
                    lock(&self.clock).pass(EXIT_NS);
                    return exit;
                }
            }
        }
    }
}

impl Clock {
    /// Lets time pass until the work is done or the timer fires; whether it did.
    fn spend(&mut self, work_ns: &mut u64) -> bool {
        let end_ns = self.now_ns.saturating_add(*work_ns);
        match self.timer_ns.filter(|timer_ns| *timer_ns <= end_ns) {
            Some(timer_ns) => {
                let now_ns = timer_ns.max(self.now_ns);
                *work_ns = end_ns - now_ns;
                self.now_ns = now_ns;
                self.fire();
                true
            }
            None => {
                self.now_ns = end_ns;
                *work_ns = 0;
                false
            }
        }
    }

    /// Time passes in the hypervisor.
    pub fn pass(&mut self, ns: u64) {
        self.now_ns += ns;
        if self
            .timer_ns
            .is_some_and(|timer_ns| timer_ns <= self.now_ns)
        {
            self.fire();
        }
    }

    /// The timer goes off.
    pub fn fire(&mut self) {
        self.timer_ns = None;
        self.fired = true;
    }
}

impl FakeVcpu {
    /// Puts the script's call into the registers.
    fn load_call(&mut self) {
        let Some(call) = lock(&self.shared).call else {
            return;
        };
        self.registers[Register::RAX] = call.verb;
        for (register, argument) in ARGUMENTS.into_iter().zip(call.arguments) {
            self.registers[register] = argument;
        }
    }

    fn effects(&self, change: impl FnOnce(&mut Effects)) {
        change(&mut lock(&self.shared).effects);
    }
}

impl FakeVcpu {
    /// One that runs nothing.
    fn idle() -> Self {
        FakeVcpu {
            cpu: None,
            shared: Arc::default(),
            go: channel().0,
            steps: channel().1,
            computing_ns: 0,
            last_exit: None,
            calls_exit: false,
            registers: Registers::default(),
            flushed: 0,
        }
    }
}

impl VirtualCpu for FakeVcpu {
    fn exit(&mut self) -> Exit {
        self.last_exit.take().expect("an exit that is no call")
    }

    fn entry_failure(&self) -> EntryFailure {
        EntryFailure {
            refusal: vmx::refused_by_exit(0x8000_0021, 0),
            instruction_pointer: 0x1000,
            rules: Vec::new(),
            not_named: 0,
            values: Vec::new(),
        }
    }

    fn register(&self, register: Register) -> u64 {
        self.registers[register]
    }

    fn set_register(&mut self, register: Register, value: u64) {
        self.registers[register] = value;
    }

    fn registers_mut(&mut self) -> &mut Registers {
        &mut self.registers
    }

    fn complete_call(&mut self, status: u64) {
        self.registers[Register::RAX] = status;
        let reply = Reply::from_registers(status, VALUES.map(|register| self.register(register)));
        self.effects(|effects| effects.reply = Some(reply));
    }

    fn skip_instruction(&mut self) {
        let [eax, edx] = [Register::RAX, Register::RDX].map(|register| self.register(register));
        self.effects(|effects| effects.answer = Some(edx << 32 | eax));
    }

    fn inject(&mut self, exception: GuestException) {
        self.effects(|effects| effects.injected.push(exception));
    }

    fn request_upcall(&mut self, vector: u8) {
        self.effects(|effects| effects.upcall = Some(vector));
    }

    fn pending_upcall(&self) -> Option<u8> {
        lock(&self.shared).effects.upcall
    }

    fn take_upcall(&mut self) -> Option<u8> {
        lock(&self.shared).effects.upcall.take()
    }

    fn flush_translations(&mut self) {
        self.effects(|effects| effects.flushes += 1);
    }

    fn set_nested_root(&mut self, root: Frame) {
        lock(&self.shared).root = Some(root);
        self.flush_translations();
    }

    fn set_calls_exit(&mut self, calls_exit: bool) {
        self.calls_exit = calls_exit;
    }

    fn catch_exceptions(&mut self, vectors: u32) {
        lock(&self.shared).caught = vectors;
    }

    fn fault_address(&self) -> u64 {
        FAULT_ADDRESS
    }

    fn system_register(&self, register: SystemRegister) -> u64 {
        lock(&self.shared).state.system_register(register)
    }

    fn set_system_register(&mut self, register: SystemRegister, value: u64) {
        let mut shared = lock(&self.shared);
        shared.state.system.insert(register, value);
    }

    fn segment(&self, register: SegmentRegister) -> Segment {
        lock(&self.shared).state.segments[register as usize]
    }

    fn set_segment(&mut self, segment: &Segment) {
        lock(&self.shared).state.segments[segment.register as usize] = *segment;
    }

    fn is_in_shadow(&self) -> bool {
        lock(&self.shared).state.is_in_shadow
    }

    fn set_shadow(&mut self, is_in_shadow: bool) {
        lock(&self.shared).state.is_in_shadow = is_in_shadow;
    }

    fn register_limits(&self) -> RegisterLimits {
        RegisterLimits {
            cr4: 0x37_07FF,
            linear_bits: 48,
        }
    }

    fn instruction_pointer(&self) -> u64 {
        self.system_register(SystemRegister::Rip)
    }
}

mod tests {
    use super::super::state_behaviour::{state_behaviours, StateBed};
    use super::*;

    struct FakeBed(FakeVcpu);

    impl StateBed for FakeBed {
        type Vcpu = FakeVcpu;

        fn create() -> Self {
            let mut vcpu = FakeVcpu::idle();
            vcpu.set_system_register(SystemRegister::Cr0, start_state::CR0);
            vcpu.set_system_register(SystemRegister::Cr4, start_state::CR4);
            vcpu.set_system_register(SystemRegister::Rflags, start_state::RFLAGS);
            vcpu.set_efer(start_state::EFER);
            FakeBed(vcpu)
        }

        fn vcpu(&mut self) -> &mut FakeVcpu {
            &mut self.0
        }

        fn take_flush(&mut self) -> bool {
            let mut shared = lock(&self.0.shared);
            core::mem::take(&mut shared.effects.flushes) > 0
        }
    }

    state_behaviours!(FakeBed);
}
