//! A CPU without threads: whenever a vcpu is entered, the driver is asked what its guest does.

use alloc::rc::Rc;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

use crate::mem::{Account, Frame, OutOfFrames};
use crate::nested::{EntryFormat, NPT};
use crate::run::Platform;
use crate::sched::CpuIndex;
use crate::vt::{
    EntryFailure, Exit, FlushRecorder, GuestException, Left, Register, RegisterLimits, Registers,
    Segment, SegmentRegister, StartState, SystemRegister, Vendor, VirtualCpu,
};

use super::driver::Driver;

/// Time, which passes only when the driver says so.
#[derive(Default)]
pub struct Clock {
    pub now_ns: Cell<u64>,
    pub timer_ns: Cell<Option<u64>>,
    pub has_fired: Cell<bool>,
}

impl Clock {
    /// Lets time pass, at most until the timer fires.
    pub fn pass(&self, ns: u64) {
        let end = self.now_ns.get().saturating_add(ns);
        let end = self
            .timer_ns
            .get()
            .map_or(end, |timer_ns| end.min(timer_ns));
        self.now_ns.set(self.now_ns.get().max(end));
        self.look();
    }

    fn look(&self) {
        let is_due = |timer_ns| timer_ns <= self.now_ns.get();
        if self.timer_ns.get().is_some_and(is_due) {
            self.timer_ns.set(None);
            self.has_fired.set(true);
        }
    }
}

pub struct Puppets(pub Rc<RefCell<Driver>>);

pub struct Puppet {
    pub number: usize,
    pub registers: Registers,
    pub exit: Option<Exit>,
    /// Upcalls that the loop has asked for since the last entry.
    pub requested: Vec<u8>,
    pub upcall_pending: bool,
}

impl Puppet {
    pub fn new(number: usize) -> Self {
        Puppet {
            number,
            registers: Registers::default(),
            exit: None,
            requested: Vec::new(),
            upcall_pending: false,
        }
    }

    pub fn leave(&mut self, exit: Exit) -> Left {
        self.exit = Some(exit);
        Left::ByExit
    }
}

impl Vendor for Puppets {
    const NAME: &'static str = "puppets";
    const CALL_INSTRUCTION: [u8; 3] = [0xCC; 3];
    type Vcpu = Puppet;

    fn entry_format(&self) -> &'static dyn EntryFormat {
        &NPT
    }

    fn create_vcpu(&mut self, _: &Arc<Account>, _: &StartState) -> Result<Puppet, OutOfFrames> {
        Ok(Puppet::new(self.0.borrow().starting()))
    }

    fn record_flushes(&mut self, _: FlushRecorder) {}

    fn load(&mut self, _: &mut Puppet) {}

    fn release(&mut self, _: &mut Puppet) {
        unreachable!("there is one CPU")
    }

    fn adopt(&mut self, _: &mut Puppet) {
        unreachable!("there is one CPU")
    }

    fn run(&mut self, vcpu: &mut Puppet) -> Left {
        self.0.borrow_mut().run(vcpu)
    }
}

impl VirtualCpu for Puppet {
    fn set_nested_root(&mut self, _root: Frame) {}

    fn set_calls_exit(&mut self, _calls_exit: bool) {}

    fn catch_exceptions(&mut self, _vectors: u32) {}

    fn fault_address(&self) -> u64 {
        0
    }

    fn exit(&mut self) -> Exit {
        self.exit.take().expect("an exit that is no call")
    }

    fn entry_failure(&self) -> EntryFailure {
        unreachable!("no puppet is refused")
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
    }

    fn skip_instruction(&mut self) {}

    fn inject(&mut self, _: GuestException) {}

    fn request_upcall(&mut self, vector: u8) {
        self.requested.push(vector);
        self.upcall_pending = true;
    }

    fn pending_upcall(&self) -> Option<u8> {
        let vector = self.requested.last().copied().unwrap_or(0);
        self.upcall_pending.then_some(vector)
    }

    fn take_upcall(&mut self) -> Option<u8> {
        unreachable!("no puppet has a monitor")
    }

    fn flush_translations(&mut self) {}

    fn system_register(&self, _: SystemRegister) -> u64 {
        0
    }

    fn set_system_register(&mut self, _: SystemRegister, _: u64) {}

    fn segment(&self, _: SegmentRegister) -> Segment {
        unreachable!("no puppet has a monitor")
    }

    fn set_segment(&mut self, _: &Segment) {}

    fn is_in_shadow(&self) -> bool {
        false
    }

    fn set_shadow(&mut self, _: bool) {}

    fn register_limits(&self) -> RegisterLimits {
        RegisterLimits::default()
    }

    fn instruction_pointer(&self) -> u64 {
        0
    }
}

pub struct Machine {
    pub clock: Rc<Clock>,
    pub driver: Rc<RefCell<Driver>>,
}

impl Platform for Machine {
    type Extended = ();

    fn now_ns(&self) -> u64 {
        self.clock.now_ns.get()
    }

    fn ticks(&self) -> u64 {
        self.clock.now_ns.get()
    }

    fn arm_timer(&mut self, deadline_ns: Option<u64>) {
        self.clock.timer_ns.set(deadline_ns);
        self.clock.look();
    }

    fn ticks_until(&self, deadline_ns: u64) -> u64 {
        deadline_ns.saturating_sub(self.clock.now_ns.get())
    }

    fn service_interrupts(&mut self) -> bool {
        self.clock.has_fired.take()
    }

    fn interrupt(&self, _cpu: CpuIndex) {}

    fn wait_while(&self, _cpu: CpuIndex, _is_there: &dyn Fn() -> bool) {}

    fn idle(&mut self) {
        self.driver.borrow_mut().idle();
        self.clock.has_fired.set(false);
    }

    fn new_extended_state(&mut self, _: &Arc<Account>) -> Result<(), OutOfFrames> {
        Ok(())
    }

    fn switch_extended_state(&mut self, _: Option<&mut ()>, _: &mut ()) {}

    fn save_extended_state(&mut self, _: &mut ()) {
        unreachable!("there is one CPU")
    }

    fn set_extended_features(&mut self, _: u64) -> bool {
        false
    }

    fn cpuid(&self, _: u32, _: u32) -> [u32; 4] {
        [0; 4]
    }

    fn console_line(&mut self, _: &str, _: &str) {}
}
