//! Plays the guests on the machine and on the model, and compares the two after every step.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::sync::Weak;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::SeqCst;

use nuncio_abi::{Error, RawCall, StopReason, VcpuPage};

use crate::mem::arena::Arena;
use crate::mem::{Account, Frame, PhysicalMemory, Words};
use crate::object::Domain;
use crate::vt::{Exit, Left, Register, Registers};

use super::choose::{Action, Random, Taste};
use super::puppet::{Clock, Puppet};
use super::state::*;
use super::verbs::{Next, Seen};

pub struct Real {
    pub domain: Weak<Domain>,
    pub account: Weak<Account>,
    pub page: &'static Words,
}

impl Real {
    /// Frames that the account holds; none when it is gone.
    pub fn used(&self) -> u64 {
        let account = self.account.upgrade();
        account.map_or(0, |account| account.used())
    }

    /// Bytes of the hypervisor's memory that it holds.
    pub fn kernel_used(&self) -> u64 {
        let account = self.account.upgrade();
        account.map_or(0, |account| account.kernel_bytes_used())
    }
}

pub struct Driver {
    pub model: Model,
    pub real: Vec<Real>,
    pub arena: &'static Arena,
    pub clock: Rc<Clock>,
    pub taste: Taste,
    pub steps: VecDeque<u64>,
    /// The call that was made last, until it is known what has become of it.
    in_flight: Option<(usize, RawCall)>,
    /// The registers with which each vcpu has made its last call.
    before: Vec<Registers>,
    /// How often each vcpu could have run and another one did.
    passed_over: Vec<u32>,
    /// Entries since a guest has last done something.
    idle_entries: u32,
    running: usize,
    pub failure: Option<String>,
    log: VecDeque<(usize, Action)>,
    pub calls: u64,
    pub calls_of_made: u64,
    /// Calls by verb and status.
    pub seen: alloc::collections::BTreeMap<(u64, u64), u64>,
}

/// More turns than any vcpu has to let pass, in which others pay for what it has overdrawn.
const PATIENCE: u32 = 250;

/// More entries than all vcpus together need to let their turns pass.
const MOST_IDLE_ENTRIES: u32 = 10_000;

const VALUES: [Register; 5] = [
    Register::RDX,
    Register::R10,
    Register::R8,
    Register::RDI,
    Register::RSI,
];

const ARGUMENTS: [Register; 5] = [
    Register::RDI,
    Register::RSI,
    Register::RDX,
    Register::R10,
    Register::R8,
];

impl Driver {
    pub fn new(
        model: Model,
        real: Vec<Real>,
        arena: &'static Arena,
        taste: Taste,
        steps: &[u64],
    ) -> Self {
        let domains = real.len();
        Driver {
            model,
            real,
            arena,
            clock: Rc::default(),
            taste,
            steps: steps.iter().copied().collect(),
            in_flight: None,
            before: alloc::vec![Registers::default(); domains],
            passed_over: alloc::vec![0; domains],
            idle_entries: 0,
            running: 0,
            failure: None,
            log: VecDeque::new(),
            calls: 0,
            calls_of_made: 0,
            seen: Default::default(),
        }
    }

    pub(super) fn fail(&mut self, what: String) {
        if self.failure.is_none() {
            let log: Vec<String> = self
                .log
                .iter()
                .map(|(who, action)| format!("  domain {who}: {action:x?}"))
                .collect();
            self.failure = Some(format!("{what}\n{}", log.join("\n")));
        }
    }

    /// There is one domain more, without a vcpu.
    pub(super) fn add(&mut self, real: Real) {
        self.real.push(real);
        self.before.push(Registers::default());
        self.passed_over.push(0);
    }

    /// Whose vcpu the call that is being made starts.
    pub fn starting(&self) -> usize {
        let (who, raw) = self.in_flight.expect("a vcpu is started by a call");
        let handle = &self.model.domains[who].handles[&raw.arguments[0]];
        match self.model.objects[handle.object] {
            Object::Vcpu(who) => who,
            ref other => panic!("not a vcpu: {other:?}"),
        }
    }

    /// A vcpu is entered: looks at what has happened, and lets its guest do the next thing.
    pub fn run(&mut self, vcpu: &mut Puppet) -> Left {
        let me = vcpu.number;
        self.settle(Some(vcpu));
        if self.clock.has_fired.get() && self.failure.is_none() {
            self.idle_entries += 1;
            if self.idle_entries > MOST_IDLE_ENTRIES {
                self.fail("vcpus are entered again and again, and no guest gets anywhere".into());
            }
            return vcpu.leave(Exit::Interrupt);
        }
        self.idle_entries = 0;
        loop {
            if self.failure.is_some() {
                return vcpu.leave(Exit::Shutdown);
            }
            let action = match self.steps.pop_front() {
                Some(seed) => self.choose(me, &mut Random(seed)),
                None => self.wind_down(me),
            };
            if self.log.len() == 40 {
                self.log.pop_front();
            }
            self.log.push_back((me, action.clone()));
            if let Some(left) = self.act(vcpu, action) {
                return left;
            }
            self.compare(None);
        }
    }

    /// Gives everything up, then ends.
    fn wind_down(&self, me: usize) -> Action {
        let own = self.model.domains[me].handles.iter();
        let stop = |held: &Held| held.rights & STOP != 0;
        let mut others = own.clone().filter(|(_, held)| !stop(held));
        let arguments = match (
            others.next_back(),
            own.clone().find(|(_, held)| {
                stop(held)
                    && matches!(self.model.objects[held.object], Object::Domain(who) if who == me)
            }),
        ) {
            (Some((handle, _)), _) => (7, [*handle, 0, 0, 0, 0]),
            (None, Some((handle, _))) => (9, [*handle, 0, 0, 0, 0]),
            (None, None) => return Action::HaltForEver,
        };
        Action::Call(RawCall {
            verb: arguments.0,
            arguments: arguments.1,
        })
    }

    fn act(&mut self, vcpu: &mut Puppet, action: Action) -> Option<Left> {
        let me = vcpu.number;
        let page = VcpuPage::new(self.real[me].page);
        let domain = &mut self.model.domains[me];
        match action {
            Action::Call(raw) => {
                self.calls += 1;
                self.calls_of_made += u64::from(domain.maker.is_some());
                let mut noise = Random(self.calls);
                for number in 0..16 {
                    vcpu.registers[Register::numbered(number)] = noise.next();
                }
                vcpu.registers[Register::RAX] = raw.verb;
                for (register, argument) in ARGUMENTS.into_iter().zip(raw.arguments) {
                    vcpu.registers[register] = argument;
                }
                self.before[me] = vcpu.registers;
                self.in_flight = Some((me, raw));
                return Some(Left::ByCall);
            }
            Action::Halt => {
                if domain.page.ready != 0 {
                    domain.upcall_due = true;
                }
                if !domain.upcall_due && !domain.upcall_on_its_way {
                    domain.sleeps = Some(Sleep::Halt);
                }
                return Some(vcpu.leave(Exit::Halt {
                    interrupts_enabled: true,
                }));
            }
            Action::HaltForEver => {
                self.model.end(me, StopReason::HaltedForEver, 0);
                return Some(vcpu.leave(Exit::Halt {
                    interrupts_enabled: false,
                }));
            }
            Action::Crash(port) => {
                self.model.end(me, StopReason::PortIo, u64::from(port));
                return Some(vcpu.leave(Exit::port(u64::from(port) << 16, 1, [0; 3])));
            }
            Action::Pass(ns) => {
                self.clock.pass(ns);
                self.model.now = self.clock.now_ns.get();
                if self.clock.has_fired.get() {
                    self.model.fire_timers();
                    return Some(vcpu.leave(Exit::Interrupt));
                }
            }
            Action::Take(slot) => {
                let model = &mut domain.page;
                model.ready &= !(1 << slot);
                let taken = model.pending[slot] & model.enabled[slot];
                model.pending[slot] &= !taken;
                let real = page.slot(slot).map(|word| word.take());
                if real != Some(taken) {
                    self.fail(format!(
                        "slot {slot} of domain {me}: {real:x?}, not {taken:#x}"
                    ));
                }
            }
            Action::Enable(slot, bits) => {
                domain.page.enabled[slot] = bits;
                domain.page.look(slot);
                page.slot(slot)
                    .into_iter()
                    .for_each(|word| word.enable(bits));
            }
            Action::WakeAt(slot, ahead) => {
                let count = match ahead {
                    0 => 0,
                    ahead => domain.page.count[slot].wrapping_add(ahead),
                };
                domain.page.wake_at[slot] = count;
                domain.page.look(slot);
                page.slot(slot)
                    .into_iter()
                    .for_each(|word| word.wake_at(count));
            }
            Action::Vector(vector) => {
                domain.page.vector = vector;
                self.real[me].page[1].store(vector, SeqCst);
            }
            Action::Write(address, words) => {
                for (word, address) in words.into_iter().zip((address..).step_by(8)) {
                    let place = self.model.at(me, address, WRITE);
                    let root = self.model.own_space(me).root.map(Frame);
                    let real = root.and_then(|root| self.translate(root, address, WRITE));
                    if let (Some(place), Some((frame, _))) = (place, real) {
                        self.model.store(place, word);
                        let number = (address % PAGE / 8) as usize;
                        self.arena.words(frame).unwrap()[number].store(word, SeqCst);
                    }
                }
            }
            Action::Deliver => {
                domain.upcall_on_its_way = false;
                vcpu.upcall_pending = false;
            }
        }
        None
    }

    /// Nobody can run: time passes until the timer fires.
    pub fn idle(&mut self) {
        self.settle(None);
        let timer = self.clock.timer_ns.get();
        if self.clock.has_fired.get() {
            self.model.fire_timers();
        } else if let Some(timer_ns) = timer {
            self.clock
                .pass(timer_ns.saturating_sub(self.clock.now_ns.get()));
            self.model.now = self.clock.now_ns.get();
            self.model.fire_timers();
        } else {
            panic!("the machine sleeps and nothing will wake it");
        }
    }

    /// The run is over: those who are left waited for nobody.
    pub fn finish(&mut self) {
        if self.failure.is_some() {
            return;
        }
        if let Some((who, raw)) = self.in_flight.take() {
            let next = self.model.call(who, &raw, None);
            self.conclude(who, next, None, None);
        }
        let awake = (0..self.real.len()).find(|who| self.model.can_run(*who));
        let due = self.model.next_deadline();
        let is_left = self.model.domains.iter().any(|domain| domain.is_alive());
        if awake.is_some() || (is_left && due.is_some()) {
            self.fail(format!(
                "the run is over, but {awake:?} can run and {due:?} is due"
            ));
        }
    }

    /// Finds out what has become of the last call, and why this vcpu runs now, or none.
    pub fn settle(&mut self, mut entered: Option<&mut Puppet>) {
        if self.failure.is_some() {
            return;
        }
        let number = entered.as_ref().map(|vcpu| vcpu.number);
        let registers = entered.as_ref().map(|vcpu| vcpu.registers);
        let call = self.in_flight.take();
        self.model.runs_next = None;
        if let Some((who, raw)) = call {
            let seen = registers
                .filter(|_| number == Some(who))
                .map(|registers| Seen {
                    status: registers[Register::RAX],
                    values: VALUES.map(|register| registers[register]),
                });
            let next = self.model.call(who, &raw, seen);
            self.conclude(who, next, number, registers);
        }
        self.check_turn(number);
        if let (Some(me), Some(registers)) = (number, registers) {
            if let Some(sleep) = self.model.domains[me].sleeps.clone() {
                if !self.model.can_run(me) {
                    self.fail(format!(
                        "domain {me} was woken for nothing out of {sleep:?}"
                    ));
                    return;
                }
                let seen = Seen {
                    status: registers[Register::RAX],
                    values: VALUES.map(|register| registers[register]),
                };
                let next = self.model.go_on(me, Some(seen));
                if matches!(sleep, Sleep::Halt) {
                    self.before[me] = registers;
                }
                if !matches!(sleep, Sleep::Halt) {
                    self.conclude(me, next, number, Some(registers));
                }
            }
        }
        self.check_timer();
        if let Some(vcpu) = entered.as_mut() {
            self.check_upcall(vcpu);
            self.running = vcpu.number;
        }
        self.compare(call);
    }

    /// Compares what the model says of a call with what the caller finds in its registers.
    fn conclude(
        &mut self,
        who: usize,
        next: Result<Next, Error>,
        entered: Option<usize>,
        registers: Option<Registers>,
    ) {
        let (status, values) = match next {
            Ok(Next::Sleeps(sleep)) => {
                self.model.domains[who].sleeps = Some(sleep);
                return;
            }
            Ok(Next::Gone) => return,
            Ok(Next::Done(values)) => (0, values),
            Err(error) => (error.number(), Vec::new()),
        };
        self.model.domains[who].last_status = status;
        let Some(registers) = registers.filter(|_| entered == Some(who)) else {
            let what = format!("domain {who} sleeps, but its call has come to its end: {status}");
            return self.fail(what);
        };
        let mut expected = self.before[who];
        *self
            .seen
            .entry((expected[Register::RAX].min(17), status))
            .or_default() += 1;
        expected[Register::RAX] = status;
        for (register, value) in VALUES.into_iter().zip(values) {
            expected[register] = value;
        }
        if registers != expected {
            self.fail(format!(
                "domain {who} has the registers\n{registers:x?}, not\n{expected:x?}"
            ));
        }
    }

    /// Whether it may be this vcpu's turn, or nobody's.
    fn check_turn(&mut self, entered: Option<usize>) {
        if let Some(next) = self.model.runs_next.take() {
            if self.model.can_run(next) && entered != Some(next) {
                self.fail(format!("the CPU was not handed over to domain {next}"));
            }
        }
        for who in 0..self.real.len() {
            if !self.model.can_run(who) || entered == Some(who) {
                self.passed_over[who] = 0;
                continue;
            }
            self.passed_over[who] += u32::from(entered != Some(self.running));
            if entered.is_none() || self.passed_over[who] > PATIENCE {
                self.fail(format!("domain {who} could run and does not"));
            }
        }
    }

    /// The timer must be armed for whatever is due next, or have fired. What a call that was made
    /// again has done before its guest is entered counts: a `receive` makes room for a sender.
    fn check_timer(&mut self) {
        let timer = self.clock.timer_ns.get();
        let due = self.model.next_deadline();
        let is_armed = match (due, timer) {
            (Some(due), Some(timer)) => timer <= due,
            (Some(_), None) => self.clock.has_fired.get(),
            (None, _) => true,
        };
        if !is_armed {
            self.fail(format!("the timer is set to {timer:?} and {due:?} is due"));
        }
    }

    fn check_upcall(&mut self, vcpu: &mut Puppet) {
        let domain = &mut self.model.domains[vcpu.number];
        let is_due = core::mem::take(&mut domain.upcall_due);
        let vector = Some(domain.page.vector).filter(|vector| (32..256).contains(vector));
        let expected: Vec<u8> = vector
            .filter(|_| is_due)
            .map(|vector| vector as u8)
            .into_iter()
            .collect();
        domain.upcall_on_its_way |= !expected.is_empty();
        // A vcpu that an event has found in a `call` is asked for before it sleeps again. The guest
        // has not run since, so it sees one upcall.
        let mut requested = core::mem::take(&mut vcpu.requested);
        requested.dedup();
        if requested != expected {
            self.fail(format!(
                "domain {} gets the upcalls {requested:?}, not {expected:?}",
                vcpu.number
            ));
        }
    }
}
