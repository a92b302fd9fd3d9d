//! The verbs: one file each, and the dispatch that decodes a call once and picks its file.
//!
//! Pure: a handler checks everything, then acts on objects, and returns what the loop has to do.
//! Waking, printing and the clock come in through [`Effects`].
//!
//! Invariant: a call that returns an error has changed nothing, and no call panics, whatever its
//! registers hold.

#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

mod abandon;
mod arm;
#[expect(clippy::module_inception, reason = "the verb is called so")]
mod call;
mod close;
mod create;
mod grant;
mod hello;
mod lend;
mod map;
mod message;
mod notify;
mod query;
mod receive;
mod reply;
mod resume;
mod run;
mod schedule;
mod send;
mod start;
mod stop;
mod submit;
#[cfg(test)]
mod tests;
mod unmap;
mod wait;

use alloc::sync::Arc;

use nuncio_abi::{Call, Deadline, Error, Message, RawCall, Verb, MAX_VALUES};

use crate::mem::KernelCharge;
use crate::object::{
    CpuIndex, Domain, DomainId, Entry, Event, Target, Timer, Vcpu, VcpuId, VcpuNumber, Wake,
};

pub use abandon::abandon;
pub use lend::lend_to_busy;
pub use resume::resume;
pub use schedule::ScheduleTerms;
pub use submit::{Entry as RingEntry, Submission, Then};
pub use wait::sleep;

/// Who calls.
#[derive(Clone, Copy)]
pub struct Caller<'a> {
    /// The domain whose handles count.
    pub domain: &'a Domain,
    /// The vcpu that made the call.
    pub vcpu: &'a Vcpu,
}

/// What a handler needs of the world around the objects.
pub trait Effects {
    /// Nanoseconds of the system clock.
    fn now_ns(&self) -> u64;

    /// Tells a vcpu that something has happened for it.
    fn wake(&mut self, wake: Wake);

    /// Tells it, and gives it the CPU if the caller goes to sleep now: to do what the caller waits for, on
    /// its time.
    fn hand_over(&mut self, wake: Wake);

    /// Tells it, and gives it the CPU if the caller goes to sleep now: it has got what it waited for.
    fn hand_back(&mut self, wake: Wake);

    /// The caller goes to sleep now, and lends what it runs with to a vcpu that is busy. The lender is the
    /// caller, or a vcpu for which it waits and which waits for the borrower.
    fn lend(&mut self, lender: VcpuId, to: VcpuId);

    /// The caller does not go to sleep, or no more: it lends nothing to anybody.
    fn end_lending(&mut self, caller: VcpuId);

    /// The calling vcpu has taken the call of that caller, who has slept before it, out of a queue. The
    /// call of the next one is the first now.
    fn serve(&mut self, caller: VcpuId, next: Option<VcpuId>);

    /// The CPU on which the call is made, and on which what it makes is to run.
    fn cpu(&self) -> CpuIndex;

    /// A number for a domain that is about to be made.
    fn new_domain_id(&mut self) -> DomainId;

    /// Keeps a domain that was made until its maker gives it up.
    fn keep_domain(&mut self, domain: Arc<Domain>);

    /// A number for a vcpu that is about to be made; `None` if there are too many.
    fn new_vcpu_id(&mut self) -> Option<VcpuId>;

    /// Has the vcpu of a domain start at an entry, after [`Outcome::Start`].
    fn start(&mut self, domain: Arc<Domain>, vcpu: Vcpu, entry: Entry);

    /// Has a vcpu stop, after [`Outcome::StopVcpu`].
    fn stop_vcpu(&mut self, domain: Arc<Domain>, number: VcpuNumber);

    /// Whether the machine has that CPU.
    fn has_cpu(&self, cpu: CpuIndex) -> bool;

    /// The highest priority that the calling vcpu may give.
    fn ceiling(&self, caller: VcpuId) -> u8;

    /// Has the vcpu of a domain scheduled otherwise, after [`Outcome::Schedule`].
    fn schedule(&mut self, domain: Arc<Domain>, number: VcpuNumber, terms: ScheduleTerms);

    /// Makes a timer that is not armed; `None` if there are too many.
    fn add_timer(
        &mut self,
        event: Arc<Event>,
        bits: u64,
        charge: KernelCharge,
    ) -> Option<Arc<Timer>>;

    /// Makes an event that posts bits only so often; `None` if there are too many.
    fn add_event(
        &mut self,
        target: Target,
        interval_ns: u64,
        charge: KernelCharge,
    ) -> Option<Arc<Event>>;

    /// Sets when a timer is due; at once if the deadline has passed.
    fn arm_timer(&mut self, timer: &Timer, deadline: Deadline);

    /// Shows what a domain writes to its console.
    fn console(&mut self, domain: &Domain, message: &Message);
}

/// Where the caller finds the values of a reply: in its registers, or in an entry of a ring.
pub trait Answer {
    /// Sets the first two.
    fn pair(&mut self, first: u64, second: u64);

    /// Sets all five.
    fn full(&mut self, values: &[u64; MAX_VALUES]);
}

/// What the loop does with the caller after a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It has its values and goes on.
    Done,
    /// It gets the error and goes on.
    Error(Error),
    /// It sleeps until it is woken or the deadline passes; then it goes on by [`resume`].
    Block(Deadline),
    /// That domain ends with that exit code.
    Stop(DomainId, u64),
    /// The vcpu that [`Effects::start`] was told starts; the caller goes on with a status.
    Start,
    /// The vcpu of which [`Effects::schedule`] was told is scheduled otherwise; the caller goes on with a
    /// status.
    Schedule,
    /// That vcpu, which the caller runs, exits where it is; the caller goes on with the exit.
    Recall(VcpuId),
    /// The vcpu that [`Effects::stop_vcpu`] was told stops; the caller, if it is another one, goes on
    /// with a status.
    StopVcpu,
    /// So many entries of the ring at that address are made, then the caller goes on.
    Submit(u64, u8),
    /// The entries of the ring that its page names are made, then the caller waits by [`sleep`].
    SubmitAndWait(Deadline),
}

impl From<Result<(), Error>> for Outcome {
    #[inline(always)]
    fn from(result: Result<(), Error>) -> Self {
        match result {
            Ok(()) => Outcome::Done,
            Err(error) => Outcome::Error(error),
        }
    }
}

/// Makes a call.
///
/// Inlined into the loop together with the short verbs; the long ones are calls of their own.
#[inline(always)]
pub fn dispatch(
    caller: Caller<'_>,
    raw: &RawCall,
    answer: &mut impl Answer,
    effects: &mut impl Effects,
) -> Outcome {
    if raw.verb >= Call::FIRST_RARE {
        return dispatch_long(caller, *raw, answer, effects);
    }
    // What is refused here may be a `send` that waits, and else is refused there.
    let Ok(call) = Call::decode_frequent(raw) else {
        return dispatch_rare(caller, *raw, answer, effects);
    };
    match call {
        Call::Hello { version } => hello::hello(version, answer).into(),
        Call::Send { port, message } => send::send(caller, port, message, effects).into(),
        Call::Receive {
            port,
            deadline,
            buffer,
        } => receive::receive(caller, port, deadline, buffer, answer, effects),
        Call::Notify { event, bits } => notify::notify(caller, event, bits, effects).into(),
        Call::Wait { deadline } => wait::wait(caller, deadline, effects),
        Call::Map {
            space,
            memory,
            address,
            offset,
            length,
            access,
        } => map::map(
            caller,
            space,
            memory,
            map::mapping(address, offset, length, access),
            effects,
        )
        .into(),
        Call::Unmap {
            space,
            address,
            length,
        } => unmap::unmap(caller, space, address, length, effects).into(),
        Call::Close { handle } => close::close(caller, handle, effects).into(),
        Call::Query { handle, item } => query::query(caller, handle, item, answer).into(),
        Call::Stop { object, code } => stop::stop(caller, object, code, effects),
        _ => dispatch_rare(caller, *raw, answer, effects),
    }
}

/// The verbs that cost more than the way to them, kept out of the loop, whose registers they would
/// take.
#[inline(always)]
fn dispatch_long(
    caller: Caller<'_>,
    raw: RawCall,
    answer: &mut impl Answer,
    effects: &mut impl Effects,
) -> Outcome {
    if raw.verb == Verb::Call.number() {
        dispatch_call(caller, raw, effects)
    } else if raw.verb == Verb::Reply.number() {
        dispatch_reply(caller, raw, answer, effects)
    } else {
        dispatch_rare(caller, raw, answer, effects)
    }
}

/// Decodes a call whose verb is known, which leaves little of the decoding.
#[inline(always)]
fn decode(verb: Verb, raw: RawCall) -> Result<Call, Error> {
    Call::decode_rare(&RawCall {
        verb: verb.number(),
        arguments: raw.arguments,
    })
}

#[inline(never)]
fn dispatch_call(caller: Caller<'_>, raw: RawCall, effects: &mut impl Effects) -> Outcome {
    match decode(Verb::Call, raw) {
        Ok(Call::Call {
            port,
            message,
            deadline,
        }) => call::call(caller, port, message, deadline, effects),
        Ok(_) => Outcome::Error(Error::UnknownVerb),
        Err(error) => Outcome::Error(error),
    }
}

#[inline(never)]
fn dispatch_reply(
    caller: Caller<'_>,
    raw: RawCall,
    answer: &mut impl Answer,
    effects: &mut impl Effects,
) -> Outcome {
    match decode(Verb::Reply, raw) {
        Ok(Call::Reply {
            port,
            token,
            message,
            then_receive,
        }) => reply::reply(caller, port, token, message, then_receive, answer, effects),
        Ok(_) => Outcome::Error(Error::UnknownVerb),
        Err(error) => Outcome::Error(error),
    }
}

/// The calls that nobody makes often, and what is none.
#[inline(never)]
fn dispatch_rare(
    caller: Caller<'_>,
    raw: RawCall,
    answer: &mut impl Answer,
    effects: &mut impl Effects,
) -> Outcome {
    let call = match Call::decode(&raw) {
        Ok(call) => call,
        Err(error) => return Outcome::Error(error),
    };
    match call {
        Call::Create(what) => create::create(caller, what, answer, effects).into(),
        Call::Grant {
            handle,
            rights,
            badge,
            to,
        } => grant::grant(caller, handle, rights, badge, to, answer).into(),
        Call::Start {
            vcpu,
            entry,
            stack,
            argument,
            page_table,
        } => {
            let entry = Entry {
                instruction: entry,
                stack,
                argument,
                page_table,
            };
            start::start(caller, vcpu, entry, effects)
        }
        Call::Run {
            vcpu,
            space,
            resume,
        } => run::run(caller, vcpu, space, resume, effects),
        Call::SendWaiting {
            port,
            message,
            deadline,
        } => send::send_waiting(caller, port, message, deadline, effects),
        Call::Arm { timer, deadline } => arm::arm(caller, timer, deadline, effects).into(),
        Call::Schedule {
            vcpu,
            priority,
            budget,
            cpu,
        } => {
            let terms = ScheduleTerms {
                priority,
                budget,
                cpu,
            };
            schedule::schedule(caller, vcpu, terms, effects)
        }
        Call::Submit { ring, entries } => Outcome::Submit(ring, entries),
        // What `dispatch` has kept to itself.
        _ => Outcome::Error(Error::UnknownVerb),
    }
}

/// Sleeps until the deadline, or gives the error at once if it has passed.
///
/// The clock is read only for deadlines that are points in time.
fn block_until(deadline: Deadline, passed: Error, effects: &impl Effects) -> Outcome {
    let has_passed = deadline == Deadline::NOW
        || (deadline != Deadline::NEVER && deadline.has_passed(effects.now_ns()));
    if has_passed {
        Outcome::Error(passed)
    } else {
        Outcome::Block(deadline)
    }
}
