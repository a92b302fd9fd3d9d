//! Events with an interval: what a sender can do to whoever waits for them.

use alloc::vec;

use nuncio_abi::{
    Call, Create, Deadline, Error, EventWord, Handle, Rights, Transfer, VcpuPage, MAX_INTERVAL_NS,
};

use super::domains::{close, ONE, SLOT};
use super::machine::script;
use super::objects::{create, send_transfer, used};
use super::submitting::{ring, submit};
use super::talking::{handle, receive, PAIR};
use super::{run, stop};
use crate::mem::GuestPhysical;
use crate::vt::fake::{Gone, Guest};

const MS: u64 = 1_000_000;
/// More than some calls take.
const CALLS_NS: u64 = 100_000;

/// An event with that interval: the handle that waits, and the one that notifies.
fn throttled(guest: &mut Guest, interval_ns: u64) -> Result<(Handle, Handle), Gone> {
    let event = Create::Event {
        slot: SLOT,
        interval_ns,
    };
    let (near, far) = create(guest, event)?.unwrap();
    Ok((near, far.unwrap()))
}

fn word(guest: &Guest) -> EventWord<'static> {
    let page = GuestPhysical(guest.boot_info().vcpu_page);
    let page = VcpuPage::new(guest.words(page).unwrap());
    page.slot(SLOT as usize).unwrap()
}

fn notify(guest: &mut Guest, event: Handle, bits: u64) -> Result<(), Gone> {
    guest.call(Call::Notify { event, bits })?.unwrap();
    Ok(())
}

fn wait(guest: &mut Guest, until_ns: u64) -> Result<Result<(), Error>, Gone> {
    let deadline = Deadline(until_ns);
    Ok(guest.call(Call::Wait { deadline })?.map(drop))
}

#[test]
fn a_sender_in_a_loop_causes_one_posting_per_interval() {
    const INTERVAL_NS: u64 = MS;
    const TURNS: u64 = 4_000;
    const TURN_NS: u64 = 5_000;
    // The call takes time, too.
    const LOOP_NS: u64 = TURNS * (TURN_NS + 1_000);
    let outcome = run(
        PAIR,
        vec![
            script(|guest| {
                let word = word(guest);
                word.enable(u64::MAX);
                // Every posting counts, and all but the next announce the slot.
                word.batch(1);
                let (_, far) = throttled(guest, INTERVAL_NS)?;
                send_transfer(guest, handle(guest, "mail"), far, Rights::NOTIFY)?.unwrap();
                let mut found = 0;
                while found != 0b1111 {
                    wait(guest, 60 * MS)?.unwrap();
                    found |= word.take();
                }
                // The first, and what is left behind the last whole interval.
                let most = LOOP_NS / INTERVAL_NS + 2;
                assert!(
                    (20..=most).contains(&word.count()),
                    "{} postings",
                    word.count()
                );
                assert_eq!(wait(guest, 60 * MS)?, Err(Error::TimedOut), "that was all");
                stop(guest, 0)
            }),
            script(|guest| {
                let [_, _, _, second, _] = receive(guest, Deadline::NEVER)?.unwrap();
                let event = Transfer::from_raw(second).unwrap().handle;
                for turn in 0..TURNS {
                    notify(guest, event, 1 << (turn % 3))?;
                    guest.compute(TURN_NS)?;
                }
                // Two at the end: the second is held, and comes though its sender is no more.
                notify(guest, event, 0b1)?;
                notify(guest, event, 0b1000)?;
                stop(guest, 0)
            }),
        ],
    );
    assert_eq!(outcome.reports[1].traffic[2], TURNS + 2);
}

/// Whatever way bits take to an event, they are posted when its interval is over, and not before.
#[test]
fn every_way_to_an_event_is_throttled() {
    run(
        ONE,
        vec![script(|guest| {
            let word = word(guest);
            word.enable(u64::MAX);
            let (_, event) = throttled(guest, 10 * MS)?;
            wait(guest, 5 * MS)?.unwrap_err();
            notify(guest, event, 0b1)?;
            assert_eq!(word.take(), 0b1, "the first is posted at once");
            notify(guest, event, 0b10)?;
            let bits = 0b100;
            let (timer, _) = create(guest, Create::Timer { event, bits })?.unwrap();
            let deadline = Deadline::NOW;
            guest.call(Call::Arm { timer, deadline })?.unwrap();
            let call = Call::Notify {
                event,
                bits: 0b1000,
            };
            ring(guest).push(&call.encode(), 0).unwrap();
            assert_eq!(submit(guest, 1)?, Ok(1));
            let child = Create::Domain {
                frames: 16,
                kernel_bytes: 0x4000,
                event: Some(event),
                bits: 0b1_0000,
            };
            let (object, space) = create(guest, child)?.unwrap();
            guest.call(Call::Stop { object, code: 0 })?.unwrap();
            assert_eq!(word.pending(), 0);
            assert_eq!(wait(guest, 15 * MS - 1)?, Err(Error::TimedOut));
            assert_eq!(wait(guest, 15 * MS + CALLS_NS)?, Ok(()));
            assert_eq!(word.take(), 0b1_1110);
            // From the time when they were posted: the next interval.
            notify(guest, event, 0b1)?;
            assert_eq!(wait(guest, 25 * MS - 1)?, Err(Error::TimedOut));
            assert_eq!(wait(guest, 25 * MS + CALLS_NS)?, Ok(()));
            assert_eq!(word.take(), 0b1);
            for handle in [object, space.unwrap(), timer] {
                close(guest, handle)?.unwrap();
            }
            stop(guest, 0)
        })],
    );
}

#[test]
fn no_bits_begin_no_interval() {
    run(
        ONE,
        vec![script(|guest| {
            let word = word(guest);
            let (_, event) = throttled(guest, MAX_INTERVAL_NS)?;
            notify(guest, event, 0)?;
            notify(guest, event, 0b1)?;
            assert_eq!(word.pending(), 0b1);
            notify(guest, event, 0)?;
            notify(guest, event, 0b10)?;
            assert_eq!(word.pending(), 0b1);
            stop(guest, 0)
        })],
    );
}

/// Its number goes to the next timer, which must not be due when the event would have been.
#[test]
fn what_an_event_holds_goes_with_its_waiter() {
    run(
        ONE,
        vec![script(|guest| {
            let word = word(guest);
            word.enable(u64::MAX);
            let [_, bytes] = used(guest)?;
            let (near, event) = throttled(guest, 5 * MS)?;
            assert!(used(guest)?[1] >= bytes + 128, "a timer is paid, too");
            for bits in [0b1, 0b10] {
                notify(guest, event, bits)?;
            }
            assert_eq!(word.take(), 0b1);
            close(guest, near)?.unwrap();
            let gone = guest.call(Call::Notify { event, bits: 1 })?;
            assert_eq!(gone.map(drop), Err(Error::PeerGone));
            let (_, other) = throttled(guest, MS)?;
            let make = Create::Timer {
                event: other,
                bits: 0b100,
            };
            let (timer, _) = create(guest, make)?.unwrap();
            assert_eq!(wait(guest, 20 * MS)?, Err(Error::TimedOut));
            let deadline = Deadline(25 * MS);
            guest.call(Call::Arm { timer, deadline })?.unwrap();
            assert_eq!(wait(guest, 30 * MS)?, Ok(()));
            assert_eq!(word.take(), 0b100);
            close(guest, event)?.unwrap();
            stop(guest, 0)
        })],
    );
}

#[test]
fn events_that_come_and_go_leave_nothing_behind() {
    run(
        ONE,
        vec![script(|guest| {
            // The table of handles grows with the first two.
            let (near, far) = throttled(guest, MS)?;
            for handle in [near, far] {
                close(guest, handle)?.unwrap();
            }
            let before = used(guest)?;
            for _ in 0..300 {
                let (near, far) = throttled(guest, MAX_INTERVAL_NS)?;
                notify(guest, far, 1)?;
                notify(guest, far, 1)?;
                close(guest, far)?.unwrap();
                close(guest, near)?.unwrap();
            }
            assert_eq!(used(guest)?, before);
            stop(guest, 0)
        })],
    );
}

#[test]
fn an_interval_is_at_most_an_hour() {
    run(
        ONE,
        vec![script(|guest| {
            for interval_ns in [MAX_INTERVAL_NS + 1, u64::MAX] {
                let event = Create::Event {
                    slot: SLOT,
                    interval_ns,
                };
                assert_eq!(create(guest, event)?, Err(Error::BadArgument));
            }
            throttled(guest, MAX_INTERVAL_NS)?;
            stop(guest, 0)
        })],
    );
}
