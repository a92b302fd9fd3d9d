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
            subject.wants_zeros(GRANT, [memory, 1, 0, 0, 0], 3)?;
            subject.wants_zeros(GRANT, [1 << 32, 1, 0, 0, 0], 3)
        }),
        error(Error::BadArgument, 0, "bits-that-are-no-right", |subject| {
            let memory = subject.memory(1)?;
            for bit in 11..64 {
                for rights in [0, 1] {
                    let arguments = [memory, rights | 1 << bit, 0, 0, 0];
                    subject.refuses(GRANT, arguments, Error::BadArgument)?;
                }
            }
            subject.refuses(GRANT, [1 << 32, 1 << 11, 0, 0, 0], Error::BadArgument)
        }),
        error(Error::BadHandle, 0, "no-handle", |subject| {
            place(subject)?.wants_a_handle(subject)?;
            // Told before rights that are never copied.
            let closed = subject.closed()?;
            let arguments = [closed, Rights::RECEIVE.bits(), 0, 0, 0];
            subject.refuses(GRANT, arguments, Error::BadHandle)
        }),
        error(Error::BadArgument, 1, "rights-that-stay", |subject| {
            let (port, bell) = (subject.port(1)?, subject.event(SLOT)?);
            for handle in [port.near, port.far, bell.near, bell.far] {
                for rights in [Rights::RECEIVE, Rights::WAIT, Rights::BOUND, ALL] {
                    let arguments = [handle, rights.bits(), 0, 0, 0];
                    subject.refuses(GRANT, arguments, Error::BadArgument)?;
                }
            }
            Ok(())
        }),
        error(Error::MissingRight, 0, "without-grant", |subject| {
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
            0,
            "nothing-of-the-manifest-can-be-copied",
            |subject| {
                for entry in subject.boot.handles() {
                    let handle = entry.handle().ok_or("no handle")?.raw();
                    subject.refuses(GRANT, [handle, 0, 0, 0, 0], Error::MissingRight)?;
                }
                Ok(())
            },
        ),
        error(
            Error::MissingRight,
            0,
            "more-than-the-handle-has",
            |subject| {
                let memory = subject.memory(1)?;
                let weak = subject.grant(memory, Rights::READ | Rights::GRANT, 0)?;
                for bit in 0..11 {
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
            0,
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
                if rights & Rights::GRANT.bits() != 0 {
                    let rights = Rights::from_bits(rights).unwrap_or(Rights::NONE);
                    let copy = subject.grant(handle, rights, 5)?;
                    let found = subject.query(copy, QueryItem::Kind.number())?;
                    equal("the copy", found, (kind.number(), rights.bits()))?;
                }
            }
            Ok(())
        }),
    ],
};

fn place(subject: &Subject<'_>) -> Result<Place, String> {
    Ok(Place::first(GRANT, [subject.memory(1)?, 1, 0, 0, 0]))
}
