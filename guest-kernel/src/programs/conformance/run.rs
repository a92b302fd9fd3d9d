//! `run`.

use alloc::string::String;

use nuncio_abi::{Error, ExitKind, ObjectKind, QueryItem, Rights, StopReason, Verb};

use super::child::{starts, Child, COMPUTES, COUNTS, HALTS, RUNS, WRITES_TO_A_PORT};
use super::handles::Place;
use super::subject::{Ends, MS, PAGE, SLOT};
use super::{behaviour, ensure, equal, error, Subject, Table, Verdict};

const RUN: Verb = Verb::Run;
const SPACE: u64 = ObjectKind::Space.number();
const COMPLETE: u64 = 1;

pub(super) const TABLE: Table = Table {
    of: RUN.name(),
    cases: &[
        error(Error::BadArgument, 0, "words-of-no-answer", |subject| {
            let halting = subject.monitored(0, &HALTS)?;
            for vcpu in [halting.vcpu, 0, 1 << 32] {
                for word in no_answers() {
                    subject.refuses(RUN, [vcpu, 0, word, 0, 0], Error::BadArgument)?;
                }
            }
            Ok(())
        }),
        error(Error::BadHandle, 0, "no-handle", |subject| {
            place(subject)?.wants_a_handle(subject)
        }),
        error(Error::WrongKind, 0, "every-other-kind", |subject| {
            place(subject)?.wants_kind(subject, ObjectKind::Vcpu)
        }),
        error(Error::MissingRight, 0, "without-start", |subject| {
            let place = place(subject)?;
            place.wants_right(subject, subject.given("vcpu", Rights::NONE)?)?;
            let halting = subject.monitored(0, &HALTS)?;
            let copy = subject.grant(halting.vcpu, Rights::STOP, 0)?;
            place.wants_right(subject, copy)
        }),
        error(Error::BadHandle, 1, "no-space", |subject| {
            in_space(subject)?.wants_a_handle_or_none(subject)
        }),
        error(
            Error::WrongKind,
            1,
            "every-other-kind-than-a-space",
            |subject| in_space(subject)?.wants_kind(subject, ObjectKind::Space),
        ),
        error(Error::MissingRight, 1, "a-space-without-map", |subject| {
            let place = in_space(subject)?;
            let weak = subject.grant(subject.own_space()?, Rights::GRANT, 0)?;
            place.wants_right(subject, weak)
        }),
        error(
            Error::PeerGone,
            0,
            "of-a-domain-that-is-no-more",
            |subject| {
                let halting = subject.monitored(0, &HALTS)?;
                let arguments = [halting.vcpu, 0, 0, 0, 0];
                subject.works(Verb::Stop, [halting.child.domain, 1, 0, 0, 0])?;
                subject.refuses(RUN, arguments, Error::PeerGone)?;
                subject.close(halting.child.domain)?;
                subject.refuses(RUN, arguments, Error::PeerGone)
            },
        ),
        error(Error::WrongState, 0, "not-started", |subject| {
            let halting = subject.unstarted(0, &HALTS)?;
            subject.refuses(RUN, [halting.vcpu, 0, 0, 0, 0], Error::WrongState)
        }),
        error(
            Error::WrongState,
            0,
            "with-a-port-or-no-monitor",
            |subject| {
                let port = subject.port(1)?;
                let computing = subject.monitored(port.far, &COMPUTES)?;
                subject.refuses(RUN, [computing.vcpu, 0, 0, 0, 0], Error::WrongState)?;
                let (counting, _) = subject.counting_child()?;
                subject.refuses(RUN, [counting.vcpu, 0, COMPLETE, 0, 0], Error::WrongState)
            },
        ),
        error(
            Error::WrongState,
            0,
            "somebody-runs-it-already",
            |subject| {
                let (counting, runner) = being_run(subject)?;
                let space = subject.own_space()?;
                // Told before that there is nothing to complete, and before an event that pends.
                subject.event_that_pends()?;
                for arguments in [
                    [counting.vcpu, 0, 0, 0, 0],
                    [counting.vcpu, space, 0, 0, 0],
                    [counting.vcpu, 0, COMPLETE, 0, 0],
                ] {
                    subject.refuses(RUN, arguments, Error::WrongState)?;
                }
                subject.word(SLOT)?.take();
                // Its runner is told that it was stopped, and after that anybody can run it.
                subject.works(Verb::Stop, [counting.vcpu, 0, 0, 0, 0])?;
                subject.awaits_end(runner.domain, StopReason::HaltedForEver, 0)?;
                until_a_timer_is_due(subject, counting.vcpu)?;
                subject.unmap(counting.window, PAGE)
            },
        ),
        error(Error::BadArgument, 1, "nothing-to-complete", |subject| {
            let halting = subject.monitored(0, &HALTS)?;
            let arguments = [halting.vcpu, 0, COMPLETE, 0, 0];
            subject.refuses(RUN, arguments, Error::BadArgument)?;
            subject.exits(halting.vcpu, 0, ExitKind::Halt)?;
            subject.exits(halting.vcpu, COMPLETE, ExitKind::Halt)
        }),
        error(Error::Interrupted, 0, "an-event-pends-already", |subject| {
            let halting = subject.monitored(0, &HALTS)?;
            subject.event_that_pends()?;
            // What is wrong is told first.
            let wrong = [halting.vcpu, 0, COMPLETE, 0, 0];
            subject.refuses(RUN, wrong, Error::BadArgument)?;
            subject.refuses(RUN, [halting.vcpu, 0, 0, 0, 0], Error::Interrupted)?;
            subject.word(SLOT)?.take();
            subject.exits(halting.vcpu, 0, ExitKind::Halt)
        }),
        error(Error::PeerGone, 1, "it-ends-while-it-runs", |subject| {
            let writing = subject.monitored(0, &WRITES_TO_A_PORT)?;
            let arguments = [writing.vcpu, 0, 0, 0, 0];
            subject.ends_with(RUN, arguments, Error::PeerGone)?;
            subject.ended(writing.child.domain, StopReason::PortIo, 0x80)?;
            subject.refuses(RUN, arguments, Error::PeerGone)
        }),
        behaviour("a-timer-ends-the-run", |subject| {
            let computing = subject.monitored(0, &COMPUTES)?;
            until_a_timer_is_due(subject, computing.vcpu)
        }),
        behaviour("its-runner-ends-and-it-stands-still", |subject| {
            let (counting, runner) = being_run(subject)?;
            subject.works(Verb::Stop, [runner.domain, 1, 0, 0, 0])?;
            let before = counting.count(subject)?;
            subject.ends_with(Verb::Wait, [subject.in_ms(20), 0, 0, 0, 0], Error::TimedOut)?;
            equal("the count", counting.count(subject)?, before)?;
            until_a_timer_is_due(subject, counting.vcpu)?;
            ensure(counting.count(subject)? > before, || {
                "it did not run".into()
            })?;
            subject.unmap(counting.window, PAGE)
        }),
        behaviour("in-a-space-that-is-empty", |subject| {
            // Its first fetch finds no page tables, and its domain has no monitor for that.
            let halting = subject.monitored(0, &HALTS)?;
            let space = subject.own_space()?;
            let arguments = [halting.vcpu, space, 0, 0, 0];
            subject.ends_with(RUN, arguments, Error::PeerGone)?;
            let (reason, _) = subject.query(halting.child.domain, QueryItem::Status.number())?;
            equal("the end", reason, StopReason::BadMemory.number())
        }),
        behaviour("in-the-space-of-a-domain-that-has-ended", |subject| {
            let child = subject.watched_child(0, 0)?;
            subject.load_memory(child, &HALTS)?;
            let halting = subject.monitored(0, &HALTS)?;
            let arguments = [halting.vcpu, child.space, 0, 0, 0];
            let [first, ..] = subject.works(RUN, arguments)?;
            equal("the exit", first & 0xFF, ExitKind::Halt.number())?;
            subject.works(Verb::Stop, [child.domain, 1, 0, 0, 0])?;
            // Nothing of what was mapped there is left to be reached.
            let mapped = subject.query(child.space, QueryItem::Usage.number())?.0;
            equal("bytes mapped", mapped, 0)?;
            subject.ends_with(RUN, arguments, Error::PeerGone)?;
            let (reason, _) = subject.query(halting.child.domain, QueryItem::Status.number())?;
            equal("the end", reason, StopReason::BadMemory.number())
        }),
        behaviour("errors-in-their-order", |subject| {
            let halting = subject.unstarted(0, &HALTS)?;
            let (vcpu, memory) = (halting.vcpu, subject.memory(1)?);
            let weak = subject.given("vcpu", Rights::NONE)?;
            for (arguments, expected) in [
                ([1 << 32, 1 << 32, 2, 0, 0], Error::BadArgument),
                ([weak, 1 << 32, 0, 0, 0], Error::BadHandle),
                ([memory, memory, 0, 0, 0], Error::WrongKind),
                ([weak, memory, 0, 0, 0], Error::MissingRight),
                ([vcpu, memory, 0, 0, 0], Error::WrongKind),
                ([vcpu, 0, COMPLETE, 0, 0], Error::WrongState),
            ] {
                subject.refuses(RUN, arguments, expected)?;
            }
            subject.works(Verb::Start, starts(vcpu, 0)).map(drop)
        }),
    ],
};

/// First words of answers that are none.
pub(super) fn no_answers() -> impl Iterator<Item = u64> {
    const INTERRUPT: u64 = 1 << 16;
    const EXCEPTION: u64 = 1 << 17;
    const WITH_CODE: u64 = 1 << 18;
    let actions = [2, 3, 255];
    let vectors = [1 << 8, WITH_CODE, 1 << 32, INTERRUPT | EXCEPTION];
    let codes = [
        INTERRUPT | WITH_CODE,
        EXCEPTION | 13 << 8,
        INTERRUPT | 1 << 32,
    ];
    let exceptions = [2, 9, 15, 18, 20, 32].map(|vector| EXCEPTION | vector << 8);
    let superfluous = [EXCEPTION | WITH_CODE | 6 << 8, EXCEPTION | 6 << 8 | 1 << 32];
    let reserved = (19..32).map(|bit| 1 << bit);
    let words = actions.into_iter().chain(vectors).chain(codes);
    words.chain(exceptions).chain(superfluous).chain(reserved)
}

fn place(subject: &Subject<'_>) -> Result<Place, String> {
    let halting = subject.monitored(0, &HALTS)?;
    Ok(Place::first(RUN, [halting.vcpu, 0, 0, 0, 0]))
}

fn in_space(subject: &Subject<'_>) -> Result<Place, String> {
    let halting = subject.monitored(0, &HALTS)?;
    let space = subject.own_space()?;
    Ok(Place::at(1, RUN, [halting.vcpu, space, 0, 0, 0]))
}

/// A vcpu that counts, and where this domain sees the count.
struct Counting {
    vcpu: u64,
    window: u64,
    port: Ends,
}

impl Counting {
    fn count(&self, subject: &Subject<'_>) -> Result<u64, String> {
        let [count, ..] = subject.peek(self.port, self.window)?;
        Ok(count)
    }
}

/// A vcpu that counts because another child, who is the second value, runs it.
fn being_run(subject: &Subject<'_>) -> Result<(Counting, Child), String> {
    let loaded = subject.unstarted(0, &COUNTS)?;
    let lent = subject.lend(loaded.child)?;
    subject.start(loaded, 0)?;
    let (port, window) = (subject.port(1)?, subject.window(PAGE)?);
    subject.map(lent, window, 0, PAGE, Rights::READ)?;
    let runner = subject.child_with(&RUNS, loaded.vcpu, Rights::START)?;
    subject.counts(port, window)?;
    let vcpu = loaded.vcpu;
    Ok((Counting { vcpu, window, port }, runner))
}

/// Runs a vcpu that never exits until a timer ends that.
fn until_a_timer_is_due(subject: &Subject<'_>, vcpu: u64) -> Verdict {
    let bell = subject.event(SLOT)?;
    let timer = subject.timer(bell.far, 1)?;
    let word = subject.word(SLOT)?;
    word.enable(1);
    let mut delay_ns = MS;
    // On a busy machine the timer may be due before the vcpu runs.
    loop {
        let due = subject.ground.now_ns() + delay_ns;
        subject.works(Verb::Arm, [timer, due, 0, 0, 0])?;
        match subject.call(RUN, [vcpu, 0, 0, 0, 0]) {
            Err(Error::Interrupted) if delay_ns < 1 << 32 => delay_ns *= 2,
            Ok([first, ..]) => {
                equal("the bits", word.take(), 1)?;
                return equal("the exit", first, ExitKind::Recalled.number());
            }
            Err(error) => return equal("the run", Err(error), Ok(())),
        }
        word.take();
    }
}

impl Subject<'_> {
    /// Bit 0 pends and is enabled.
    fn event_that_pends(&self) -> Verdict {
        let bell = self.event(SLOT)?;
        self.word(SLOT)?.enable(1);
        self.works(Verb::Notify, [bell.far, 1, 0, 0, 0]).map(drop)
    }

    /// A space in which no domain lives.
    pub(super) fn own_space(&self) -> Result<u64, String> {
        let [space, ..] = self.works(Verb::Create, [SPACE, 0, 0, 0, 0])?;
        Ok(self.keep(space))
    }

    /// The vcpu runs until an exit of that kind.
    pub(super) fn exits(&self, vcpu: u64, word: u64, kind: ExitKind) -> Verdict {
        let [first, ..] = self.works(RUN, [vcpu, 0, word, 0, 0])?;
        equal("the exit", first & 0xFF, kind.number())
    }
}
