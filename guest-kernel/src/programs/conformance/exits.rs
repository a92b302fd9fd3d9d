//! Exits that come as messages, and answers to them.

use alloc::string::String;

use nuncio_abi::{Error, ExitKind, StopReason, Verb};

use super::child::{COMPUTES, WRITES_TO_A_PORT};
use super::run::no_answers;
use super::subject::Ends;
use super::{behaviour, equal, Subject, Table, Verdict};

pub(super) const TABLE: Table = Table {
    of: "exits",
    cases: &[
        behaviour("answers-that-are-none-leave-it-waiting", |subject| {
            let (port, token) = recalled(subject)?;
            let words = no_answers().map(|word| (24, word));
            // There is no instruction to complete; and other lengths than whole words.
            let others = [(24, 1), (0, 0), (7, 0), (9, 0), (23, 0)];
            for (length, word) in words.chain(others) {
                let arguments = [port.near, length | token << 32, word, 0, 0];
                subject.refuses(Verb::Reply, arguments, Error::BadArgument)?;
            }
            answer(subject, port, token, 24)
        }),
        behaviour("an-answer-may-lack-words", |subject| {
            for length in [8, 16, 24] {
                let (port, token) = recalled(subject)?;
                answer(subject, port, token, length)?;
                let again = [port.near, length | token << 32, 0, 0, 0];
                subject.refuses(Verb::Reply, again, Error::PeerGone)?;
            }
            Ok(())
        }),
        behaviour("nobody-is-left-to-answer", |subject| {
            let port = subject.port(1)?;
            let writing = subject.monitored(port.far, &WRITES_TO_A_PORT)?;
            subject.close(port.near)?;
            subject.awaits_end(writing.child.domain, StopReason::PortIo, 0x80)
        }),
    ],
};

/// A vcpu that has been stopped, and the token of its exit.
fn recalled(subject: &Subject<'_>) -> Result<(Ends, u64), String> {
    let port = subject.port(1)?;
    let computing = subject.monitored(port.far, &COMPUTES)?;
    subject.works(Verb::Stop, [computing.vcpu, 0, 0, 0, 0])?;
    let [header, badge, first, ..] = subject.works(Verb::Receive, [port.near, 0, 0, 0, 0])?;
    equal("the length", header & 0xFFF, 24)?;
    equal("the badge", badge, 0)?;
    equal("the exit", first, ExitKind::Recalled.number())?;
    Ok((port, header >> 32))
}

fn answer(subject: &Subject<'_>, port: Ends, token: u64, length: u64) -> Verdict {
    let arguments = [port.near, length | token << 32, 0, 0, 0];
    subject.works(Verb::Reply, arguments).map(drop)
}
