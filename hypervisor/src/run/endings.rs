//! How domains end.

use alloc::boxed::Box;
use alloc::sync::Arc;

use nuncio_abi::StopReason;

use crate::object::{Domain, Ending};
use crate::sched::VcpuId;
use crate::vt::{Vendor, VirtualCpu};

use super::{DomainReport, Platform, Runner, World};

impl<V: Vendor, P: Platform> Runner<V, P> {
    pub(super) fn end_all(&mut self, reason: StopReason) {
        for index in 0..self.worlds.len() {
            if let Some(world) = self.take(VcpuId(index as u32)) {
                self.end(world, reason, 0);
            }
        }
    }

    /// Ends a domain and gives back all it had; what is left of it is its report.
    pub(super) fn end(&mut self, world: Box<World<V, P>>, reason: StopReason, detail: u64) {
        self.end_world(world, reason, detail);
        self.end_orphans();
    }

    /// Ends what was given up by its maker, and what that had made.
    pub(super) fn end_orphans(&mut self) {
        while let Some(id) = self.context.here.next_orphan() {
            let domain = self.context.cpus.domains().lock().remove(id);
            if let Some(domain) = domain {
                self.end_any(&domain, StopReason::Destroyed, 0);
            }
        }
    }

    /// A domain of this CPU's of which nobody knows whether it has started.
    pub(super) fn end_any(&mut self, domain: &Arc<Domain>, reason: StopReason, detail: u64) {
        let id = domain.vcpu_id();
        if let Some(world) = id.and_then(|id| self.take(id)) {
            return self.end_world(world, reason, detail);
        }
        // It runs, and has ended its own maker: it comes to its end with the call that did so.
        if id.is_some_and(|id| self.context.scheduler.is_running(id)) {
            self.is_doomed = true;
            return;
        }
        let ending = Ending {
            reason,
            detail,
            instruction_pointer: 0,
        };
        let context = &mut self.context;
        domain.end(ending, &mut |wake| context.apply(wake));
        if let Some(id) = id {
            self.context.cpus.release_vcpu_id(id);
        }
    }

    fn end_world(&mut self, mut world: Box<World<V, P>>, reason: StopReason, detail: u64) {
        let id = world.object.id();
        self.context.scheduler.retire(id);
        let now_ns = self.context.platform.now_ns();
        self.context.states.close(id, now_ns);
        if self.loaded == Some(id) {
            self.loaded = None;
        }
        let ending = Ending {
            reason,
            detail,
            instruction_pointer: world.vcpu.instruction_pointer(),
        };
        let name = world.domain.name;
        let platform = &mut self.context.platform;
        world
            .domain
            .console
            .lock()
            .finish(|line| platform.console_line(name.as_str(), line));
        // What a domain has made is its own affair: it learns of the end, and can ask why.
        let is_made = world.domain.is_made();
        if !is_made {
            let report = DomainReport::new(&mut world, ending);
            self.context.cpus.report(report);
        }
        let context = &mut self.context;
        world
            .object
            .sleeper()
            .abandon(&mut |wake| context.apply(wake));
        world.domain.end(ending, &mut |wake| context.apply(wake));
        if is_made {
            self.context.cpus.release_vcpu_id(id);
        } else {
            self.context.cpus.domains().lock().remove(world.domain.id);
        }
        if !world.background && self.context.cpus.foreground_ended() {
            self.context.end_run(StopReason::RunEnded);
        }
    }
}
