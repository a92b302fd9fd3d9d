//! Ports: bounded queues of messages with one receiver.

use nuncio_abi::{Error, Message, Posted};
use spin::Mutex;

use super::ring::Ring;
use super::{Target, Wake};

/// A message and the badge of the handle through which it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queued {
    /// The message.
    pub message: Message,
    /// Tells the receiver who sent; the sender cannot choose it.
    pub badge: u64,
}

/// A port.
pub struct Port {
    state: Mutex<State>,
}

struct State {
    queue: Ring,
    receiver: Receiver,
    senders: usize,
}

enum Receiver {
    /// The hypervisor's console takes every message at once.
    Console,
    /// A vcpu; `blocked` while it waits inside `receive`.
    Vcpu { target: Target, blocked: bool },
    /// Nobody any more.
    Gone,
}

/// Bit of the receiver's slot that announces a message.
const ARRIVAL: u64 = 1;

impl Port {
    /// A port for at most `capacity` messages, announced at `receiver`.
    pub fn new(capacity: usize, receiver: Target) -> Self {
        Port {
            state: Mutex::new(State {
                queue: Ring::new(capacity),
                receiver: Receiver::Vcpu {
                    target: receiver,
                    blocked: false,
                },
                senders: 0,
            }),
        }
    }

    /// The port behind every domain's console handle.
    pub fn console() -> Self {
        Port {
            state: Mutex::new(State {
                queue: Ring::new(0),
                receiver: Receiver::Console,
                senders: 0,
            }),
        }
    }

    /// Whether messages go to the console instead of a queue.
    #[inline]
    pub fn is_console(&self) -> bool {
        matches!(self.state.lock().receiver, Receiver::Console)
    }

    /// Messages queued, and how many there can be.
    pub fn usage(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.queue.len(), state.queue.capacity())
    }

    /// Queues a message. Returns who has to be told.
    ///
    /// # Errors
    /// `PeerGone` without a receiver, `QueueFull` without room.
    pub fn send(&self, message: &Message, badge: u64) -> Result<Option<Wake>, Error> {
        let mut state = self.state.lock();
        if matches!(state.receiver, Receiver::Gone) {
            return Err(Error::PeerGone);
        }
        state.queue.push(message, badge).ok_or(Error::QueueFull)?;
        Ok(state.announce())
    }

    /// Takes the first message if `accept` can deliver it, else leaves it where it is.
    ///
    /// # Errors
    /// `PeerGone` if the queue is empty and nobody can send, `QueueEmpty` if it is only empty,
    /// and what `accept` returns.
    pub fn receive<T>(&self, accept: impl FnOnce(&Queued) -> Result<T, Error>) -> Result<T, Error> {
        let mut state = self.state.lock();
        state.set_blocked(false);
        let Some(first) = state.queue.front() else {
            return Err(if state.senders == 0 {
                Error::PeerGone
            } else {
                Error::QueueEmpty
            });
        };
        let accepted = accept(first)?;
        state.queue.pop();
        Ok(accepted)
    }

    /// The receiver goes to sleep until a message comes. `false` if one has come meanwhile.
    pub fn block_receiver(&self) -> bool {
        let mut state = self.state.lock();
        let nothing_to_do = state.queue.len() == 0 && state.senders != 0;
        state.set_blocked(nothing_to_do);
        nothing_to_do
    }

    #[cfg(test)]
    pub(super) fn senders(&self) -> usize {
        self.state.lock().senders
    }

    pub(super) fn sender_added(&self) {
        let mut state = self.state.lock();
        state.senders = state.senders.saturating_add(1);
    }

    pub(super) fn sender_gone(&self, wake: &mut dyn FnMut(Wake)) {
        let mut state = self.state.lock();
        state.senders = state.senders.saturating_sub(1);
        if state.senders == 0 {
            // Whoever waits for a message learns from its next receive that none will come.
            state.announce().into_iter().for_each(wake);
        }
    }

    pub(super) fn receiver_gone(&self) {
        let mut state = self.state.lock();
        state.receiver = Receiver::Gone;
        state.queue.clear();
    }
}

impl State {
    fn set_blocked(&mut self, value: bool) {
        if let Receiver::Vcpu { blocked, .. } = &mut self.receiver {
            *blocked = value;
        }
    }

    /// A receiver inside `receive` is woken; any other finds the arrival bit in its slot.
    fn announce(&mut self) -> Option<Wake> {
        match &mut self.receiver {
            Receiver::Vcpu { target, blocked } if *blocked => {
                *blocked = false;
                Some(Wake::Blocked(target.vcpu))
            }
            Receiver::Vcpu { target, .. } => {
                let posted = target.post(ARRIVAL);
                (posted == Posted::Announced).then_some(Wake::Event(target.vcpu))
            }
            Receiver::Console | Receiver::Gone => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::arena::Arena;
    use crate::mem::{Frame, PhysicalMemory};
    use crate::sched::VcpuId;
    use nuncio_abi::VcpuPage;
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
        let port = Port::new(capacity, target);
        port.sender_added();
        VcpuPage::new(page).slot(0).unwrap().enable(ARRIVAL);
        (port, VcpuPage::new(page))
    }

    fn queued(number: u64) -> Queued {
        let mut words = [0; 8];
        words[0] = number;
        Queued {
            message: Message { length: 8, words },
            badge: number,
        }
    }

    fn send(port: &Port, number: u64) -> Result<Option<Wake>, Error> {
        port.send(&queued(number).message, number)
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
                    prop_assert_eq!(port.receive(|queued| Ok(*queued)), expected);
                }
                prop_assert_eq!(port.usage(), (model.len(), capacity));
            }
        }
    }

    #[test]
    fn a_message_that_cannot_be_delivered_stays_first() {
        let (port, _) = port(2);
        send(&port, 1).unwrap();
        let refused = port.receive(|_| Err::<(), _>(Error::BufferTooSmall));
        assert_eq!(refused, Err(Error::BufferTooSmall));
        assert_eq!(port.receive(|queued| Ok(*queued)), Ok(queued(1)));
    }

    #[test]
    fn a_blocked_receiver_is_woken_and_finds_no_arrival_bit() {
        let (port, page) = port(2);
        assert!(port.block_receiver());
        assert_eq!(send(&port, 1), Ok(Some(Wake::Blocked(RECEIVER))));
        assert_eq!(page.ready(), 0);
        assert!(!port.block_receiver(), "there is a message now");
    }

    #[test]
    fn after_a_time_out_arrivals_are_announced_again() {
        let (port, page) = port(2);
        assert!(port.block_receiver());
        assert_eq!(port.receive(|queued| Ok(*queued)), Err(Error::QueueEmpty));
        assert_eq!(send(&port, 1), Ok(Some(Wake::Event(RECEIVER))));
        assert_eq!(page.ready(), 1);
        assert_eq!(send(&port, 2), Ok(None), "coalesced");
    }

    #[test]
    fn the_last_sender_leaving_wakes_the_receiver() {
        let (port, _) = port(1);
        assert!(port.block_receiver());
        let mut woken = std::vec::Vec::new();
        port.sender_gone(&mut |wake| woken.push(wake));
        assert_eq!(woken, [Wake::Blocked(RECEIVER)]);
        assert_eq!(port.receive(|queued| Ok(*queued)), Err(Error::PeerGone));
        assert!(!port.block_receiver());
    }

    #[test]
    fn messages_outlive_their_sender_but_not_their_receiver() {
        let (first, _) = port(1);
        send(&first, 1).unwrap();
        first.sender_gone(&mut |_| {});
        assert_eq!(first.receive(|queued| Ok(*queued)), Ok(queued(1)));
        let (second, _) = port(1);
        second.receiver_gone();
        assert_eq!(send(&second, 1), Err(Error::PeerGone));
    }
}
