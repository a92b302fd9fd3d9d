//! `grant`.

use alloc::string::String;

use nuncio_abi::{Error, ObjectKind, QueryItem, Rights, Verb};

use super::full::TABLE_HANDLES;
use super::handles::{one_of_each, Place, ALL};
use super::subject::SLOT;
use super::{behaviour, ensure, equal, error, Subject, Table};

const GRANT: Verb = Verb::Grant;

pub(super) const TABLE: Table = Table {
    of: GRANT.name(),
    cases: &[
        error(Error::BadArgument, 0, "unused-registers", |subject| {
            let memory = subject.memory(1)?;
            subject.wants_zeros(GRANT, [memory, 1, 0, 0, 0], 4)?;
            subject.wants_zeros(GRANT, [1 << 32, 1, 0, 0, 0], 4)
        }),
        error(Error::BadArgument, 0, "bits-that-are-no-right", |subject| {
            let memory = subject.memory(1)?;
            for bit in 15..64 {
                for rights in [0, 1] {
                    let arguments = [memory, rights | 1 << bit, 0, 0, 0];
                    subject.refuses(GRANT, arguments, Error::BadArgument)?;
                }
            }
            subject.refuses(GRANT, [1 << 32, 1 << 15, 0, 0, 0], Error::BadArgument)
        }),
        error(Error::BadHandle, 0, "no-handle", |subject| {
            place(subject)?.wants_a_handle(subject)?;
            // Told before rights that are never copied.
            let closed = subject.closed()?;
            let arguments = [closed, Rights::RECEIVE.bits(), 0, 0, 0];
            subject.refuses(GRANT, arguments, Error::BadHandle)
        }),
        error(Error::BadHandle, 1, "no-target", |subject| {
            target(subject)?.wants_a_handle_or_none(subject)
        }),
        error(
            Error::WrongKind,
            0,
            "a-target-of-every-other-kind",
            |subject| target(subject)?.wants_kind(subject, ObjectKind::Domain),
        ),
        error(
            Error::MissingRight,
            0,
            "a-target-without-build",
            |subject| {
                let place = target(subject)?;
                place.wants_right(subject, subject.given("domain", Rights::STOP)?)?;
                let rights = Rights::STOP | Rights::GRANT;
                place.wants_right(subject, subject.grant(subject.child()?.domain, rights, 0)?)?;
                // Told before that it is gone.
                place.wants_right(subject, subject.of_the_destroyed()?)
            },
        ),
        error(Error::BadArgument, 1, "rights-that-stay", |subject| {
            let (port, bell) = (subject.port(1)?, subject.event(SLOT)?);
            let (memory, child) = (subject.memory(1)?, subject.child()?);
            for handle in [
                port.near,
                port.far,
                bell.near,
                bell.far,
                memory,
                child.domain,
            ] {
                for rights in [
                    Rights::RECEIVE,
                    Rights::WAIT,
                    Rights::REVOKE,
                    Rights::BUILD,
                    Rights::BOUND,
                    ALL,
                ] {
                    for to in [0, child.domain] {
                        let arguments = [handle, rights.bits(), 0, to, 0];
                        subject.refuses(GRANT, arguments, Error::BadArgument)?;
                    }
                }
            }
            Ok(())
        }),
        error(Error::MissingRight, 1, "without-grant", |subject| {
            for (_, handle) in one_of_each(subject)? {
                let (_, rights) = subject.query(handle, QueryItem::Kind.number())?;
                if rights & Rights::GRANT.bits() == 0 {
                    subject.refuses(GRANT, [handle, 0, 0, 0, 0], Error::MissingRight)?;
                    subject.refuses(GRANT, [handle, 0, 1, 0, 0], Error::MissingRight)?;
                }
            }
            let last = subject.grant(subject.memory(1)?, Rights::ACCESS, 0)?;
            subject.refuses(GRANT, [last, 1, 0, 0, 0], Error::MissingRight)
        }),
        error(
            Error::MissingRight,
            1,
            "nothing-of-the-manifest-can-be-copied",
            |subject| {
                for entry in subject.boot.handles() {
                    // These three are for the domains that a domain makes.
                    if ["console", "time-page", "text-page"].contains(&entry.name.as_str()) {
                        continue;
                    }
                    let handle = entry.handle().ok_or("no handle")?.raw();
                    subject.refuses(GRANT, [handle, 0, 0, 0, 0], Error::MissingRight)?;
                }
                Ok(())
            },
        ),
        error(
            Error::MissingRight,
            1,
            "more-than-the-handle-has",
            |subject| {
                let memory = subject.memory(1)?;
                let weak = subject.grant(memory, Rights::READ | Rights::GRANT, 0)?;
                for bit in 0..15 {
                    let right = Rights::from_bits(1 << bit).unwrap_or(Rights::NONE);
                    let is_held = (Rights::READ | Rights::GRANT).contains(right);
                    if !is_held && !right.intersects(Rights::BOUND) {
                        let arguments = [weak, right.bits(), 0, 0, 0];
                        subject.refuses(GRANT, arguments, Error::MissingRight)?;
                    }
                }
                Ok(())
            },
        ),
        error(
            Error::MissingRight,
            1,
            "a-badge-that-is-there-stays",
            |subject| {
                let port = subject.port(1)?;
                let marked = subject.grant(port.far, Rights::SEND | Rights::GRANT, 7)?;
                for badge in [1, 7, u64::MAX] {
                    let arguments = [marked, Rights::SEND.bits(), badge, 0, 0];
                    subject.refuses(GRANT, arguments, Error::MissingRight)?;
                }
                subject.grant(marked, Rights::SEND, 0).map(drop)
            },
        ),
        error(Error::PeerGone, 1, "a-target-that-has-ended", |subject| {
            let child = subject.child()?;
            subject.works(Verb::Stop, [child.domain, 0, 0, 0, 0])?;
            let memory = subject.memory(1)?;
            subject.refuses(GRANT, [memory, 1, 0, child.domain, 0], Error::PeerGone)?;
            // What is wrong with the handle comes first.
            let arguments = [memory, Rights::SEND.bits(), 0, child.domain, 0];
            subject.refuses(GRANT, arguments, Error::MissingRight)
        }),
        error(
            Error::QuotaExhausted,
            0,
            "one-past-the-last-handle-of-a-child",
            |subject| {
                let (child, memory) = (subject.child()?, subject.memory(1)?);
                let arguments = [memory, 1, 0, child.domain, 0];
                let mut given = 0;
                while subject.call(GRANT, arguments).is_ok() {
                    given += 1;
                    ensure(given <= TABLE_HANDLES, || "it is never full".into())?;
                }
                subject.refuses(GRANT, arguments, Error::QuotaExhausted)?;
                // Either the table is full, or the child cannot pay for a larger one.
                ensure(given > 0, || "the child can have none".into())?;
                // The caller's own table has room.
                subject.grant(memory, Rights::READ, 0).map(drop)
            },
        ),
        error(
            Error::QuotaExhausted,
            0,
            "one-past-the-last-handle",
            |subject| {
                let copies = subject.fill_the_table()?;
                let source = *copies.last().ok_or("no copies")?;
                let expected = TABLE_HANDLES - subject.own_handles();
                equal("handles that can be had", copies.len() as u64, expected)?;
                let arguments = [source, 1, 0, 0, 0];
                subject.refuses(GRANT, arguments, Error::QuotaExhausted)?;
                // What is wrong with the call itself comes first.
                subject.refuses(GRANT, [source, 8, 0, 0, 0], Error::MissingRight)?;
                let first = *copies.first().ok_or("no copies")?;
                subject.close(first)?;
                let copy = subject.grant(source, Rights::READ, 0)?;
                ensure(copy != first, || "a handle came back".into())?;
                subject.refuses(GRANT, arguments, Error::QuotaExhausted)
            },
        ),
        behaviour("copies-have-the-rights-asked-for", |subject| {
            let memory = subject.memory(1)?;
            for rights in 0..8 {
                for grant in [0, Rights::GRANT.bits()] {
                    let rights = Rights::from_bits(rights | grant).unwrap_or(Rights::NONE);
                    let copy = subject.grant(memory, rights, 0)?;
                    let expected = (ObjectKind::Memory.number(), rights.bits());
                    let found = subject.query(copy, QueryItem::Kind.number())?;
                    equal("the copy", found, expected)?;
                    subject.close(copy)?;
                }
            }
            Ok(())
        }),
        behaviour("every-kind-that-is-made-can-be-copied", |subject| {
            for (kind, handle) in one_of_each(subject)? {
                let (_, rights) = subject.query(handle, QueryItem::Kind.number())?;
                let rights = rights & !Rights::BOUND.bits();
                if rights & Rights::GRANT.bits() != 0 {
                    let rights = Rights::from_bits(rights).unwrap_or(Rights::NONE);
                    // What comes from the manifest has a badge already.
                    let badge = if subject.boot_gave(handle) { 0 } else { 5 };
                    let copy = subject.grant(handle, rights, badge)?;
                    let found = subject.query(copy, QueryItem::Kind.number())?;
                    equal("the copy", found, (kind.number(), rights.bits()))?;
                }
            }
            Ok(())
        }),
    ],
};

/// R10 names a child.
fn target(subject: &Subject<'_>) -> Result<Place, String> {
    let (memory, child) = (subject.memory(1)?, subject.child()?);
    Ok(Place::at(3, GRANT, [memory, 1, 0, child.domain, 0]))
}

fn place(subject: &Subject<'_>) -> Result<Place, String> {
    Ok(Place::first(GRANT, [subject.memory(1)?, 1, 0, 0, 0]))
}
