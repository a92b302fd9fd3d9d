//! Plays the guests on the machine and on the model, and compares the two after every step.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::Ordering::SeqCst;

use nuncio_abi::{Error, Handle, RawCall, StopReason, VcpuPage};

use crate::mem::arena::Arena;
use crate::mem::{Account, Frame, PhysicalMemory, Words};
use crate::nested::{Entry, EntryFormat, Level, NPT};
use crate::object::{Domain, Object as RealObject};
use crate::vt::{Exit, Left, Register, Registers};

use super::choose::{Action, Random, Taste};
use super::puppet::{Clock, Puppet};
use super::state::*;
use super::verbs::{Next, Seen};

pub struct Real {
    pub domain: Weak<Domain>,
    pub account: Arc<Account>,
    pub page: &'static Words,
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
    /// Calls by verb and status.
    pub seen: alloc::collections::BTreeMap<(u64, u64), u64>,
}

/// More turns than any vcpu has to let pass, in which others pay for what it has overdrawn.
const PATIENCE: u32 = 250;

/// More entries than all vcpus together need to let their turns pass.
const MOST_IDLE_ENTRIES: u32 = 10_000;

/// Steps between two comparisons of everything.
const DEEP: u64 = 16;

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
            seen: Default::default(),
        }
    }

    fn fail(&mut self, what: String) {
        if self.failure.is_none() {
            let log: Vec<String> = self
                .log
                .iter()
                .map(|(who, action)| format!("  domain {who}: {action:x?}"))
                .collect();
            self.failure = Some(format!("{what}\n{}", log.join("\n")));
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
                    let root = self.model.spaces[me].root.map(Frame);
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

    /// Compares the whole state.
    fn compare(&mut self, call: Option<(usize, RawCall)>) {
        if let Some(complaint) = self.model.complaints.pop() {
            self.fail(complaint);
        }
        if self.failure.is_some() {
            return;
        }
        if let Some((who, raw)) = call {
            self.learn(who, &raw);
            self.compare_kernel_bytes(who, &raw);
        }
        let is_deep = self.calls.is_multiple_of(DEEP) || self.steps.is_empty();
        for who in 0..self.real.len() {
            let found = self.compare_domain(who, is_deep);
            if let Err(what) = found {
                self.fail(format!("domain {who}: {what}"));
            }
        }
    }

    /// What the machine chooses and the specification leaves open.
    fn learn(&mut self, who: usize, raw: &RawCall) {
        if matches!(raw.verb, 5 | 6 | 10) {
            self.learn_tables(who, raw);
        }
        let Some(Object::Memory(memory)) = self.model.objects.last_mut() else {
            return;
        };
        if raw.verb != 10 || !memory.frames.is_empty() || memory.handles == 0 {
            return;
        }
        let Some(domain) = self.real[who].domain.upgrade() else {
            return;
        };
        let id = self.model.objects.len() - 1;
        let own = self.model.domains[who].handles.iter();
        let handle = own
            .filter(|(_, held)| held.object == id)
            .map(|(handle, _)| *handle)
            .next();
        let handle = Handle::from_raw(handle.unwrap_or(0)).unwrap();
        let table = domain.handles.lock();
        let frames = match table.get(handle).map(|held| &held.object) {
            Ok(RealObject::Memory(memory)) => (0..memory.pages())
                .filter_map(|page| memory.frame(page))
                .collect(),
            _ => Vec::new(),
        };
        drop(table);
        let is_zero = frames.iter().all(|frame| self.arena.holds(*frame, 0));
        let memory = self.model.memory(id);
        memory.frames = frames.iter().map(|frame| frame.0).collect();
        if !is_zero || memory.frames.len() as u64 != memory.pages {
            self.fail(format!(
                "domain {who} was given memory that is not zero, or too little"
            ));
        }
    }

    /// How many page tables the space has that a call has named or made.
    fn learn_tables(&mut self, who: usize, raw: &RawCall) {
        let handles = &self.model.domains[who].handles;
        let held = match raw.verb {
            10 => handles.values().max_by_key(|held| held.object),
            _ => handles.get(&raw.arguments[0]),
        };
        let Some(Object::Space(space)) = held.map(|held| &self.model.objects[held.object]) else {
            return;
        };
        let space = *space;
        let root = match self.model.spaces[space].root {
            Some(root) => Some(Frame(root)),
            None => self.root_of_made(who, space),
        };
        if let Some(root) = root {
            self.model.spaces[space].root = Some(root.0);
            self.model.spaces[space].table_frames = self.count(root, 0).0;
        }
    }

    /// The first table of a space from `create`.
    fn root_of_made(&self, who: usize, space: usize) -> Option<Frame> {
        let is_it = |held: &Held| matches!(self.model.objects[held.object], Object::Space(it) if it == space);
        let mut own = self.model.domains[who].handles.iter();
        let (handle, _) = own.find(|(_, held)| is_it(held))?;
        let domain = self.real[who].domain.upgrade()?;
        let table = domain.handles.lock();
        match &table.get(Handle::from_raw(*handle)?).ok()?.object {
            RealObject::Space(space) => Some(space.root()),
            _ => None,
        }
    }

    fn compare_kernel_bytes(&mut self, who: usize, raw: &RawCall) {
        let domain = &self.model.domains[who];
        if !domain.is_alive() || domain.sleeps.is_some() {
            return;
        }
        let (before, now) = (
            domain.kernel_used,
            self.real[who].account.kernel_bytes_used(),
        );
        let status = domain.last_status;
        let is_right = match (raw.verb, status) {
            (10, 0) => now > before,
            (7, 0) | (9, 0) => now <= before,
            // The table grows for what may come, and does not shrink.
            (2 | 11 | 13 | 14, _) => true,
            (1 | 3 | 12, 0) => now <= before,
            // The list of what is mapped grows, and does not shrink.
            (5 | 6, 0) => now >= before,
            _ => now == before,
        };
        if !is_right {
            self.fail(format!(
                "domain {who} had {before} bytes of the hypervisor's memory and has {now} after verb {} with status {status}",
                raw.verb
            ));
        }
    }

    fn compare_domain(&mut self, who: usize, is_deep: bool) -> Result<(), String> {
        let used = self.model.frames_used(who);
        let real = &self.real[who];
        let account = &real.account;
        self.model.domains[who].kernel_used = account.kernel_bytes_used();
        expect("frames used", account.used(), used)?;
        let model = &self.model.domains[who];
        expect("is alive", real.domain.strong_count() > 0, model.is_alive())?;
        let Some(domain) = real.domain.upgrade() else {
            return Ok(());
        };
        let page = &model.page;
        let word = |number: usize| real.page[number].load(SeqCst);
        expect("ready", word(0), page.ready)?;
        expect("vector", word(1), page.vector)?;
        for slot in 0..64 {
            expect(
                "pending",
                (slot, word(64 + 2 * slot)),
                (slot, page.pending[slot]),
            )?;
            expect(
                "enabled",
                (slot, word(65 + 2 * slot)),
                (slot, page.enabled[slot]),
            )?;
            expect(
                "count",
                (slot, word(192 + 2 * slot), word(193 + 2 * slot)),
                (slot, page.count[slot], page.wake_at[slot]),
            )?;
        }
        if is_deep {
            self.compare_handles(who, &domain)?;
            let spaces = (0..self.model.spaces.len()).filter(|space| {
                let space = &self.model.spaces[*space];
                space.owner == who && space.table_frames > 0
            });
            for space in spaces {
                self.compare_mappings(space)?;
            }
        }
        Ok(())
    }

    fn compare_handles(&self, who: usize, domain: &Domain) -> Result<(), String> {
        let model = &self.model.domains[who];
        let table = domain.handles.lock();
        for number in &model.ever {
            let real = Handle::from_raw(*number).and_then(|handle| table.get(handle).ok());
            let expected = model.handles.get(number);
            let real =
                real.map(|held| (held.object.kind().number(), held.rights.bits(), held.badge));
            let expected =
                expected.map(|held| (self.model.kind(held.object), held.rights, held.badge));
            expect("handle", (number, real), (number, expected))?;
        }
        for (number, held) in &model.handles {
            let real = Handle::from_raw(*number).and_then(|handle| table.get(handle).ok());
            match (
                &self.model.objects[held.object],
                real.map(|held| &held.object),
            ) {
                (Object::Port(port), Some(RealObject::Port(real))) => {
                    expect("queue", real.usage(), (port.queue.len(), port.capacity))?;
                }
                (Object::Space(space), Some(RealObject::Space(real))) => {
                    let root = self.model.spaces[*space].root;
                    expect("root", Some(real.root().0), root)?;
                }
                (Object::Memory(memory), Some(RealObject::Memory(real))) => {
                    expect("pages", real.pages(), memory.pages)?;
                    let first = real.frame(0).map(|frame| frame.0);
                    expect("first frame", first, memory.frames.first().copied())?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn compare_mappings(&self, space: usize) -> Result<(), String> {
        let Space {
            mappings,
            table_frames,
            root,
            ..
        } = &self.model.spaces[space];
        let root = Frame(root.ok_or("a space without a table")?);
        let (tables, leaves) = self.count(root, 0);
        let pages = mappings.values().map(|mapping| mapping.pages).sum::<u64>();
        expect("pages mapped", leaves, pages)?;
        expect("tables", tables, *table_frames)?;
        for (start, mapping) in mappings {
            let Object::Memory(memory) = &self.model.objects[mapping.memory] else {
                continue;
            };
            for page in 0..mapping.pages {
                let real = self.translate(root, (start + page) * PAGE, 0);
                let frame = memory.frames[(mapping.offset + page) as usize];
                let expected = Some((Frame(frame), mapping.access));
                expect(
                    "translation",
                    (start + page, real),
                    (start + page, expected),
                )?;
            }
            // Space::words is not asked: it would fill the cache of translations that is under test.
            // What lies in its first words.
            for number in (0..16).chain([512 * memory.pages - 1]) {
                let frame = Frame(memory.frames[number as usize / 512]);
                let real = self.arena.words(frame).unwrap()[number as usize % 512].load(SeqCst);
                let expected = memory.words.get(&number).copied().unwrap_or(0);
                expect(
                    "content",
                    (mapping.memory, number, real),
                    (mapping.memory, number, expected),
                )?;
            }
        }
        Ok(())
    }

    /// Tables below and with this one, and pages mapped by them.
    fn count(&self, table: Frame, depth: usize) -> (u64, u64) {
        let level = Level::DOWNWARD[depth];
        let mut sum = (1, 0);
        for word in self.arena.words(table).unwrap() {
            match NPT.decode(word.load(SeqCst), level) {
                Entry::Absent => {}
                Entry::Leaf { .. } => sum.1 += level.pages(),
                Entry::Table(next) => {
                    let (tables, leaves) = self.count(next, depth + 1);
                    sum = (sum.0 + tables, sum.1 + leaves);
                }
            }
        }
        sum
    }

    /// Where a CPU would find an address, and with which access.
    pub fn translate(&self, root: Frame, address: u64, access: u64) -> Option<(Frame, u64)> {
        let mut table = root;
        let page = address / PAGE;
        for level in Level::DOWNWARD {
            let entry = self.arena.words(table)?[level.index(page)].load(SeqCst);
            match NPT.decode(entry, level) {
                Entry::Absent => return None,
                Entry::Table(next) => table = next,
                Entry::Leaf { frame, access: has } => {
                    let frame = Frame(frame.0 + level.offset(page));
                    return Some((frame, has.bits())).filter(|_| has.bits() & access == access);
                }
            }
        }
        None
    }
}

fn expect<T: PartialEq + core::fmt::Debug>(what: &str, real: T, model: T) -> Result<(), String> {
    if real == model {
        Ok(())
    } else {
        Err(format!(
            "{what}: the machine has {real:x?}, the model {model:x?}"
        ))
    }
}
