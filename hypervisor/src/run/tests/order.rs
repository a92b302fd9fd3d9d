//! Short sequences in which the hypervisor once differed from the model of the specification.

use alloc::vec;

use core::sync::atomic::Ordering::Relaxed;

use nuncio_abi::{Call, Create, Deadline, Error, Handle, Outgoing, QueryItem, Rights, Transfer};

use super::machine::{run, script, stop};
use super::talking::{handle, receive, PAIR};
use crate::mem::GuestPhysical;
use crate::vt::fake::{Gone, Guest};

fn make_event(guest: &mut Guest) -> Result<Handle, Gone> {
    let made = guest
        .call(Call::Create(Create::Event {
            slot: 9,
            interval_ns: 0,
        }))?
        .unwrap();
    Ok(Handle::from_raw(made[1]).unwrap())
}

fn copy(guest: &mut Guest, handle: Handle) -> Result<Result<Handle, Error>, Gone> {
    let copied = guest.call(Call::Grant {
        handle,
        rights: Rights::NOTIFY,
        badge: 0,
        to: None,
    })?;
    Ok(copied.map(|values| Handle::from_raw(values[0]).unwrap()))
}

#[test]
fn a_buffer_is_missed_before_room_in_the_table_is() {
    run(
        PAIR,
        vec![
            script(|guest| {
                let event = make_event(guest)?;
                let transfer = Transfer {
                    handle: event,
                    rights: Rights::NOTIFY,
                };
                let page = guest.words(GuestPhysical(0x30_0000)).unwrap();
                page[8].store(transfer.to_raw(), Relaxed);
                let port = handle(guest, "mail");
                let message = Outgoing::Memory {
                    length: 24,
                    handles: 1,
                    address: 0x30_0000,
                };
                guest.call(Call::Send { port, message })?.unwrap();
                stop(guest, 0)
            }),
            script(|guest| {
                let event = make_event(guest)?;
                while copy(guest, event)?.is_ok() {}
                let refused = receive(guest, Deadline::NEVER)?;
                assert_eq!(refused, Err(Error::BufferTooSmall));
                let port = handle(guest, "mail");
                let with_buffer = guest.call(Call::Receive {
                    port,
                    deadline: Deadline::NEVER,
                    buffer: 0x20_0000,
                })?;
                assert_eq!(with_buffer, Err(Error::QuotaExhausted));
                stop(guest, 0)
            }),
        ],
    );
}

#[test]
fn a_refused_create_leaves_the_table_as_it_was() {
    let used = |guest: &mut Guest| {
        let call = Call::Query {
            handle: handle(guest, "domain"),
            item: QueryItem::KernelUsage,
        };
        Ok(guest.call(call)?.unwrap()[0])
    };
    let large = |guest: &mut Guest| {
        let port = Create::Port {
            capacity: 256,
            slot: 0,
        };
        guest.call(Call::Create(port))
    };
    run(
        PAIR,
        vec![
            script(move |guest| {
                while large(guest)?.is_ok() {}
                let event = make_event(guest)?;
                // Somewhere on the way the table is full and would have to grow.
                for _ in 0..40 {
                    let before = used(guest)?;
                    assert_eq!(large(guest)?, Err(Error::QuotaExhausted));
                    assert_eq!(used(guest)?, before);
                    copy(guest, event)?.unwrap();
                }
                stop(guest, 0)
            }),
            script(|guest| stop(guest, 0)),
        ],
    );
}
