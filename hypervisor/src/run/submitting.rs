//! Calls that stand in a ring: made one after the other, each with its reply in its entry.
//!
//! An entry that sleeps puts the vcpu to sleep in the middle of its ring; so does the end of its
//! slice, between two entries. The world remembers how far it has come, and its registers are as they
//! were when it made the call.

use nuncio_abi::{RawCall, Reply, MAX_ARGUMENTS, MAX_VALUES};

use crate::call::{dispatch, resume, Caller, Outcome, RingEntry, Submission, Then};
use crate::vt::{Registers, Vendor};

use super::{Flow, Platform, Runner, World};

impl<V: Vendor, P: Platform> Runner<V, P> {
    /// The ring whose entries come next, or else what has become of the call without one.
    pub(super) fn submission(
        &self,
        world: &World<V, P>,
        outcome: Outcome,
    ) -> Result<Submission, Outcome> {
        match outcome {
            Outcome::Submit(ring, entries) => {
                Submission::begin(caller(world), ring, entries, Then::Reply).map_err(Outcome::Error)
            }
            Outcome::SubmitAndWait(deadline) => {
                Submission::before_sleep(caller(world), Then::Wait(deadline)).ok_or(outcome)
            }
            outcome => Err(outcome),
        }
    }

    /// Makes the calls of a ring.
    pub(super) fn submit(&mut self, world: &mut World<V, P>, submission: Submission) -> Flow {
        self.make_entries(world, submission, None, Registers::default())
    }

    /// Goes on with the entry that has put the vcpu to sleep, if one has, and then with the others.
    #[cold]
    pub(super) fn resume_submission(&mut self, world: &mut World<V, P>) -> Flow {
        let Some(submission) = world.submission.take() else {
            return Flow::Continue;
        };
        let mut values = Registers::default();
        let slept = resume(caller(world), &mut values, &mut self.context);
        self.make_entries(world, submission, slept, values)
    }

    /// Makes one entry after the other, from what has become of the first one on if that is known.
    #[inline(never)]
    fn make_entries(
        &mut self,
        world: &mut World<V, P>,
        mut submission: Submission,
        mut slept: Option<Outcome>,
        mut values: Registers,
    ) -> Flow {
        let mut call = RawCall {
            verb: 0,
            arguments: [0; MAX_ARGUMENTS],
        };
        let mut next = match slept {
            Some(_) => None,
            None => submission.next(&world.domain.space, &mut call),
        };
        loop {
            let outcome = match (slept.take(), next.take()) {
                (Some(outcome), _) => outcome,
                (None, Some(RingEntry::Call)) => {
                    dispatch(caller(world), &call, &mut values, &mut self.context)
                }
                (None, Some(RingEntry::Refused(error))) => Outcome::Error(error),
                (None, None) => return self.end_submission(world, submission),
            };
            let flow = match self.conclude_entry(world, outcome, &mut values) {
                Ok(status) => {
                    let space = &world.domain.space;
                    next = submission.finish(space, status, &values.values(), &mut call);
                    values.set_values(&[0; MAX_VALUES]);
                    self.give_way(world)
                }
                Err(flow) => flow,
            };
            if flow != Flow::Continue {
                world.submission = Some(submission);
                return flow;
            }
        }
    }

    /// The status of an entry that has come to its end.
    #[inline(always)]
    fn conclude_entry(
        &mut self,
        world: &mut World<V, P>,
        outcome: Outcome,
        values: &mut Registers,
    ) -> Result<u64, Flow> {
        match outcome {
            Outcome::Done => Ok(0),
            Outcome::Error(error) => Ok(error.number()),
            outcome => {
                let reply = self.carry_out(world, outcome)?;
                values.set_values(&reply.values());
                Ok(reply.status())
            }
        }
    }

    /// The entries are done: what the vcpu was about to do.
    fn end_submission(&mut self, world: &mut World<V, P>, submission: Submission) -> Flow {
        match submission.then() {
            Then::Reply => self.reply(world, Reply::Pair(submission.done(), 0)),
            Then::Wait(deadline) => match self.carry_out(world, Outcome::SubmitAndWait(deadline)) {
                Ok(reply) => self.reply(world, reply),
                Err(flow) => flow,
            },
            Then::Halt => self.sleep_in_halt(world),
        }
    }

    /// Between two entries: what happens between two calls without the guest's doing, so that a ring
    /// keeps the CPU no longer than calls do.
    #[inline(always)]
    fn give_way(&mut self, world: &mut World<V, P>) -> Flow {
        if self.context.scheduler.attention().is_told_by_others() && !self.listen() {
            return Flow::Yield;
        }
        let scheduler = &self.context.scheduler;
        if scheduler.is_outranked() {
            return Flow::Yield;
        }
        let has_rival = scheduler.has_rival();
        if self.armed_ns == u64::MAX && !has_rival {
            return Flow::Continue;
        }
        let now_ns = self.context.platform.now_ns();
        if now_ns >= self.armed_ns {
            return self.interrupt(world, self.slice_end_ns);
        }
        if now_ns >= self.slice_end_ns && has_rival {
            return Flow::Yield;
        }
        Flow::Continue
    }
}

#[inline(always)]
fn caller<V: Vendor, P: Platform>(world: &World<V, P>) -> Caller<'_> {
    Caller {
        domain: &world.domain,
        vcpu: &world.object,
    }
}
