//! What a guest does next: mostly something that makes sense as things stand, and sometimes
//! nonsense. A step is a number, and what is done follows from it and the state of the model, so a
//! failing sequence is made shorter by leaving steps out.

use alloc::vec::Vec;

use nuncio_abi::{Budget, RawCall};

use super::driver::Driver;
use super::state::*;

#[derive(Clone, Debug)]
pub enum Action {
    Call(RawCall),
    Halt,
    HaltForEver,
    Crash(u16),
    Pass(u64),
    Take(usize),
    Enable(usize, u64),
    /// So far ahead of the slot's count; 0 to count nothing.
    WakeAt(usize, u64),
    Vector(u64),
    Write(u64, [u64; 12]),
    Deliver,
}

/// How often a kind of step is taken, by the number of the verb, and behind the verbs by
/// [`OTHERS`].
#[derive(Clone, Copy, Debug)]
pub struct Taste {
    pub verbs: [u32; 17],
    pub others: [u32; 10],
}

/// Halt, end, pass, take, enable, vector, write, deliver, wake at, nonsense.
pub const OTHERS: [u32; 10] = [3, 0, 14, 20, 12, 2, 8, 6, 3, 3];

/// Domains that domains have made and that live, at a time.
const MOST_MADE: usize = 5;

/// No clock comes so far.
const END_OF_TIME: u64 = 1 << 63;

/// SplitMix64 (Steele, Lea and Flood 2014): a step has all it needs in one number.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    pub fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    fn of(&mut self, list: &[u64]) -> u64 {
        list.get(self.below(list.len() as u64) as usize)
            .copied()
            .unwrap_or(0)
    }

    fn weighted(&mut self, weights: &[u32]) -> usize {
        let mut at = self.below(weights.iter().map(|weight| u64::from(*weight)).sum());
        for (index, weight) in weights.iter().enumerate() {
            if at < u64::from(*weight) {
                return index;
            }
            at -= u64::from(*weight);
        }
        0
    }

    fn nonsense(&mut self) -> u64 {
        let word = self.next();
        let near = self.of(&[
            0,
            1,
            7,
            64,
            127,
            128,
            4096,
            1 << 31,
            1 << 32,
            1 << 48,
            u64::MAX,
        ]);
        match self.below(4) {
            0 => near,
            1 => near ^ 1 << self.below(64),
            2 => near.wrapping_add(word % 17).wrapping_sub(8),
            _ => word,
        }
    }

    fn slot(&mut self) -> u64 {
        let all = self.one_in(8);
        self.below(if all { 64 } else { 4 })
    }

    fn bits(&mut self) -> u64 {
        match self.below(4) {
            0 => self.next(),
            1 => 1,
            _ => 1 << self.below(6),
        }
    }
}

/// Which argument of a call is a deadline.
pub fn place_of_deadline(raw: &RawCall) -> Option<usize> {
    let [_, header, ..] = raw.arguments;
    match raw.verb {
        1 if header >> 11 & 1 != 0 => Some(4),
        4 => Some(0),
        2 | 12 => Some(1),
        13 => Some(4),
        _ => None,
    }
}

impl Driver {
    pub fn choose(&self, me: usize, random: &mut Random) -> Action {
        let weights: Vec<u32> = self
            .taste
            .verbs
            .iter()
            .chain(&self.taste.others)
            .copied()
            .collect();
        let action = match random.weighted(&weights) {
            verb @ 0..17 => Action::Call(self.plausible(me, verb as u64, random)),
            17 => Action::Halt,
            18 => match random.below(3) {
                0 => Action::HaltForEver,
                1 => Action::Crash(random.next() as u16),
                _ => Action::Call(self.plausible(me, 9, random)),
            },
            19 => Action::Pass(match random.below(4) {
                0 => 1,
                1 => 12_000_000,
                _ => random.below(4_000_000),
            }),
            20 => Action::Take(random.slot() as usize),
            21 => Action::Enable(random.slot() as usize, random.bits() | random.bits()),
            22 => Action::Vector(random.of(&[0, 31, 32, 200, 255, 256, u64::MAX])),
            23 => self.write(me, random),
            24 => Action::Deliver,
            25 => {
                let ahead = random.of(&[0, 0, 1, 2, 3, 3, 5, u64::MAX, 1 << 63]);
                Action::WakeAt(random.slot() as usize, ahead)
            }
            _ => Action::Call(match random.below(26) {
                17 => self.submit(me, random),
                18 | 20.. => self.schedule(me, random),
                verb => RawCall {
                    verb,
                    arguments: core::array::from_fn(|_| random.nonsense()),
                },
            }),
        };
        let action = match action {
            Action::Call(mut raw) if random.one_in(24) => {
                let place = random.below(5) as usize;
                raw.arguments[place] = match random.below(3) {
                    0 => raw.arguments[place] ^ 1 << random.below(64),
                    1 => raw.arguments[random.below(5) as usize],
                    _ => random.nonsense(),
                };
                Action::Call(raw)
            }
            action => action,
        };
        self.without_guess(me, action)
    }

    /// A token that was guessed can name a call that nobody has received; which one only the
    /// machine knows. So what is no token of the port becomes a number that no call can have.
    fn without_guess(&self, me: usize, action: Action) -> Action {
        let Action::Call(mut raw) = action else {
            return action;
        };
        let [port, header, ..] = raw.arguments;
        let held = self.model.domains[me].handles.get(&port);
        if let (14, Some(Object::Port(port))) =
            (raw.verb, held.map(|held| &self.model.objects[held.object]))
        {
            let token = header >> 32;
            if token != 0 && !port.tokens.contains_key(&token) {
                raw.arguments[1] = header | 0xFFFF << 32;
            }
        }
        if let (18, [_, priority, budget, period, _]) = (raw.verb, raw.arguments) {
            // A budget, or another priority, becomes none.
            if Budget::new(budget, period).is_some() {
                raw.arguments[3] = 0;
            }
            if priority < PRIORITY {
                raw.arguments[1] = PRIORITY;
            }
        }
        if raw.verb == 17 && raw.arguments[0] % PAGE == 0 {
            // A ring with entries becomes a number that is no verb.
            let outstanding = self.model.outstanding(me, raw.arguments[0]);
            if outstanding.is_some_and(|count| (1..=31).contains(&count)) {
                raw.verb = 19;
            }
        }
        // If all slept until the end of time, there would be no time left to run in.
        if let Some(place) = place_of_deadline(&raw) {
            if raw.arguments[place] >= END_OF_TIME {
                raw.arguments[place] = NEVER;
            }
        }
        self.without_what_the_model_lacks(me, &mut raw);
        Action::Call(raw)
    }

    /// No monitors, no second vcpu of a domain and none that is stopped, and no vcpu page that guests see in
    /// their memory or that is not zero before. Calls that ask for that name nothing instead. And no more domains at a time than a sequence has steps for.
    fn without_what_the_model_lacks(&self, me: usize, raw: &mut RawCall) {
        let memory = |handle: u64| {
            let held = self.model.domains[me].handles.get(&handle)?;
            match &self.model.objects[held.object] {
                Object::Memory(memory) => Some(memory),
                _ => None,
            }
        };
        let named = |handle: u64| {
            let held = self.model.domains[me].handles.get(&handle)?;
            Some(&self.model.objects[held.object])
        };
        let is_started = |handle| matches!(named(handle), Some(Object::Vcpu(who)) if self.model.domains[*who].vcpu == Vcpu::Started);
        let has_vcpu = |handle| matches!(named(handle), Some(Object::Domain(who)) if self.model.domains[*who].vcpu != Vcpu::None);
        let [first, second, third, _, last] = raw.arguments;
        match (raw.verb, first) {
            (5, _) if memory(second).is_some_and(|memory| memory.is_page) => raw.arguments[1] = 0,
            (10, 1) => {
                let made = self.model.domains.iter();
                let made = made.filter(|domain| domain.maker.is_some() && domain.is_alive());
                if made.count() >= MOST_MADE {
                    raw.arguments[0] = 3;
                }
            }
            (9, handle) if is_started(handle) => raw.arguments[0] = 0,
            (10, 2) => {
                if has_vcpu(second) {
                    raw.arguments[1] = 0;
                }
                if !memory(third).is_some_and(Memory::is_fresh) {
                    raw.arguments[2] = 0;
                }
                if memory(last).is_some() {
                    raw.arguments[4] = 0xFFFF;
                }
            }
            _ => {}
        }
    }

    /// Mostly a page that is mapped.
    fn submit(&self, me: usize, random: &mut Random) -> RawCall {
        let starts: Vec<u64> = self.model.own_space(me).mappings.keys().copied().collect();
        let ring = match random.below(4) {
            0 => random.nonsense(),
            _ => random.of(&starts) + PAGE * random.below(4),
        };
        RawCall {
            verb: 17,
            arguments: [ring, random.below(34), 0, 0, 0],
        }
    }

    /// One of the domain's handles of this kind with these rights, or something else.
    fn handle(&self, me: usize, kind: u64, rights: u64, random: &mut Random) -> u64 {
        let domain = &self.model.domains[me];
        let fits = |held: &Held| {
            let is_kind = kind == 0 || self.model.kind(held.object) == kind;
            is_kind && held.rights & rights == rights
        };
        let fitting: Vec<u64> = match random.below(24) {
            0 => domain.handles.keys().copied().collect(),
            1 => domain.ever.iter().copied().collect(),
            2 if random.one_in(3) => return random.nonsense(),
            _ => {
                let fitting = domain.handles.iter().filter(|(_, held)| fits(held));
                fitting.map(|(handle, _)| *handle).collect()
            }
        };
        random.of(&fitting)
    }

    /// Mostly one of those whose object fits, if there is one.
    fn best_handle(
        &self,
        me: usize,
        kind: u64,
        rights: u64,
        random: &mut Random,
        fits: impl Fn(&Object) -> bool,
    ) -> u64 {
        let objects = &self.model.objects;
        let held = self.model.domains[me].handles.iter();
        let held = held.filter(|(_, held)| held.rights & rights == rights);
        let fitting: Vec<u64> = held
            .filter(|(_, held)| fits(&objects[held.object]))
            .map(|(handle, _)| *handle)
            .collect();
        if fitting.is_empty() || random.one_in(12) {
            self.handle(me, kind, rights, random)
        } else {
            random.of(&fitting)
        }
    }

    fn a_domain(&self, me: usize, random: &mut Random) -> [u64; 5] {
        let frames = random.of(&[0, 1, 4, 12, 40, 200]);
        let bytes = random.of(&[0, 1024, 4096, 16 << 10, 24 << 10, 48 << 10]);
        let event = self.handle(me, 6, NOTIFY, random);
        let event = random.of(&[0, event]);
        let bits = if event != 0 || random.one_in(8) {
            random.bits()
        } else {
            0
        };
        [1, frames, bytes, event, bits]
    }

    fn a_vcpu(&self, me: usize, random: &mut Random) -> [u64; 5] {
        let port = self.handle(me, 5, SEND, random);
        let domain = self.best_handle(me, 1, BUILD, random, |object| {
            matches!(object, Object::Domain(who) if self.model.domains[*who].vcpu == Vcpu::None)
        });
        let memory = self.best_handle(
            me,
            4,
            READ | WRITE,
            random,
            |object| matches!(object, Object::Memory(memory) if memory.is_fresh()),
        );
        let port = if random.one_in(6) { port } else { 0 };
        let state = if random.one_in(6) { memory } else { 0 };
        [2, domain, memory, port, state]
    }

    fn deadline(&self, random: &mut Random) -> u64 {
        let now = self.model.now;
        match random.below(32) {
            0..8 => 0,
            // Sequences in which everybody sleeps for ever are short.
            8 => NEVER,
            9..12 => now.saturating_sub(random.below(3)),
            _ => now.saturating_add(random.below(8_000_000)),
        }
    }

    fn interval(&self, random: &mut Random) -> u64 {
        let hour = 3_600_000_000_000;
        match random.below(8) {
            0 => random.of(&[1, hour, hour + 1]),
            1..4 => random.below(6_000_000),
            _ => 0,
        }
    }

    /// A place for a message: often where some are, sometimes where nothing is.
    fn buffer(&self, me: usize, random: &mut Random) -> u64 {
        let mappings = &self.model.own_space(me).mappings;
        let starts: Vec<u64> = mappings.keys().copied().collect();
        match random.below(16) {
            0 => random.nonsense(),
            1 => random.of(&starts) * PAGE + random.below(64) * 64,
            2 => 0x20_0000 + 128 * random.below(64),
            3 | 4 => random.of(&starts) * PAGE,
            _ => random.of(&starts[..starts.len().min(2)]) * PAGE + 128 * random.below(2),
        }
    }

    /// A domain in whose table a copy is put.
    fn seldom_a_domain(&self, me: usize, random: &mut Random) -> u64 {
        if random.one_in(3) {
            self.handle(me, 1, BUILD, random)
        } else {
            0
        }
    }

    fn transfer(&self, me: usize, random: &mut Random) -> u64 {
        let handle = self.handle(me, 0, GRANT, random);
        let has = self.model.domains[me]
            .handles
            .get(&handle)
            .map_or(0, |held| held.rights);
        let rights = match random.below(8) {
            0 => random.below(1 << 15),
            1 => has,
            2 => has & random.next(),
            _ => has & !(RECEIVE | WAIT | REVOKE),
        };
        handle & 0xFFFF_FFFF | rights << 32
    }

    fn write(&self, me: usize, random: &mut Random) -> Action {
        let address = self.buffer(me, random) & !127;
        let words = core::array::from_fn(|index| match index {
            0..8 => random.next(),
            _ => self.transfer(me, random),
        });
        Action::Write(address, words)
    }

    /// A header and the words behind it.
    fn message(&self, me: usize, words: usize, random: &mut Random) -> (u64, [u64; 3]) {
        let mut registers = [0; 3];
        if random.one_in(4) {
            registers[0] = self.buffer(me, random);
            let handles = random.of(&[0, 0, 1, 2, 4, 5]);
            return (random.below(66) | 1 << 7 | handles << 8, registers);
        }
        let most = words as u64 + u64::from(random.one_in(16));
        let handles = if random.one_in(3) {
            random.below(most + 1)
        } else {
            0
        };
        let bytes = random.below(8 * (most - handles) + 1);
        let byte_words = bytes.div_ceil(8) as usize;
        for (index, register) in registers.iter_mut().enumerate() {
            if index < byte_words {
                let left = (bytes - 8 * index as u64).min(8);
                *register = random.next() >> (64 - 8 * left);
            } else if index < byte_words + handles as usize {
                *register = self.transfer(me, random);
            }
        }
        (bytes | handles << 8, registers)
    }

    /// A range of pages: most often one that is mapped, or one just behind.
    fn range(&self, me: usize, space: u64, random: &mut Random) -> (u64, u64) {
        let held = self.model.domains[me].handles.get(&space);
        let space = match held.map(|held| &self.model.objects[held.object]) {
            Some(Object::Space(space)) => *space,
            _ => self.model.domains[me].space,
        };
        let mappings: Vec<_> = self.model.spaces[space].mappings.iter().collect();
        let pages = 1 + random.below(4);
        match random.below(12) {
            0 => (random.nonsense(), random.nonsense()),
            1 => (0x20_0000 * random.below(4), 0x20_0000),
            2 => (0x20_0000 * (1 + random.below(3)) - PAGE, pages * PAGE),
            3 => (
                self.model.address_limit - PAGE * random.below(4),
                pages * PAGE,
            ),
            4 | 5 => (
                0x4000_0000 * random.below(8) + PAGE * random.below(4),
                pages * PAGE,
            ),
            6 => (PAGE * random.below(64), pages * PAGE),
            _ if mappings.len() > 1 => {
                let index = 1 + random.below(mappings.len() as u64 - 1) as usize;
                let (start, mapping) = mappings[index];
                let skip = random.below(mapping.pages.min(3));
                (
                    (start + skip) * PAGE,
                    random.of(&[1, pages, mapping.pages]) * PAGE,
                )
            }
            _ => (PAGE * (32 + random.below(16)), pages * PAGE),
        }
    }

    fn plausible(&self, me: usize, verb: u64, random: &mut Random) -> RawCall {
        let arguments = match verb {
            0 => [random.of(&[2, 2, 3, 0x1_0002]), 0, 0, 0, 0],
            1 if random.one_in(3) => {
                let (header, [first, second, _]) = self.message(me, 2, random);
                let port = self.handle(me, 5, SEND, random);
                let deadline = self.deadline(random);
                [port, header | 1 << 11, first, second, deadline]
            }
            1 => {
                let (header, [first, second, third]) = self.message(me, 3, random);
                [
                    self.handle(me, 5, SEND, random),
                    header,
                    first,
                    second,
                    third,
                ]
            }
            2 => {
                let has_buffer = random.one_in(2);
                let buffer = if has_buffer {
                    self.buffer(me, random)
                } else {
                    0
                };
                [
                    self.handle(me, 5, RECEIVE, random),
                    self.deadline(random),
                    buffer,
                    0,
                    0,
                ]
            }
            3 => [self.handle(me, 6, NOTIFY, random), random.bits(), 0, 0, 0],
            4 => [self.deadline(random), 0, 0, 0, 0],
            5 => {
                let space = self.handle(me, 3, MAP, random);
                let (address, length) = self.range(me, space, random);
                let access = random.of(&[READ, READ | WRITE, 7, 3, WRITE, 9]);
                let offset = PAGE * random.of(&[0, 0, 1, 2, 512]);
                let memory = self.handle(me, 4, READ, random);
                [space, memory, address, offset, length | access]
            }
            6 => {
                let space = self.handle(me, 3, MAP, random);
                let (address, length) = self.range(me, space, random);
                [space, address, length, 0, 0]
            }
            7 => {
                let kind = random.of(&[3, 4, 5, 5, 6, 7, 0]);
                // A domain that has lost its own space maps nothing any more.
                let rights = if kind == 3 { GRANT } else { 0 };
                [self.handle(me, kind, rights, random), 0, 0, 0, 0]
            }
            8 => [self.handle(me, 0, 0, random), random.below(5), 0, 0, 0],
            9 => {
                let kind = random.of(&[1, 1, 2]);
                let object = self.handle(me, kind, STOP, random);
                [object, random.below(3), 0, 0, 0]
            }
            10 => match random.of(&[1, 1, 2, 2, 2, 3, 3, 4, 4, 4, 4, 5, 5, 6, 7, 8]) {
                1 => self.a_domain(me, random),
                2 => self.a_vcpu(me, random),
                4 => [4, PAGE * random.of(&[1, 1, 2, 3, 16, 512, 5000]), 0, 0, 0],
                5 => [
                    5,
                    random.of(&[1, 1, 2, 3, 256, 257, 0]),
                    random.slot(),
                    0,
                    0,
                ],
                6 => [6, random.slot(), self.interval(random), 0, 0],
                7 => [7, self.handle(me, 6, NOTIFY, random), random.bits(), 0, 0],
                kind => [kind, 0, 0, 0, 0],
            },
            11 => {
                let word = self.transfer(me, random);
                let badge = if random.one_in(3) { random.next() } else { 0 };
                [
                    word & 0xFFFF_FFFF,
                    word >> 32,
                    badge,
                    self.seldom_a_domain(me, random),
                    0,
                ]
            }
            12 => [
                self.handle(me, 7, ARM, random),
                self.deadline(random),
                0,
                0,
                0,
            ],
            13 => {
                let (header, [first, second, _]) = self.message(me, 2, random);
                let deadline = self.deadline(random);
                [
                    self.handle(me, 5, SEND, random),
                    header,
                    first,
                    second,
                    deadline,
                ]
            }
            15 => {
                let vcpu = self.best_handle(me, 2, START, random, |object| {
                    matches!(object, Object::Vcpu(who) if self.model.domains[*who].vcpu == Vcpu::Made)
                });
                let tables = random.of(&[0, PAGE, PAGE, PAGE, 7]);
                [vcpu, random.next(), random.next(), random.next(), tables]
            }
            16 => {
                let space = self.handle(me, 3, MAP, random);
                let vcpu = self.handle(me, 2, START, random);
                let how = random.of(&[0, 1, 2, 1 << 16, 1 << 17 | 3 << 8, 1 << 19]);
                [vcpu, random.of(&[0, space]), how, random.below(2), 0]
            }
            _ => {
                let (header, [first, second, third]) = self.message(me, 3, random);
                let port = self.port_to_answer(me, random);
                let token = self.token(me, port, random);
                let then = random.below(2) << 11;
                [port, header | then | token << 32, first, second, third]
            }
        };
        RawCall { verb, arguments }
    }

    /// All keep the priority that they have, so that whose turn it is does not depend on it.
    fn schedule(&self, me: usize, random: &mut Random) -> RawCall {
        let vcpu = self.handle(me, 2, SCHEDULE, random);
        let priority = random.of(&[NEVER, PRIORITY, PRIORITY, PRIORITY + 1, 63, 64]);
        let no_budget = random.of(&[0, NEVER]);
        let cpu = random.of(&[NEVER, NEVER, NEVER, 0, 1, 256]);
        let [budget, period] = match random.below(8) {
            0 => [1_000_001, 1_000_000],
            1 => [99_999, 1_000_000],
            2 => [0, NEVER],
            _ => [no_budget; 2],
        };
        RawCall {
            verb: 18,
            arguments: [vcpu, priority, budget, period, cpu],
        }
    }

    /// Better a port from which calls have come.
    fn port_to_answer(&self, me: usize, random: &mut Random) -> u64 {
        let handles = self.model.domains[me].handles.iter();
        let waited = handles.filter(|(_, held)| match &self.model.objects[held.object] {
            Object::Port(port) => held.rights & RECEIVE != 0 && !port.calls.is_empty(),
            _ => false,
        });
        let waited: Vec<u64> = waited.map(|(handle, _)| *handle).collect();
        if waited.is_empty() || random.one_in(12) {
            self.handle(me, 5, RECEIVE, random)
        } else {
            random.of(&waited)
        }
    }

    fn token(&self, me: usize, port: u64, random: &mut Random) -> u64 {
        let held = self.model.domains[me].handles.get(&port);
        let Some(Object::Port(port)) = held.map(|held| &self.model.objects[held.object]) else {
            return random.nonsense() & 0xFFFF_FFFF;
        };
        let is_open = |call: &u64| port.calls.contains_key(call);
        let open = port.tokens.iter().filter(|(_, call)| is_open(call));
        let open: Vec<u64> = open.map(|(token, _)| *token).collect();
        let old: Vec<u64> = port.tokens.keys().copied().collect();
        match random.below(16) {
            0 => random.of(&old),
            1 => random.nonsense() & 0xFFFF_FFFF,
            _ => random.of(&open),
        }
    }
}
