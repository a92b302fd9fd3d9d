//! The x86-64 binding: registers over a call, upcalls, HLT, and the clock.

use alloc::format;

use nuncio_abi::{Error, Verb, VERSION};

use super::notify::notify;
use super::subject::{MS, SLOT};
use super::throttling::throttled;
use super::{behaviour, ensure, equal, Subject, Table, Verdict};

pub(super) const TABLE: Table = Table {
    of: "binding",
    cases: &[
        behaviour("registers-over-hello", |subject| {
            keeps_registers(subject, Verb::Hello, VERSION.to_raw().into())
        }),
        behaviour("registers-over-a-wait", |subject| {
            keeps_registers(subject, Verb::Wait, subject.in_ms(2))
        }),
        behaviour("registers-over-an-error", |subject| {
            keeps_registers(subject, Verb::Close, u64::MAX)
        }),
        behaviour("the-clock-never-runs-backwards", |subject| {
            let mut last_ns = subject.ground.now_ns();
            for _ in 0..10_000 {
                let now_ns = subject.ground.now_ns();
                ensure(now_ns >= last_ns, || {
                    format!("{now_ns} comes after {last_ns}")
                })?;
                last_ns = now_ns;
            }
            Ok(())
        }),
        behaviour("the-clock-entry-reads-the-time-page", |subject| {
            for _ in 0..1_000 {
                let before_ns = subject.ground.now_ns_by_hand();
                let now_ns = subject.ground.now_ns();
                let after_ns = subject.ground.now_ns_by_hand();
                ensure((before_ns..=after_ns).contains(&now_ns), || {
                    format!("{now_ns} is not from {before_ns} to {after_ns}")
                })?;
            }
            Ok(())
        }),
        behaviour("registers-over-the-clock-entry", |subject| {
            let changed = subject.ground.changed_over_clock();
            ensure(changed.is_none(), || {
                format!("{} has changed", changed.unwrap_or_default())
            })
        }),
        behaviour("the-clock-moves-with-the-counter", |subject| {
            let ground = subject.ground;
            let (start_ns, start) = (ground.now_ns(), ground.counter());
            while ground.counter() - start < 1_000_000 {
                core::hint::spin_loop();
            }
            let passed_ns = ground.now_ns() - start_ns;
            // A million ticks at 100 MHz to 10 GHz, and room for being preempted.
            ensure((100_000..1_000_000_000).contains(&passed_ns), || {
                format!("a million ticks take {passed_ns} ns")
            })
        }),
        behaviour("an-upcall-for-an-enabled-bit", |subject| {
            upcalls(subject, false, 0b1, 1, |_, event| {
                notify(subject, event, 0b1)
            })
        }),
        behaviour("no-upcall-for-a-bit-that-is-not-enabled", |subject| {
            upcalls(subject, false, 0b10, 0, |_, event| {
                notify(subject, event, 0b10)
            })
        }),
        behaviour("no-upcall-for-a-bit-that-pends-already", |subject| {
            upcalls(subject, false, 0b10, 0, |_, event| {
                notify(subject, event, 0b10)?;
                notify(subject, event, 0b10)
            })
        }),
        behaviour("an-upcall-that-is-due-ends-a-halt", |subject| {
            upcalls(subject, true, 0b1, 1, |_, event| {
                notify(subject, event, 0b1)
            })
        }),
        behaviour("upcalls-that-were-not-delivered-merge", |subject| {
            upcalls(subject, true, 0b11, 1, |subject, event| {
                subject.word(SLOT)?.enable(0b11);
                notify(subject, event, 0b01)?;
                notify(subject, event, 0b10)
            })
        }),
        behaviour("a-halt-announces-what-was-enabled-late", |subject| {
            upcalls(subject, true, 0b10, 1, |subject, event| {
                notify(subject, event, 0b10)?;
                subject.word(SLOT)?.enable(0b11);
                Ok(())
            })
        }),
        behaviour("a-timer-ends-a-halt", |subject| {
            upcalls(subject, true, 0b1, 1, |subject, event| {
                let timer = subject.timer(event, 0b1)?;
                let arguments = [timer, subject.in_ms(2), 0, 0, 0];
                subject.works(Verb::Arm, arguments).map(drop)
            })
        }),
        behaviour(
            "a-sender-in-a-loop-makes-one-upcall-an-interval",
            |subject| {
                const INTERVAL_NS: u64 = 2 * MS;
                let bell = throttled(subject, INTERVAL_NS)?;
                subject.word(SLOT)?.enable(0b1);
                let start_ns = subject.ground.now_ns();
                let (mut calls, mut verdict) = (0u64, Ok(()));
                let upcalls = subject.ground.upcalls_during(false, &mut || {
                    while subject.ground.now_ns() < start_ns + 8 * INTERVAL_NS && verdict.is_ok() {
                        verdict = notify(subject, bell.far, 0b1);
                        calls += 1;
                    }
                });
                verdict?;
                subject.ground.collected(SLOT);
                let most = (subject.ground.now_ns() - start_ns) / INTERVAL_NS + 1;
                ensure((2..=most).contains(&upcalls), || {
                    format!("{calls} calls make {upcalls} upcalls, not at most {most}")
                })
            },
        ),
        behaviour("no-upcall-for-a-slot-beyond-the-threshold", |subject| {
            let page = subject.ground.page();
            page.set_threshold(SLOT);
            let quiet = upcalls(subject, false, 0b1, 0, |_, event| {
                notify(subject, event, 0b1)
            });
            page.set_threshold(SLOT + 1);
            let urgent = upcalls(subject, false, 0b1, 1, |_, event| {
                notify(subject, event, 0b1)
            });
            page.set_threshold(0);
            quiet.and(urgent)
        }),
        behaviour("a-slot-beyond-the-threshold-ends-a-halt", |subject| {
            let page = subject.ground.page();
            page.set_threshold(1);
            let verdict = upcalls(subject, true, 0b1, 1, |subject, event| {
                let timer = subject.timer(event, 0b1)?;
                let arguments = [timer, subject.in_ms(2), 0, 0, 0];
                subject.works(Verb::Arm, arguments).map(drop)
            });
            page.set_threshold(0);
            verdict
        }),
        behaviour("a-wait-with-upcalls-held-back-still-wakes", |subject| {
            let bell = subject.event(SLOT)?;
            subject.word(SLOT)?.enable(0b1);
            notify(subject, bell.far, 0b1)?;
            subject.works(Verb::Wait, [u64::MAX, 0, 0, 0, 0])?;
            equal("the bits", subject.word(SLOT)?.take(), 0b1)?;
            subject.refuses(Verb::Wait, [0; 5], Error::TimedOut)
        }),
    ],
};

fn keeps_registers(subject: &Subject<'_>, verb: Verb, argument: u64) -> Verdict {
    let changed = subject.ground.changed_over(verb.number(), argument);
    ensure(changed.is_none(), || {
        format!("{} has changed", changed.unwrap_or_default())
    })
}

/// So many upcalls come while bit 0 of an event is enabled, and these bits have pended.
fn upcalls(
    subject: &Subject<'_>,
    halts: bool,
    bits: u64,
    expected: u64,
    action: impl Fn(&Subject<'_>, u64) -> Verdict,
) -> Verdict {
    let bell = subject.event(SLOT)?;
    let word = subject.word(SLOT)?;
    word.enable(0b1);
    let mut verdict = Ok(());
    let count = subject.ground.upcalls_during(halts, &mut || {
        verdict = action(subject, bell.far);
        // Long enough for an upcall that nobody expects.
        let limit_ns = subject.ground.now_ns() + MS;
        while !halts && subject.ground.now_ns() < limit_ns {
            core::hint::spin_loop();
        }
    });
    verdict?;
    word.enable(u64::MAX);
    let found = subject.ground.collected(SLOT) | word.take();
    equal("upcalls and bits", (count, found), (expected, bits))
}
