//! How a vcpu comes to another priority, budget or CPU: on its own CPU, while it does not run a guest.

use alloc::sync::Arc;

use nuncio_abi::{Error, Reply};

use crate::call::ScheduleTerms;
use crate::object::{Domain, VcpuNumber};
use crate::sched::{Change, CpuIndex, Priority, Told, VcpuId};
use crate::vt::Vendor;

use super::requests::Wish;
use super::{Flow, Platform, Runner, World};

/// What a `schedule` asks for.
pub(super) struct Scheduling {
    /// The domain of the vcpu.
    pub(super) domain: Arc<Domain>,
    /// Which of its vcpus.
    pub(super) number: VcpuNumber,
    pub(super) terms: ScheduleTerms,
}

impl<V: Vendor, P: Platform> Runner<V, P> {
    /// Does what a call has asked for.
    #[cold]
    pub(super) fn schedule_vcpu(&mut self, world: &World<V, P>) -> Result<Reply, Flow> {
        let Some(scheduling) = self.context.scheduling.take() else {
            return Ok(Reply::Error(Error::WrongState));
        };
        let caller = world.object.id();
        let place = scheduling.domain.vcpu(scheduling.number);
        if let Some(cpu) = place.and_then(|(id, _)| self.context.elsewhere(id)) {
            return Err(self.ask(world, cpu, Wish::Schedule(scheduling, caller)));
        }
        let result = self.schedule(&scheduling, caller);
        Ok(result.map_or_else(Reply::Error, |()| Reply::Done))
    }

    /// Changes how a vcpu of this CPU is scheduled.
    pub(super) fn schedule(
        &mut self,
        scheduling: &Scheduling,
        caller: VcpuId,
    ) -> Result<(), Error> {
        let Scheduling {
            domain,
            number,
            terms,
        } = scheduling;
        if domain.ending().is_some() {
            return Err(Error::PeerGone);
        }
        self.receive_arrivals();
        let (id, _) = domain.vcpu(*number).ok_or(Error::WrongState)?;
        if self.context.elsewhere(id).is_some() {
            // Somebody else has just moved it.
            return Err(Error::WrongState);
        }
        match terms.cpu.map(CpuIndex) {
            Some(cpu) if cpu != self.context.index => self.move_stopped(scheduling, cpu, caller),
            _ => self.change(id, *terms, caller),
        }
    }

    fn change(&mut self, id: VcpuId, terms: ScheduleTerms, caller: VcpuId) -> Result<(), Error> {
        let change = Change {
            priority: terms.priority.map(Priority::of_level),
            budget: terms.budget,
        };
        let now_ns = self.context.platform.now_ns();
        let scheduler = &mut self.context.scheduler;
        scheduler
            .change(id, change, now_ns)
            .map_err(|_| Error::WrongState)?;
        // Who lowers another one does not want it to come back by what it makes. Who lowers itself may.
        if let Some(priority) = change.priority.filter(|_| id != caller) {
            scheduler.set_ceiling(id, priority);
        }
        Ok(())
    }

    /// Vcpus that have been moved to this CPU bring along how they are scheduled: before anything is done to
    /// one of them, and when this CPU is told of them.
    pub(super) fn receive_arrivals(&mut self) {
        for (id, standing) in self.context.here.take_arrivals() {
            let now_ns = self.context.platform.now_ns();
            self.context.scheduler.arrive(id, standing, now_ns);
        }
    }

    /// A vcpu that does not run starts on another CPU next. Meanwhile it counts as one that does, so nobody
    /// starts it here.
    fn move_stopped(
        &mut self,
        scheduling: &Scheduling,
        cpu: CpuIndex,
        caller: VcpuId,
    ) -> Result<(), Error> {
        let Scheduling {
            domain,
            number,
            terms,
        } = scheduling;
        let vcpu = domain.take_vcpu(*number)?;
        let id = vcpu.id();
        let moved = self.change(id, *terms, caller).and_then(|()| {
            let standing = self.context.scheduler.depart(id);
            standing.map_err(|_| Error::WrongState)
        });
        let result = moved.map(|standing| {
            // First what it brings along: whoever knows where it is finds that.
            self.context.cpus.cpu(cpu).add_arrival(id, standing);
            self.context.cpus.mailboxes().open(id, cpu);
            self.context.tell(cpu, Told::REQUEST);
        });
        self.give_back(domain, vcpu);
        result
    }
}
