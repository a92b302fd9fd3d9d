//! `program=smp`: all vcpus of the domain work together, and are stopped and started again while they work.
//!
//! Each makes an event in its own page and tells the others. All count on one counter and look whether the
//! clock ever goes back; then a notification goes round from vcpu to vcpu, `rounds=N` times. In the end the
//! first vcpu stops all others and starts them again, `storms=N` times, wherever they are, and each must come
//! up. They are still at work when the domain exits.
//!
//! Needs 2 to 16 vcpus. Prints one line with what it has counted, or one that says what went wrong.
#![forbid(unsafe_code)]

use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

use nuncio_abi::{Deadline, Error, Handle};

use super::{Context, ExitCode, FAILED, GOOD};
use crate::hv::{rest_until, Client, Event, Machine, Object};
use crate::machine::{Native, Secondary};
use crate::trap::VCPUS;

/// The slot of each vcpu's event in its page.
const SLOT: usize = 60;
/// What goes round.
const ROUND: u64 = 0b01;
/// What vcpus send each other while they are stopped and started.
const BEAT: u64 = 0b10;
/// How long anything may take.
const PATIENCE_NS: u64 = 20_000_000_000;
/// How long a vcpu sleeps before it looks again.
const REST_NS: u64 = 50_000;

/// What the vcpus share.
static BOARD: Board = Board {
    rounds: AtomicU64::new(0),
    counted: AtomicU64::new(0),
    latest_ns: AtomicU64::new(0),
    times_back: AtomicU64::new(0),
    is_storm: AtomicBool::new(false),
    seats: [const { Seat::new() }; VCPUS],
};

struct Board {
    rounds: AtomicU64,
    counted: AtomicU64,
    /// The latest time that any vcpu has read.
    latest_ns: AtomicU64,
    /// How often one has read an earlier time than that.
    times_back: AtomicU64,
    is_storm: AtomicBool,
    seats: [Seat; VCPUS],
}

/// What one vcpu tells the others.
struct Seat {
    /// The handles of its event: to wait, and to notify. The second is set last.
    near: AtomicU64,
    far: AtomicU64,
    /// How often it has come up.
    starts: AtomicU64,
    /// How often the notification has come to it.
    passes: AtomicU64,
    /// How often it has been round its loop in the storm.
    beats: AtomicU64,
    /// The number of the error with which it gave up, or 0.
    error: AtomicU64,
}

impl Seat {
    const fn new() -> Self {
        Seat {
            near: AtomicU64::new(0),
            far: AtomicU64::new(0),
            starts: AtomicU64::new(0),
            passes: AtomicU64::new(0),
            beats: AtomicU64::new(0),
            error: AtomicU64::new(0),
        }
    }

    fn near(&self, machine: &'static Native) -> Result<Event<'static, Native>, Error> {
        event(machine, &self.near)
    }

    fn far(&self, machine: &'static Native) -> Result<Event<'static, Native>, Error> {
        event(machine, &self.far)
    }
}

fn event(machine: &'static Native, handle: &AtomicU64) -> Result<Event<'static, Native>, Error> {
    let handle = Handle::from_raw(handle.load(Acquire)).ok_or(Error::BadHandle)?;
    Ok(Event::new(Object::new(machine, handle), SLOT))
}

/// What went wrong.
enum Miss {
    Call(&'static str, Error),
    Vcpu(usize, u64),
    Late(&'static str),
    Count(&'static str, u64, u64),
}

impl fmt::Display for Miss {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Miss::Call(what, error) => write!(formatter, "cannot {what}: {error}"),
            Miss::Vcpu(vcpu, error) => match Error::from_number(*error) {
                Some(error) => write!(formatter, "vcpu {vcpu} gave up: {error}"),
                None => write!(formatter, "vcpu {vcpu} gave up"),
            },
            Miss::Late(what) => write!(formatter, "waited too long until {what}"),
            Miss::Count(what, found, expected) => {
                write!(formatter, "{what}: {found}, not {expected}")
            }
        }
    }
}

/// Runs the program.
pub fn run(context: &mut Context<'_, Native>) -> ExitCode {
    let (rounds, storms) = match (context.number("rounds", 1000), context.number("storms", 20)) {
        (Ok(rounds), Ok(storms)) => (rounds, storms),
        (Err(code), _) | (_, Err(code)) => return code,
    };
    let vcpus = context.boot.vcpus().len();
    let (Some(machine), 2..=VCPUS) = (Native::current(), vcpus) else {
        let _ = writeln!(context.out, "smp: needs 2 to {VCPUS} vcpus, not {vcpus}");
        return FAILED;
    };
    // The console cannot fail; what it loses it counts itself.
    let done = First { machine, vcpus }.run(rounds, storms);
    match done {
        Ok(restarts) => {
            let counted = BOARD.counted.load(Relaxed);
            let _ = writeln!(
                context.out,
                "smp: {vcpus} vcpus, {counted} counted, {rounds} rounds, {restarts} restarts"
            );
            GOOD
        }
        Err(miss) => {
            let _ = writeln!(context.out, "smp: {miss}");
            FAILED
        }
    }
}

/// The first vcpu.
struct First {
    machine: &'static Native,
    vcpus: usize,
}

impl First {
    /// The value says how often a vcpu was started again.
    fn run(&self, rounds: u64, storms: u64) -> Result<u64, Miss> {
        BOARD.rounds.store(rounds, Relaxed);
        let call = |what| move |error| Miss::Call(what, error);
        let mut others = Vec::new();
        for number in 1..self.vcpus {
            let other = Secondary::prepare(number, begin).map_err(call("prepare a vcpu"))?;
            other.start().map_err(call("start a vcpu"))?;
            others.push(other);
        }
        publish_event(self.machine).map_err(call("make an event"))?;
        self.until("all vcpus have an event", || all_have_events(self.machine))?;
        count(self.machine, rounds);
        send_round(self.machine, rounds).map_err(|error| self.miss("send a round", error))?;
        self.check(rounds)?;
        self.storm(&others, storms)
    }

    fn check(&self, rounds: u64) -> Result<(), Miss> {
        let expect = |what, found, expected| match found == expected {
            true => Ok(()),
            false => Err(Miss::Count(what, found, expected)),
        };
        let all = rounds * self.vcpus as u64;
        expect("counted", BOARD.counted.load(Relaxed), all)?;
        expect("times back", BOARD.times_back.load(Relaxed), 0)?;
        for seat in self.seats() {
            expect("passes", seat.passes.load(Relaxed), rounds)?;
        }
        Ok(())
    }

    /// Stops and starts the others: one after the other, or all stop before the first starts again.
    fn storm(&self, others: &[Secondary], storms: u64) -> Result<u64, Miss> {
        BOARD.is_storm.store(true, Release);
        // They stop themselves after the rounds.
        for other in others {
            self.until("a vcpu has stopped itself", || other.start().is_ok())?;
        }
        for storm in 0..storms {
            self.until_they_work()?;
            match storm % 2 {
                0 => others.iter().try_for_each(|other| {
                    other.stop()?;
                    other.start()
                }),
                _ => (others.iter().try_for_each(Secondary::stop))
                    .and_then(|()| others.iter().try_for_each(Secondary::start)),
            }
            .map_err(|error| self.miss("stop and start a vcpu", error))?;
        }
        self.until_they_work()?;
        // The first time was for the rounds, the second began the storm.
        let restarts = |seat: &Seat| seat.starts.load(Relaxed).saturating_sub(2);
        let restarts = self.seats().iter().skip(1).map(restarts).sum();
        let expected = storms * others.len() as u64;
        match restarts == expected {
            true => Ok(restarts),
            false => Err(Miss::Count("restarts", restarts, expected)),
        }
    }

    /// Each of the others has gone round its loop since now.
    fn until_they_work(&self) -> Result<(), Miss> {
        for seat in self.seats().iter().skip(1) {
            let before = seat.beats.load(Relaxed);
            let has_worked = || seat.beats.load(Relaxed) > before + 1;
            self.until("a vcpu works", has_worked)?;
        }
        Ok(())
    }

    fn until(&self, what: &'static str, holds: impl Fn() -> bool) -> Result<(), Miss> {
        let give_up_ns = self.machine.now_ns() + PATIENCE_NS;
        while !holds() {
            if let Some(miss) = self.error_of_another() {
                return Err(miss);
            }
            if self.machine.now_ns() > give_up_ns {
                return Err(Miss::Late(what));
            }
            rest(self.machine);
        }
        Ok(())
    }

    /// What has gone wrong on another vcpu, if anything has, or else this.
    fn miss(&self, what: &'static str, error: Error) -> Miss {
        let another = self.error_of_another();
        another.unwrap_or(Miss::Call(what, error))
    }

    fn error_of_another(&self) -> Option<Miss> {
        let mut errors = self.seats().iter().map(|seat| seat.error.load(Acquire));
        errors
            .position(|error| error != 0)
            .map(|vcpu| Miss::Vcpu(vcpu, BOARD.seats[vcpu].error.load(Relaxed)))
    }

    fn seats(&self) -> &'static [Seat] {
        seats(self.machine)
    }
}

fn seats(machine: &Native) -> &'static [Seat] {
    let vcpus = machine.boot_info().vcpus().len();
    BOARD.seats.get(..vcpus).unwrap_or(&BOARD.seats)
}

/// Where every vcpu but the first begins.
fn begin(machine: &'static Native) {
    let own = &BOARD.seats[machine.vcpu_number()];
    own.starts.fetch_add(1, Release);
    let done = if BOARD.is_storm.load(Acquire) {
        work_for_ever(machine, own)
    } else {
        work(machine, own)
    };
    if let Err(error) = done {
        own.error.store(error.number(), Release);
    }
}

fn work(machine: &'static Native, own: &Seat) -> Result<(), Error> {
    publish_event(machine)?;
    let give_up_ns = machine.now_ns() + PATIENCE_NS;
    while !all_have_events(machine) {
        if machine.now_ns() > give_up_ns {
            return Err(Error::TimedOut);
        }
        rest(machine);
    }
    let rounds = BOARD.rounds.load(Relaxed);
    count(machine, rounds);
    let (near, next) = (own.near(machine)?, next_event(machine)?);
    for _ in 0..rounds {
        near.wait(ROUND, patience(machine))?;
        own.passes.fetch_add(1, Release);
        next.notify(ROUND)?;
    }
    Ok(())
}

/// Notifies the next vcpu, stopped or not, and sleeps a little.
fn work_for_ever(machine: &'static Native, own: &Seat) -> Result<(), Error> {
    let (near, next) = (own.near(machine)?, next_event(machine)?);
    loop {
        next.notify(BEAT)?;
        match near.wait(BEAT, Deadline(machine.now_ns() + REST_NS)) {
            Ok(_) | Err(Error::TimedOut) => {}
            Err(error) => return Err(error),
        }
        own.beats.fetch_add(1, Release);
    }
}

/// The first vcpu's part of the ring: it sends, and waits until it has come round.
fn send_round(machine: &'static Native, rounds: u64) -> Result<(), Error> {
    let own = &BOARD.seats[0];
    let (near, next) = (own.near(machine)?, next_event(machine)?);
    for _ in 0..rounds {
        next.notify(ROUND)?;
        near.wait(ROUND, patience(machine))?;
        own.passes.fetch_add(1, Release);
    }
    Ok(())
}

/// The event to which the vcpu passes on what has come to it.
fn next_event(machine: &'static Native) -> Result<Event<'static, Native>, Error> {
    let next = machine.vcpu_number() + 1;
    let seats = seats(machine);
    let seat = seats.get(next).unwrap_or(&seats[0]);
    seat.far(machine)
}

/// Makes an event for which this vcpu waits, and tells the others.
fn publish_event(machine: &'static Native) -> Result<(), Error> {
    let own = &BOARD.seats[machine.vcpu_number()];
    let ends = Client::new(machine, machine.boot_info()).create_event(SLOT)?;
    let handle = |event: Event<'_, Native>| event.object().handle().raw();
    own.near.store(handle(ends.near), Relaxed);
    own.far.store(handle(ends.far), Release);
    Ok(())
}

/// Counts on the counter of all, and looks whether time goes on for all.
fn count(machine: &Native, times: u64) {
    for _ in 0..times {
        let latest_ns = BOARD.latest_ns.load(Acquire);
        let now_ns = machine.now_ns();
        if now_ns < latest_ns {
            BOARD.times_back.fetch_add(1, Relaxed);
        }
        BOARD.latest_ns.fetch_max(now_ns, Release);
        BOARD.counted.fetch_add(1, Relaxed);
    }
}

fn all_have_events(machine: &Native) -> bool {
    let mut seats = seats(machine).iter();
    seats.all(|seat| seat.far.load(Acquire) != 0)
}

fn rest(machine: &Native) {
    rest_until(machine, machine.now_ns() + REST_NS);
}

fn patience(machine: &Native) -> Deadline {
    Deadline(machine.now_ns() + PATIENCE_NS)
}
