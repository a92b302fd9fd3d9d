//! Calls that must be refused, and questions that must be answered.

use alloc::format;

use nuncio_abi::{
    Call, Deadline, Error, Handle, ObjectKind, Outgoing, QueryItem, RawCall, Rights, Verb,
    PAGE_BYTES,
};

use super::{ensure, Check, Miss, Subject, Verdict};
use crate::hv::{Memory, Object, Port};
use crate::machine::Native;

pub(super) const CHECKS: &[(&str, Check)] = &[
    ("unknown-verb", unknown_verb),
    ("wrong-version", wrong_version),
    ("bad-handle", bad_handle),
    ("wrong-kind", wrong_kind),
    ("missing-right", missing_right),
    ("reserved-bits", reserved_bits),
    ("message-buffer", message_buffer),
    ("query", query),
    ("map", map),
    ("map-over-ram", map_over_ram),
    ("map-range", map_range),
    ("unmap-hole", unmap_hole),
    ("stale-handle", stale_handle),
];

fn unknown_verb(subject: &Subject<'_>) -> Verdict {
    for verb in [Verb::ALL.len() as u64, 255, 1 << 32, u64::MAX] {
        let arguments = [0; 5];
        subject.refuses_raw(RawCall { verb, arguments }, &[Error::UnknownVerb])?;
    }
    Ok(())
}

fn wrong_version(subject: &Subject<'_>) -> Verdict {
    let version = 0xFFFF_0000;
    subject.refuses(Call::Hello { version }, &[Error::WrongVersion])
}

fn bad_handle(subject: &Subject<'_>) -> Verdict {
    for raw in [0, 0xFFFF, 0x1_FFFF, 0xFFFF_0000, u64::MAX, 1 << 32 | 1] {
        let verb = Verb::Query.number();
        let arguments = [raw, QueryItem::Kind.number(), 0, 0, 0];
        subject.refuses_raw(RawCall { verb, arguments }, &[Error::BadHandle])?;
    }
    let domain = subject.client.domain()?.object().handle();
    let wrong_generation = Handle::new(domain.index(), domain.generation().wrapping_add(1));
    let event = wrong_generation;
    subject.refuses(Call::Notify { event, bits: 1 }, &[Error::BadHandle])
}

fn wrong_kind(subject: &Subject<'_>) -> Verdict {
    let space = subject.client.space()?.object().handle();
    let domain = subject.client.domain()?.object().handle();
    let bits = 1;
    subject.refuses(Call::Notify { event: space, bits }, &[Error::WrongKind])?;
    let deadline = Deadline::NOW;
    let receive = Call::Receive {
        port: domain,
        deadline,
        buffer: 0,
    };
    subject.refuses(receive, &[Error::WrongKind])?;
    subject.refuses(
        Call::Stop {
            domain: space,
            code: 0,
        },
        &[Error::WrongKind],
    )
}

fn missing_right(subject: &Subject<'_>) -> Verdict {
    let console = console(subject)?.object().handle();
    let deadline = Deadline::NOW;
    let receive = Call::Receive {
        port: console,
        deadline,
        buffer: 0,
    };
    subject.refuses(receive, &[Error::MissingRight])
}

fn reserved_bits(subject: &Subject<'_>) -> Verdict {
    let hello = Call::HELLO.encode();
    for register in 1..5 {
        let mut raw = hello;
        raw.arguments[register] = 1 << 63;
        subject.refuses_raw(raw, &[Error::BadArgument])?;
    }
    let console = console(subject)?.object().handle().raw();
    let verb = Verb::Send.number();
    for (header, first, second) in [(1 << 11, 0, 0), (25, 0, 0), (65 | 1 << 7, 0, 0), (8, 0, 1)] {
        let arguments = [console, header, first, second, 0];
        subject.refuses_raw(RawCall { verb, arguments }, &[Error::BadArgument])?;
    }
    Ok(())
}

fn message_buffer(subject: &Subject<'_>) -> Verdict {
    let port = console(subject)?.object().handle();
    let hole = subject.machine.reserve_window(PAGE_BYTES)?;
    let unmapped = [Error::NotMapped, Error::BadAddress];
    for (address, errors) in [
        (hole, &unmapped[..]),
        (!63, &unmapped[..]),
        (0x20_0008, &[Error::BadAddress, Error::BadArgument][..]),
    ] {
        let message = Outgoing::memory(64, address);
        subject.refuses(Call::Send { port, message }, errors)?;
    }
    Ok(())
}

fn query(subject: &Subject<'_>) -> Verdict {
    for (name, kind) in [
        ("domain", ObjectKind::Domain),
        ("vcpu", ObjectKind::Vcpu),
        ("space", ObjectKind::Space),
        ("console", ObjectKind::Port),
    ] {
        let entry = subject
            .client
            .all(kind, Rights::NONE)
            .find(|entry| entry.name.as_str() == name);
        let Some(handle) = entry.and_then(|entry| entry.handle()) else {
            return Err(Miss::Failed(format!("there is no {name}")));
        };
        let object = Object::new(subject.machine, handle);
        let (found, rights) = object.kind()?;
        let listed = entry.and_then(|entry| entry.rights());
        ensure(found == kind && Some(rights) == listed, || {
            format!("{name} is a {found} with {rights}")
        })?;
        object.query(QueryItem::Usage)?;
    }
    let (used, allowed) = subject.client.domain()?.usage_frames()?;
    ensure(used > 0 && used <= allowed, || {
        format!("{used} frames used of {allowed}")
    })
}

fn map(subject: &Subject<'_>) -> Verdict {
    let memory = memory(subject)?;
    let space = subject.client.space()?;
    let window = subject.machine.reserve_window(PAGE_BYTES)?;
    space.map(&memory, window, 0, PAGE_BYTES, Rights::READ)?;
    let again = space.map(&memory, window, 0, PAGE_BYTES, Rights::READ);
    space.unmap(window, PAGE_BYTES)?;
    ensure(again == Err(Error::AlreadyMapped), || {
        format!("mapping twice gives {again:?}")
    })?;
    let twice = space.unmap(window, PAGE_BYTES);
    ensure(twice == Err(Error::NotMapped), || {
        format!("unmapping twice gives {twice:?}")
    })
}

fn map_over_ram(subject: &Subject<'_>) -> Verdict {
    let memory = memory(subject)?;
    let mapped = subject
        .client
        .space()?
        .map(&memory, 0x20_0000, 0, PAGE_BYTES, Rights::READ);
    ensure(mapped == Err(Error::AlreadyMapped), || {
        format!("the answer is {mapped:?}")
    })
}

fn map_range(subject: &Subject<'_>) -> Verdict {
    let memory = memory(subject)?;
    let bytes = memory.bytes()?;
    let window = subject.machine.reserve_window(bytes + PAGE_BYTES)?;
    let (page, access) = (PAGE_BYTES, Rights::READ);
    let (space, memory) = (
        subject.client.space()?.object().handle(),
        memory.object().handle(),
    );
    for (address, offset, length) in [
        (window + 8, 0, page),
        (window, 8, page),
        (window, 0, 0),
        (window, bytes, page),
        (window, !4095, page),
        (!4095, 0, page),
        (window, 0, 1 << 40),
    ] {
        let call = Call::Map {
            space,
            memory,
            address,
            offset,
            length,
            access,
        };
        subject.refuses(call, &[Error::BadAddress])?;
    }
    Ok(())
}

fn unmap_hole(subject: &Subject<'_>) -> Verdict {
    let space = subject.client.space()?.object().handle();
    let address = subject.machine.reserve_window(PAGE_BYTES)?;
    let length = PAGE_BYTES;
    subject.refuses(
        Call::Unmap {
            space,
            address,
            length,
        },
        &[Error::NotMapped],
    )
}

/// Runs last in its group: the memory it closes is gone for the others.
fn stale_handle(subject: &Subject<'_>) -> Verdict {
    let memory = memory(subject)?;
    let object = *memory.object();
    object.close()?;
    let handle = object.handle();
    subject.refuses(Call::Close { handle }, &[Error::BadHandle])?;
    let item = QueryItem::Usage;
    subject.refuses(Call::Query { handle, item }, &[Error::BadHandle])
}

fn console<'a>(subject: &Subject<'a>) -> Result<Port<'a, Native>, Miss> {
    Ok(subject.client.port("console", Rights::SEND)?)
}

fn memory<'a>(subject: &Subject<'a>) -> Result<Memory<'a, Native>, Miss> {
    let mut memories = subject.client.all(ObjectKind::Memory, Rights::READ);
    let entry = memories.next().ok_or(Miss::Skipped("memory with read"))?;
    Ok(subject.client.memory(entry.name.as_str(), Rights::READ)?)
}
