//! Ports: bounded queues of messages with one receiver, and the calls that wait for its answers.
//!
//! Handles in messages count as handles: while one is queued, its object has a holder. No message
//! carries the right to receive, so no two ports keep each other alive.

use alloc::sync::Arc;
use alloc::vec::Vec;

use nuncio_abi::{CallToken, Error, Message, Posted, MESSAGE_HANDLES, REGISTER_WORDS};
use spin::Mutex;

use crate::mem::{Account, KernelCharge, OutOfFrames};

use super::answer::{Answer, CallingVcpu};
use super::calls::{Calls, BYTES_PER_CALL};
use super::ring::Ring;
use super::{Held, Target, Wake};

/// A message with what goes with it.
pub struct Queued {
    /// The message.
    pub message: Message,
    /// Tells the receiver who sent; the sender cannot choose it.
    pub badge: u64,
    /// Names the call, if the sender waits for an answer.
    pub token: Option<CallToken>,
    /// Copies of handles for the receiver.
    pub handles: Vec<Held>,
}

/// Why something was not sent; the handles that were to go with it come back.
pub type Refused = (Error, Vec<Held>);

/// A port.
pub struct Port {
    state: Mutex<State>,
    _charge: Option<KernelCharge>,
}

struct State {
    queue: Ring,
    calls: Calls,
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
    /// A port for at most `capacity` messages, announced at `receiver`; `charge` pays for it, if
    /// anybody does.
    pub fn new(capacity: usize, receiver: Target, charge: Option<KernelCharge>) -> Self {
        let receiver = Receiver::Vcpu {
            target: receiver,
            blocked: false,
        };
        Self::with_receiver(capacity, receiver, charge)
    }

    /// Pays for a port with all that can ever be in it.
    ///
    /// # Errors
    /// When the account may not take as much.
    pub fn charge(account: &Arc<Account>, capacity: usize) -> Result<KernelCharge, OutOfFrames> {
        let each = |bytes: usize| capacity.saturating_mul(bytes);
        let handles = MESSAGE_HANDLES
            .saturating_mul(size_of::<Held>())
            .next_power_of_two();
        account.charge_kernel(&[
            size_of::<Port>(),
            each(size_of::<Queued>()),
            each(BYTES_PER_CALL),
            each(handles),
        ])
    }

    fn with_receiver(capacity: usize, receiver: Receiver, charge: Option<KernelCharge>) -> Self {
        Port {
            state: Mutex::new(State {
                queue: Ring::new(capacity),
                calls: Calls::new(capacity),
                receiver,
                senders: 0,
            }),
            _charge: charge,
        }
    }

    /// The port behind every domain's console handle.
    pub fn console() -> Self {
        Self::with_receiver(0, Receiver::Console, None)
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
    #[inline]
    pub fn send(
        &self,
        message: &Message,
        handles: Vec<Held>,
        badge: u64,
    ) -> Result<Option<Wake>, Refused> {
        let mut state = self.state.lock();
        if let Err(error) = state.check_room() {
            return Err((error, handles));
        }
        let _ = state.queue.push(message, badge, None, handles);
        Ok(state.announce())
    }

    /// Queues a message whose sender waits for the answer. Returns who has to be told.
    ///
    /// # Errors
    /// `PeerGone` without a receiver that could answer, `QueueFull` without room.
    pub fn call(
        self: &Arc<Self>,
        message: &Message,
        handles: Vec<Held>,
        badge: u64,
        caller: CallingVcpu,
    ) -> Result<Option<Wake>, Refused> {
        let mut state = self.state.lock();
        if matches!(state.receiver, Receiver::Console) {
            return Err((Error::PeerGone, handles));
        }
        if let Err(error) = state.check_room() {
            return Err((error, handles));
        }
        let cell = caller.cell.clone();
        let Some(token) = state.calls.insert(caller) else {
            return Err((Error::QueueFull, handles));
        };
        let _ = state.queue.push(message, badge, Some(token), handles);
        cell.await_from(self.clone(), token);
        Ok(state.announce())
    }

    /// Hands an answer to whoever waits for it. Returns whom to wake.
    ///
    /// # Errors
    /// `PeerGone` if the token names no call, or nobody waits any more; `BadArgument` if the caller
    /// cannot take so long an answer; it goes on waiting.
    pub fn answer(
        &self,
        token: CallToken,
        message: Message,
        handles: Vec<Held>,
    ) -> Result<Wake, Refused> {
        let mut state = self.state.lock();
        let Some(caller) = state.calls.get(token) else {
            return Err((Error::PeerGone, handles));
        };
        if !caller.has_buffer && !fits_registers(&message, handles.len()) {
            return Err((Error::BadArgument, handles));
        }
        let Some(CallingVcpu { vcpu, cell, .. }) = state.calls.remove(token) else {
            return Err((Error::PeerGone, handles));
        };
        drop(state);
        match cell.put(Answer::Here(message, handles)) {
            Ok(()) => Ok(Wake::Blocked(vcpu)),
            Err(Answer::Here(_, handles)) => Err((Error::PeerGone, handles)),
            Err(_) => Err((Error::PeerGone, Vec::new())),
        }
    }

    /// The caller does not wait for the answer any more.
    pub fn cancel(&self, token: CallToken) {
        self.state.lock().calls.remove(token);
    }

    /// Takes the first message if `accept` delivers it, else leaves it where it is. Returns the
    /// handles that were in it, which count as held until they are closed.
    ///
    /// # Errors
    /// `PeerGone` if the queue is empty and nobody can send, `QueueEmpty` if it is only empty,
    /// and what `accept` returns.
    #[inline]
    pub fn receive(
        &self,
        accept: impl FnOnce(&Queued) -> Result<Delivery, Error>,
    ) -> Result<(Delivery, Vec<Held>), Error> {
        let mut state = self.state.lock();
        state.set_blocked(false);
        let Some(first) = state.queue.front() else {
            return Err(if state.senders == 0 {
                Error::PeerGone
            } else {
                Error::QueueEmpty
            });
        };
        let delivery = accept(first)?;
        let handles = match delivery {
            Delivery::Done => Vec::new(),
            Delivery::WithHandles => state.queue.take_handles(),
            Delivery::Refused => return Ok((delivery, Vec::new())),
        };
        state.queue.pop();
        Ok((delivery, handles))
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

    pub(super) fn receiver_gone(&self, wake: &mut dyn FnMut(Wake)) {
        let mut state = self.state.lock();
        state.receiver = Receiver::Gone;
        let handles = state.queue.clear();
        let callers: Vec<_> = state.calls.drain().collect();
        // Handles in messages may name this very port.
        drop(state);
        for CallingVcpu { vcpu, cell, .. } in callers {
            if cell.put(Answer::Never).is_ok() {
                wake(Wake::Blocked(vcpu));
            }
        }
        Held::close_all(handles, wake);
    }
}

/// What became of the first message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// It is delivered, and had no handles.
    Done,
    /// It is delivered but for its handles.
    WithHandles,
    /// It stays the first: it has handles, which the caller was not ready for.
    Refused,
}

/// Whether a message and its handles fit into the registers of a reply.
pub fn fits_registers(message: &Message, handles: usize) -> bool {
    let words = usize::from(message.length).div_ceil(8);
    words.saturating_add(handles) <= REGISTER_WORDS
}

impl State {
    #[inline]
    fn check_room(&self) -> Result<(), Error> {
        if matches!(self.receiver, Receiver::Gone) {
            Err(Error::PeerGone)
        } else if self.queue.len() >= self.queue.capacity() {
            Err(Error::QueueFull)
        } else {
            Ok(())
        }
    }

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

    fn take(port: &Port) -> Result<(Message, u64), Error> {
        let mut taken = None;
        port.receive(|queued| {
            taken = Some((queued.message, queued.badge));
            Ok(Delivery::Done)
        })?;
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
        let refused = port.receive(|_| Err(Error::BufferTooSmall));
        assert_eq!(refused.err(), Some(Error::BufferTooSmall));
        assert_eq!(take(&port), Ok(queued(1)));
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
        assert_eq!(take(&port), Err(Error::QueueEmpty));
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
        assert_eq!(take(&port), Err(Error::PeerGone));
        assert!(!port.block_receiver());
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
}
