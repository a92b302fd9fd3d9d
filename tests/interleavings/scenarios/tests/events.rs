//! Events: bits that several vcpus set for one that sleeps, or goes.

use interleavings::{explore, Machine};
use nuncio_abi::{Call, Create, Deadline, Error, Rights};
use shuttle::thread;

#[test]
fn nobody_sleeps_through_a_notification() {
    explore(1000, || {
        let machine = Machine::new(4);
        let mut guest = machine.guest();
        let (_, notifies) = guest.create(Create::Event {
            slot: 5,
            interval_ns: 0,
        });
        let word = guest.vcpu.page().slot(5).unwrap();
        word.enable(u64::MAX);
        let notifiers = [0b01, 0b10, 0b100].map(|bits| {
            let mut other = machine.guest();
            let event = guest.give(notifies.unwrap(), Rights::NOTIFY, &other);
            thread::spawn(move || other.call(Call::Notify { event, bits }).map(|_| ()))
        });
        let mut taken = 0;
        while taken != 0b111 {
            let deadline = Deadline::NEVER;
            guest.call(Call::Wait { deadline }).unwrap();
            let bits = word.take();
            assert_eq!(taken & bits, 0, "a bit was set twice");
            taken |= bits;
        }
        for notifier in notifiers {
            assert_eq!(notifier.join().unwrap(), Ok(()));
        }
    });
}

#[test]
fn the_word_of_a_waiter_that_has_gone_is_not_written() {
    explore(1000, || {
        let machine = Machine::new(3);
        let mut guest = machine.guest();
        let (waits, notifies) = guest.create(Create::Event {
            slot: 5,
            interval_ns: 0,
        });
        let word = guest.vcpu.page().slot(5).unwrap();
        let notifiers = [0b01, 0b10].map(|bits| {
            let mut other = machine.guest();
            let event = guest.give(notifies.unwrap(), Rights::NOTIFY, &other);
            thread::spawn(move || other.call(Call::Notify { event, bits }).map(|_| bits))
        });
        guest.close(waits).unwrap();
        let pending = word.pending();
        let told = notifiers.map(|notifier| notifier.join().unwrap());
        assert_eq!(word.pending(), pending);
        let told = told.map(|told| {
            told.unwrap_or_else(|error| {
                assert_eq!(error, Error::PeerGone);
                0
            })
        });
        assert_eq!(
            told[0] | told[1],
            pending,
            "who was told so has set its bit"
        );
    });
}
