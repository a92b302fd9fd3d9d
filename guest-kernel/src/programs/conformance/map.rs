//! `map`.

use alloc::format;
use alloc::string::String;

use nuncio_abi::{Error, ObjectKind, QueryItem, Rights, Verb};

use super::full::SPACE_MAPPINGS;
use super::handles::Place;
use super::subject::{Arguments, PAGE};
use super::{behaviour, ensure, equal, error, Subject, Table, Verdict};

const MAP: Verb = Verb::Map;
const READ: u64 = 1;
const WRITE: u64 = 2;

pub(super) const TABLE: Table = Table {
    of: MAP.name(),
    cases: &[
        error(Error::BadArgument, 0, "access-of-no-kind", |subject| {
            let good = good(subject)?;
            for access in [0, WRITE, 4, WRITE | 4] {
                refuses_last(subject, good, PAGE | access, Error::BadArgument)?;
            }
            for bit in 3..12 {
                refuses_last(subject, good, PAGE | READ | 1 << bit, Error::BadArgument)?;
            }
            // Before any handle is looked at.
            let bad = [1 << 32, u64::MAX, 1, 1, 0];
            subject.refuses(MAP, bad, Error::BadArgument)
        }),
        error(Error::BadHandle, 0, "no-space", |subject| {
            Place::first(MAP, good(subject)?).wants_a_handle(subject)
        }),
        error(Error::BadHandle, 0, "no-memory", |subject| {
            second(subject)?.wants_a_handle(subject)
        }),
        error(Error::WrongKind, 0, "every-kind-but-a-space", |subject| {
            Place::first(MAP, good(subject)?).wants_kind(subject, ObjectKind::Space)
        }),
        error(Error::WrongKind, 0, "every-kind-but-a-memory", |subject| {
            second(subject)?.wants_kind(subject, ObjectKind::Memory)
        }),
        error(Error::MissingRight, 0, "rights-of-the-memory", |subject| {
            let mut good = good(subject)?;
            let [_, memory, ..] = good;
            for held in 0..8 {
                let rights = Rights::from_bits(held).unwrap_or(Rights::NONE);
                good[1] = subject.grant(memory, rights, 0)?;
                for asked in (1..8).step_by(2) {
                    if asked & !held != 0 {
                        refuses_last(subject, good, PAGE | asked, Error::MissingRight)?;
                    } else {
                        good[4] = PAGE | asked;
                        subject.works(MAP, good)?;
                        subject.unmap(good[2], PAGE)?;
                    }
                }
            }
            Ok(())
        }),
        error(Error::BadAddress, 0, "ranges-of-nothing", ranges_of_nothing),
        error(
            Error::QuotaExhausted,
            0,
            "one-past-the-last-mapping",
            |subject| {
                let memory = subject.memory(1)?;
                let window = subject.window(SPACE_MAPPINGS * PAGE)?;
                let before = mapped_bytes(subject)?;
                let mappings = map_until_full(subject, memory, window)?;
                ensure((900..SPACE_MAPPINGS).contains(&mappings), || {
                    format!("there was room for {mappings}")
                })?;
                equal(
                    "bytes mapped",
                    mapped_bytes(subject)?,
                    before + mappings * PAGE,
                )?;
                let next = window + mappings * PAGE;
                let full = [subject.space()?, memory, next, 0, PAGE | READ];
                for _ in 0..3 {
                    subject.refuses(MAP, full, Error::QuotaExhausted)?;
                }
                // It is said before what the range overlaps.
                let taken = [subject.space()?, memory, window, 0, PAGE | READ];
                subject.refuses(MAP, taken, Error::QuotaExhausted)?;
                subject.unmap(window, PAGE)?;
                subject.works(MAP, full)?;
                subject.unmap(window + PAGE, mappings * PAGE)?;
                equal("bytes mapped at the end", mapped_bytes(subject)?, before)
            },
        ),
        error(Error::AlreadyMapped, 0, "any-overlap", |subject| {
            let memory = subject.memory(3)?;
            let window = subject.window(8 * PAGE)?;
            subject.map(memory, window + 2 * PAGE, 0, PAGE, Rights::READ)?;
            subject.map(memory, window + 4 * PAGE, 0, PAGE, Rights::READ)?;
            for (page, pages) in [(2, 1), (1, 2), (1, 3), (2, 2), (3, 2), (4, 1), (4, 2)] {
                let arguments = [subject.space()?, memory, window + page * PAGE, 0];
                let [space, memory, address, offset] = arguments;
                let overlap = [space, memory, address, offset, (pages * PAGE) | READ];
                subject.refuses(MAP, overlap, Error::AlreadyMapped)?;
            }
            // What lies between and beside is free.
            for page in [1, 3, 5] {
                subject.map(memory, window + page * PAGE, PAGE, PAGE, Rights::READ)?;
            }
            subject.unmap(window + PAGE, 5 * PAGE)
        }),
        error(
            Error::AlreadyMapped,
            0,
            "what-is-mapped-at-the-start",
            |subject| {
                let memory = subject.memory(1)?;
                let boot = subject.boot;
                for address in [
                    0,
                    boot.ram_bytes - PAGE,
                    core::ptr::from_ref(boot).addr() as u64,
                    boot.vcpu_page,
                    boot.time_page,
                    boot.text_page,
                ] {
                    let taken = [subject.space()?, memory, address, 0, PAGE | READ];
                    subject.refuses(MAP, taken, Error::AlreadyMapped)?;
                }
                Ok(())
            },
        ),
        error(
            Error::PeerGone,
            0,
            "memory-that-was-taken-back",
            |subject| {
                let memory = subject.memory(2)?;
                let copy = subject.grant(memory, Rights::ACCESS | Rights::GRANT, 0)?;
                let (window, other) = (subject.window(2 * PAGE)?, subject.memory(1)?);
                subject.map(copy, window, 0, 2 * PAGE, Rights::READ)?;
                subject.close(memory)?;
                let again = [subject.space()?, copy, window, 0, PAGE | READ];
                subject.refuses(MAP, again, Error::PeerGone)?;
                let next = subject.grant(copy, Rights::READ, 0)?;
                let of_a_copy = [subject.space()?, next, window, 0, PAGE | READ];
                subject.refuses(MAP, of_a_copy, Error::PeerGone)?;
                // What the range overlaps is told first, and nothing is left in the space.
                subject.map(other, window, 0, PAGE, Rights::READ)?;
                subject.refuses(MAP, again, Error::AlreadyMapped)?;
                subject.unmap(window, PAGE)
            },
        ),
        error(Error::MissingRight, 0, "a-space-without-map", |subject| {
            let place = Place::first(MAP, good(subject)?);
            let space = subject.grant(subject.child()?.space, Rights::GRANT, 0)?;
            place.wants_right(subject, space)
        }),
        error(
            Error::QuotaExhausted,
            1,
            "no-frames-for-page-tables",
            no_frames_for_page_tables,
        ),
        behaviour("errors-in-their-order", |subject| {
            let memory = subject.memory(1)?;
            let (space, port) = (subject.space()?, subject.port(1)?);
            let weak = subject.grant(memory, Rights::WRITE, 0)?;
            let last = PAGE | READ;
            for (arguments, expected) in [
                ([port.far, 1 << 32, 1, 1, last], Error::BadHandle),
                ([0, memory, 1, 1, last], Error::BadHandle),
                ([port.far, 0, 1, 1, last], Error::WrongKind),
                ([space, 0, 1, 1, last], Error::BadHandle),
                ([space, port.far, 1, 1, last], Error::WrongKind),
                ([space, weak, 1, 1, last], Error::MissingRight),
                ([space, memory, 1, 0, last], Error::BadAddress),
                ([space, memory, 0, PAGE, last], Error::BadAddress),
                ([space, memory, 0, 0, last], Error::AlreadyMapped),
            ] {
                subject.refuses(MAP, arguments, expected)?;
            }
            Ok(())
        }),
        behaviour("sixteen-mebibytes", |subject| {
            const MOST: u64 = 16 << 20;
            let big = subject.given("big", Rights::WRITE)?;
            let port = subject.port(1)?;
            let window = subject.window(MOST + PAGE)?;
            for offset in [0, PAGE] {
                subject.map(big, window, offset, MOST, Rights::READ | Rights::WRITE)?;
                for place in [0, MOST / 2, MOST - 128] {
                    subject.poke(port, window + place, &[place + offset; 8])?;
                    equal(
                        "what was read",
                        subject.peek(port, window + place)?,
                        [place + offset; 8],
                    )?;
                }
                subject.unmap(window, MOST)?;
            }
            Ok(())
        }),
        behaviour("the-last-page-below-the-limit", |subject| {
            let memory = subject.memory(1)?;
            let last = subject.boot.address_limit - PAGE;
            let port = subject.port(1)?;
            subject.map(memory, last, 0, PAGE, Rights::READ | Rights::WRITE)?;
            subject.poke(port, last + PAGE - 128, &[4; 8])?;
            equal(
                "what was read",
                subject.peek(port, last + PAGE - 128)?,
                [4; 8],
            )?;
            subject.unmap(last, PAGE)
        }),
        behaviour("parts-at-several-places-are-the-same-memory", |subject| {
            let (memory, port) = (subject.memory(4)?, subject.port(1)?);
            let (first, second) = (subject.window(4 * PAGE)?, subject.window(2 * PAGE)?);
            let access = Rights::READ | Rights::WRITE;
            subject.map(memory, first, 0, 4 * PAGE, access)?;
            subject.map(memory, second, 2 * PAGE, 2 * PAGE, access)?;
            for page in 0..4 {
                equal(
                    "new memory",
                    subject.peek(port, first + page * PAGE)?,
                    [0; 8],
                )?;
                subject.poke(port, first + page * PAGE, &[page + 1; 8])?;
            }
            for page in 0..2 {
                equal(
                    "the other place",
                    subject.peek(port, second + page * PAGE)?,
                    [page + 3; 8],
                )?;
            }
            subject.poke(port, second, &[77; 8])?;
            equal(
                "the first place",
                subject.peek(port, first + 2 * PAGE)?,
                [77; 8],
            )?;
            subject.unmap(first, 4 * PAGE)?;
            equal("after unmap", subject.peek(port, second)?, [77; 8])?;
            subject.unmap(second, 2 * PAGE)
        }),
        behaviour("closing-a-copy-takes-nothing-out", |subject| {
            let (original, port) = (subject.memory(1)?, subject.port(1)?);
            let memory = subject.grant(original, Rights::ACCESS, 0)?;
            let window = subject.window(PAGE)?;
            subject.map(memory, window, 0, PAGE, Rights::READ | Rights::WRITE)?;
            subject.poke(port, window, &[5; 8])?;
            subject.close(memory)?;
            equal("what was read", subject.peek(port, window)?, [5; 8])?;
            let free = subject.free_frames()?;
            subject.unmap(window, PAGE)?;
            subject.close(original)?;
            ensure(subject.free_frames()? > free, || {
                "the frame is not free".into()
            })
        }),
        behaviour("a-mapping-for-reading-is-not-written-to", |subject| {
            subject.map_read_only_then(|window| {
                let port = subject.port(1)?;
                subject.send_memory(port.far, 64, &[1; 8])?;
                let arguments = [port.near, 0, window, 0, 0];
                subject.refuses(Verb::Receive, arguments, Error::BadAddress)?;
                subject.receive(port.near, 0)?;
                equal("what was read", subject.peek(port, window)?, [0; 8])
            })
        }),
    ],
};

fn good(subject: &Subject<'_>) -> Result<Arguments, String> {
    let (memory, window) = (subject.memory(1)?, subject.window(PAGE)?);
    Ok([subject.space()?, memory, window, 0, PAGE | READ])
}

fn second(subject: &Subject<'_>) -> Result<Place, String> {
    let mut place = Place::first(MAP, good(subject)?);
    place.register = 1;
    Ok(place)
}

fn refuses_last(
    subject: &Subject<'_>,
    mut arguments: Arguments,
    last: u64,
    expected: Error,
) -> Verdict {
    arguments[4] = last;
    subject.refuses(MAP, arguments, expected)
}

fn ranges_of_nothing(subject: &Subject<'_>) -> Verdict {
    let (memory, big) = (subject.memory(2)?, subject.given("big", Rights::READ)?);
    let (space, window) = (subject.space()?, subject.window(32 << 20)?);
    let limit = subject.boot.address_limit;
    let mebibytes = 1 << 20;
    for (memory, address, offset, length) in [
        (memory, window, 0, 0),
        (memory, window + 1, 0, PAGE),
        (memory, window + 8, 0, PAGE),
        (memory, window + PAGE / 2, 0, PAGE),
        (memory, window, 1, PAGE),
        (memory, window, PAGE / 2, PAGE),
        (memory, window, 2 * PAGE, PAGE),
        (memory, window, PAGE, 2 * PAGE),
        (memory, window, 0, 3 * PAGE),
        (memory, window, u64::MAX - PAGE + 1, PAGE),
        (memory, window, 1 << 63, PAGE),
        (memory, limit, 0, PAGE),
        (memory, limit - PAGE, 0, 2 * PAGE),
        (memory, 1 << 63, 0, PAGE),
        (memory, u64::MAX - PAGE + 1, 0, PAGE),
        (memory, u64::MAX - PAGE + 1, 0, 2 * PAGE),
        (big, window, 0, 16 * mebibytes + PAGE),
        (big, window, PAGE, 16 * mebibytes + PAGE),
        (big, window, 0, 1 << 40),
        (big, window, 0, u64::MAX - PAGE + 1),
    ] {
        let arguments = [space, memory, address, offset, length | READ];
        subject.refuses(MAP, arguments, Error::BadAddress)?;
    }
    Ok(())
}

/// Maps a page again and again, one place behind the other; says how often that worked.
pub(super) fn map_until_full(
    subject: &Subject<'_>,
    memory: u64,
    window: u64,
) -> Result<u64, String> {
    let space = subject.space()?;
    for count in 0..=SPACE_MAPPINGS {
        let arguments = [space, memory, window + count * PAGE, 0, PAGE | READ];
        match subject.call(MAP, arguments) {
            Ok(_) => {}
            Err(Error::QuotaExhausted) => return Ok(count),
            Err(error) => return Err(format!("mapping gives {error}")),
        }
    }
    Err("there is no limit".into())
}

pub(super) fn mapped_bytes(subject: &Subject<'_>) -> Result<u64, String> {
    Ok(subject
        .query(subject.space()?, QueryItem::Usage.number())?
        .0)
}

/// Pages so far apart that no two share all page tables: without frames there is an end to them.
fn no_frames_for_page_tables(subject: &Subject<'_>) -> Verdict {
    const APART: u64 = 1 << 30;
    let (space, memory) = (subject.space()?, subject.memory(1)?);
    let frames = subject.take_all_frames()?;
    let place = |count: u64| subject.boot.address_limit - PAGE - count * APART;
    let arguments = |count| [space, memory, place(count), 0, PAGE | READ];
    // Page tables that were paid before may do for some.
    let mut mapped = 0;
    while mapped < 512 && subject.call(MAP, arguments(mapped)).is_ok() {
        mapped += 1;
    }
    for _ in 0..3 {
        subject.refuses(MAP, arguments(mapped), Error::QuotaExhausted)?;
    }
    for memory in frames {
        subject.close(memory)?;
    }
    subject.works(MAP, arguments(mapped))?;
    (0..=mapped).try_for_each(|count| subject.unmap(place(count), PAGE))
}
