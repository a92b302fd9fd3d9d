//! How a vcpu's turn on the CPU ends, and what its time is charged to.

use crate::sched::VcpuId;
use crate::vt::Vendor;

use super::{Flow, Platform, Runner, World};

impl<V: Vendor, P: Platform> Runner<V, P> {
    /// The vcpu leaves the CPU without going to sleep. Returns who goes on in the same slice.
    #[cold]
    #[inline(never)]
    pub(super) fn leave_cpu(&mut self, flow: Flow, slice_end_ns: u64) -> Option<VcpuId> {
        let now_ns = self.context.platform.now_ns();
        let scheduler = &mut self.context.scheduler;
        scheduler.give_way(now_ns, slice_end_ns);
        match flow {
            Flow::YieldTo(id) if scheduler.give_to(id) => Some(id),
            _ => None,
        }
    }

    /// What happens if a vcpu may not enter its guest.
    #[cold]
    #[inline(never)]
    pub(super) fn instead_of(&self, world: &World<V, P>) -> Flow {
        if self.has_requests {
            return Flow::Yield;
        }
        // However urgent this one is: it may not run before its runner has.
        self.awake_runner(world).map_or(Flow::Yield, Flow::YieldTo)
    }

    /// Nobody runs any more: whose budget was used is charged for the time.
    #[inline]
    pub(super) fn end_turn(&mut self) {
        if self.context.scheduler.is_charging() {
            self.charge_turn();
        }
    }

    #[cold]
    #[inline(never)]
    fn charge_turn(&mut self) {
        let now_ns = self.context.platform.now_ns();
        self.context.scheduler.end_turn(now_ns);
    }

    /// From when on the vcpu takes time from one of its priority.
    #[inline]
    pub(super) fn note_rival(&mut self) {
        if self.context.scheduler.is_newly_contended() {
            self.begin_contention();
        }
    }

    #[cold]
    #[inline(never)]
    fn begin_contention(&mut self) {
        let now_ns = self.context.platform.now_ns();
        self.context.scheduler.contend(now_ns);
    }

    /// Looks with which priority and on whose budget the vcpu goes on, if these are not just its own.
    #[inline]
    pub(super) fn renew_terms(&mut self) {
        if !self.context.scheduler.is_plain() {
            self.settle_turn();
        }
    }

    #[cold]
    #[inline(never)]
    fn settle_turn(&mut self) {
        let now_ns = self.context.platform.now_ns();
        self.context.scheduler.settle(now_ns);
    }
}
