//! How a vcpu comes to another priority or budget: on its own CPU, while it does not run a guest.

use alloc::sync::Arc;

use nuncio_abi::{Error, Reply};

use crate::object::Domain;
use crate::sched::{Change, VcpuId};
use crate::vt::Vendor;

use super::requests::Wish;
use super::{Flow, Platform, Runner, World};

/// What a `schedule` asks for.
pub(super) struct Scheduling {
    /// The domain of the vcpu.
    pub(super) domain: Arc<Domain>,
    pub(super) change: Change,
}

impl<V: Vendor, P: Platform> Runner<V, P> {
    /// Does what a call has asked for.
    #[cold]
    pub(super) fn schedule_vcpu(&mut self, world: &World<V, P>) -> Result<Reply, Flow> {
        let Some(scheduling) = self.context.scheduling.take() else {
            return Ok(Reply::Error(Error::WrongState));
        };
        let cpu = scheduling.domain.cpu;
        let caller = world.object.id();
        if cpu != self.context.index {
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
        let Scheduling { domain, change } = scheduling;
        if domain.ending().is_some() {
            return Err(Error::PeerGone);
        }
        let id = domain.vcpu_id().ok_or(Error::WrongState)?;
        let now_ns = self.context.platform.now_ns();
        let scheduler = &mut self.context.scheduler;
        let changed = scheduler.change(id, *change, now_ns);
        changed.map_err(|_| Error::WrongState)?;
        // Who lowers another one does not want it to come back by what it makes. Who lowers itself may.
        if let Some(priority) = change.priority.filter(|_| id != caller) {
            scheduler.set_ceiling(id, priority);
        }
        Ok(())
    }
}
