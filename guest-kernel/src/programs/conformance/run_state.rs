//! What a vcpu page says of its vcpu's turns, one's own and that of a child.

use alloc::format;
use alloc::string::String;

use nuncio_abi::{Error, Rights, RunState, VcpuPage, Verb};

use super::child::{Loaded, CALLS, COMPUTES, STOPS};
use super::subject::{Ends, PAGE};
use super::{behaviour, ensure, equal, Subject, Table, Verdict};

pub(super) const TABLE: Table = Table {
    of: "run-state",
    cases: &[
        behaviour("who-looks-at-its-own-page-runs", |subject| {
            let page = subject.ground.page();
            for _ in 0..100 {
                equal("the state", page.run_state(), Some(RunState::Running))?;
                own_stolen(subject)?;
            }
            Ok(())
        }),
        behaviour("what-a-guest-writes-there-is-overwritten", |subject| {
            let page = subject.ground.page();
            let before = own_stolen(subject)?;
            page.become_ready(1);
            page.cease_to_be_ready(u64::MAX, RunState::Stopped);
            page.become_ready(1);
            sleep(subject, 1)?;
            // Waking up was a change of state.
            let now_ns = subject.ground.now_ns();
            let stolen = own_stolen(subject)?;
            ensure((before..now_ns).contains(&stolen), || {
                format!("stolen: {stolen} after {before}")
            })
        }),
        behaviour("time-asleep-is-not-stolen", |subject| {
            let before = own_stolen(subject)?;
            let due = sleep(subject, 5)?;
            let stolen = own_stolen(subject)?;
            let late = subject.ground.now_ns().saturating_sub(due);
            ensure(stolen >= before && stolen - before <= late, || {
                format!("{} ns are stolen in {late}", stolen.wrapping_sub(before))
            })
        }),
        behaviour("who-waits-for-another-is-told-how-long", |subject| {
            let watched = Watched::new(subject, &COMPUTES)?;
            watched.starts(subject)?;
            let (before, start) = (own_stolen(subject)?, subject.ground.now_ns());
            let deadline = subject.far_off();
            while own_stolen(subject)? == before {
                // Who wakes up waits for the other one's slice to end.
                sleep(subject, 1)?;
                if subject.ground.now_ns() >= deadline {
                    return Err("nothing is stolen, although there is another vcpu".into());
                }
            }
            let stolen = own_stolen(subject)? - before;
            let passed = subject.ground.now_ns() - start;
            ensure(stolen < passed, || {
                format!("{stolen} ns are stolen in {passed}")
            })?;
            let seen = watched.look(subject)?;
            let may_run = [RunState::Ready.number(), RunState::Running.number()];
            ensure(may_run.contains(&seen.state), || {
                format!("a child that computes is in state {}", seen.state)
            })
        }),
        behaviour("stolen-never-goes-back", |subject| {
            let watched = Watched::new(subject, &COMPUTES)?;
            watched.starts(subject)?;
            let (mut own, mut other) = (0, 0);
            for _ in 0..200 {
                let now_own = own_stolen(subject)?;
                let now_other = watched.look(subject)?.stolen;
                ensure(now_own >= own && now_other >= other, || {
                    format!("{now_own} after {own}, {now_other} after {other}")
                })?;
                (own, other) = (now_own, now_other);
            }
            Ok(())
        }),
        behaviour("a-child-that-sleeps-waits-for-no-cpu", |subject| {
            let watched = Watched::new(subject, &CALLS)?;
            // Nobody answers there.
            let port = subject.port(1)?;
            let copy = subject.give(watched.loaded.child, port.far, Rights::SEND)?;
            subject.start(watched.loaded, copy)?;
            watched.comes_to(subject, RunState::Asleep)?;
            let before = watched.look(subject)?;
            sleep(subject, 3)?;
            equal("what is stolen", watched.look(subject)?, before)
        }),
        behaviour("before-the-start-and-after-the-end", |subject| {
            let watched = Watched::new(subject, &STOPS)?;
            let seen = watched.look(subject)?;
            equal("the state", seen.state, RunState::Stopped.number())?;
            let child = watched.loaded.child;
            let copy = subject.give(child, child.domain, Rights::STOP)?;
            subject.start(watched.loaded, copy)?;
            watched.comes_to(subject, RunState::Stopped)
        }),
    ],
};

/// What is stolen from this vcpu, which runs.
fn own_stolen(subject: &Subject<'_>) -> Result<u64, String> {
    let stolen = subject.ground.page().stolen_ns(|| u64::MAX);
    stolen.ok_or_else(|| "the words of a vcpu that runs do not fit together".into())
}

/// Sleeps, and says until when.
fn sleep(subject: &Subject<'_>, milliseconds: u64) -> Result<u64, String> {
    let due = subject.in_ms(milliseconds);
    subject.ends_with(Verb::Wait, [due, 0, 0, 0, 0], Error::TimedOut)?;
    Ok(due)
}

/// A child whose page is mapped here.
struct Watched {
    loaded: Loaded,
    port: Ends,
    window: u64,
}

/// What its page says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    state: u64,
    /// Up to now.
    stolen: u64,
}

impl Watched {
    /// A child that has not been started.
    fn new(subject: &Subject<'_>, code: &[u64; 8]) -> Result<Self, String> {
        let child = subject.watched_child(0, 0)?;
        let loaded = subject.load(child, code)?;
        let (port, window) = (subject.port(1)?, subject.window(PAGE)?);
        subject.map(loaded.memory, window, 0, PAGE, Rights::READ)?;
        Ok(Watched {
            loaded,
            port,
            window,
        })
    }

    fn starts(&self, subject: &Subject<'_>) -> Verdict {
        subject.start(self.loaded, 0)
    }

    /// Reads its words until they fit together.
    fn look(&self, subject: &Subject<'_>) -> Result<Seen, String> {
        let words = || {
            let words = subject.peek(self.port, self.window)?;
            let state = words[VcpuPage::RUN_STATE];
            let (stolen, since) = (words[VcpuPage::STOLEN], words[VcpuPage::READY_SINCE]);
            Ok::<_, String>((state, since, stolen))
        };
        for _ in 0..1000 {
            let (state, since, stolen) = words()?;
            let waits = match since {
                0 => 0,
                since => subject.ground.now_ns().saturating_sub(since),
            };
            let (state_after, since_after, _) = words()?;
            let is_ready = state == RunState::Ready.number();
            if (state, since) == (state_after, since_after) && is_ready == (since != 0) {
                let stolen = stolen + waits;
                return Ok(Seen { state, stolen });
            }
        }
        Err("the words of the child do not fit together".into())
    }

    fn comes_to(&self, subject: &Subject<'_>, state: RunState) -> Verdict {
        let deadline = subject.far_off();
        loop {
            let seen = self.look(subject)?.state;
            if seen == state.number() {
                return Ok(());
            }
            if subject.ground.now_ns() >= deadline {
                return Err(format!("the child is in state {seen}"));
            }
            sleep(subject, 1)?;
        }
    }
}
