//! What a vcpu sleeps for, and what whoever wakes it has left for it.
//!
//! A message or an answer without handles is put here as the value registers of the call, so that
//! the vcpu has only to load them. Everything else it finds out by itself when it runs again.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::lock::{rank, Mutex};
use nuncio_abi::{
    CallToken, Deadline, Error, ExitKind, Handle, Message, Outgoing, Resume, VcpuExit, MAX_VALUES,
};

use super::buffer::{deliver, fits_registers, Buffer};
use super::monitor::answer_to_exit;
use super::{Held, Monitor, Port, Refused, VcpuId, Wake};

/// What a vcpu sleeps for, or finds when it runs again.
#[derive(Default)]
pub enum Waiting {
    /// It does not sleep in a call.
    #[default]
    Nothing,
    /// It sleeps in HLT, until an upcall is due.
    Upcall,
    /// In `wait`.
    Event(Deadline),
    /// In `receive`, or in a `reply` whose answer has been given.
    Message(AwaitedMessage),
    /// In `call`: its message is queued, or received and not answered yet.
    Answer(AwaitedAnswer),
    /// In `send`: it stands in the line of a port.
    Room(AwaitedRoom),
    /// The message has come; these are its values.
    Received([u64; MAX_VALUES]),
    /// The answer has come; these are its values.
    Answered([u64; MAX_VALUES]),
    /// The answer has come, with handles or for memory that is not there.
    Packed(PackedAnswer),
    /// Nobody will answer the call: the receiver is gone.
    Unanswered,
    /// In `run`: the vcpu with that monitor runs for it.
    Run(Arc<Monitor>),
    /// The vcpu that it runs has exited; these are the values.
    Exited([u64; MAX_VALUES]),
    /// The domain of the vcpu that it runs has ended.
    Ended,
    /// Another CPU does what it has asked for.
    Elsewhere,
    /// That is done, or cannot be.
    Settled(Result<(), Error>),
    /// In an exit: its monitor has not said how it goes on.
    Monitor(AwaitedResume),
    /// Its monitor has said how it goes on.
    Resumed(Resume),
}

/// A monitor's answer to an exit that is waited for.
pub struct AwaitedResume {
    /// Where the exit was sent.
    pub port: Arc<Port>,
    /// Its place among the port's calls.
    pub token: CallToken,
    /// The kind of the exit.
    pub kind: ExitKind,
}

/// A message that is waited for.
pub struct AwaitedMessage {
    /// The port.
    pub port: Handle,
    /// How long.
    pub deadline: Deadline,
    /// Where a message goes that does not fit into registers.
    pub buffer: Option<Buffer>,
}

/// Room in a port that is waited for, and what is to be sent then. Handles and memory are looked at
/// when it is the sender's turn.
pub struct AwaitedRoom {
    /// The port, as the sender names it.
    pub handle: Handle,
    /// The message.
    pub message: Outgoing,
    /// How long.
    pub deadline: Deadline,
    /// The port in whose line it stands.
    pub port: Arc<Port>,
    /// Who stands there.
    pub sender: VcpuId,
}

impl AwaitedRoom {
    /// It is not waited for any more; the next one in the line may have it.
    pub fn leave(self, wake: &mut dyn FnMut(Wake)) {
        let next = self.port.leave_line(self.sender);
        next.into_iter().for_each(wake);
    }
}

/// An answer that is waited for.
pub struct AwaitedAnswer {
    /// Where the call was sent; `None` once it is answered.
    pub port: Option<Arc<Port>>,
    /// Its place among the port's calls.
    pub token: CallToken,
    /// How long.
    pub deadline: Deadline,
    /// Where an answer goes that does not fit into registers.
    pub buffer: Option<Buffer>,
}

impl AwaitedAnswer {
    /// It is not waited for any more.
    pub fn cancel(self) {
        if let Some(port) = self.port {
            port.cancel(self.token);
        }
    }
}

/// An answer that the caller delivers to itself.
pub struct PackedAnswer {
    /// The bytes.
    pub message: Message,
    /// Copies of handles, which count as held.
    pub handles: Vec<Held>,
    /// Where it goes if it does not fit into registers.
    pub buffer: Option<Buffer>,
}

/// Whose end a call has come to, with its values.
pub enum Arrival {
    /// A message.
    Message([u64; MAX_VALUES]),
    /// An answer.
    Answer([u64; MAX_VALUES]),
    /// An exit of the vcpu that it runs.
    Exit([u64; MAX_VALUES]),
}

/// What a vcpu that has been woken finds, see [`Sleeper::look`].
pub enum Found {
    /// It goes on waiting for a message at that port, unless it says that it does not.
    Message(Handle),
    /// It goes on waiting for an answer until then.
    Answer(Deadline),
    /// That vcpu goes on running for it.
    Run(Option<VcpuId>),
    /// It goes on waiting for another CPU.
    Elsewhere,
    /// Something has been left for it, or nobody leaves it anything: it sleeps for nothing any more.
    Taken(Waiting),
}

/// For whom a vcpu waits.
pub enum Awaited {
    /// Whoever is to answer at that port.
    Answer(Arc<Port>),
    /// The vcpu that it runs.
    Exit(VcpuId),
}

/// What one vcpu sleeps for, where those that wake it find it.
///
/// Others leave something here at any time, also while the vcpu runs its handler on another CPU. So a
/// state in which that can happen is put here before anybody can know of it, and is taken out only at
/// the end of the wait; in between would be a gap in which what is left gets lost.
#[derive(Default)]
pub struct Sleeper(Mutex<Waiting, rank::Sleeper>);

impl Sleeper {
    /// From now on it sleeps for this.
    #[inline(always)]
    pub fn wait_for(&self, waiting: Waiting) {
        let mut place = self.0.lock();
        replace_trivial(&mut place, waiting);
    }

    /// Whether it is in a call that has no end yet.
    pub fn is_in_call(&self) -> bool {
        !matches!(*self.0.lock(), Waiting::Nothing | Waiting::Upcall)
    }

    /// Takes the values that have been left for it.
    #[inline(always)]
    pub fn take_arrival(&self) -> Option<Arrival> {
        let mut waiting = self.0.lock();
        let arrival = match &*waiting {
            Waiting::Received(values) => Arrival::Message(*values),
            Waiting::Answered(values) => Arrival::Answer(*values),
            Waiting::Exited(values) => Arrival::Exit(*values),
            _ => return None,
        };
        replace_trivial(&mut waiting, Waiting::Nothing);
        Some(arrival)
    }

    /// Takes whatever there is; it sleeps for nothing any more.
    pub fn take(&self) -> Waiting {
        core::mem::take(&mut self.0.lock())
    }

    /// Takes what there is if that is an end to the wait. What somebody may still leave something for
    /// stays as it is.
    pub fn look(&self) -> Found {
        let mut waiting = self.0.lock();
        match &*waiting {
            Waiting::Message(awaited) => Found::Message(awaited.port),
            Waiting::Answer(awaited) => Found::Answer(awaited.deadline),
            Waiting::Run(monitor) => Found::Run(monitor.vcpu()),
            Waiting::Elsewhere => Found::Elsewhere,
            _ => Found::Taken(core::mem::take(&mut waiting)),
        }
    }

    /// Takes the answer that it waits for, whose time is over; `None` if it has come.
    pub fn take_awaited_answer(&self) -> Option<AwaitedAnswer> {
        let mut waiting = self.0.lock();
        match core::mem::take(&mut *waiting) {
            Waiting::Answer(awaited) => Some(awaited),
            other => {
                *waiting = other;
                None
            }
        }
    }

    /// The port at which it waits for a message.
    pub fn awaited_port(&self) -> Option<Handle> {
        match &*self.0.lock() {
            Waiting::Message(awaited) => Some(awaited.port),
            _ => None,
        }
    }

    /// Whether its call keeps room for handles free in the table of its domain.
    pub fn keeps_room(&self) -> bool {
        matches!(
            &*self.0.lock(),
            Waiting::Answer(_) | Waiting::Answered(_) | Waiting::Packed(_) | Waiting::Unanswered
        )
    }

    /// It is taken out of its call: nobody waits for the answer to it any more.
    pub fn abandon(&self, wake: &mut dyn FnMut(Wake)) {
        match self.take() {
            Waiting::Room(awaited) => awaited.leave(wake),
            Waiting::Answer(awaited) => awaited.cancel(),
            Waiting::Packed(answer) => Held::close_all(answer.handles, wake),
            Waiting::Run(monitor) => monitor.given_up(self),
            Waiting::Monitor(awaited) => awaited.port.cancel(awaited.token),
            _ => {}
        }
    }

    /// Leaves it the values of a message that fits into registers, if it waits for one and has named no
    /// buffer that would have to be looked at.
    #[inline(always)]
    pub(super) fn receive_short(&self, values: &[u64; MAX_VALUES]) -> bool {
        let mut waiting = self.0.lock();
        let waits = matches!(
            *waiting,
            Waiting::Message(AwaitedMessage { buffer: None, .. })
        );
        if waits {
            replace_trivial(&mut waiting, Waiting::Received(*values));
        }
        waits
    }

    /// Leaves it the values of such an answer, as [`Sleeper::receive_short`] does.
    #[inline(always)]
    pub(super) fn answer_short(&self, values: &[u64; MAX_VALUES]) -> bool {
        let mut waiting = self.0.lock();
        let Waiting::Answer(AwaitedAnswer {
            port, buffer: None, ..
        }) = &mut *waiting
        else {
            return false;
        };
        *port = None;
        replace_trivial(&mut waiting, Waiting::Answered(*values));
        true
    }

    /// Leaves it a message that has no handles, if it waits for one and can take this. If not, it
    /// finds the message in the queue, and out for itself what is wrong.
    #[inline(always)]
    pub(super) fn receive(
        &self,
        message: &Message,
        badge: u64,
        token: Option<CallToken>,
    ) -> Result<(), Error> {
        let mut waiting = self.0.lock();
        let Waiting::Message(AwaitedMessage { buffer, .. }) = &mut *waiting else {
            return Err(Error::PeerGone);
        };
        let values = arrive(buffer.as_ref(), message, badge, token)?;
        *buffer = None;
        replace_trivial(&mut waiting, Waiting::Received(values));
        Ok(())
    }

    /// Leaves it the answer to its call.
    ///
    /// # Errors
    /// `BadArgument` if it has no memory for so long an answer; `PeerGone` if it waits for none.
    #[inline(always)]
    pub(super) fn answer(&self, message: &Message, handles: Vec<Held>) -> Result<(), Refused> {
        let mut waiting = self.0.lock();
        let Waiting::Answer(AwaitedAnswer { port, buffer, .. }) = &mut *waiting else {
            return answer_monitored(&mut waiting, message, handles);
        };
        if buffer.is_none() && !fits_registers(message, handles.len()) {
            return Err((Error::BadArgument, handles));
        }
        if handles.is_empty() {
            if let Ok(values) = arrive(buffer.as_ref(), message, 0, None) {
                *buffer = None;
                *port = None;
                replace_trivial(&mut waiting, Waiting::Answered(values));
                // As above: nothing to give back.
                core::mem::forget(handles);
                return Ok(());
            }
        }
        let buffer = buffer.take();
        *waiting = Waiting::Packed(PackedAnswer {
            message: *message,
            handles,
            buffer,
        });
        Ok(())
    }

    /// Leaves it the exit of the vcpu that it runs, which has that monitor.
    pub(super) fn exit(&self, monitor: &Monitor, exit: VcpuExit) {
        let [first, second, third] = exit.to_words();
        self.end_run(monitor, Waiting::Exited([first, second, third, 0, 0]));
    }

    /// The domain of the vcpu that it runs, which has that monitor, has ended.
    pub(super) fn runs_nothing(&self, monitor: &Monitor) {
        self.end_run(monitor, Waiting::Ended);
    }

    fn end_run(&self, ended: &Monitor, end: Waiting) {
        let mut waiting = self.0.lock();
        // It may have given that vcpu up, and run another one.
        if matches!(&*waiting, Waiting::Run(monitor) if core::ptr::eq(&raw const **monitor, ended))
        {
            *waiting = end;
        }
    }

    /// What it has asked another CPU for is done. Whether it waits for that.
    pub fn settle(&self, result: Result<(), Error>) -> bool {
        let mut waiting = self.0.lock();
        let waits = matches!(*waiting, Waiting::Elsewhere);
        if waits {
            *waiting = Waiting::Settled(result);
        }
        waits
    }

    /// For whom it waits until they have done something for it.
    pub fn awaited(&self) -> Option<Awaited> {
        match &*self.0.lock() {
            Waiting::Answer(AwaitedAnswer {
                port: Some(port), ..
            })
            | Waiting::Monitor(AwaitedResume { port, .. }) => Some(Awaited::Answer(port.clone())),
            Waiting::Run(monitor) => monitor.vcpu().map(Awaited::Exit),
            _ => None,
        }
    }

    /// The port from which it waits for an answer without a deadline.
    pub(super) fn awaited_for_ever(&self) -> Option<Arc<Port>> {
        match &*self.0.lock() {
            Waiting::Answer(AwaitedAnswer {
                port: Some(port),
                deadline: Deadline::NEVER,
                ..
            }) => Some(port.clone()),
            _ => None,
        }
    }

    /// Whether it waits for its monitor.
    pub fn awaits_monitor(&self) -> bool {
        matches!(*self.0.lock(), Waiting::Monitor(_))
    }

    /// Whether it sleeps in HLT.
    pub fn is_halted(&self) -> bool {
        matches!(*self.0.lock(), Waiting::Upcall)
    }

    /// Nobody will answer its call; whether it waits for an answer.
    pub(super) fn give_up_hope(&self) -> bool {
        let mut waiting = self.0.lock();
        let waits = matches!(*waiting, Waiting::Answer(_) | Waiting::Monitor(_));
        if waits {
            *waiting = Waiting::Unanswered;
        }
        waits
    }
}

/// Puts another state where one is that has nothing to give back, which the compiler does not see: it
/// would look through all states.
#[inline(always)]
fn replace_trivial(place: &mut Waiting, waiting: Waiting) {
    debug_assert!(matches!(
        place,
        Waiting::Nothing
            | Waiting::Message(AwaitedMessage { buffer: None, .. })
            | Waiting::Answer(AwaitedAnswer {
                port: None,
                buffer: None,
                ..
            })
            | Waiting::Received(_)
            | Waiting::Answered(_)
            | Waiting::Exited(_)
    ));
    core::mem::forget(core::mem::replace(place, waiting));
}

/// Leaves a vcpu that has exited its monitor's answer.
#[cold]
fn answer_monitored(
    waiting: &mut Waiting,
    message: &Message,
    handles: Vec<Held>,
) -> Result<(), Refused> {
    let Waiting::Monitor(AwaitedResume { kind, .. }) = waiting else {
        return Err((Error::PeerGone, handles));
    };
    match answer_to_exit(message, *kind) {
        Ok(resume) if handles.is_empty() => {
            *waiting = Waiting::Resumed(resume);
            Ok(())
        }
        _ => Err((Error::BadArgument, handles)),
    }
}

#[inline(always)]
fn arrive(
    buffer: Option<&Buffer>,
    message: &Message,
    badge: u64,
    token: Option<CallToken>,
) -> Result<[u64; MAX_VALUES], Error> {
    let place = buffer.map(Buffer::place).transpose()?;
    deliver(message, 0, badge, token, place)
}
