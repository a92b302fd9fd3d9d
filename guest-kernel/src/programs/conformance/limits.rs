//! Limits that hold for several verbs: what is at the limit works, what is one beyond it is refused and
//! changes nothing. Those of one verb alone are in its file.

use alloc::string::String;
use alloc::vec::Vec;

use nuncio_abi::{Error, ObjectKind, QueryItem, Rights, StopReason, Verb};

use super::child::{of_size, starts, Child, CALLS, FRAMES, KERNEL_BYTES, SENDS_WAITING, STOPS};
use super::full::SPACE_MAPPINGS;
use super::messages::Sender;
use super::subject::{Ends, PAGE};
use super::{behaviour, ensure, equal, Subject, Table, Verdict};

/// Spaces in which a memory from `create` is mapped at a time.
const LENT_SPACES: usize = 64;
/// Pages of all its mappings.
const LENT_PAGES: u64 = 65_536;
/// What `start` takes at most of the account of the vcpu's domain.
const STATE_FRAMES: u64 = 4;
const STATE_KERNEL_BYTES: u64 = 16 << 10;

const READ: u64 = 1;

pub(super) const TABLE: Table = Table {
    of: "limits",
    cases: &[
        behaviour("mappings-in-a-space", mappings_in_a_space),
        behaviour("spaces-of-a-memory", spaces_of_a_memory),
        behaviour("pages-of-a-memory", pages_of_a_memory),
        behaviour("bytes-of-a-memory", |subject| {
            let most = 16 << 20;
            let memory = |bytes| [ObjectKind::Memory.number(), bytes, 0, 0, 0];
            // No domain here may use as much, but it is a length.
            ensure(subject.free_frames()? < most / PAGE, || {
                "there are too many frames".into()
            })?;
            subject.refuses(Verb::Create, memory(most), Error::QuotaExhausted)?;
            subject.refuses(Verb::Create, memory(most + PAGE), Error::BadArgument)
        }),
        behaviour("calls-that-wait-for-an-answer", calls_that_wait),
        behaviour("senders-that-wait-for-room", senders_that_wait),
        behaviour("what-pays-for-mappings", what_pays_for_mappings),
        behaviour("what-pays-for-a-cut", what_pays_for_a_cut),
        behaviour("what-pays-for-a-vcpu-and-handles", |subject| {
            let (child, memory) = (poorest(subject)?, subject.memory(1)?);
            let vcpu = [ObjectKind::Vcpu.number(), child.domain, memory, 0, 0];
            subject.refuses(Verb::Create, vcpu, Error::QuotaExhausted)?;
            let copy = [memory, READ, 0, child.domain, 0];
            subject.refuses(Verb::Grant, copy, Error::QuotaExhausted)?;
            subject.ended(child.domain, StopReason::Running, 0)
        }),
        behaviour("what-pays-for-the-state-of-a-vcpu", |subject| {
            let before = load(subject, FRAMES, KERNEL_BYTES)?;
            let (frames, kernel_bytes) = before.used;
            // As much as the specification says is enough.
            let (frames, kernel_bytes) = (frames + STATE_FRAMES, kernel_bytes + STATE_KERNEL_BYTES);
            let exact = load(subject, frames, kernel_bytes)?;
            equal("used before the start", exact.used, before.used)?;
            subject.works(Verb::Start, starts(exact.vcpu, exact.itself))?;
            subject.awaits_end(
                exact.child.domain,
                StopReason::Exited,
                super::child::CODE_OF_STOPS,
            )
        }),
    ],
};

fn maps(space: u64, memory: u64, page: u64, pages: u64) -> [u64; 5] {
    [space, memory, page * PAGE, 0, (pages * PAGE) | READ]
}

fn mapped_pages(subject: &Subject<'_>, space: u64) -> Result<u64, String> {
    let (bytes, _) = subject.query(space, QueryItem::Usage.number())?;
    Ok(bytes / PAGE)
}

/// A space of no domain has none before.
fn mappings_in_a_space(subject: &Subject<'_>) -> Verdict {
    let (space, memory) = (subject.own_space()?, subject.memory(3)?);
    // Every second page: none touches another.
    let place = |number: u64| 2 * number + 2;
    subject.works(Verb::Map, maps(space, memory, 0, 3))?;
    for number in 1..SPACE_MAPPINGS {
        subject.works(Verb::Map, maps(space, memory, place(number), 1))?;
    }
    let pages = SPACE_MAPPINGS + 2;
    equal("pages mapped", mapped_pages(subject, space)?, pages)?;
    let one_more = maps(space, memory, place(SPACE_MAPPINGS), 1);
    let cut = [space, PAGE, PAGE, 0, 0];
    subject.refuses(Verb::Map, one_more, Error::QuotaExhausted)?;
    subject.refuses(Verb::Unmap, cut, Error::QuotaExhausted)?;
    equal("pages mapped", mapped_pages(subject, space)?, pages)?;
    // Both need one mapping more.
    let last = [space, place(SPACE_MAPPINGS - 1) * PAGE, PAGE, 0, 0];
    subject.works(Verb::Unmap, last)?;
    subject.works(Verb::Map, one_more)?;
    subject.refuses(Verb::Unmap, cut, Error::QuotaExhausted)?;
    subject.works(Verb::Unmap, [space, one_more[2], PAGE, 0, 0])?;
    subject.works(Verb::Unmap, cut)?;
    subject.refuses(Verb::Map, one_more, Error::QuotaExhausted)
}

/// The space of this domain, and as many of no domain as there can be beside it.
fn spaces_of_a_memory(subject: &Subject<'_>) -> Verdict {
    let (memory, other) = (subject.memory(1)?, subject.memory(1)?);
    let window = subject.window(PAGE)?;
    subject.map(memory, window, 0, PAGE, Rights::READ)?;
    let mut spaces = Vec::new();
    for _ in 1..LENT_SPACES {
        let space = subject.own_space()?;
        subject.works(Verb::Map, maps(space, memory, 0, 1))?;
        spaces.push(space);
    }
    let last = subject.own_space()?;
    let one_more = maps(last, memory, 0, 1);
    subject.refuses(Verb::Map, one_more, Error::QuotaExhausted)?;
    equal("pages mapped", mapped_pages(subject, last)?, 0)?;
    // It is of this memory alone, and where it is mapped already it can be mapped again.
    let [first, second, third, ..] = *spaces else {
        return Err("there are too few spaces".into());
    };
    subject.works(Verb::Map, maps(first, memory, 1, 1))?;
    subject.works(Verb::Map, maps(last, other, 1, 1))?;
    // One mapping of two goes: it is mapped there all the same.
    subject.works(Verb::Unmap, [first, 0, PAGE, 0, 0])?;
    subject.refuses(Verb::Map, one_more, Error::QuotaExhausted)?;
    // It is mapped there no more, though the space is there.
    subject.works(Verb::Unmap, [first, PAGE, PAGE, 0, 0])?;
    subject.works(Verb::Map, one_more)?;
    let again = maps(first, memory, 0, 1);
    subject.refuses(Verb::Map, again, Error::QuotaExhausted)?;
    // Nor is it when the space goes.
    subject.close(second)?;
    subject.works(Verb::Map, again)?;
    subject.close(memory)?;
    for space in [first, third, last] {
        let pages = u64::from(space == last);
        equal("pages mapped", mapped_pages(subject, space)?, pages)?;
    }
    let gone = [subject.space()?, window, PAGE, 0, 0];
    subject.refuses(Verb::Unmap, gone, Error::NotMapped)
}

/// In a space of no domain, with which its page tables go.
fn pages_of_a_memory(subject: &Subject<'_>) -> Verdict {
    const PAGES: u64 = 96;
    const WHOLE: u64 = LENT_PAGES / PAGES;
    let (space, memory) = (subject.own_space()?, subject.memory(PAGES)?);
    for number in 0..WHOLE {
        subject.works(Verb::Map, maps(space, memory, number * PAGES, PAGES))?;
    }
    let rest = LENT_PAGES % PAGES;
    let one_more = maps(space, memory, LENT_PAGES, 1);
    let too_many = maps(space, memory, WHOLE * PAGES, rest + 1);
    subject.refuses(Verb::Map, too_many, Error::QuotaExhausted)?;
    subject.works(Verb::Map, maps(space, memory, WHOLE * PAGES, rest))?;
    equal("pages mapped", mapped_pages(subject, space)?, LENT_PAGES)?;
    subject.refuses(Verb::Map, one_more, Error::QuotaExhausted)?;
    // In another space, too.
    let window = subject.window(PAGE)?;
    let elsewhere = [subject.space()?, memory, window, 0, PAGE | READ];
    subject.refuses(Verb::Map, elsewhere, Error::QuotaExhausted)?;
    subject.works(Verb::Unmap, [space, 0, 2 * PAGE, 0, 0])?;
    subject.works(Verb::Map, elsewhere)?;
    subject.works(Verb::Map, one_more)?;
    let two = [space, memory, 0, 0, (2 * PAGE) | READ];
    subject.refuses(Verb::Map, two, Error::QuotaExhausted)?;
    subject.close(space)?;
    subject.unmap(window, PAGE)
}

/// As many children as the port holds messages.
const WAITING: usize = 3;

fn waiting_children(
    subject: &Subject<'_>,
    port: Ends,
    code: &[u64; 8],
) -> Result<Vec<Child>, String> {
    let children = (0..WAITING).map(|_| subject.child_with(code, port.far, Rights::SEND));
    children.collect()
}

/// What each child has asked for was done.
fn all_are_served(subject: &Subject<'_>, children: &[Child]) -> Verdict {
    let mut children = children.iter();
    children.try_for_each(|child| subject.awaits_end(child.domain, StopReason::HaltedForEver, 0))
}

fn calls_that_wait(subject: &Subject<'_>) -> Verdict {
    let port = subject.port(WAITING as u64)?;
    let children = waiting_children(subject, port, &CALLS)?;
    let mut tokens = Vec::new();
    for _ in &children {
        tokens.push(subject.receive(port.near, subject.far_off())?.token);
    }
    let call = Sender {
        verb: Verb::Call,
        port: port.far,
        beside: 0,
        last: Some(subject.far_off()),
    };
    call.refuses(subject, 0, [0; 3], Error::QueueFull)?;
    for token in tokens {
        subject.works(Verb::Reply, [port.near, token << 32, 0, 0, 0])?;
    }
    all_are_served(subject, &children)
}

fn senders_that_wait(subject: &Subject<'_>) -> Verdict {
    let port = subject.port(WAITING as u64)?;
    for _ in 0..WAITING {
        subject.send(port.far, 0, [0; 3])?;
    }
    let children = waiting_children(subject, port, &SENDS_WAITING)?;
    // A deadline that has passed asks about the line without standing in it.
    let arguments = Sender::waiting(port.far, 1).arguments(0, [0; 3]);
    let limit_ns = subject.far_off();
    while subject.call(Verb::Send, arguments) == Err(Error::TimedOut) {
        ensure(subject.ground.now_ns() < limit_ns, || {
            "the children do not wait".into()
        })?;
        let rested = [subject.in_ms(1), 0, 0, 0, 0];
        subject.ends_with(Verb::Wait, rested, Error::TimedOut)?;
    }
    for deadline in [1, subject.far_off()] {
        let sender = Sender::waiting(port.far, deadline);
        sender.refuses(subject, 0, [0; 3], Error::QueueFull)?;
    }
    for _ in 0..2 * WAITING {
        subject.receive(port.near, subject.far_off())?;
    }
    all_are_served(subject, &children)
}

/// Ports until nothing is left of the hypervisor's memory that would pay for one more.
fn take_all_kernel_bytes(subject: &Subject<'_>) -> Result<Vec<u64>, String> {
    let mut made = Vec::new();
    for capacity in [256, 16, 1] {
        let port = [ObjectKind::Port.number(), capacity, 0, 0, 0];
        while let Ok([near, far, ..]) = subject.call(Verb::Create, port) {
            made.extend([subject.keep(near), subject.keep(far)]);
        }
    }
    let event = [ObjectKind::Event.number(), 0, 0, 0, 0];
    while let Ok([near, far, ..]) = subject.call(Verb::Create, event) {
        made.extend([subject.keep(near), subject.keep(far)]);
    }
    Ok(made)
}

/// Whether it is paid for them one by one or many at a time, they have an end.
fn what_pays_for_mappings(subject: &Subject<'_>) -> Verdict {
    let (space, memory) = (subject.own_space()?, subject.memory(3)?);
    subject.works(Verb::Map, maps(space, memory, 0, 3))?;
    let made = take_all_kernel_bytes(subject)?;
    let mut next = 4;
    while subject
        .call(Verb::Map, maps(space, memory, next, 1))
        .is_ok()
    {
        next += 2;
        ensure(next < 4 * SPACE_MAPPINGS, || "they have no end".into())?;
    }
    let pages = mapped_pages(subject, space)?;
    let (one_more, cut) = (maps(space, memory, next, 1), [space, PAGE, PAGE, 0, 0]);
    subject.refuses(Verb::Map, one_more, Error::QuotaExhausted)?;
    subject.refuses(Verb::Unmap, cut, Error::QuotaExhausted)?;
    equal("pages mapped", mapped_pages(subject, space)?, pages)?;
    for handle in made {
        subject.close(handle)?;
    }
    subject.works(Verb::Unmap, cut)?;
    subject.works(Verb::Map, one_more).map(drop)
}

/// If the hypervisor has used large pages, a page in the middle takes page tables to unmap.
fn what_pays_for_a_cut(subject: &Subject<'_>) -> Verdict {
    const MOST: u64 = 16 << 20;
    let (space, big) = (subject.own_space()?, subject.given("big", Rights::READ)?);
    subject.works(Verb::Map, [space, big, 0, 0, MOST | READ])?;
    let cut = [space, MOST / 2 + PAGE, PAGE, 0, 0];
    let frames = subject.take_all_frames()?;
    let outcome = subject.call(Verb::Unmap, cut);
    if outcome == Err(Error::QuotaExhausted) {
        subject.refuses(Verb::Unmap, cut, Error::QuotaExhausted)?;
        equal("pages mapped", mapped_pages(subject, space)?, MOST / PAGE)?;
    }
    for memory in frames {
        subject.close(memory)?;
    }
    if outcome.is_err() {
        subject.works(Verb::Unmap, cut)?;
    }
    let left = mapped_pages(subject, space)?;
    equal("pages mapped at the end", left, MOST / PAGE - 1)
}

/// A child that may use as little of the hypervisor's memory as a child can.
fn poorest(subject: &Subject<'_>) -> Result<Child, String> {
    let (mut too_little, mut enough) = (0, KERNEL_BYTES);
    while too_little + 1 < enough {
        let bytes = (too_little + enough) / 2;
        match subject.call(Verb::Create, of_size(FRAMES, bytes)) {
            Ok([domain, space, ..]) => {
                subject.close(space)?;
                subject.close(domain)?;
                enough = bytes;
            }
            Err(Error::QuotaExhausted) => too_little = bytes,
            Err(error) => return Err(alloc::format!("create gives {error}")),
        }
    }
    let [domain, space, ..] = subject.works(Verb::Create, of_size(FRAMES, enough))?;
    let (domain, space) = (subject.keep(domain), subject.keep(space));
    Ok(Child { domain, space })
}

/// A child that is ready to start, and what it uses.
struct Ready {
    child: Child,
    vcpu: u64,
    /// Its handle of itself, with `stop`.
    itself: u64,
    /// Frames, and bytes of the hypervisor's memory.
    used: (u64, u64),
}

fn load(subject: &Subject<'_>, frames: u64, kernel_bytes: u64) -> Result<Ready, String> {
    let [domain, space, ..] = subject.works(Verb::Create, of_size(frames, kernel_bytes))?;
    let child = Child {
        domain: subject.keep(domain),
        space: subject.keep(space),
    };
    let loaded = subject.load(child, &STOPS)?;
    let itself = subject.give(child, domain, Rights::STOP)?;
    let (frames, _) = subject.query(domain, QueryItem::Usage.number())?;
    let (kernel_bytes, _) = subject.query(domain, QueryItem::KernelUsage.number())?;
    Ok(Ready {
        child,
        vcpu: loaded.vcpu,
        itself,
        used: (frames, kernel_bytes),
    })
}
