//! `reply`.

use alloc::string::String;

use nuncio_abi::{Error, ObjectKind, Rights, Verb};

use super::handles::Place;
use super::messages::{with_handles, Received, Sender, IN_MEMORY};
use super::orders::{self, Report};
use super::receive::rung;
use super::subject::{Ends, PAGE, SLOT};
use super::transfers::word;
use super::{behaviour, equal, error, Subject, Table, Verdict};

const REPLY: Verb = Verb::Reply;
const THEN_RECEIVE: u64 = 1 << 11;

pub(super) const TABLE: Table = Table {
    of: REPLY.name(),
    cases: &[
        error(Error::BadArgument, 0, "headers-of-no-message", |subject| {
            let reserved: [u64; 20] = core::array::from_fn(|index| index as u64 + 12);
            with_a_caller(subject, |waiting| {
                waiting.sender().wants_a_header(subject, &reserved)
            })
        }),
        error(Error::BadArgument, 0, "bits-past-the-message", |subject| {
            with_a_caller(subject, |waiting| {
                waiting.sender().wants_zeros_behind(subject)
            })
        }),
        error(Error::BadArgument, 0, "bits-that-are-no-right", |subject| {
            with_a_caller(subject, |waiting| {
                waiting.sender().wants_rights_in_registers(subject)
            })
        }),
        error(Error::BadArgument, 0, "no-token", |subject| {
            with_a_caller(subject, |waiting| {
                for header in [0, THEN_RECEIVE] {
                    let arguments = [waiting.port.near, header, 0, 0, 0];
                    subject.refuses(REPLY, arguments, Error::BadArgument)?;
                    // Found before the handle is looked up.
                    subject.refuses(REPLY, [1 << 32, header, 0, 0, 0], Error::BadArgument)?;
                }
                Ok(())
            })
        }),
        error(Error::BadHandle, 0, "no-handle", |subject| {
            with_a_caller(subject, |waiting| waiting.place().wants_a_handle(subject))
        }),
        error(Error::WrongKind, 0, "every-other-kind", |subject| {
            with_a_caller(subject, |waiting| {
                waiting.place().wants_kind(subject, ObjectKind::Port)
            })
        }),
        error(Error::MissingRight, 0, "without-receive", |subject| {
            with_a_caller(subject, |waiting| {
                let console = subject.given("console", Rights::SEND)?;
                waiting.place().wants_right(subject, console)?;
                waiting.place().wants_right(subject, waiting.port.far)
            })
        }),
        error(
            Error::BadAddress,
            0,
            "memory-that-is-not-there",
            |subject| with_a_caller(subject, |waiting| waiting.sender().wants_memory(subject)),
        ),
        error(Error::BadArgument, 1, "rights-that-stay", |subject| {
            with_a_caller(subject, |waiting| {
                waiting.sender().wants_rights_that_can_go(subject)
            })
        }),
        error(Error::BadHandle, 1, "a-handle-in-the-message", |subject| {
            with_a_caller(subject, |waiting| {
                waiting.sender().wants_handles_in_the_message(subject)
            })
        }),
        error(
            Error::MissingRight,
            1,
            "a-handle-in-the-message",
            |subject| {
                with_a_caller(subject, |waiting| {
                    waiting.sender().wants_rights_of_the_handle(subject)
                })
            },
        ),
        error(Error::PeerGone, 0, "tokens-of-no-call", |subject| {
            with_a_caller(subject, |waiting| {
                let token = waiting.token;
                for other in [
                    token ^ 1,
                    token ^ 1 << 15,
                    token ^ 1 << 16,
                    token ^ 1 << 31,
                    0xFFFF_FFFF,
                ] {
                    // Token 0 is no argument at all.
                    if other != 0 {
                        refuses_token(subject, waiting.port.near, other)?;
                    }
                }
                // Of another port.
                refuses_token(subject, subject.port(1)?.near, token)
            })
        }),
        error(Error::PeerGone, 0, "the-second-answer", |subject| {
            let mut first = (0, 0);
            with_a_caller(subject, |waiting| {
                first = (waiting.port.near, waiting.token);
                waiting.answer(subject)?;
                refuses_token(subject, waiting.port.near, waiting.token)
            })?;
            refuses_token(subject, first.0, first.1)
        }),
        error(Error::PeerGone, 0, "the-caller-has-given-up", |subject| {
            let port = subject.port(1)?;
            orders::call_me(subject, port.far, super::subject::MS, false)?;
            let token = subject.receive(port.near, subject.far_off())?.token;
            let status = orders::report(subject)?.status;
            equal("how the call ended", status, Error::TimedOut.number())?;
            refuses_token(subject, port.near, token)
        }),
        error(
            Error::BadArgument,
            2,
            "too-long-for-a-caller-without-memory",
            |subject| {
                with_a_caller(subject, |waiting| {
                    let memory = word(subject.memory(1)?, Rights::READ);
                    for (length, handles) in [(25, 0), (64, 0), (17, 1), (0, 4)] {
                        let area = subject.area(0);
                        area.fill(&[1; 8], 0);
                        area.fill_handles(&[memory; 4]);
                        let header = length | IN_MEMORY | with_handles(handles);
                        let words = [area.address(), 0, 0];
                        waiting
                            .sender()
                            .refuses(subject, header, words, Error::BadArgument)?;
                        let then = header | THEN_RECEIVE;
                        waiting
                            .sender()
                            .refuses(subject, then, words, Error::BadArgument)?;
                    }
                    // It goes on waiting, and three words come through.
                    Ok(())
                })
            },
        ),
        behaviour("errors-in-their-order", errors_in_their_order),
        behaviour("answers-of-every-length-in-registers", |subject| {
            for length in 0..=24 {
                let mut report = None;
                call_from_partner(subject, false, |waiting| {
                    let area = subject.area(0);
                    area.fill(&[u64::MAX; 8], 0);
                    let words = [area.address(), 0, 0];
                    let arguments = waiting.sender().arguments(length | IN_MEMORY, words);
                    subject.works(REPLY, arguments)?;
                    report = Some(orders::report(subject)?);
                    Ok(())
                })?;
                let mask = |index: u64| {
                    let bytes = length.saturating_sub(index * 8).min(8) as u32;
                    u64::MAX.checked_shr(64 - bytes * 8).unwrap_or(0)
                };
                let expected = Report {
                    status: 0,
                    values: [length, 0, mask(0), mask(1), mask(2)],
                };
                equal("what the caller got", report, Some(expected))?;
            }
            Ok(())
        }),
        behaviour("a-long-answer-to-a-caller-with-memory", |subject| {
            call_from_partner(subject, true, |waiting| {
                let area = subject.area(0);
                area.fill(&[3; 8], 0);
                let header = 64 | IN_MEMORY;
                let arguments = waiting.sender().arguments(header, [area.address(), 0, 0]);
                subject.works(REPLY, arguments)?;
                let report = orders::report(subject)?;
                equal("what the caller got", report.values, [header, 0, 0, 0, 0])?;
                equal("how the call ended", report.status, 0)
            })
        }),
        behaviour("calls-are-answered-in-any-order", |subject| {
            // A call of this domain that has timed out, and one of the partner that waits.
            let port = subject.port(2)?;
            let own = [port.far, 0, 0, 0, 0];
            subject.ends_with(Verb::Call, own, Error::TimedOut)?;
            orders::call_me(subject, port.far, u64::MAX, false)?;
            let first = subject.receive(port.near, 0)?.token;
            let second = subject.receive(port.near, subject.far_off())?.token;
            subject.works(REPLY, [port.near, second << 32, 0, 0, 0])?;
            equal("how the call ended", orders::report(subject)?.status, 0)?;
            refuses_token(subject, port.near, first)
        }),
        behaviour("then-receive", |subject| {
            then_receives(subject, |subject, waiting| {
                subject.send(waiting.port.far, 2, [5, 0, 0])?;
                let values = subject.works(REPLY, waiting.then_receive())?;
                let next = Received::new(values);
                equal(
                    "the next message",
                    (next.header, next.words),
                    (2, [5, 0, 0]),
                )
            })
        }),
        behaviour("then-receive-into-the-memory-of-the-answer", |subject| {
            then_receives(subject, |subject, waiting| {
                subject.send_memory(waiting.port.far, 64, &[8; 8])?;
                let area = subject.area(1);
                area.fill(&[1; 8], 0);
                let header = 1 | IN_MEMORY | THEN_RECEIVE;
                let arguments = waiting.sender().arguments(header, [area.address(), 0, 0]);
                let next = Received::new(subject.works(REPLY, arguments)?);
                equal(
                    "the header",
                    (next.header, next.words),
                    (64 | IN_MEMORY, [0; 3]),
                )?;
                let [first, .., last, _, _, _, _, _, _, _, _] = area.words();
                equal("the memory", (first, last), (8, 8))
            })
        }),
        behaviour("then-receive-waits", |subject| {
            then_receives(subject, |subject, waiting| {
                orders::send_later(subject, waiting.port.far, 1)?;
                let next = Received::new(subject.works(REPLY, waiting.then_receive())?);
                equal("the next message", (next.header, next.words), (8, [0; 3]))
            })
        }),
        behaviour("then-receive-buffer-too-small", |subject| {
            then_receives(subject, |subject, waiting| {
                subject.send_memory(waiting.port.far, 64, &[8; 8])?;
                let then = waiting.then_receive();
                subject.ends_with(REPLY, then, Error::BufferTooSmall)?;
                subject.receive(waiting.port.near, 0).map(drop)
            })
        }),
        behaviour("then-receive-interrupted", |subject| {
            then_receives(subject, |subject, waiting| {
                rung(subject)?;
                subject.ends_with(REPLY, waiting.then_receive(), Error::Interrupted)?;
                subject.word(SLOT + 1)?.take();
                Ok(())
            })
        }),
        behaviour("then-receive-peer-gone", |subject| {
            then_receives(subject, |subject, waiting| {
                subject.close(waiting.port.far)?;
                subject.ends_with(REPLY, waiting.then_receive(), Error::PeerGone)
            })
        }),
        behaviour("then-receive-quota-exhausted", |subject| {
            then_receives(subject, |subject, waiting| {
                let memory = word(subject.memory(1)?, Rights::READ);
                subject.send(waiting.port.far, with_handles(1), [memory, 0, 0])?;
                let copies = subject.fill_the_table()?;
                let then = waiting.then_receive();
                subject.ends_with(REPLY, then, Error::QuotaExhausted)?;
                copies.into_iter().try_for_each(|copy| subject.close(copy))
            })
        }),
        behaviour("then-receive-bad-address", |subject| {
            then_receives(subject, |subject, waiting| {
                // An answer may lie where nothing can be written.
                subject.map_read_only_then(|window| {
                    let header = IN_MEMORY | THEN_RECEIVE;
                    let arguments = waiting.sender().arguments(header, [window, 0, 0]);
                    subject.ends_with(REPLY, arguments, Error::BadAddress)
                })
            })
        }),
    ],
};

/// A call that waits for its answer.
struct Waiting {
    port: Ends,
    token: u64,
}

impl Waiting {
    const fn sender(&self) -> Sender {
        Sender {
            verb: REPLY,
            port: self.port.near,
            beside: self.token << 32,
            last: None,
        }
    }

    fn place(&self) -> Place {
        Place::first(REPLY, self.sender().arguments(0, [0; 3]))
    }

    const fn then_receive(&self) -> [u64; 5] {
        self.sender().arguments(THEN_RECEIVE, [0; 3])
    }

    fn answer(&self, subject: &Subject<'_>) -> Verdict {
        let arguments = self.sender().arguments(24, [1, 2, 3]);
        subject.works(REPLY, arguments).map(drop)
    }
}

/// Lets the partner call a port of its own, in registers or in memory.
fn call_from_partner(
    subject: &Subject<'_>,
    in_memory: bool,
    action: impl FnOnce(&Waiting) -> Verdict,
) -> Verdict {
    let port = subject.port(2)?;
    orders::call_me(subject, port.far, u64::MAX, in_memory)?;
    let message = subject.receive(port.near, subject.far_off())?;
    let token = message.token;
    action(&Waiting { port, token })
}

/// While a call waits: nothing that is refused reaches it, and after that it can be answered.
fn with_a_caller(subject: &Subject<'_>, action: impl FnOnce(&Waiting) -> Verdict) -> Verdict {
    call_from_partner(subject, false, |waiting| {
        let verdict = action(waiting);
        // Some cases have answered already; if none has, the partner must not wait for ever.
        let _ = waiting.answer(subject);
        let report = orders::report(subject)?;
        verdict?;
        let expected = Report {
            status: 0,
            values: [24, 0, 1, 2, 3],
        };
        equal("what the caller got", report, expected)
    })
}

/// The answer is given, whatever comes of receiving afterwards.
fn then_receives(
    subject: &Subject<'_>,
    action: impl FnOnce(&Subject<'_>, &Waiting) -> Verdict,
) -> Verdict {
    call_from_partner(subject, false, |waiting| {
        action(subject, waiting)?;
        equal("how the call ended", orders::report(subject)?.status, 0)?;
        refuses_token(subject, waiting.port.near, waiting.token)
    })
}

fn refuses_token(subject: &Subject<'_>, port: u64, token: u64) -> Verdict {
    for then in [0, THEN_RECEIVE] {
        let arguments = [port, token << 32 | then, 0, 0, 0];
        subject.refuses(REPLY, arguments, Error::PeerGone)?;
    }
    Ok(())
}

fn errors_in_their_order(subject: &Subject<'_>) -> Verdict {
    let closed = subject.closed()?;
    let hole: Result<u64, String> = subject.window(PAGE);
    let hole = hole?;
    let bad_word = word(closed, Rights::READ);
    let in_memory = IN_MEMORY | 64;
    with_a_caller(subject, |waiting| {
        for (port, header, first, expected) in [
            (1 << 32, 1 << 12, 0, Error::BadArgument),
            (closed, in_memory, hole, Error::BadHandle),
            (waiting.port.far, in_memory, hole, Error::MissingRight),
            (waiting.port.near, in_memory, hole, Error::BadAddress),
            (
                waiting.port.near,
                with_handles(1),
                bad_word,
                Error::BadHandle,
            ),
            (waiting.port.near, 0, 0, Error::PeerGone),
        ] {
            // A token that names no call, which is told last.
            let beside = (waiting.token ^ 1 << 31) << 32;
            let sender = Sender {
                port,
                beside,
                ..waiting.sender()
            };
            sender.refuses(subject, header, [first, 0, 0], expected)?;
        }
        Ok(())
    })
}
