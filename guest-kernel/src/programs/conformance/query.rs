//! `query`.

use alloc::format;

use nuncio_abi::{Error, ObjectKind, QueryItem, Rights, StopReason, Verb};

use super::full::TABLE_HANDLES;
use super::handles::{one_of_each, Place};
use super::subject::{PAGE, SLOT};
use super::{behaviour, ensure, equal, error, Table};

const QUERY: Verb = Verb::Query;
const KIND: u64 = QueryItem::Kind.number();
const USAGE: u64 = QueryItem::Usage.number();
const STATUS: u64 = QueryItem::Status.number();
const KERNEL_USAGE: u64 = QueryItem::KernelUsage.number();

pub(super) const TABLE: Table = Table {
    of: QUERY.name(),
    cases: &[
        error(Error::BadArgument, 0, "unused-registers", |subject| {
            for (_, handle) in one_of_each(subject)? {
                subject.wants_zeros(QUERY, [handle, KIND, 0, 0, 0], 2)?;
            }
            subject.wants_zeros(QUERY, [1 << 32, 99, 0, 0, 0], 2)
        }),
        error(Error::BadHandle, 0, "bits-past-the-handle", |subject| {
            let memory = subject.memory(1)?;
            for bit in 32..64 {
                subject.refuses(QUERY, [memory | 1 << bit, KIND, 0, 0, 0], Error::BadHandle)?;
            }
            Ok(())
        }),
        error(Error::BadArgument, 0, "one-past-the-last-item", |subject| {
            let (memory, last) = (subject.memory(1)?, QueryItem::ALL.len() as u64);
            for item in [last, 255, 1 << 32, u64::MAX] {
                subject.refuses(QUERY, [memory, item, 0, 0, 0], Error::BadArgument)?;
                // Found before the handle is looked up.
                subject.refuses(QUERY, [0, item, 0, 0, 0], Error::BadArgument)?;
            }
            Ok(())
        }),
        error(Error::BadHandle, 0, "no-handle", |subject| {
            for item in QueryItem::ALL {
                let memory = subject.memory(1)?;
                Place::first(QUERY, [memory, item.number(), 0, 0, 0]).wants_a_handle(subject)?;
            }
            Ok(())
        }),
        error(Error::WrongKind, 0, "what-only-domains-have", |subject| {
            for item in [STATUS, KERNEL_USAGE] {
                let place = Place::first(QUERY, [0, item, 0, 0, 0]);
                place.wants_kind(subject, ObjectKind::Domain)?;
            }
            Ok(())
        }),
        error(Error::PeerGone, 0, "of-a-domain-destroyed", |subject| {
            let gone = subject.of_the_destroyed()?;
            for item in [USAGE, STATUS, KERNEL_USAGE] {
                subject.refuses(QUERY, [gone, item, 0, 0, 0], Error::PeerGone)?;
            }
            let expected = (Rights::STOP | Rights::GRANT).bits();
            let kind = (ObjectKind::Domain.number(), expected);
            equal("its kind", subject.query(gone, KIND)?, kind)
        }),
        behaviour("kind-and-rights-of-what-was-given", |subject| {
            for entry in subject.boot.handles() {
                let handle = entry.handle().ok_or("no handle")?.raw();
                let kind = entry.kind().ok_or("no kind")?.number();
                let rights = entry.rights().ok_or("no rights")?.bits();
                equal(
                    entry.name.as_str(),
                    subject.query(handle, KIND)?,
                    (kind, rights),
                )?;
            }
            for (name, kind, rights) in [
                ("domain", ObjectKind::Domain, Rights::STOP),
                ("vcpu", ObjectKind::Vcpu, Rights::NONE),
                ("space", ObjectKind::Space, Rights::MAP),
                ("console", ObjectKind::Port, Rights::SEND | Rights::GRANT),
                (
                    "time-page",
                    ObjectKind::Memory,
                    Rights::READ | Rights::GRANT,
                ),
                (
                    "text-page",
                    ObjectKind::Memory,
                    Rights::READ | Rights::EXECUTE | Rights::GRANT,
                ),
            ] {
                let handle = subject.given(name, rights)?;
                equal(
                    name,
                    subject.query(handle, KIND)?,
                    (kind.number(), rights.bits()),
                )?;
            }
            Ok(())
        }),
        behaviour("usage-of-every-kind", |subject| {
            let (port, bell) = (subject.port(3)?, subject.event(SLOT)?);
            let (memory, vcpu) = (subject.memory(5)?, subject.given("vcpu", Rights::NONE)?);
            let timer = subject.timer(bell.far, 1)?;
            subject.send(port.far, 0, [0; 3])?;
            subject.send(port.far, 0, [0; 3])?;
            let console = subject.given("console", Rights::NONE)?;
            for (what, handle, expected) in [
                ("a port's sender", port.far, (2, 3)),
                ("a port's receiver", port.near, (2, 3)),
                ("an event's waiter", bell.near, (SLOT as u64, 0)),
                ("an event's notifier", bell.far, (SLOT as u64, 0)),
                ("a memory", memory, (5 * PAGE, 0)),
                ("a timer", timer, (0, 0)),
                ("the vcpu", vcpu, (0, 0)),
                ("the console", console, (0, 0)),
            ] {
                equal(what, subject.query(handle, USAGE)?, expected)?;
            }
            Ok(())
        }),
        behaviour("usage-of-the-space", |subject| {
            let (space, memory) = (subject.space()?, subject.memory(3)?);
            let (before, limit) = subject.query(space, USAGE)?;
            equal("the end of the space", limit, subject.boot.address_limit)?;
            ensure(before >= subject.boot.ram_bytes, || {
                format!("{before} bytes mapped")
            })?;
            let window = subject.window(3 * PAGE)?;
            subject.map(memory, window, 0, 3 * PAGE, Rights::READ)?;
            equal(
                "bytes mapped",
                subject.query(space, USAGE)?,
                (before + 3 * PAGE, limit),
            )?;
            subject.unmap(window, 3 * PAGE)?;
            equal(
                "bytes mapped after",
                subject.query(space, USAGE)?,
                (before, limit),
            )
        }),
        behaviour("usage-of-the-domain-counts-frames", |subject| {
            let domain = subject.given("domain", Rights::NONE)?;
            let before = subject.query(domain, USAGE)?;
            let ram_frames = subject.boot.ram_bytes / PAGE;
            let vcpus = subject.boot.vcpus().len() as u64;
            equal(
                "frames allowed",
                before.1,
                ram_frames + 256 + ram_frames / 256 + 8 * vcpus,
            )?;
            let memory = subject.memory(7)?;
            equal(
                "frames used",
                subject.query(domain, USAGE)?,
                (before.0 + 7, before.1),
            )?;
            subject.close(memory)?;
            equal("frames used after", subject.query(domain, USAGE)?, before)
        }),
        behaviour("the-domain-is-running", |subject| {
            let domain = subject.given("domain", Rights::NONE)?;
            let running = (StopReason::Running.number(), 0);
            equal("the status", subject.query(domain, STATUS)?, running)
        }),
        behaviour(
            "the-hypervisors-memory-is-counted-and-paid-back",
            |subject| {
                // A table that is paid by its size has its full size from here on.
                let copies = subject.fill_the_table()?;
                let expected = TABLE_HANDLES - subject.own_handles();
                equal("handles that can be had", copies.len() as u64, expected)?;
                copies
                    .into_iter()
                    .try_for_each(|copy| subject.close(copy))?;
                let before = subject.kernel_bytes()?;
                equal("bytes allowed", before.1, 262_144)?;
                let (port, bell) = (subject.port(16)?, subject.event(SLOT)?);
                let timer = subject.timer(bell.far, 1)?;
                let during = subject.kernel_bytes()?;
                ensure(during.0 > before.0 && during.0 <= during.1, || {
                    format!("{before:?} becomes {during:?}")
                })?;
                for handle in [port.near, port.far, bell.near, bell.far, timer] {
                    subject.close(handle)?;
                }
                equal("bytes after", subject.kernel_bytes()?, before)
            },
        ),
    ],
};
