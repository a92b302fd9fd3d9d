//! How a vcpu comes to another priority, budget or CPU: on its own CPU, while no vcpu runs there, or the one
//! that asks for it.

use alloc::sync::Arc;

use nuncio_abi::{Error, Reply};

use crate::call::ScheduleTerms;
use crate::object::{Domain, VcpuNumber};
use crate::sched::{Change, CpuIndex, Priority, VcpuId};
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

impl Scheduling {
    /// The number by which the loops know the vcpu.
    pub(super) fn vcpu(&self) -> Option<VcpuId> {
        self.domain.vcpu(self.number).map(|(id, _)| id)
    }
}

impl<V: Vendor, P: Platform> Runner<V, P> {
    /// Does what a call has asked for.
    #[cold]
    pub(super) fn schedule_vcpu(&mut self, world: &World<V, P>) -> Result<Reply, Flow> {
        let Some(scheduling) = self.context.scheduling.take() else {
            return Ok(Reply::Error(Error::WrongState));
        };
        let caller = world.object.id();
        let id = scheduling.vcpu();
        let cpu = id.and_then(|id| self.locate(id));
        let here = self.context.index;
        // Who moves itself has to leave this CPU first.
        let moves_itself = id == Some(caller) && scheduling.terms.moves_from(here);
        if let Some(cpu) = cpu.or(moves_itself.then_some(here)) {
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
        match terms.cpu.map(CpuIndex) {
            Some(cpu) if cpu != self.context.index => self.move_vcpu(scheduling, cpu, caller),
            _ => {
                let (id, _) = domain.vcpu(*number).ok_or(Error::WrongState)?;
                self.change(id, *terms, caller)
            }
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

    /// A vcpu goes to another CPU, whatever it does.
    fn move_vcpu(
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
        let (id, _) = domain.vcpu(*number).ok_or(Error::WrongState)?;
        let scheduler = &self.context.scheduler;
        scheduler.can_depart(id).map_err(|_| Error::WrongState)?;
        if let Some(world) = self.take_of(domain, id) {
            return match self.change(id, *terms, caller) {
                Ok(()) => {
                    self.send_off(world, cpu);
                    Ok(())
                }
                refused => {
                    self.put_back(world);
                    refused
                }
            };
        }
        // Meanwhile it counts as one that runs, so nobody starts it here.
        let vcpu = domain.take_vcpu(*number)?;
        let changed = self.change(id, *terms, caller);
        if changed.is_ok() {
            self.send_stopped(id, cpu);
        }
        self.give_back(domain, vcpu);
        changed
    }
}
