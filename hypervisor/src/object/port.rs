//! Ports: bounded queues of messages with one receiver, and the calls that wait for its answers.
//!
//! Handles in messages count as handles: while one is queued, its object has a holder. No message
//! carries the right to receive, so no two ports keep each other alive.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use nuncio_abi::{CallToken, Error, Message, MAX_VALUES, MESSAGE_HANDLES};

use crate::lock::{rank, Mutex};
use crate::mem::{Account, KernelCharge, OutOfFrames};
use crate::sched::VcpuId;

use super::calls::{CallingVcpu, Calls, BYTES_PER_CALL};
use super::line::{Line, BYTES_PER_SENDER};
use super::ring::Ring;
use super::{Held, Sleeper, Target, Wake};

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
    state: Mutex<State, rank::Port>,
    _charge: Option<KernelCharge>,
}

struct State {
    /// Closed while somebody stands in the line: whoever has waited comes first, even if it has not
    /// run since there is room.
    queue: Ring,
    calls: Calls,
    line: Line,
    receiver: Receiver,
    senders: usize,
}

enum Receiver {
    /// The hypervisor's console takes every message at once.
    Console,
    /// A vcpu; `blocked` while it waits inside `receive`, and then the queue is empty.
    Vcpu {
        target: Target,
        blocked: Option<Arc<Sleeper>>,
        /// What that vcpu sleeps for, wherever it does.
        sleeper: Weak<Sleeper>,
    },
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
            blocked: None,
            sleeper: Weak::new(),
        };
        Self::with_receiver(capacity, receiver, charge)
    }

    /// A port whose receiver sleeps there, for [`Port::leads_to`].
    pub fn served_by(self, receiver: &Arc<Sleeper>) -> Self {
        if let Receiver::Vcpu { sleeper, .. } = &mut self.state.lock().receiver {
            *sleeper = Arc::downgrade(receiver);
        }
        self
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
            each(BYTES_PER_SENDER),
            each(handles),
        ])
    }

    fn with_receiver(capacity: usize, receiver: Receiver, charge: Option<KernelCharge>) -> Self {
        Port {
            state: Mutex::new(State {
                queue: Ring::new(capacity),
                calls: Calls::new(capacity),
                line: Line::new(capacity),
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

    /// Queues a message, or leaves it to a receiver that waits. Returns who has to be told.
    ///
    /// # Errors
    /// `PeerGone` without a receiver, `QueueFull` without room or while others wait for it.
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
        Ok(state.take_in(message, badge, None, handles))
    }

    /// Sends as [`Port::send`] does if it is the sender's turn. If not, asks `sleep` whether it waits
    /// for that: then it stands in the line until it leaves, last if it does not stand there yet.
    ///
    /// # Errors
    /// `PeerGone` without a receiver, `QueueFull` without a place in the line, and what `sleep`
    /// returns.
    pub fn send_in_turn(
        &self,
        message: &Message,
        handles: Vec<Held>,
        badge: u64,
        sender: VcpuId,
        sleep: impl FnOnce() -> Result<(), Error>,
    ) -> Result<Sent, Refused> {
        let mut state = self.state.lock();
        if matches!(state.receiver, Receiver::Gone) {
            return Err((Error::PeerGone, handles));
        }
        if state.is_turn_of(sender) {
            state.queue.set_open(true);
            let wake = state.take_in(message, badge, None, handles);
            state.close_for_line();
            return Ok(Sent::Done(wake));
        }
        if !state.line.takes(sender) {
            return Err((Error::QueueFull, handles));
        }
        if let Err(error) = sleep() {
            return Err((error, handles));
        }
        state.line.join(sender);
        state.close_for_line();
        Ok(Sent::Awaits(handles))
    }

    /// The sender waits no more, whatever the reason. Returns who is next, if there is room.
    pub fn leave_line(&self, sender: VcpuId) -> Option<Wake> {
        let mut state = self.state.lock();
        state.line.leave(sender);
        state.close_for_line();
        state.next_sender()
    }

    /// Whoever stands first in the line, if there is room.
    pub fn next_sender(&self) -> Option<Wake> {
        self.state.lock().next_sender()
    }

    /// Whether a call could be queued, or nobody is left who could answer one.
    pub fn takes_calls(&self) -> bool {
        let state = self.state.lock();
        match state.check_room() {
            Ok(()) => state.calls.has_room(),
            Err(error) => error == Error::PeerGone,
        }
    }

    /// Queues a message whose sender waits for the answer, as [`Port::send`] does. `sleep` is given the
    /// token of the call and puts the sender to sleep, before anybody can answer. Returns who has to be
    /// told.
    ///
    /// # Errors
    /// `PeerGone` without a receiver that could answer, `QueueFull` without room.
    #[inline(always)]
    pub fn call(
        &self,
        message: &Message,
        handles: Vec<Held>,
        badge: u64,
        caller: CallingVcpu,
        sleep: impl FnOnce(CallToken),
    ) -> Result<Option<Wake>, Refused> {
        let mut state = self.state.lock();
        if matches!(state.receiver, Receiver::Console) {
            return Err((Error::PeerGone, handles));
        }
        if let Err(error) = state.check_room() {
            return Err((error, handles));
        }
        let Some(token) = state.calls.insert(caller) else {
            return Err((Error::QueueFull, handles));
        };
        sleep(token);
        Ok(state.take_in(message, badge, Some(token), handles))
    }

    /// As [`Port::call`] with a message that fits into registers, for a receiver that waits. Does nothing
    /// and returns `None` where only that will do. `values` are the receiver's, without the token.
    #[inline(always)]
    pub fn call_short(
        &self,
        values: &[u64; MAX_VALUES],
        caller: VcpuId,
        sleeper: &Arc<Sleeper>,
        sleep: impl FnOnce(CallToken),
    ) -> Option<Wake> {
        let mut state = self.state.lock();
        let State {
            queue,
            calls,
            receiver,
            ..
        } = &mut *state;
        let Receiver::Vcpu {
            target, blocked, ..
        } = receiver
        else {
            return None;
        };
        let receiver = blocked.as_ref()?;
        if !queue.is_open() {
            return None;
        }
        let token = calls.next()?;
        let [header, rest @ ..] = *values;
        let [badge, first, second, third] = rest;
        let values = [header | token.to_header(), badge, first, second, third];
        if !receiver.receive_short(&values) {
            return None;
        }
        *blocked = None;
        let caller = CallingVcpu {
            vcpu: caller,
            sleeper: sleeper.clone(),
        };
        calls.insert(caller);
        // The receiver may run already, but its answer has to wait for the lock.
        sleep(token);
        Some(Wake::Blocked(target.vcpu))
    }

    /// Leaves an answer that fits into registers to whoever waits for it. Does nothing and returns
    /// `None` where only [`Port::answer`] will do.
    #[inline(always)]
    pub fn answer_short(&self, token: CallToken, values: &[u64; MAX_VALUES]) -> Option<Wake> {
        let mut state = self.state.lock();
        let CallingVcpu { vcpu, sleeper } = state.calls.get(token)?;
        if !sleeper.answer_short(values) {
            return None;
        }
        let vcpu = *vcpu;
        state.calls.remove(token);
        Some(Wake::Blocked(vcpu))
    }

    /// Hands an answer to whoever waits for it. Returns whom to wake.
    ///
    /// # Errors
    /// `PeerGone` if the token names no call, or nobody waits any more; `BadArgument` if the caller
    /// cannot take so long an answer; it goes on waiting.
    #[inline(always)]
    pub fn answer(
        &self,
        token: CallToken,
        message: &Message,
        handles: Vec<Held>,
    ) -> Result<Wake, Refused> {
        let mut state = self.state.lock();
        let Some(CallingVcpu { vcpu, sleeper }) = state.calls.get(token) else {
            return Err((Error::PeerGone, handles));
        };
        let vcpu = *vcpu;
        sleeper.answer(message, handles)?;
        state.calls.remove(token);
        Ok(Wake::Blocked(vcpu))
    }

    /// The caller does not wait for the answer any more.
    pub fn cancel(&self, token: CallToken) {
        self.state.lock().calls.remove(token);
    }

    /// Takes the first message if `accept` delivers it, else leaves it where it is. If there is none
    /// and one may come, asks `sleep` who waits for it.
    ///
    /// # Errors
    /// `WrongState` for another vcpu than the receiver; `PeerGone` if the queue is empty and nobody can
    /// send; and what `accept` and `sleep` return.
    #[inline(always)]
    pub fn receive(
        &self,
        vcpu: VcpuId,
        accept: impl FnOnce(&Queued) -> Result<Delivery, Error>,
        sleep: impl FnOnce() -> Result<Arc<Sleeper>, Error>,
    ) -> Result<Delivery, Error> {
        let mut state = self.state.lock();
        if !state.is_receiver(vcpu) {
            return Err(Error::WrongState);
        }
        let Some(first) = state.queue.front() else {
            if state.senders == 0 {
                return Err(Error::PeerGone);
            }
            let sleeper = sleep()?;
            state.set_blocked(Some(sleeper));
            return Ok(Delivery::Awaited);
        };
        let token = first.token;
        let delivery = accept(first)?;
        if delivery != Delivery::Done {
            return Ok(delivery);
        }
        state.queue.pop();
        Ok(if token.is_none() && state.queue.is_open() {
            delivery
        } else {
            Delivery::DoneFor(token)
        })
    }

    /// Takes the first message if `accept` delivers it but for its handles, which are returned and
    /// count as held until they are closed; and so is the call that it was, if it was one.
    ///
    /// # Errors
    /// `QueueEmpty`, and what `accept` returns.
    pub fn receive_handles(
        &self,
        accept: impl FnOnce(&Queued) -> Result<(), Error>,
    ) -> Result<(Vec<Held>, Option<CallToken>), Error> {
        let mut state = self.state.lock();
        let first = state.queue.front().ok_or(Error::QueueEmpty)?;
        let token = first.token;
        accept(first)?;
        let handles = state.queue.take_handles();
        state.queue.pop();
        Ok((handles, token))
    }

    /// Who has to do with it that a message was taken, which was a call if it had a token.
    #[cold]
    pub fn taken(&self, token: Option<CallToken>) -> Taken {
        let state = self.state.lock();
        let caller = |token| Some(state.calls.get(token)?.vcpu);
        let first = state.queue.front().and_then(|first| first.token);
        Taken {
            caller: token.and_then(caller),
            next: first.and_then(caller),
            sender: state.next_sender(),
        }
    }

    /// Whether an answer from here has to wait for that sleeper: its receiver is that one, or waits for
    /// ever for an answer that leads there. Looks along so many calls at most.
    #[inline(never)]
    pub fn leads_to(&self, caller: &Arc<Sleeper>, calls: usize) -> bool {
        let Some((_, Some(receiver))) = self.busy_receiver() else {
            return false;
        };
        if Arc::ptr_eq(&receiver, caller) {
            return true;
        }
        // One lock at a time: a wait that never ends cannot be over meanwhile.
        let next = receiver.awaited_for_ever();
        next.is_some_and(|port| calls > 1 && port.leads_to(caller, calls.saturating_sub(1)))
    }

    /// The receiver, if it does not wait for a message from here, and what it sleeps for.
    pub fn busy_receiver(&self) -> Option<(VcpuId, Option<Arc<Sleeper>>)> {
        match &self.state.lock().receiver {
            Receiver::Vcpu {
                blocked: None,
                sleeper,
                target,
            } => Some((target.vcpu, sleeper.upgrade())),
            _ => None,
        }
    }

    /// The receiver does not wait any more.
    pub fn unblock_receiver(&self) {
        self.state.lock().set_blocked(None);
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
        let before = core::mem::replace(&mut state.receiver, Receiver::Gone);
        let handles = state.queue.clear();
        // Under the lock: behind it a caller may give up by itself, and wait for another port's answer.
        let give_up_hope = |CallingVcpu { vcpu, sleeper }| sleeper.give_up_hope().then_some(vcpu);
        let callers: Vec<_> = state.calls.drain().filter_map(give_up_hope).collect();
        let senders = state.line.take_all();
        // Handles in messages may name this very port.
        drop(state);
        // Another vcpu of its domain has closed the handle with which this one receives.
        if let Receiver::Vcpu {
            target,
            blocked: Some(_),
            ..
        } = before
        {
            wake(Wake::Blocked(target.vcpu));
        }
        for caller in callers {
            wake(Wake::Blocked(caller));
        }
        // Each looks again, and finds that nobody is left to receive.
        for sender in senders {
            wake(Wake::Blocked(sender));
        }
        Held::close_all(handles, wake);
    }
}

/// What became of a message that may wait for room.
pub enum Sent {
    /// It is sent. Says who has to be told.
    Done(Option<Wake>),
    /// It is not: its sender stands in the line. Its handles come back.
    Awaits(Vec<Held>),
}

/// Who has to do with it that a message was taken out of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Whose call it was, if he waits for the answer.
    pub caller: Option<VcpuId>,
    /// Whose call is the first now.
    pub next: Option<VcpuId>,
    /// Whoever stands first in the line, and has room now.
    pub sender: Option<Wake>,
}

/// What became of the first message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// It is delivered, and had no handles.
    Done,
    /// So it is, and others have to do with that: see [`Port::taken`]. The call that it was, if it was one.
    DoneFor(Option<CallToken>),
    /// It stays the first: it has handles, which the caller was not ready for.
    Refused,
    /// There is none, and the receiver waits for one.
    Awaited,
}

impl State {
    #[inline]
    fn check_room(&self) -> Result<(), Error> {
        if matches!(self.receiver, Receiver::Gone) {
            Err(Error::PeerGone)
        } else if !self.queue.has_room() {
            Err(Error::QueueFull)
        } else {
            Ok(())
        }
    }

    #[inline(always)]
    fn is_receiver(&self, vcpu: VcpuId) -> bool {
        matches!(&self.receiver, Receiver::Vcpu { target, .. } if target.vcpu == vcpu)
    }

    fn is_turn_of(&self, sender: VcpuId) -> bool {
        let first = self.line.first();
        self.queue.has_place() && first.is_none_or(|first| first == sender)
    }

    fn close_for_line(&mut self) {
        self.queue.set_open(self.line.is_empty());
    }

    /// The first in the line, if there is room for its message.
    fn next_sender(&self) -> Option<Wake> {
        let first = self.line.first().filter(|_| self.queue.has_place());
        first.map(Wake::Blocked)
    }

    #[inline(always)]
    fn set_blocked(&mut self, value: Option<Arc<Sleeper>>) {
        if let Receiver::Vcpu { blocked, .. } = &mut self.receiver {
            *blocked = value;
        }
    }

    /// Leaves a message to the receiver that waits for it, or queues it.
    #[inline(always)]
    fn take_in(
        &mut self,
        message: &Message,
        badge: u64,
        token: Option<CallToken>,
        handles: Vec<Held>,
    ) -> Option<Wake> {
        if let Receiver::Vcpu {
            target, blocked, ..
        } = &mut self.receiver
        {
            if let Some(sleeper) = blocked.take() {
                if handles.is_empty() && sleeper.receive(message, badge, token).is_ok() {
                    // Without handles there is nothing to give back, which the compiler does not see.
                    core::mem::forget(handles);
                } else {
                    let _ = self.queue.push(message, badge, token, handles);
                }
                return Some(Wake::Blocked(target.vcpu));
            }
        }
        let _ = self.queue.push(message, badge, token, handles);
        self.announce()
    }

    /// A receiver inside `receive` is woken; any other finds the arrival bit in its slot.
    fn announce(&mut self) -> Option<Wake> {
        match &mut self.receiver {
            Receiver::Vcpu {
                target, blocked, ..
            } => {
                if blocked.take().is_some() {
                    return Some(Wake::Blocked(target.vcpu));
                }
                target.announce(ARRIVAL)
            }
            Receiver::Console | Receiver::Gone => None,
        }
    }
}

#[cfg(test)]
mod tests;
