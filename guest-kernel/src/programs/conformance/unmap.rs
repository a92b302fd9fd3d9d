//! `unmap`.

use alloc::string::String;

use nuncio_abi::{Error, ObjectKind, Rights, Verb};

use super::full::SPACE_MAPPINGS;
use super::handles::Place;
use super::map::{map_until_full, mapped_bytes};
use super::subject::PAGE;
use super::{behaviour, equal, error, Subject, Table};

const UNMAP: Verb = Verb::Unmap;

pub(super) const TABLE: Table = Table {
    of: UNMAP.name(),
    cases: &[
        error(Error::BadArgument, 0, "unused-registers", |subject| {
            let (space, window) = (subject.space()?, mapped(subject, 1)?);
            subject.wants_zeros(UNMAP, [space, window, PAGE, 0, 0], 3)?;
            subject.unmap(window, PAGE)
        }),
        error(Error::BadHandle, 0, "no-handle", |subject| {
            let window = mapped(subject, 1)?;
            place(subject, window)?.wants_a_handle(subject)?;
            subject.unmap(window, PAGE)
        }),
        error(Error::WrongKind, 0, "every-other-kind", |subject| {
            let window = mapped(subject, 1)?;
            place(subject, window)?.wants_kind(subject, ObjectKind::Space)?;
            subject.unmap(window, PAGE)
        }),
        error(Error::MissingRight, 0, "without-map", |subject| {
            let child = subject.child()?;
            let memory = subject.memory(1)?;
            let mapped = [child.space, memory, 0, 0, PAGE | 1];
            subject.works(Verb::Map, mapped)?;
            let place = Place::first(UNMAP, [child.space, 0, PAGE, 0, 0]);
            for rights in [Rights::NONE, Rights::GRANT] {
                place.wants_right(subject, subject.grant(child.space, rights, 0)?)?;
            }
            subject.works(UNMAP, [child.space, 0, PAGE, 0, 0]).map(drop)
        }),
        error(Error::BadAddress, 0, "ranges-of-nothing", |subject| {
            let (space, window) = (subject.space()?, mapped(subject, 2)?);
            let limit = subject.boot.address_limit;
            for (address, length) in [
                (window, 0),
                (window, 1),
                (window, PAGE - 1),
                (window, PAGE + 1),
                (window + 1, PAGE),
                (window + PAGE / 2, PAGE),
                (window, (16 << 20) + PAGE),
                (window, 1 << 63),
                (window, u64::MAX),
                (limit, PAGE),
                (limit - PAGE, 2 * PAGE),
                (u64::MAX - PAGE + 1, PAGE),
                (u64::MAX - PAGE + 1, 2 * PAGE),
            ] {
                let arguments = [space, address, length, 0, 0];
                subject.refuses(UNMAP, arguments, Error::BadAddress)?;
            }
            subject.unmap(window, 2 * PAGE)
        }),
        error(Error::NotMapped, 0, "any-hole", |subject| {
            let (space, memory) = (subject.space()?, subject.memory(1)?);
            let window = subject.window(16 << 20)?;
            subject.map(memory, window + PAGE, 0, PAGE, Rights::READ)?;
            subject.map(memory, window + 3 * PAGE, 0, PAGE, Rights::READ)?;
            let most = (16 << 20) / PAGE;
            for (page, pages) in [
                (0, 1),
                (0, 2),
                (1, 2),
                (1, 3),
                (2, 1),
                (2, 2),
                (3, 2),
                (0, most),
                (1, most - 1),
            ] {
                let arguments = [space, window + page * PAGE, pages * PAGE, 0, 0];
                subject.refuses(UNMAP, arguments, Error::NotMapped)?;
            }
            let last = [space, subject.boot.address_limit - PAGE, PAGE, 0, 0];
            subject.refuses(UNMAP, last, Error::NotMapped)?;
            subject.unmap(window + PAGE, PAGE)?;
            subject.unmap(window + 3 * PAGE, PAGE)?;
            let again = [space, window + PAGE, PAGE, 0, 0];
            subject.refuses(UNMAP, again, Error::NotMapped)
        }),
        error(
            Error::QuotaExhausted,
            0,
            "a-cut-without-room-for-one-more",
            |subject| {
                let memory = subject.memory(3)?;
                let cut = subject.window(4 * PAGE)?;
                let window = subject.window(SPACE_MAPPINGS * PAGE)?;
                subject.map(memory, cut, 0, 3 * PAGE, Rights::READ)?;
                let mappings = map_until_full(subject, memory, window)?;
                let middle = [subject.space()?, cut + PAGE, PAGE, 0, 0];
                for _ in 0..3 {
                    subject.refuses(UNMAP, middle, Error::QuotaExhausted)?;
                }
                // The ends can go, and with one mapping less the middle could, too.
                subject.unmap(window, PAGE)?;
                subject.works(UNMAP, middle)?;
                subject.unmap(cut, PAGE)?;
                subject.unmap(cut + 2 * PAGE, PAGE)?;
                subject.unmap(window + PAGE, (mappings - 1) * PAGE)
            },
        ),
        behaviour("errors-in-their-order", |subject| {
            let (space, port) = (subject.space()?, subject.port(1)?);
            for (arguments, expected) in [
                ([1 << 32, 1, 0, 1, 0], Error::BadArgument),
                ([0, 1, 0, 0, 0], Error::BadHandle),
                ([port.far, 1, 0, 0, 0], Error::WrongKind),
                (
                    [space, subject.window(PAGE)? + 1, 0, 0, 0],
                    Error::BadAddress,
                ),
            ] {
                subject.refuses(UNMAP, arguments, expected)?;
            }
            Ok(())
        }),
        behaviour("parts-and-several-mappings-at-once", |subject| {
            let (memory, port) = (subject.memory(4)?, subject.port(1)?);
            let window = subject.window(8 * PAGE)?;
            let access = Rights::READ | Rights::WRITE;
            let before = mapped_bytes(subject)?;
            subject.map(memory, window, 0, 4 * PAGE, access)?;
            for page in 0..4 {
                subject.poke(port, window + page * PAGE, &[page; 8])?;
            }
            subject.map(memory, window + 4 * PAGE, 0, 4 * PAGE, access)?;
            // From the middle of the first into the second.
            subject.unmap(window + 2 * PAGE, 3 * PAGE)?;
            equal("bytes mapped", mapped_bytes(subject)?, before + 5 * PAGE)?;
            for (page, content) in [(0, 0), (1, 1), (5, 1), (6, 2), (7, 3)] {
                let found = subject.peek(port, window + page * PAGE)?;
                equal("what is left", found, [content; 8])?;
            }
            for page in 2..5 {
                let gone = [port.far, 64 | 1 << 7, window + page * PAGE, 0, 0];
                subject.refuses(Verb::Send, gone, Error::BadAddress)?;
            }
            subject.unmap(window, 2 * PAGE)?;
            subject.unmap(window + 5 * PAGE, 3 * PAGE)?;
            equal("bytes mapped at the end", mapped_bytes(subject)?, before)
        }),
        behaviour("what-is-mapped-next-is-seen-at-once", |subject| {
            let (first, second) = (subject.memory(1)?, subject.memory(1)?);
            let (window, port) = (subject.window(PAGE)?, subject.port(1)?);
            for (memory, content) in [(first, 1), (second, 2)] {
                subject.map(memory, window, 0, PAGE, Rights::READ | Rights::WRITE)?;
                subject.poke(port, window, &[content; 8])?;
                subject.unmap(window, PAGE)?;
            }
            for (memory, content) in [(first, 1), (second, 2), (first, 1)] {
                subject.map(memory, window, 0, PAGE, Rights::READ)?;
                equal("what was read", subject.peek(port, window)?, [content; 8])?;
                subject.unmap(window, PAGE)?;
            }
            Ok(())
        }),
    ],
};

fn mapped(subject: &Subject<'_>, pages: u64) -> Result<u64, String> {
    let (memory, window) = (subject.memory(pages)?, subject.window(pages * PAGE)?);
    subject.map(memory, window, 0, pages * PAGE, Rights::READ)?;
    Ok(window)
}

fn place(subject: &Subject<'_>, window: u64) -> Result<Place, String> {
    Ok(Place::first(UNMAP, [subject.space()?, window, PAGE, 0, 0]))
}
