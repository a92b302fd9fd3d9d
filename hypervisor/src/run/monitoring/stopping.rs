//! Exits that somebody else asks for: `stop` of a vcpu, and an event of its runner.

use nuncio_abi::Error;

use crate::object::Next;
use crate::sched::{Scheduler, VcpuId};
use crate::vt::Vendor;

use super::{recalled, Monitoring, Phase};
use crate::run::{Flow, Platform, Runner, World};

impl<V: Vendor, P: Platform> Runner<V, P> {
    /// Has another vcpu exit where it is, if it does not stand still anyway.
    ///
    /// # Errors
    /// `QueueFull` if the monitor's port has no room; the vcpu goes on then.
    pub(in crate::run) fn recall(&mut self, id: VcpuId) -> Result<(), Error> {
        let Some(mut world) = self.take(id) else {
            return Ok(());
        };
        let recalled = self.recall_world(&mut world);
        self.put_back(world);
        recalled
    }

    fn recall_world(&mut self, world: &mut World<V, P>) -> Result<(), Error> {
        let Some(monitoring) = &mut world.monitoring else {
            return Ok(());
        };
        let sleeper = world.object.sleeper();
        let comes_later = match monitoring.phase {
            // It has its answer, or sleeps in a call of its own: it exits when it has gone on.
            Phase::Asking => !sleeper.awaits_monitor(),
            Phase::Running => sleeper.is_in_call() || world.submission.is_some(),
            Phase::Untold(_) => false,
        };
        if comes_later {
            monitoring.is_recalled = true;
            return Ok(());
        }
        if monitoring.stands_still() {
            return Ok(());
        }
        if !monitoring.monitor.has_room() {
            return Err(Error::QueueFull);
        }
        monitoring.was_halted = sleeper.is_halted();
        if monitoring.was_halted {
            sleeper.take();
        }
        let next = monitoring.monitor.next();
        self.vendor.load(&mut world.vcpu);
        // What its runner has ordered counts, although it does not come to run.
        let flow = match next {
            Next::Go(Some(order)) => self.follow(world, order),
            Next::Go(None) | Next::Stand => Flow::Continue,
        };
        if flow == Flow::Continue {
            let exit = recalled(&world.vcpu);
            let _ = self.tell(world, exit);
        }
        let id = world.object.id();
        let is_told =
            |monitoring: &Monitoring| monitoring.stands_still() && !monitoring.is_untold();
        if world.monitoring.as_deref().is_some_and(is_told) {
            self.context.suspend(id);
        } else {
            // It has somebody to tell yet, or nobody any more: it goes on by itself.
            self.context.rouse(id, Scheduler::wake);
        }
        Ok(())
    }

    /// Whether somebody runs this vcpu who has been woken meanwhile.
    pub(in crate::run) fn runner_is_awake(&self, world: &World<V, P>) -> bool {
        let monitor = world.object.monitor();
        let runner = monitor.and_then(|monitor| monitor.runner());
        // A runner on another CPU asks for it itself.
        let scheduler = &self.context.scheduler;
        runner.is_some_and(|runner| scheduler.is_known(runner) && !scheduler.is_blocked(runner))
    }
}
