//! The verbs, each from its section of the specification: what is checked in which order,
//! and what happens then.
//!
//! The numbers of new handles and tokens are the machine's to choose, so they are taken from what
//! it has answered and only checked.

use alloc::vec;
use alloc::vec::Vec;

use nuncio_abi::{Error, RawCall, Resume, StopReason, VERSION};

use super::messages::values;
use super::state::*;

/// What a vcpu that is started may take of the hypervisor's memory.
const STATE_KERNEL_BYTES: u64 = 16 << 10;

/// What the machine has answered.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    pub status: u64,
    /// RDX, R10, R8, RDI, RSI.
    pub values: [u64; 5],
}

/// What becomes of a call.
#[derive(Debug)]
pub enum Next {
    /// It succeeds with no, two or five values.
    Done(Vec<u64>),
    Sleeps(Sleep),
    /// The caller has come to its end.
    Gone,
}

pub(super) type Try<T> = Result<T, Error>;

pub(super) fn done() -> Try<Next> {
    Ok(Next::Done(Vec::new()))
}

pub(super) fn is(condition: bool, error: Error) -> Try<()> {
    if condition {
        Ok(())
    } else {
        Err(error)
    }
}

/// The handle in a register.
pub(super) fn small(handle: u64) -> Try<u64> {
    is(handle >> 32 == 0, Error::BadHandle).map(|()| handle)
}

impl Model {
    /// A call, at the time when it is made.
    pub fn call(&mut self, me: usize, raw: &RawCall, seen: Option<Seen>) -> Try<Next> {
        if raw.verb == 17 {
            return self.submit(me, raw);
        }
        let used = [1, 5, 3, 2, 1, 5, 3, 1, 2, 2, 5, 4, 2, 5, 5, 5, 5, 2, 5];
        let used = usize::try_from(raw.verb)
            .ok()
            .and_then(|verb| used.get(verb));
        let used = *used.ok_or(Error::UnknownVerb)?;
        let rest = &raw.arguments[used..];
        is(rest.iter().all(|word| *word == 0), Error::BadArgument)?;
        let [first, second, third, fourth, fifth] = raw.arguments;
        match raw.verb {
            0 => {
                is(first >> 32 == 0, Error::BadArgument)?;
                // While the major number is 0, the version must be this one.
                let own = u64::from(VERSION.to_raw());
                is(first == own, Error::WrongVersion)?;
                Ok(Next::Done(vec![own, 0]))
            }
            1 => self.send(me, raw),
            2 => {
                let port = self.find(me, small(first)?, 5, RECEIVE)?.object;
                self.check_buffer(me, third)?;
                self.receive(me, port, second, third, seen)
            }
            3 => {
                let event = self.find(me, small(first)?, 6, NOTIFY)?.object;
                self.notify(event, second)?;
                done()
            }
            4 => self.wait(me, first),
            5 => self.map(me, [first, second, third, fourth, fifth], seen),
            6 => self.unmap(me, [first, second, third], seen),
            7 => {
                let handle = small(first)?;
                let held = self.domains[me].handles.remove(&handle);
                self.give_up(held.ok_or(Error::BadHandle)?);
                done()
            }
            8 => self.query(me, first, second),
            9 => self.stop(me, first, second),
            10 => self.create(me, raw, seen),
            11 => self.grant(me, [first, second, third, fourth], seen),
            12 => {
                let timer = self.find(me, small(first)?, 7, ARM)?.object;
                if let Object::Timer(timer) = &mut self.objects[timer] {
                    timer.due = Some(second).filter(|due| *due != NEVER);
                }
                self.fire_timers();
                done()
            }
            13 => self.call_and_wait(me, raw, seen),
            14 => self.reply(me, raw, seen),
            15 => {
                is(fifth % PAGE == 0, Error::BadArgument)?;
                let vcpu = self.find(me, small(first)?, 2, START)?.object;
                self.start(vcpu, seen)
            }
            18 => self.schedule(me, raw),
            _ => {
                Resume::from_words([third, fourth, fifth])?;
                let (vcpu, space) = (small(first)?, small(second)?);
                let vcpu = self.find(me, vcpu, 2, START)?.object;
                if space != 0 {
                    self.find(me, space, 3, MAP)?;
                }
                self.vcpu_without_monitor(vcpu)
            }
        }
    }

    pub(super) fn stop(&mut self, me: usize, object: u64, code: u64) -> Try<Next> {
        let object = small(object)?;
        let held = self.domains[me].handles.get(&object);
        let kind = held.map(|held| self.kind(held.object));
        let kind = kind.filter(|kind| *kind == 2).unwrap_or(1);
        let object = self.find(me, object, kind, STOP)?.object;
        let Object::Domain(who) = self.objects[object] else {
            is(code == 0, Error::BadArgument)?;
            return self.vcpu_without_monitor(object);
        };
        is(self.domains[who].exists(), Error::PeerGone)?;
        self.end(who, StopReason::Exited, code);
        // Whoever ends his maker ends with him.
        if self.domains[me].is_alive() {
            done()
        } else {
            Ok(Next::Gone)
        }
    }

    fn start(&mut self, vcpu: Id, seen: Option<Seen>) -> Try<Next> {
        let Object::Vcpu(who) = self.objects[vcpu] else {
            return Err(Error::WrongKind);
        };
        is(self.domains[who].is_alive(), Error::PeerGone)?;
        is(self.domains[who].vcpu == Vcpu::Made, Error::WrongState)?;
        self.child_pays(who, 64..STATE_KERNEL_BYTES, seen)?;
        self.domains[who].vcpu = Vcpu::Started;
        done()
    }

    /// With budgets it would be the clock that decides who runs: the driver asks for none.
    fn schedule(&mut self, me: usize, raw: &RawCall) -> Try<Next> {
        let [vcpu, priority, budget, period, cpu] = raw.arguments;
        is(priority == NEVER || priority < 64, Error::BadArgument)?;
        let keeps = [budget, period] == [NEVER; 2] || [budget, period] == [0; 2];
        is(keeps, Error::BadArgument)?;
        is(cpu == NEVER || cpu < 256, Error::BadArgument)?;
        let vcpu = self.find(me, small(vcpu)?, 2, SCHEDULE)?.object;
        let Object::Vcpu(who) = self.objects[vcpu] else {
            return Err(Error::WrongKind);
        };
        is(self.domains[who].is_alive(), Error::PeerGone)?;
        is(
            priority == NEVER || priority <= PRIORITY,
            Error::BadArgument,
        )?;
        is(cpu == NEVER || cpu == 0, Error::BadArgument)?;
        done()
    }

    /// Whether the account of a domain can pay so many bytes of the hypervisor's memory; in between the
    /// machine may say either.
    pub(super) fn child_pays(
        &self,
        who: usize,
        bytes: core::ops::Range<u64>,
        seen: Option<Seen>,
    ) -> Try<()> {
        let domain = &self.domains[who];
        let left = domain.kernel_limit - domain.kernel_used;
        let says_so = seen.is_some_and(|seen| seen.status == Error::QuotaExhausted.number());
        let can = left >= bytes.start && !(says_so && left < bytes.end);
        is(can, Error::QuotaExhausted)
    }

    /// No vcpu here has a monitor.
    pub(super) fn vcpu_without_monitor(&self, vcpu: Id) -> Try<Next> {
        match self.objects[vcpu] {
            Object::Vcpu(who) if self.domains[who].is_alive() => Err(Error::WrongState),
            _ => Err(Error::PeerGone),
        }
    }

    /// The same call after a sleep; the vcpu runs again, so it must have come to its end.
    pub fn go_on(&mut self, me: usize, seen: Option<Seen>) -> Try<Next> {
        match self.domains[me].sleeps.take() {
            None | Some(Sleep::Halt) => done(),
            Some(Sleep::Wait { deadline }) => self.wait(me, deadline),
            Some(Sleep::Send { port, raw, .. }) => {
                let next = self.send(me, &raw);
                // It keeps its place only while it sleeps.
                if !matches!(next, Ok(Next::Sleeps(_))) {
                    self.port(port).line.retain(|other| *other != me);
                }
                next
            }
            Some(Sleep::Receive {
                port,
                deadline,
                buffer,
            }) => {
                if let Some(message) = self.domains[me].arrived.take() {
                    let token = self.learn_token(port, &message, seen);
                    let mut values = values(&message);
                    values[0] |= token << 32;
                    return Ok(Next::Done(values));
                }
                self.port(port).is_waited_for = false;
                self.check_buffer(me, buffer)?;
                self.receive(me, port, deadline, buffer, seen)
            }
            Some(Sleep::Call {
                port,
                call,
                deadline,
                buffer,
            }) => self.finish_call(
                me,
                Sleep::Call {
                    port,
                    call,
                    deadline,
                    buffer,
                },
                seen,
            ),
        }
    }

    /// Whether the table has no room for so many handles; if the machine says so although it has,
    /// it may be right about what the account cannot pay.
    pub(super) fn room(
        &self,
        me: usize,
        handles: usize,
        bytes: core::ops::Range<u64>,
        seen: Option<Seen>,
    ) -> Try<()> {
        let domain = &self.domains[me];
        let places = domain.handles.len() + handles;
        is(places <= MOST_HANDLES, Error::QuotaExhausted)?;
        let left = domain.kernel_limit - domain.kernel_used;
        // A table doubles when it grows, at 16 bytes or more for a place; a first one has some places.
        let most = bytes.end + 2 * 64 * places.next_power_of_two().max(32) as u64 + 1024;
        let says_so = seen.is_some_and(|seen| seen.status == Error::QuotaExhausted.number());
        is(
            left >= bytes.start && !(says_so && left < most),
            Error::QuotaExhausted,
        )
    }

    pub(super) fn deadline_passed(&self, deadline: u64) -> bool {
        deadline != NEVER && deadline <= self.now
    }

    pub(super) fn wait(&mut self, me: usize, deadline: u64) -> Try<Next> {
        if self.domains[me].page.ready != 0 {
            return done();
        }
        is(!self.deadline_passed(deadline), Error::TimedOut)?;
        Ok(Next::Sleeps(Sleep::Wait { deadline }))
    }

    /// Only rings without entries come here: what entries do is compared with calls elsewhere.
    pub(super) fn submit(&mut self, me: usize, raw: &RawCall) -> Try<Next> {
        let [ring, entries, rest @ ..] = raw.arguments;
        is(rest == [0; 3], Error::BadArgument)?;
        is((1..=31).contains(&entries), Error::BadArgument)?;
        is(ring % PAGE == 0, Error::BadAddress)?;
        let outstanding = self.outstanding(me, ring).ok_or(Error::BadAddress)?;
        is(outstanding <= 31, Error::BadArgument)?;
        Ok(Next::Done(vec![0, 0]))
    }

    /// Entries of a ring as its counts have it.
    pub fn outstanding(&self, me: usize, ring: u64) -> Option<u64> {
        let (memory, first) = self.at(me, ring, READ | WRITE)?;
        let [submitted, taken] = [0, 1].map(|word| self.machine_word((memory, first + word)));
        Some(submitted?.wrapping_sub(taken?))
    }

    pub(super) fn query(&mut self, me: usize, handle: u64, item: u64) -> Try<Next> {
        is(item < 4, Error::BadArgument)?;
        let handle = small(handle)?;
        let held = self.domains[me]
            .handles
            .get(&handle)
            .ok_or(Error::BadHandle)?
            .clone();
        if item == 0 {
            return Ok(Next::Done(vec![self.kind(held.object), held.rights]));
        }
        if let Object::Domain(who) = self.objects[held.object] {
            is(self.domains[who].exists(), Error::PeerGone)?;
            let domain = &self.domains[who];
            let (reason, detail) = domain.ending.unwrap_or((StopReason::Running, 0));
            return Ok(Next::Done(match item {
                1 => vec![self.frames_used(who), domain.frames_limit],
                2 => vec![reason.number(), detail],
                _ => vec![domain.kernel_used, domain.kernel_limit],
            }));
        }
        is(item == 1, Error::WrongKind)?;
        let first_past = self.address_limit;
        Ok(Next::Done(match &self.objects[held.object] {
            Object::Memory(memory) => vec![memory.pages * PAGE, 0],
            Object::Port(port) => vec![port.queue.len() as u64, port.capacity as u64],
            Object::Event { slot, .. } => vec![*slot, 0],
            Object::Space(space) => {
                let mappings = self.spaces[*space].mappings.values();
                let pages: u64 = mappings.map(|mapping| mapping.pages).sum();
                vec![pages * PAGE, first_past]
            }
            _ => vec![0, 0],
        }))
    }
}
