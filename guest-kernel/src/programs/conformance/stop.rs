//! `stop`. It runs last, and what it is for is how this domain ends.

use alloc::string::String;

use nuncio_abi::{Error, ObjectKind, Rights, StopReason, Verb};

use super::handles::Place;
use super::{behaviour, error, orders, Subject, Table};

const STOP: Verb = Verb::Stop;

pub(super) const TABLE: Table = Table {
    of: STOP.name(),
    cases: &[
        error(Error::BadArgument, 0, "unused-registers", |subject| {
            let domain = subject.given("domain", Rights::STOP)?;
            subject.wants_zeros(STOP, [domain, 0, 0, 0, 0], 2)?;
            subject.wants_zeros(STOP, [1 << 32, 0, 0, 0, 0], 2)
        }),
        error(Error::BadHandle, 0, "no-handle", |subject| {
            place(subject)?.wants_a_handle(subject)
        }),
        error(Error::WrongKind, 0, "every-other-kind", |subject| {
            place(subject)?.wants_kind(subject, ObjectKind::Domain)
        }),
        error(Error::MissingRight, 0, "without-stop", |subject| {
            let (place, child) = (place(subject)?, subject.child()?);
            for rights in [Rights::NONE, Rights::GRANT] {
                place.wants_right(subject, subject.grant(child.domain, rights, 0)?)?;
            }
            subject.ended(child.domain, StopReason::Running, 0)
        }),
        error(Error::PeerGone, 0, "a-domain-destroyed", |subject| {
            let gone = subject.of_the_destroyed()?;
            subject.refuses(STOP, [gone, 0, 0, 0, 0], Error::PeerGone)?;
            let weak = subject.grant(gone, Rights::GRANT, 0)?;
            subject.refuses(STOP, [weak, 0, 0, 0, 0], Error::MissingRight)
        }),
        behaviour("of-a-child-that-never-ran", |subject| {
            let child = subject.child()?;
            subject.works(STOP, [child.domain, u64::MAX, 0, 0, 0])?;
            subject.ended(child.domain, StopReason::Exited, u64::MAX)
        }),
        behaviour("what-a-domain-held-is-closed", |subject| {
            orders::of_the_dead(subject)?;
            subject.saw_death()
        }),
    ],
};

fn place(subject: &Subject<'_>) -> Result<Place, String> {
    let domain = subject.given("domain", Rights::STOP)?;
    Ok(Place::first(STOP, [domain, 1, 0, 0, 0]))
}
