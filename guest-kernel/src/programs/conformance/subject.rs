//! The hypervisor under judgement: every call is made here, and what holds for all calls is checked
//! here for each.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use nuncio_abi::{
    BootInfo, Call, Create, Error, EventWord, Handle, RawCall, Rights, VcpuPage, Verb, MAX_VALUES,
};

use super::orders::Dead;
use super::snapshot::Snapshot;
use super::{ensure, Case, Shows, Verdict};

/// How often a call that is refused is made, before what has changed is its doing.
const ATTEMPTS: usize = 3;

/// Where the program runs: the registers of a call, and what the hypervisor shares.
pub trait Ground {
    /// Makes a call; RAX and RDX, R10, R8, RDI, RSI after it.
    fn call(&self, raw: RawCall) -> (u64, [u64; MAX_VALUES]);
    /// The vcpu page.
    fn page(&self) -> VcpuPage<'_>;
    /// The system clock.
    fn now_ns(&self) -> u64;
    /// The system clock, by the protocol of the time page.
    fn now_ns_by_hand(&self) -> u64;
    /// The first register over a reading of the clock that has changed and must not.
    fn changed_over_clock(&self) -> Option<&'static str>;
    /// The time-stamp counter.
    fn counter(&self) -> u64;
    /// The first register that a call of one argument changes and must not.
    fn changed_over(&self, verb: u64, argument: u64) -> Option<&'static str>;
    /// Lets upcalls in while `action` runs, after it halts if asked to, and counts them.
    fn upcalls_during(&self, halts: bool, action: &mut dyn FnMut()) -> u64;
    /// Bits that an upcall has taken from a slot.
    fn collected(&self, slot: usize) -> u64;
}

/// The arguments of a call: RDI, RSI, RDX, R10, R8.
pub(super) type Arguments = [u64; 5];
/// What a call gives: RDX, R10, R8, RDI, RSI.
pub(super) type Outcome = Result<[u64; MAX_VALUES], Error>;

/// The slot that objects use unless a case is about slots.
pub(super) const SLOT: usize = 40;
/// A page.
pub(super) const PAGE: u64 = 4096;
/// A millisecond in nanoseconds.
pub(super) const MS: u64 = 1_000_000;
/// Longer than anything takes that must happen.
pub(super) const LONG_NS: u64 = 20_000 * MS;

/// Memory for a message: 64 bytes, words for handles, and what is left of the 128 bytes.
#[repr(C, align(128))]
pub(super) struct Area([AtomicU64; 16]);

static AREAS: [Area; 2] = [const { Area([const { AtomicU64::new(0) }; 16]) }; 2];

impl Area {
    /// Its guest-physical address: the kernel maps its memory where it is.
    pub(super) fn address(&self) -> u64 {
        core::ptr::from_ref(self).addr() as u64
    }

    /// Writes words from the beginning; the rest becomes `rest`.
    pub(super) fn fill(&self, words: &[u64], rest: u64) {
        for (index, place) in self.0.iter().enumerate() {
            place.store(words.get(index).copied().unwrap_or(rest), Relaxed);
        }
    }

    /// Puts words for handles behind the 64 bytes.
    pub(super) fn fill_handles(&self, words: &[u64]) {
        for (place, word) in self.0.iter().skip(8).zip(words) {
            place.store(*word, Relaxed);
        }
    }

    pub(super) fn words(&self) -> [u64; 16] {
        core::array::from_fn(|index| self.0.get(index).map_or(0, |word| word.load(Relaxed)))
    }
}

/// Two ends of a port or an event: the one that stays here, and the one that can be given away.
#[derive(Clone, Copy)]
pub(super) struct Ends {
    pub(super) near: u64,
    pub(super) far: u64,
}

/// The hypervisor, and the objects that the current case has made.
pub struct Subject<'a> {
    pub(super) ground: &'a dyn Ground,
    pub(super) boot: &'a BootInfo,
    held: RefCell<Vec<u64>>,
    ports: RefCell<Vec<u64>>,
    faults: RefCell<Vec<String>>,
    seen: RefCell<Vec<Error>>,
    next_window: Cell<u64>,
    child_window: Cell<Option<u64>>,
    /// What is left of the domain that has ended.
    pub(super) dead: Cell<Option<Dead>>,
}

impl<'a> Subject<'a> {
    pub(super) fn new(ground: &'a dyn Ground, boot: &'a BootInfo) -> Self {
        Subject {
            ground,
            boot,
            held: RefCell::default(),
            ports: RefCell::default(),
            faults: RefCell::default(),
            seen: RefCell::default(),
            next_window: Cell::new(boot.mapped_end),
            child_window: Cell::new(None),
            dead: Cell::new(None),
        }
    }

    /// Runs a case, closes what it has left, and gives the first thing that was wrong.
    pub(super) fn judge(&self, case: &Case) -> Verdict {
        self.seen.borrow_mut().clear();
        self.ports.borrow_mut().clear();
        let mut verdict = (case.run)(self);
        for handle in self.held.take() {
            // Many cases have closed some of them.
            let _ = self.call(Verb::Close, [handle, 0, 0, 0, 0]);
        }
        self.settle();
        if let (Ok(()), Shows::Error(error, _)) = (&verdict, case.shows) {
            verdict = ensure(self.seen.borrow().contains(&error), || {
                format!("the case never got {error}")
            });
        }
        let fault = self.faults.take().into_iter().next();
        verdict.and(fault.map_or(Ok(()), Err))
    }

    /// Disables every slot and takes what is left in it.
    fn settle(&self) {
        for slot in 0..nuncio_abi::EVENT_SLOTS {
            if let Some(word) = self.ground.page().slot(slot) {
                word.wake_at(0);
                word.enable(u64::MAX);
                word.take();
                word.enable(0);
            }
        }
    }

    /// Makes a call and checks what holds for every call.
    pub(super) fn call(&self, verb: Verb, arguments: Arguments) -> Outcome {
        let number = verb.number();
        let (status, values) = self.ground.call(RawCall {
            verb: number,
            arguments,
        });
        let [rdi, rsi, rdx, r10, r8] = arguments;
        // What value registers hold if they carry no value.
        let kept = [rdx, r10, r8, rdi, rsi];
        let carried = if status == 0 { carried(verb, rsi) } else { 0 };
        if values.get(carried..) != kept.get(carried..) {
            self.blame(format!(
                "{verb} {arguments:x?} changes registers that carry no value: {values:x?}"
            ));
        }
        match (status, Error::from_number(status)) {
            (0, _) => Ok(values),
            (_, Some(error)) => {
                self.seen.borrow_mut().push(error);
                Err(error)
            }
            (_, None) => Err(self.unknown(verb, status)),
        }
    }

    fn unknown(&self, verb: Verb, status: u64) -> Error {
        self.blame(format!("{verb} returns {status}, which is no error"));
        Error::UnknownVerb
    }

    /// Remembers something that is wrong whatever the case is about.
    pub(super) fn blame(&self, why: String) {
        self.faults.borrow_mut().push(why);
    }

    /// Remembers that an error was seen that came by another way than [`Subject::call`].
    pub(super) fn saw(&self, error: Error) {
        self.seen.borrow_mut().push(error);
    }

    /// A call that must work.
    pub(super) fn works(
        &self,
        verb: Verb,
        arguments: Arguments,
    ) -> Result<[u64; MAX_VALUES], String> {
        self.call(verb, arguments)
            .map_err(|error| format!("{verb} {arguments:x?} gives {error}"))
    }

    /// A call that must be refused and change nothing.
    ///
    /// A domain on another CPU may give something back at the same moment. So a change counts if the call
    /// makes one each time.
    pub(super) fn refuses(&self, verb: Verb, arguments: Arguments, expected: Error) -> Verdict {
        let mut change = None;
        for _ in 0..ATTEMPTS {
            let before = Snapshot::take(self)?;
            self.ends_with(verb, arguments, expected)?;
            let after = Snapshot::take(self)?;
            if before == after {
                return Ok(());
            }
            change = Some((before, after));
        }
        Err(format!(
            "{verb} {arguments:x?} gives {expected} and changes {change:x?}"
        ))
    }

    /// A call that must end with an error, whatever it does before.
    pub(super) fn ends_with(&self, verb: Verb, arguments: Arguments, expected: Error) -> Verdict {
        let outcome = self.call(verb, arguments);
        ensure(outcome == Err(expected), || {
            format!("{verb} {arguments:x?} gives {outcome:x?}, not {expected}")
        })
    }

    /// Every register from that one on must be zero.
    pub(super) fn wants_zeros(&self, verb: Verb, good: Arguments, used: usize) -> Verdict {
        for register in used..good.len() {
            for bit in [0, 31, 63] {
                let mut arguments = good;
                if let Some(argument) = arguments.get_mut(register) {
                    *argument |= 1 << bit;
                }
                self.refuses(verb, arguments, Error::BadArgument)?;
            }
        }
        Ok(())
    }

    /// A handle that the domain was given.
    pub(super) fn given(&self, name: &str, right: Rights) -> Result<u64, String> {
        let entries = self.boot.handles().iter();
        let mut found = entries.filter(|entry| entry.name.as_str() == name);
        let entry = found.find(|entry| entry.rights().is_some_and(|held| held.contains(right)));
        let handle = entry.and_then(|entry| entry.handle());
        handle
            .map(Handle::raw)
            .ok_or_else(|| format!("the domain was given no {name}"))
    }

    /// Closes it at the end of the case.
    pub(super) fn keep(&self, handle: u64) -> u64 {
        self.held.borrow_mut().push(handle);
        handle
    }

    pub(super) fn create(&self, what: Create) -> Result<(u64, u64), String> {
        let arguments = Call::Create(what).encode().arguments;
        let [first, second, ..] = self.works(Verb::Create, arguments)?;
        let both = (self.keep(first), self.keep(second));
        let is_handle = |raw: u64| raw != 0 && raw >> 32 == 0 && raw >> 16 != 0;
        let has_two = matches!(what, Create::Port { .. } | Create::Event { .. });
        ensure(
            is_handle(first)
                && if has_two {
                    is_handle(second)
                } else {
                    second == 0
                },
            || format!("{what:?} gives {both:x?}"),
        )?;
        Ok(both)
    }

    pub(super) fn port(&self, capacity: u64) -> Result<Ends, String> {
        let slot = SLOT as u64;
        let (near, far) = self.create(Create::Port { capacity, slot })?;
        self.ports.borrow_mut().push(near);
        Ok(Ends { near, far })
    }

    pub(super) fn event(&self, slot: usize) -> Result<Ends, String> {
        let slot = slot as u64;
        let (near, far) = self.create(Create::Event {
            slot,
            interval_ns: 0,
        })?;
        Ok(Ends { near, far })
    }

    pub(super) fn memory(&self, pages: u64) -> Result<u64, String> {
        let bytes = pages * PAGE;
        Ok(self.create(Create::Memory { bytes })?.0)
    }

    pub(super) fn timer(&self, event: u64, bits: u64) -> Result<u64, String> {
        let event = Handle::from_raw(event).ok_or("no handle")?;
        Ok(self.create(Create::Timer { event, bits })?.0)
    }

    pub(super) fn grant(&self, handle: u64, rights: Rights, badge: u64) -> Result<u64, String> {
        let arguments = [handle, rights.bits(), badge, 0, 0];
        let [copy, second, ..] = self.works(Verb::Grant, arguments)?;
        super::equal("the second value of grant", second, 0)?;
        Ok(self.keep(copy))
    }

    pub(super) fn close(&self, handle: u64) -> Verdict {
        self.held.borrow_mut().retain(|held| *held != handle);
        self.ports.borrow_mut().retain(|port| *port != handle);
        self.works(Verb::Close, [handle, 0, 0, 0, 0]).map(drop)
    }

    /// A handle that is closed.
    pub(super) fn closed(&self) -> Result<u64, String> {
        let memory = self.memory(1)?;
        self.close(memory)?;
        Ok(memory)
    }

    /// Two numbers that an item of query gives.
    pub(super) fn query(&self, handle: u64, item: u64) -> Result<(u64, u64), String> {
        let [first, second, ..] = self.works(Verb::Query, [handle, item, 0, 0, 0])?;
        Ok((first, second))
    }

    /// The receiving handles of ports whose queues a failed call must leave alone.
    pub(super) fn watched(&self) -> Vec<u64> {
        self.ports.borrow().clone()
    }

    /// The word of a slot.
    pub(super) fn word(&self, slot: usize) -> Result<EventWord<'_>, String> {
        let word = self.ground.page().slot(slot);
        word.ok_or_else(|| format!("there is no slot {slot}"))
    }

    /// A message's memory: 0 to send from, 1 to receive into.
    pub(super) fn area(&self, number: usize) -> &'static Area {
        AREAS.get(number).unwrap_or(&AREAS[0])
    }

    /// Guest-physical addresses at which nothing is mapped, never given twice; a multiple of 2 MiB.
    pub(super) fn window(&self, bytes: u64) -> Result<u64, String> {
        const ALIGNMENT: u64 = 2 << 20;
        let start = (self.next_window.get() + ALIGNMENT).next_multiple_of(ALIGNMENT);
        let end = start + bytes;
        ensure(end < self.boot.address_limit, || "no window is left".into())?;
        self.next_window.set(end);
        Ok(start)
    }

    /// Where the memory of children is looked at, always the same.
    pub(super) fn child_window(&self) -> Result<u64, String> {
        let window = match self.child_window.get() {
            Some(window) => window,
            None => self.window(2 << 20)?,
        };
        self.child_window.set(Some(window));
        Ok(window)
    }

    /// A deadline so many milliseconds from now.
    pub(super) fn in_ms(&self, milliseconds: u64) -> u64 {
        self.ground.now_ns() + milliseconds * MS
    }

    /// A deadline that passes only if something is wrong.
    pub(super) fn far_off(&self) -> u64 {
        self.ground.now_ns() + LONG_NS
    }
}

/// How many registers carry values when the verb succeeds.
const fn carried(verb: Verb, second: u64) -> usize {
    match verb {
        Verb::Hello | Verb::Query | Verb::Create | Verb::Grant | Verb::Submit => 2,
        Verb::Receive | Verb::Call | Verb::Run => MAX_VALUES,
        Verb::Reply if second & 1 << 11 != 0 => MAX_VALUES,
        _ => 0,
    }
}
