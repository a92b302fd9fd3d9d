//! `create`.

use alloc::string::String;
use alloc::vec::Vec;

use nuncio_abi::{Error, ObjectKind, QueryItem, Rights, Verb, MAX_VCPUS};

use super::child::{of_size, FRAMES, KERNEL_BYTES};
use super::handles::Place;
use super::subject::{Arguments, PAGE, SLOT};
use super::throttling::{throttled, LONGEST_NS};
use super::{behaviour, ensure, equal, error, Subject, Table, Verdict};

const CREATE: Verb = Verb::Create;
const DOMAIN: u64 = ObjectKind::Domain.number();
const VCPU: u64 = ObjectKind::Vcpu.number();
const SPACE: u64 = ObjectKind::Space.number();
const MEMORY: u64 = ObjectKind::Memory.number();
const PORT: u64 = ObjectKind::Port.number();
const EVENT: u64 = ObjectKind::Event.number();
const TIMER: u64 = ObjectKind::Timer.number();

pub(super) const TABLE: Table = Table {
    of: CREATE.name(),
    cases: &[
        error(
            Error::BadArgument,
            0,
            "kinds-that-cannot-be-made",
            |subject| {
                for kind in [0, 8, 255, 1 << 32, MEMORY | 1 << 63, u64::MAX] {
                    for arguments in [[0; 4], [PAGE, 0, 0, 0], [1, 1, 0, 0]] {
                        let [first, second, third, fourth] = arguments;
                        let arguments = [kind, first, second, third, fourth];
                        subject.refuses(CREATE, arguments, Error::BadArgument)?;
                    }
                }
                Ok(())
            },
        ),
        error(Error::BadArgument, 0, "unused-registers", |subject| {
            let bell = subject.event(SLOT)?;
            subject.wants_zeros(CREATE, [MEMORY, PAGE, 0, 0, 0], 2)?;
            subject.wants_zeros(CREATE, [PORT, 1, 0, 0, 0], 3)?;
            subject.wants_zeros(CREATE, [EVENT, 0, 0, 0, 0], 3)?;
            subject.wants_zeros(CREATE, [TIMER, bell.far, 1, 0, 0], 3)?;
            subject.wants_zeros(CREATE, [TIMER, 0, 1, 0, 0], 3)?;
            subject.wants_zeros(CREATE, [SPACE, 0, 0, 0, 0], 1)
        }),
        error(
            Error::BadArgument,
            0,
            "a-port-for-exits-without-a-state-page",
            |subject| {
                let (child, memory) = (subject.child()?, subject.memory(1)?);
                let port = subject.port(1)?;
                for port in [port.far, port.near, 1 << 32] {
                    refuses(subject, [VCPU, child.domain, memory, port, 0])?;
                }
                Ok(())
            },
        ),
        error(Error::BadArgument, 0, "lengths-of-no-memory", |subject| {
            let most = 16 << 20;
            for length in [0, 1, PAGE - 1, PAGE + 1, most + 1, most + PAGE, 1 << 63] {
                refuses(subject, [MEMORY, length, 0, 0, 0])?;
            }
            refuses(subject, [MEMORY, u64::MAX - PAGE + 1, 0, 0, 0])
        }),
        error(Error::BadArgument, 0, "capacities-of-no-port", |subject| {
            for capacity in [0, 257, 1 << 16 | 1, 1 << 32 | 1, u64::MAX] {
                refuses(subject, [PORT, capacity, 0, 0, 0])?;
            }
            Ok(())
        }),
        error(
            Error::BadArgument,
            0,
            "slots-that-are-not-there",
            |subject| {
                for slot in [64, 255, 256, 1 << 32, u64::MAX] {
                    refuses(subject, [PORT, 1, slot, 0, 0])?;
                    refuses(subject, [EVENT, slot, 0, 0, 0])?;
                }
                Ok(())
            },
        ),
        error(
            Error::BadArgument,
            0,
            "intervals-of-more-than-an-hour",
            |subject| {
                for interval in [LONGEST_NS + 1, 1 << 63, u64::MAX] {
                    refuses(subject, [EVENT, 0, interval, 0, 0])?;
                }
                throttled(subject, LONGEST_NS).map(drop)
            },
        ),
        error(Error::BadArgument, 0, "bits-of-no-event", |subject| {
            for bits in [1, 1 << 63, u64::MAX] {
                refuses(subject, [DOMAIN, FRAMES, KERNEL_BYTES, 0, bits])?;
            }
            Ok(())
        }),
        error(Error::BadHandle, 0, "no-handle", |subject| {
            timer(subject)?.wants_a_handle(subject)?;
            watched(subject)?.wants_a_handle_or_none(subject)?;
            vcpu(subject, 1)?.wants_a_handle(subject)?;
            vcpu(subject, 2)?.wants_a_handle(subject)?;
            monitored(subject, 3)?.wants_a_handle_or_none(subject)?;
            monitored(subject, 4)?.wants_a_handle_or_none(subject)
        }),
        error(Error::WrongKind, 0, "every-other-kind", |subject| {
            timer(subject)?.wants_kind(subject, ObjectKind::Event)?;
            watched(subject)?.wants_kind(subject, ObjectKind::Event)?;
            vcpu(subject, 1)?.wants_kind(subject, ObjectKind::Domain)?;
            vcpu(subject, 2)?.wants_kind(subject, ObjectKind::Memory)?;
            monitored(subject, 3)?.wants_kind(subject, ObjectKind::Port)?;
            monitored(subject, 4)?.wants_kind(subject, ObjectKind::Memory)
        }),
        error(Error::MissingRight, 0, "without-notify", |subject| {
            let (bell, place) = (subject.event(SLOT)?, timer(subject)?);
            place.wants_right(subject, bell.near)?;
            place.wants_right(subject, subject.grant(bell.far, Rights::GRANT, 0)?)
        }),
        error(
            Error::MissingRight,
            0,
            "of-what-a-domain-and-a-vcpu-need",
            |subject| {
                let bell = subject.event(SLOT)?;
                watched(subject)?.wants_right(subject, bell.near)?;
                let domain = vcpu(subject, 1)?;
                domain.wants_right(subject, subject.given("domain", Rights::STOP)?)?;
                let copied = Rights::STOP | Rights::GRANT;
                let copy = subject.grant(subject.child()?.domain, copied, 0)?;
                domain.wants_right(subject, copy)?;
                domain.wants_right(subject, subject.of_the_destroyed()?)?;
                let (page, memory) = (vcpu(subject, 2)?, subject.memory(1)?);
                for rights in [Rights::NONE, Rights::READ, Rights::WRITE, Rights::EXECUTE] {
                    page.wants_right(subject, subject.grant(memory, rights, 0)?)?;
                    let state = monitored(subject, 4)?;
                    state.wants_right(subject, subject.grant(memory, rights, 0)?)?;
                }
                let port = subject.port(1)?;
                monitored(subject, 3)?.wants_right(subject, port.near)
            },
        ),
        error(
            Error::WrongState,
            0,
            "more-vcpus-than-a-domain-can-have",
            |subject| {
                let (child, memory) = (subject.watched_child(0, 0)?, subject.memory(1)?);
                for _ in 0..MAX_VCPUS {
                    let made = subject.vcpu(child, memory)?;
                    // It counts also when nobody has a handle of it.
                    subject.close(made)?;
                }
                let arguments = [VCPU, child.domain, memory, 0, 0];
                subject.refuses(CREATE, arguments, Error::WrongState)
            },
        ),
        error(
            Error::WrongState,
            0,
            "a-vcpu-for-a-domain-that-has-ended",
            |subject| {
                let (child, memory) = (subject.child()?, subject.memory(1)?);
                subject.works(Verb::Stop, [child.domain, 5, 0, 0, 0])?;
                let arguments = [VCPU, child.domain, memory, 0, 0];
                subject.refuses(CREATE, arguments, Error::WrongState)
            },
        ),
        error(
            Error::QuotaExhausted,
            0,
            "more-for-a-child-than-there-is",
            |subject| {
                let free = subject.free_frames()?;
                let (used, allowed) = subject.kernel_bytes()?;
                for (frames, bytes) in [
                    (free + 1, KERNEL_BYTES),
                    (u64::MAX, KERNEL_BYTES),
                    (FRAMES, allowed - used + 1),
                    (FRAMES, u64::MAX),
                    (u64::MAX, u64::MAX),
                    (0, 0),
                ] {
                    subject.refuses(CREATE, of_size(frames, bytes), Error::QuotaExhausted)?;
                }
                Ok(())
            },
        ),
        error(
            Error::QuotaExhausted,
            0,
            "no-room-for-two-handles",
            |subject| {
                let bell = subject.event(SLOT)?;
                let mut copies = subject.fill_the_table()?;
                for _ in 0..2 {
                    // Whatever is made has room for two.
                    for arguments in every_kind(bell.far) {
                        subject.refuses(CREATE, arguments, Error::QuotaExhausted)?;
                    }
                    subject.close(copies.pop().ok_or("the table was never full")?)?;
                }
                for arguments in every_kind(bell.far) {
                    let [first, second, ..] = subject.works(CREATE, arguments)?;
                    subject.close(first)?;
                    if second != 0 {
                        subject.close(second)?;
                    }
                }
                Ok(())
            },
        ),
        error(
            Error::QuotaExhausted,
            0,
            "no-frames-for-memory",
            |subject| {
                let free = subject.free_frames()?;
                for pages in [free + 1, free + 2] {
                    let arguments = [MEMORY, pages * PAGE, 0, 0, 0];
                    subject.refuses(CREATE, arguments, Error::QuotaExhausted)?;
                }
                let memories = subject.take_all_frames()?;
                subject.refuses(CREATE, [MEMORY, PAGE, 0, 0, 0], Error::QuotaExhausted)?;
                memories
                    .into_iter()
                    .try_for_each(|memory| subject.close(memory))?;
                equal("free frames at the end", subject.free_frames()?, free)
            },
        ),
        error(
            Error::QuotaExhausted,
            0,
            "none-of-the-hypervisors-memory-is-left",
            |subject| {
                let before = subject.kernel_bytes()?;
                let mut made = Vec::new();
                for (capacity, least) in [(256, 1), (16, 1), (1, 1)] {
                    let arguments = [PORT, capacity, 0, 0, 0];
                    let mut count = 0;
                    while let Ok([first, second, ..]) = subject.call(CREATE, arguments) {
                        made.extend([subject.keep(first), subject.keep(second)]);
                        count += 1;
                        ensure(count < 1000, || "it never ends".into())?;
                    }
                    ensure(count >= least || capacity < 256, || {
                        "no port can be made".into()
                    })?;
                    subject.refuses(CREATE, arguments, Error::QuotaExhausted)?;
                }
                made.into_iter()
                    .try_for_each(|handle| subject.close(handle))?;
                equal("what is used at the end", subject.kernel_bytes()?, before)
            },
        ),
        behaviour("errors-in-their-order", |subject| {
            for (arguments, expected) in [
                ([TIMER, 1 << 32, 0, 1, 0], Error::BadArgument),
                ([TIMER, 1 << 32, 0, 0, 0], Error::BadHandle),
            ] {
                subject.refuses(CREATE, arguments, expected)?;
            }
            // A number out of its range is told before a full table.
            subject.fill_the_table()?;
            refuses(subject, [MEMORY, 0, 0, 0, 0])?;
            refuses(subject, [PORT, 257, 0, 0, 0])?;
            refuses(subject, [PORT, 1, 64, 0, 0])?;
            refuses(subject, [EVENT, 64, 0, 0, 0])?;
            refuses(subject, [EVENT, 0, LONGEST_NS + 1, 0, 0])?;
            subject.refuses(CREATE, [TIMER, 0, 0, 0, 0], Error::BadHandle)
        }),
        behaviour("handles-of-a-vcpu-in-their-order", |subject| {
            let (child, memory) = (subject.child()?, subject.memory(1)?);
            let (port, closed) = (subject.port(1)?, subject.closed()?);
            let (weak, none) = (subject.grant(memory, Rights::READ, 0)?, closed);
            for (arguments, expected) in [
                ([none, weak, memory, none], Error::BadHandle),
                ([memory, none, none, none], Error::WrongKind),
                ([child.domain, weak, none, none], Error::MissingRight),
                ([child.domain, memory, memory, none], Error::WrongKind),
                ([child.domain, memory, port.near, none], Error::MissingRight),
                ([child.domain, memory, port.far, none], Error::BadHandle),
                ([child.domain, memory, port.far, weak], Error::MissingRight),
            ] {
                let [domain, page, port, state] = arguments;
                subject.refuses(CREATE, [VCPU, domain, page, port, state], expected)?;
            }
            Ok(())
        }),
        behaviour("a-space-is-empty-and-gives-back-what-it-took", |subject| {
            let memory = subject.memory(2)?;
            // Once before, for what stays.
            for round in 0..3 {
                let before = (subject.free_frames()?, subject.kernel_bytes()?);
                let [space, second, ..] = subject.works(CREATE, [SPACE, 0, 0, 0, 0])?;
                equal("the second handle", second, 0)?;
                let space = subject.keep(space);
                equal(
                    "mapped",
                    subject.query(space, QueryItem::Usage.number())?.0,
                    0,
                )?;
                let all = (2 * PAGE) | Rights::ACCESS.bits();
                subject.works(Verb::Map, [space, memory, 0, 0, all])?;
                let mapped = subject.query(space, QueryItem::Usage.number())?.0;
                equal("mapped", mapped, 2 * PAGE)?;
                ensure(subject.free_frames()? < before.0, || {
                    "it costs nothing".into()
                })?;
                subject.close(space)?;
                let after = (subject.free_frames()?, subject.kernel_bytes()?);
                ensure(round == 0 || after == before, || {
                    "something is not given back".into()
                })?;
            }
            Ok(())
        }),
        behaviour("memory-is-zeroed", |subject| {
            let port = subject.port(1)?;
            let window = subject.window(2 * PAGE)?;
            for _ in 0..3 {
                let memory = subject.memory(2)?;
                subject.map(memory, window, 0, 2 * PAGE, Rights::READ | Rights::WRITE)?;
                for place in [0, PAGE - 64 * 2, PAGE, 2 * PAGE - 128] {
                    equal("new memory", subject.peek(port, window + place)?, [0; 8])?;
                    subject.poke(port, window + place, &[u64::MAX; 8])?;
                }
                subject.unmap(window, 2 * PAGE)?;
                subject.close(memory)?;
            }
            Ok(())
        }),
        behaviour("handles-with-the-rights-of-their-kind", |subject| {
            let grant = Rights::GRANT;
            let (port, bell) = (subject.port(1)?, subject.event(SLOT)?);
            let timer = subject.timer(bell.far, 1)?;
            let memory = Rights::ACCESS | Rights::REVOKE | grant;
            let child = subject.child()?;
            let vcpu = subject.vcpu(child, subject.memory(1)?)?;
            let [space, ..] = subject.works(CREATE, [SPACE, 0, 0, 0, 0])?;
            let space = subject.keep(space);
            for (handle, kind, rights) in [
                (subject.memory(1)?, MEMORY, memory),
                (child.domain, DOMAIN, Rights::STOP | Rights::BUILD | grant),
                (child.space, SPACE, Rights::MAP | grant),
                (
                    vcpu,
                    VCPU,
                    Rights::START | Rights::STOP | Rights::SCHEDULE | grant,
                ),
                (space, SPACE, Rights::MAP | grant),
                (port.near, PORT, Rights::RECEIVE),
                (port.far, PORT, Rights::SEND | grant),
                (bell.near, EVENT, Rights::WAIT),
                (bell.far, EVENT, Rights::NOTIFY | grant),
                (timer, TIMER, Rights::ARM | grant),
            ] {
                let found = subject.query(handle, QueryItem::Kind.number())?;
                equal("kind and rights", found, (kind, rights.bits()))?;
            }
            Ok(())
        }),
        behaviour("the-first-and-the-last-slot", |subject| {
            for slot in [0, 63] {
                let word = subject.word(slot)?;
                word.enable(0b1);
                let arguments = [PORT, 1, slot as u64, 0, 0];
                let [near, far, ..] = subject.works(CREATE, arguments)?;
                let (near, far) = (subject.keep(near), subject.keep(far));
                subject.send(far, 0, [0; 3])?;
                equal("the port's slot", word.take(), 0b1)?;
                subject.close(near)?;
                let bell = subject.event(slot)?;
                subject.works(Verb::Notify, [bell.far, 0b1, 0, 0, 0])?;
                equal("the event's slot", word.take(), 0b1)?;
                word.enable(0);
            }
            Ok(())
        }),
    ],
};

fn refuses(subject: &Subject<'_>, arguments: Arguments) -> Verdict {
    subject.refuses(CREATE, arguments, Error::BadArgument)
}

/// A domain with an event.
fn watched(subject: &Subject<'_>) -> Result<Place, String> {
    let bell = subject.event(SLOT)?;
    let arguments = [DOMAIN, FRAMES, KERNEL_BYTES, bell.far, 1];
    Ok(Place::at(3, CREATE, arguments))
}

/// A vcpu; the register of its domain or of its page.
fn vcpu(subject: &Subject<'_>, register: usize) -> Result<Place, String> {
    let (child, memory) = (subject.child()?, subject.memory(1)?);
    let arguments = [VCPU, child.domain, memory, 0, 0];
    Ok(Place::at(register, CREATE, arguments))
}

/// A vcpu with a port and a state page; the register of one of them.
fn monitored(subject: &Subject<'_>, register: usize) -> Result<Place, String> {
    let (child, memory) = (subject.child()?, subject.memory(1)?);
    let port = subject.port(1)?;
    let arguments = [VCPU, child.domain, memory, port.far, memory];
    Ok(Place::at(register, CREATE, arguments))
}

fn timer(subject: &Subject<'_>) -> Result<Place, String> {
    let bell = subject.event(SLOT)?;
    Ok(Place::at(1, CREATE, [TIMER, bell.far, 1, 0, 0]))
}

const fn every_kind(event: u64) -> [Arguments; 6] {
    [
        [MEMORY, PAGE, 0, 0, 0],
        [PORT, 1, 0, 0, 0],
        [EVENT, 0, 0, 0, 0],
        [TIMER, event, 1, 0, 0],
        of_size(FRAMES, KERNEL_BYTES),
        [SPACE, 0, 0, 0, 0],
    ]
}
