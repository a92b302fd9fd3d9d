use super::*;
use crate::mem::arena::Arena;
use crate::mem::{Frame, PhysicalMemory};
use crate::object::{AwaitedAnswer, Waiting};
use nuncio_abi::{Deadline, VcpuPage};
use proptest::prelude::*;
use std::collections::VecDeque as Model;

const RECEIVER: VcpuId = VcpuId(3);

fn port(capacity: usize) -> (Port, VcpuPage<'static>) {
    let page = Arena::leak(1, 1).words(Frame(1)).unwrap();
    let target = Target {
        vcpu: RECEIVER,
        page,
        slot: 0,
    };
    let port = Port::new(capacity, target, None);
    port.sender_added();
    VcpuPage::new(page).slot(0).unwrap().enable(ARRIVAL);
    (port, VcpuPage::new(page))
}

/// A message and its badge.
fn queued(number: u64) -> (Message, u64) {
    let mut words = [0; 8];
    words[0] = number;
    (Message { length: 8, words }, number)
}

fn send(port: &Port, number: u64) -> Result<Option<Wake>, Error> {
    port.send(&queued(number).0, Vec::new(), number)
        .map_err(|(error, _)| error)
}

/// Goes to sleep in `receive`; false if there is no need to.
fn block(port: &Port) -> bool {
    let delivery = port.receive(RECEIVER, |_| Ok(Delivery::Refused), || Ok(Arc::default()));
    delivery == Ok(Delivery::Awaited)
}

fn take(port: &Port) -> Result<(Message, u64), Error> {
    port.unblock_receiver();
    let mut taken = None;
    let accept = |queued: &Queued| {
        taken = Some((queued.message, queued.badge));
        Ok(Delivery::Done)
    };
    port.receive(RECEIVER, accept, || Err(Error::QueueEmpty))?;
    Ok(taken.unwrap())
}

proptest! {
    #[test]
    fn a_port_is_a_bounded_queue(capacity in 1usize..5, steps in proptest::collection::vec(any::<bool>(), 0..80)) {
        let (port, _) = port(capacity);
        let mut model = Model::new();
        for (number, is_send) in steps.into_iter().enumerate() {
            let number = number as u64;
            if is_send {
                let expected = if model.len() < capacity { Ok(()) } else { Err(Error::QueueFull) };
                prop_assert_eq!(send(&port, number).map(|_| ()), expected);
                if expected.is_ok() {
                    model.push_back(queued(number));
                }
            } else {
                let expected = model.pop_front().ok_or(Error::QueueEmpty);
                prop_assert_eq!(take(&port), expected);
            }
            prop_assert_eq!(port.usage(), (model.len(), capacity));
        }
    }
}

#[test]
fn a_message_that_cannot_be_delivered_stays_first() {
    let (port, _) = port(2);
    send(&port, 1).unwrap();
    let refused = port.receive(
        RECEIVER,
        |_| Err(Error::BufferTooSmall),
        || Err(Error::QueueEmpty),
    );
    assert_eq!(refused.err(), Some(Error::BufferTooSmall));
    assert_eq!(take(&port), Ok(queued(1)));
}

#[test]
fn a_blocked_receiver_is_woken_and_finds_no_arrival_bit() {
    let (port, page) = port(2);
    assert!(block(&port));
    assert_eq!(send(&port, 1), Ok(Some(Wake::Blocked(RECEIVER))));
    assert_eq!(page.ready(), 0);
    assert!(!block(&port), "there is a message now");
}

#[test]
fn after_a_time_out_arrivals_are_announced_again() {
    let (port, page) = port(2);
    assert!(block(&port));
    assert_eq!(take(&port), Err(Error::QueueEmpty));
    assert_eq!(send(&port, 1), Ok(Some(Wake::Event(RECEIVER))));
    assert_eq!(page.ready(), 1);
    assert_eq!(send(&port, 2), Ok(None), "coalesced");
}

/// Sends when it is the sender's turn; `None` if it waits for that.
fn send_in_turn(port: &Port, number: u64, sender: u32) -> Result<Option<Option<Wake>>, Error> {
    let (message, badge) = queued(number);
    let sent = port.send_in_turn(&message, Vec::new(), badge, VcpuId(sender), || Ok(()));
    match sent.map_err(|(error, _)| error)? {
        Sent::Done(wake) => Ok(Some(wake)),
        Sent::Awaits(_) => Ok(None),
    }
}

/// A full port of two messages with senders 10 and 11 in its line.
fn port_with_a_line() -> (Port, VcpuPage<'static>) {
    let (port, page) = port(2);
    for number in 0..2 {
        send(&port, number).unwrap();
    }
    for sender in [10, 11] {
        assert_eq!(send_in_turn(&port, 9, sender), Ok(None));
    }
    (port, page)
}

/// Takes a message, and says who has to be told that there is room.
fn receive(port: &Port) -> Option<Wake> {
    let delivery = port.receive(RECEIVER, |_| Ok(Delivery::Done), || Err(Error::QueueEmpty));
    match delivery.unwrap() {
        Delivery::DoneFor(call) => port.taken(call).sender,
        _ => None,
    }
}

const NEXT: [Option<Wake>; 2] = [
    Some(Wake::Blocked(VcpuId(10))),
    Some(Wake::Blocked(VcpuId(11))),
];

#[test]
fn senders_wait_in_line_and_nobody_overtakes() {
    let (port, _) = port_with_a_line();
    assert_eq!(
        send_in_turn(&port, 9, 12),
        Err(Error::QueueFull),
        "as many as messages"
    );
    assert_eq!(receive(&port), NEXT[0]);
    // There is room, but not for these.
    assert_eq!(send(&port, 9), Err(Error::QueueFull));
    assert!(!port.takes_calls());
    assert_eq!(send_in_turn(&port, 9, 11), Ok(None), "it keeps its place");
    assert!(matches!(send_in_turn(&port, 2, 10), Ok(Some(_))));
    assert_eq!(port.leave_line(VcpuId(10)), None, "it is full again");
    assert_eq!(receive(&port), NEXT[1]);
    assert!(matches!(send_in_turn(&port, 3, 11), Ok(Some(_))));
    assert_eq!(port.leave_line(VcpuId(11)), None);
    assert_eq!(receive(&port), None);
    assert!(send(&port, 4).is_ok(), "nobody waits");
}

#[test]
fn whoever_has_waited_comes_first_at_a_receiver_that_waits() {
    let (port, _) = port_with_a_line();
    for _ in 0..2 {
        assert_eq!(receive(&port), NEXT[0]);
    }
    assert!(block(&port));
    let sleeper = Arc::default();
    let called = port.call_short(&[0; MAX_VALUES], VcpuId(12), &sleeper, |_| unreachable!());
    assert!(called.is_none());
    let caller = CallingVcpu {
        vcpu: VcpuId(12),
        sleeper,
    };
    let (message, badge) = queued(9);
    let called = port.call(&message, Vec::new(), badge, caller, |_| unreachable!());
    assert_eq!(called.err().map(|(error, _)| error), Some(Error::QueueFull));
    assert_eq!(send(&port, 9), Err(Error::QueueFull));
    let woken = Some(Wake::Blocked(RECEIVER));
    assert_eq!(send_in_turn(&port, 2, 10), Ok(Some(woken)));
}

#[test]
fn who_leaves_the_line_passes_the_turn_on() {
    let (port, _) = port_with_a_line();
    take(&port).unwrap();
    assert_eq!(port.leave_line(VcpuId(10)), Some(Wake::Blocked(VcpuId(11))));
    let mut woken = std::vec::Vec::new();
    port.receiver_gone(&mut |wake| woken.push(wake));
    assert_eq!(woken, [Wake::Blocked(VcpuId(11))]);
    assert_eq!(send_in_turn(&port, 1, 11), Err(Error::PeerGone));
}

#[test]
fn the_last_sender_leaving_wakes_the_receiver() {
    let (port, _) = port(1);
    assert!(block(&port));
    let mut woken = std::vec::Vec::new();
    port.sender_gone(&mut |wake| woken.push(wake));
    assert_eq!(woken, [Wake::Blocked(RECEIVER)]);
    assert_eq!(take(&port), Err(Error::PeerGone));
    assert!(!block(&port));
}

#[test]
fn messages_outlive_their_sender_but_not_their_receiver() {
    let (first, _) = port(1);
    send(&first, 1).unwrap();
    first.sender_gone(&mut |_| {});
    assert_eq!(take(&first), Ok(queued(1)));
    let (second, _) = port(1);
    second.receiver_gone(&mut |_| {});
    assert_eq!(send(&second, 1), Err(Error::PeerGone));
}

/// Calls, and sleeps until the answer comes.
fn call(port: &Arc<Port>, number: u32) -> Arc<Sleeper> {
    let sleeper = Arc::<Sleeper>::default();
    let caller = CallingVcpu {
        vcpu: VcpuId(number),
        sleeper: sleeper.clone(),
    };
    let sleep = |token| {
        sleeper.wait_for(Waiting::Answer(AwaitedAnswer {
            port: Some(port.clone()),
            token,
            deadline: Deadline(1000),
            buffer: None,
        }));
    };
    let message = queued(1).0;
    assert!(port.call(&message, Vec::new(), 0, caller, sleep).is_ok());
    sleeper
}

#[test]
fn whoever_has_given_up_a_call_hears_nothing_more_of_it() {
    let [gone, other] = [(); 2].map(|()| Arc::new(port(2).0));
    let [first, second] = [1, 2].map(|number| call(&gone, number));
    // On another CPU the second caller's deadline passes, and it calls somebody else.
    let mut moved_on = false;
    gone.receiver_gone(&mut |_| {
        if let Some(awaited) = second.take_awaited_answer() {
            moved_on = true;
            awaited.cancel();
            second.wait_for(Waiting::Answer(AwaitedAnswer {
                port: Some(other.clone()),
                token: CallToken::new(0, 1),
                deadline: Deadline::NEVER,
                buffer: None,
            }));
        }
    });
    assert!(matches!(first.take(), Waiting::Unanswered));
    match second.take() {
        Waiting::Answer(_) => assert!(moved_on),
        Waiting::Unanswered => assert!(!moved_on, "its second call can be answered"),
        _ => panic!("it waits"),
    }
}
