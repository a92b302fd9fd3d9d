//! Ports: messages and calls between vcpus on CPUs of their own, and what becomes of them when
//! somebody goes or is woken for something else.

use interleavings::{explore, Guest, Machine};
use nuncio_abi::{Call, Create, Deadline, Error, Handle, Rights, VcpuPage};
use shuttle::thread::{self, JoinHandle};

const WORDS: [u64; 2] = [10, 20];

/// Two guests, each with a handle for sending to a port and with a word of its own, that do something
/// and say what came of it.
fn two_senders<T: Send + 'static>(
    machine: &Machine,
    owner: &Guest,
    port: Handle,
    act: fn(&mut Guest, Handle, u64) -> T,
) -> [JoinHandle<T>; 2] {
    WORDS.map(|word| {
        let mut guest = machine.guest();
        let port = owner.give(port, Rights::SEND, &guest);
        thread::spawn(move || act(&mut guest, port, word))
    })
}

fn join<T>(threads: [JoinHandle<T>; 2]) -> [T; 2] {
    threads.map(|thread| thread.join().unwrap())
}

/// Asks until there is room for the question.
fn ask(guest: &mut Guest, port: Handle, word: u64) -> Result<u64, Error> {
    loop {
        match guest.ask(port, word, Deadline::NEVER) {
            Err(Error::QueueFull) => thread::yield_now(),
            answer => return answer,
        }
    }
}

#[test]
fn every_call_is_answered_once() {
    explore(1000, || {
        let machine = Machine::new(3);
        let mut server = machine.guest();
        let (receives, sends) = server.create_port(1);
        let callers = two_senders(&machine, &server, sends, ask);
        for _ in WORDS {
            let (word, token) = server.receive(receives, Deadline::NEVER).unwrap();
            assert_eq!(server.answer(receives, token.unwrap(), word + 1), Ok(()));
        }
        assert_eq!(join(callers), WORDS.map(|word| Ok(word + 1)));
    });
}

#[test]
fn a_caller_learns_that_nobody_is_left_to_answer() {
    explore(1000, || {
        let machine = Machine::new(3);
        let mut server = machine.guest();
        let (receives, sends) = server.create_port(1);
        let callers = two_senders(&machine, &server, sends, ask);
        let (word, token) = server.receive(receives, Deadline::NEVER).unwrap();
        assert_eq!(server.answer(receives, token.unwrap(), word + 1), Ok(()));
        server.close(receives).unwrap();
        let expected = |of: u64| match of == word {
            true => Ok(of + 1),
            false => Err(Error::PeerGone),
        };
        assert_eq!(join(callers), WORDS.map(expected));
    });
}

#[test]
fn an_answer_is_given_if_and_only_if_it_arrives() {
    explore(1000, || {
        let machine = Machine::new(2);
        let mut server = machine.guest();
        let (receives, sends) = server.create_port(1);
        let mut guest = machine.guest();
        let port = server.give(sends, Rights::SEND, &guest);
        // The deadline has passed when the question is asked: the caller gives up at once.
        let caller = thread::spawn(move || guest.ask(port, 10, Deadline(1)));
        let (word, token) = server.receive(receives, Deadline::NEVER).unwrap();
        let answered = server.answer(receives, token.unwrap(), word + 1);
        match caller.join().unwrap() {
            Ok(answer) => assert_eq!((answer, answered), (11, Ok(()))),
            Err(error) => assert_eq!((error, answered), (Error::TimedOut, Err(Error::PeerGone))),
        }
    });
}

#[test]
fn messages_arrive_once_and_in_order_and_the_last_sender_is_missed() {
    explore(1000, || {
        let machine = Machine::new(3);
        let mut server = machine.guest();
        let (receives, sends) = server.create_port(2);
        let senders = two_senders(&machine, &server, sends, |guest, port, word| {
            for number in 0..2 {
                assert_eq!(guest.send_waiting(port, word + number), Ok(()));
            }
            guest.close(port).unwrap();
        });
        server.close(sends).unwrap();
        let mut words = Vec::new();
        let end = loop {
            match server.receive(receives, Deadline::NEVER) {
                Ok((word, _)) => words.push(word),
                Err(error) => break error,
            }
        };
        assert_eq!(end, Error::PeerGone);
        join(senders);
        for first in WORDS {
            let own = words.iter().filter(|word| **word / 10 == first / 10);
            assert_eq!(own.copied().collect::<Vec<_>>(), [first, first + 1]);
        }
        assert_eq!(words.len(), 4);
    });
}

#[test]
fn senders_in_the_line_learn_that_the_receiver_has_gone() {
    explore(1000, || {
        let machine = Machine::new(3);
        let mut server = machine.guest();
        let (receives, sends) = server.create_port(2);
        let senders = two_senders(&machine, &server, sends, |guest, port, word| {
            let sent = [0, 1].map(|number| guest.send_waiting(port, word + number));
            assert!(
                matches!(sent, [Ok(()), _] | [_, Err(_)])
                    && sent
                        .iter()
                        .all(|sent| matches!(sent, Ok(()) | Err(Error::PeerGone))),
                "{sent:?}"
            );
        });
        server.receive(receives, Deadline::NEVER).unwrap();
        server.close(receives).unwrap();
        join(senders);
    });
}

/// A guest that is woken by bits of an event, and another one that sets two of them.
fn disturbed(machine: &Machine, guest: &mut Guest) -> JoinHandle<()> {
    let (_, notifies) = guest.create(Create::Event {
        slot: 1,
        interval_ns: 0,
    });
    events(guest).enable(0b11);
    let mut other = machine.guest();
    let event = guest.give(notifies.unwrap(), Rights::NOTIFY, &other);
    thread::spawn(move || {
        for bits in [0b01, 0b10] {
            other.call(Call::Notify { event, bits }).unwrap();
        }
    })
}

fn events(guest: &Guest) -> nuncio_abi::EventWord<'static> {
    let page: VcpuPage<'static> = guest.vcpu.page();
    page.slot(1).unwrap()
}

#[test]
fn an_answer_comes_however_often_its_caller_is_woken_for_something_else() {
    explore(1000, || {
        let machine = Machine::new(3);
        let mut server = machine.guest();
        let (receives, sends) = server.create_port(1);
        let mut guest = machine.guest();
        let port = server.give(sends, Rights::SEND, &guest);
        let notifier = disturbed(&machine, &mut guest);
        let caller = thread::spawn(move || guest.ask(port, 10, Deadline::NEVER));
        let (word, token) = server.receive(receives, Deadline::NEVER).unwrap();
        assert_eq!(server.answer(receives, token.unwrap(), word + 1), Ok(()));
        assert_eq!(caller.join().unwrap(), Ok(11));
        notifier.join().unwrap();
    });
}

#[test]
fn a_server_that_something_else_has_woken_can_answer_at_once() {
    explore(1000, || {
        let machine = Machine::new(3);
        let mut server = machine.guest();
        let (receives, sends) = server.create_port(1);
        let notifier = disturbed(&machine, &mut server);
        let mut guest = machine.guest();
        let port = server.give(sends, Rights::SEND, &guest);
        let caller = thread::spawn(move || guest.ask(port, 10, Deadline::NEVER));
        let (word, token) = loop {
            match server.receive(receives, Deadline::NEVER) {
                Err(Error::Interrupted) => events(&server).take(),
                received => break received.unwrap(),
            };
        };
        assert_eq!(server.answer(receives, token.unwrap(), word + 1), Ok(()));
        assert_eq!(caller.join().unwrap(), Ok(11));
        notifier.join().unwrap();
    });
}

#[test]
fn neither_messages_nor_events_are_lost_to_a_receiver_of_both() {
    explore(1000, || {
        let machine = Machine::new(3);
        let mut server = machine.guest();
        let (receives, sends) = server.create_port(1);
        let notifier = disturbed(&machine, &mut server);
        let mut guest = machine.guest();
        let port = server.give(sends, Rights::SEND, &guest);
        let sender = thread::spawn(move || {
            for word in WORDS {
                assert_eq!(guest.send_waiting(port, word), Ok(()));
            }
        });
        let (mut words, mut bits) = (Vec::new(), 0);
        while words.len() < WORDS.len() {
            match server.receive(receives, Deadline::NEVER) {
                Ok((word, _)) => words.push(word),
                Err(error) => {
                    assert_eq!(error, Error::Interrupted);
                    bits |= events(&server).take();
                }
            }
        }
        assert_eq!(words, WORDS);
        while bits != 0b11 {
            let deadline = Deadline::NEVER;
            server.call(Call::Wait { deadline }).unwrap();
            bits |= events(&server).take();
        }
        sender.join().unwrap();
        notifier.join().unwrap();
    });
}

/// The last to call sees the circle; if both see it, both are refused. None sleeps for ever, which shuttle
/// would report.
#[test]
fn two_that_call_each_other_do_not_both_sleep() {
    explore(2000, || {
        let machine = Machine::new(3);
        let [mut first, mut second] = [(); 2].map(|()| machine.guest());
        let ports = [first.create_port(1), second.create_port(1)];
        let to_second = second.give(ports[1].1, Rights::SEND, &first);
        let to_first = first.give(ports[0].1, Rights::SEND, &second);
        let threads = [
            (first, ports[0].0, to_second),
            (second, ports[1].0, to_first),
        ];
        let threads = threads.map(|(mut guest, own, other)| {
            thread::spawn(move || {
                let answer = guest.ask(other, 1, Deadline::NEVER);
                // Whoever waits for this one learns that it will not answer.
                guest.close(own).unwrap();
                answer
            })
        });
        let answers = join(threads);
        assert!(answers.contains(&Err(Error::WrongState)), "{answers:?}");
        let is_refused = |answer| matches!(answer, Err(Error::WrongState | Error::PeerGone));
        assert!(answers.into_iter().all(is_refused), "{answers:?}");
    });
}
