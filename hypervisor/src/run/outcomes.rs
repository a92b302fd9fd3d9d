//! What calls leave to the loop, and the reply that its caller gets in the end.

use alloc::sync::Arc;

use nuncio_abi::{Deadline, Error, Reply, StopReason};

use crate::call::{sleep, Caller, Outcome};
use crate::object::{Arrival, Domain, DomainId, Waiting};
use crate::sched::VcpuId;
use crate::vt::{Vendor, VirtualCpu};

use super::requests::Wish;
use super::{Flow, Platform, Runner, World};

impl<V: Vendor, P: Platform> Runner<V, P> {
    /// Does what only the loop can do. Returns the reply to the call, wherever it goes.
    ///
    /// # Errors
    /// What becomes of the caller, if it has no reply yet or will never have one.
    pub(super) fn carry_out(
        &mut self,
        world: &mut World<V, P>,
        outcome: Outcome,
    ) -> Result<Reply, Flow> {
        match outcome {
            Outcome::Done => Ok(Reply::Done),
            Outcome::Error(error) => Ok(Reply::Error(error)),
            Outcome::Block(deadline) => Err(Flow::Block(deadline)),
            Outcome::Stop(id, code) => self.stop(world, id, code),
            Outcome::Start => self.start_made(world),
            Outcome::Schedule => self.schedule_vcpu(world),
            Outcome::Recall(id) => self.finish_run(world, id),
            Outcome::StopVcpu => self.stop_vcpu(world),
            // The loop has begun it, or this is an entry of a ring, which begins no other.
            Outcome::Submit(..) => Ok(Reply::Error(Error::BadArgument)),
            Outcome::SubmitAndWait(deadline) => {
                let caller = Caller {
                    domain: &world.domain,
                    vcpu: &world.object,
                };
                let outcome = sleep(caller, deadline, &self.context);
                self.carry_out(world, outcome)
            }
        }
    }

    /// Gives a caller its reply, in its registers.
    pub(super) fn reply(&mut self, world: &mut World<V, P>, reply: Reply) -> Flow {
        match reply {
            Reply::Done | Reply::Error(_) => {}
            Reply::Pair(first, second) => world.vcpu.set_pair(first, second),
            Reply::Full(values) => world.vcpu.set_values(&values),
        }
        world.vcpu.complete_call(reply.status());
        self.exit_if_recalled(world)
    }

    fn stop(&mut self, world: &World<V, P>, id: DomainId, code: u64) -> Result<Reply, Flow> {
        if id == world.domain.id {
            return Err(Flow::End(StopReason::Exited, code));
        }
        let domain = self.context.cpus.domains().lock().get(id);
        let Some(domain) = domain else {
            return Ok(Reply::Done);
        };
        self.end_any(&domain, StopReason::Exited, code);
        self.end_orphans();
        if core::mem::take(&mut self.is_doomed) {
            return Err(Flow::End(StopReason::Destroyed, 0));
        }
        // Vcpus of it may run on other CPUs yet.
        let sleeper = world.object.sleeper();
        sleeper.wait_for(Waiting::Elsewhere);
        if domain.await_close(world.object.id(), sleeper) {
            return Err(Flow::Block(Deadline::NEVER));
        }
        sleeper.take();
        Ok(Reply::Done)
    }

    /// Has the vcpu exit that this one runs, which is the end of the call that runs it.
    #[cold]
    fn finish_run(&mut self, world: &mut World<V, P>, id: VcpuId) -> Result<Reply, Flow> {
        if let Some(cpu) = self.locate(id) {
            self.recall_elsewhere(cpu, id);
            return Err(Flow::Block(Deadline::NEVER));
        }
        self.context.scheduler.end_lending(world.object.id());
        let recalled = self.recall(id);
        self.vendor.load(&mut world.vcpu);
        let exit = recalled
            .ok()
            .and_then(|()| world.object.sleeper().take_arrival());
        Ok(match exit {
            Some(Arrival::Exit(values)) => Reply::Full(values),
            _ => {
                world.object.sleeper().take();
                Reply::Error(Error::PeerGone)
            }
        })
    }

    #[cold]
    fn stop_vcpu(&mut self, world: &mut World<V, P>) -> Result<Reply, Flow> {
        let Some((domain, number)) = self.context.stopping.take() else {
            return Ok(Reply::Error(Error::WrongState));
        };
        let Some((id, true)) = domain.vcpu(number) else {
            return Ok(Reply::Error(Error::WrongState));
        };
        if id == world.object.id() {
            return match world.monitoring {
                Some(_) => Ok(status(world.stop_after_call())),
                None => Err(Flow::Stop),
            };
        }
        if let Some(cpu) = self.locate(id) {
            return Err(self.ask(world, cpu, Wish::Stop(domain, id)));
        }
        let stopped = self.stop_any(&domain, id);
        self.vendor.load(&mut world.vcpu);
        Ok(status(stopped))
    }

    /// Stops another vcpu of this CPU's.
    ///
    /// # Errors
    /// `WrongState` if it does not run here: it is being started, or has just been stopped. `QueueFull`
    /// if its monitor cannot be told.
    pub(super) fn stop_any(&mut self, domain: &Arc<Domain>, id: VcpuId) -> Result<(), Error> {
        let world = self.take_of(domain, id).ok_or(Error::WrongState)?;
        if world.monitoring.is_some() {
            self.put_back(world);
            return self.recall(id);
        }
        self.stop_world(world);
        Ok(())
    }
}

fn status(result: Result<(), Error>) -> Reply {
    result.map_or_else(Reply::Error, |()| Reply::Done)
}
