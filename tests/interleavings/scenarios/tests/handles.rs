//! Tables of handles: copies that are made, sent, received, used and closed on several CPUs at once,
//! and domains that end meanwhile.

use std::sync::Arc;

use hypervisor::object::Object;
use interleavings::{explore, Guest, Machine};
use nuncio_abi::{Call, Create, Deadline, Error, Handle, Outgoing, Rights, Transfer};
use shuttle::rand::{thread_rng, Rng};
use shuttle::thread;

/// Rights of every copy of the handle to a timer.
const RIGHTS: Rights = Rights::from_set(&[Rights::ARM, Rights::GRANT]);

/// What a vcpu works with: its port, the other's, and handles to one timer.
struct Worker {
    guest: Guest,
    receives: Handle,
    other: Handle,
    timers: Vec<Handle>,
}

impl Worker {
    /// Does something with one of its handles.
    fn act(&mut self) {
        let Some(handle) = self.timers.pop() else {
            return self.receive();
        };
        match thread_rng().gen_range(0..5) {
            0 => {
                self.timers.extend(self.guest.grant(handle, RIGHTS));
                self.timers.push(handle);
            }
            1 => {
                self.guest.close(handle).unwrap();
                assert_eq!(self.guest.close(handle), Err(Error::BadHandle));
            }
            2 => {
                self.send(handle);
                self.timers.push(handle);
            }
            3 => {
                let (timer, deadline) = (handle, Deadline::NEVER);
                let armed = self.guest.call(Call::Arm { timer, deadline });
                assert!(armed.is_ok());
                self.timers.push(handle);
            }
            _ => {
                self.timers.push(handle);
                self.receive();
            }
        }
    }

    /// Sends a copy of a handle to the other one, if there is room.
    fn send(&mut self, handle: Handle) {
        let rights = RIGHTS;
        let copy = Transfer { handle, rights }.to_raw();
        let message = Outgoing::Registers {
            length: 0,
            handles: 1,
            words: [copy, 0, 0],
        };
        let port = self.other;
        let sent = self.guest.call(Call::Send { port, message });
        let errors = [Error::QueueFull, Error::PeerGone];
        assert!(sent.is_ok() || errors.map(Err).contains(&sent), "{sent:?}");
    }

    fn receive(&mut self) {
        match self.guest.receive(self.receives, Deadline::NOW) {
            Ok((copy, _)) => self.timers.push(Transfer::from_raw(copy).unwrap().handle),
            Err(error) => assert_eq!(error, Error::QueueEmpty),
        }
    }

    /// Takes all that has been sent to it.
    fn receive_all(&mut self) {
        let mut before = usize::MAX;
        while before != self.timers.len() {
            before = self.timers.len();
            self.receive();
        }
    }
}

fn workers(machine: &Machine) -> [Worker; 2] {
    let mut guests = [machine.guest(), machine.guest()];
    let ports = guests.each_mut().map(|guest| guest.create_port(2));
    let others = [
        guests[1].give(ports[1].1, Rights::SEND, &guests[0]),
        guests[0].give(ports[0].1, Rights::SEND, &guests[1]),
    ];
    let mut parts = guests.into_iter().zip(ports).zip(others);
    [(); 2].map(|()| {
        let ((guest, (receives, _)), other) = parts.next().unwrap();
        Worker {
            guest,
            receives,
            other,
            timers: Vec::new(),
        }
    })
}

/// A timer of this guest's.
fn timer(guest: &mut Guest) -> Handle {
    let (_, notifies) = guest.create(Create::Event {
        slot: 3,
        interval_ns: 0,
    });
    let event = notifies.unwrap();
    guest.create(Create::Timer { event, bits: 1 }).0
}

#[test]
fn an_object_is_gone_once_when_its_last_handle_is_closed() {
    explore(1000, || {
        let machine = Machine::new(2);
        let free_frames = machine.free_frames();
        let [mut one, other] = workers(&machine);
        let kept = timer(&mut one.guest);
        one.timers.push(one.guest.grant(kept, RIGHTS).unwrap());
        let threads = [one, other].map(|mut worker| {
            thread::spawn(move || {
                (0..8).for_each(|_| worker.act());
                worker
            })
        });
        let mut workers = threads.map(|thread| thread.join().unwrap());
        for worker in &mut workers {
            worker.receive_all();
            for handle in std::mem::take(&mut worker.timers) {
                worker.guest.close(handle).unwrap();
            }
        }
        let gone = |workers: &[Worker; 2]| -> usize {
            let gone = workers
                .iter()
                .map(|worker| worker.guest.timers_gone().len());
            gone.sum()
        };
        assert_eq!(gone(&workers), 0, "there is one handle left");
        workers[0].guest.close(kept).unwrap();
        assert_eq!(gone(&workers), 1);
        drop(workers);
        assert_eq!(machine.free_frames(), free_frames, "frames are missing");
        assert_eq!(machine.account().kernel_bytes_used(), 0);
    });
}

#[test]
fn what_a_domain_gets_while_it_ends_is_closed_with_it() {
    explore(1000, || {
        let machine = Machine::new(3);
        let mut maker = machine.guest();
        let kept = timer(&mut maker);
        let [mut sender, mut made] = workers(&machine);
        let handle = maker.give(kept, RIGHTS, &sender.guest);
        let to = Object::Domain(Arc::downgrade(&made.guest.domain));
        let to = Some(maker.hold(to, Rights::BUILD));
        let sending = thread::spawn(move || {
            sender.send(handle);
            sender.guest.end();
            sender.guest.timers_gone().len()
        });
        let ending = thread::spawn(move || {
            made.guest.end();
            made.guest.timers_gone().len()
        });
        let granted = maker.call(Call::Grant {
            handle: kept,
            rights: RIGHTS,
            badge: 0,
            to,
        });
        assert!(
            matches!(granted, Ok(_) | Err(Error::PeerGone)),
            "{granted:?}"
        );
        let gone = sending.join().unwrap() + ending.join().unwrap();
        assert_eq!(gone, 0, "there is one handle left");
        maker.close(kept).unwrap();
        assert_eq!(maker.timers_gone().len(), 1);
    });
}

#[test]
fn a_domain_that_several_end_gives_up_what_it_holds_once() {
    explore(1000, || {
        let machine = Machine::new(3);
        let [mut first, mut second] = [(); 2].map(|()| machine.guest());
        let (receives, sends) = first.create_port(1);
        let made = machine.guest();
        // The port of its vcpu's monitor counts one sender until the domain ends.
        let port = first.domain.handles.lock().copy(sends, Rights::SEND);
        made.add_monitored_vcpu(&machine, Some(port.unwrap()));
        let domain = made.domain;
        let same = domain.clone();
        let other = thread::spawn(move || second.end_domain(&same));
        first.end_domain(&domain);
        other.join().unwrap();
        let left = first.receive(receives, Deadline::NOW);
        assert_eq!(left, Err(Error::QueueEmpty), "there is a sender left");
        first.close(sends).unwrap();
        let none = first.receive(receives, Deadline::NOW);
        assert_eq!(none, Err(Error::PeerGone));
    });
}
