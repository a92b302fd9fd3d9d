//! How vcpus stop and domains end.
//!
//! A domain ends in three steps, each of which any CPU can take. It is marked as ended, which happens
//! once, and from then on none of its vcpus starts. Each vcpu that runs is retired on its own CPU. Whoever
//! retires the last one closes the domain: it gives up all it had.

use alloc::boxed::Box;
use alloc::sync::Arc;

use nuncio_abi::StopReason;

use crate::call::{abandon, Caller};
use crate::object::{Domain, Ended, Ending, Vcpu};
use crate::sched::VcpuId;
use crate::vt::{Vendor, VirtualCpu};

use super::report::entry_failure;
use super::requests::Wish;
use super::{DomainReport, Platform, Runner, World};

impl<V: Vendor, P: Platform> Runner<V, P> {
    pub(super) fn end_all(&mut self, reason: StopReason) {
        for index in 0..self.worlds.len() {
            if let Some(world) = self.take(VcpuId(index as u32)) {
                self.end(world, reason, 0);
            }
        }
    }

    /// Ends the domains from the plan that are left when no vcpu runs any more.
    pub(super) fn end_stopped(&mut self, reason: StopReason) {
        let left = self.context.cpus.domains().lock().planned();
        for domain in left {
            self.end_any(&domain, reason, 0);
        }
    }

    /// A vcpu that is not kept any more has come to the end of its domain.
    pub(super) fn end(&mut self, world: Box<World<V, P>>, reason: StopReason, detail: u64) {
        let domain = world.domain.clone();
        let failure = entry_failure(&world, reason);
        let instruction_pointer = failure.as_ref().map_or_else(
            || world.vcpu.instruction_pointer(),
            |failure| failure.instruction_pointer,
        );
        let ended = self.mark_ended(
            &domain,
            Ending {
                reason,
                detail,
                instruction_pointer,
            },
        );
        if ended != Ended::Before {
            let mut domains = self.context.cpus.domains().lock();
            if let Some(record) = domains.record(domain.id) {
                record.entry_failure = failure;
            }
        }
        self.retire(world);
        if ended != Ended::Before {
            self.stop_vcpus(&domain);
        }
        self.end_orphans();
    }

    /// Ends a domain of which nobody knows where its vcpus are.
    pub(super) fn end_any(&mut self, domain: &Arc<Domain>, reason: StopReason, detail: u64) {
        let ending = Ending {
            reason,
            detail,
            instruction_pointer: 0,
        };
        match self.mark_ended(domain, ending) {
            Ended::Before => {}
            Ended::Now => self.close(domain),
            Ended::WhenVcpusStop => self.stop_vcpus(domain),
        }
    }

    /// Ends what was given up by its maker, and what that had made.
    pub(super) fn end_orphans(&mut self) {
        while let Some(id) = self.context.here.next_orphan() {
            let removed = self.context.cpus.domains().lock().remove(id);
            if let Some((domain, _)) = removed {
                self.end_any(&domain, StopReason::Destroyed, 0);
            }
        }
    }

    fn mark_ended(&mut self, domain: &Domain, ending: Ending) -> Ended {
        let ended = domain.end(ending);
        if ended != Ended::Before {
            let mut domains = self.context.cpus.domains().lock();
            if let Some(record) = domains.record(domain.id) {
                record.frames = domain.account.used();
            }
        }
        ended
    }

    /// Has all vcpus of a domain that has ended leave their CPUs.
    fn stop_vcpus(&mut self, domain: &Arc<Domain>) {
        for id in domain.taken_vcpus() {
            match self.locate(id) {
                Some(cpu) => self.wish(cpu, Wish::Retire(domain.clone(), id)),
                None => self.retire_any(domain, id),
            }
        }
    }

    /// A vcpu of this CPU's comes to its end with its domain.
    pub(super) fn retire_any(&mut self, domain: &Arc<Domain>, id: VcpuId) {
        if let Some(world) = self.take_of(domain, id) {
            return self.retire(world);
        }
        // It runs, and has ended its own maker: it comes to its end with the call that did so. Or it is
        // being started: then it finds that its domain has ended.
        if self.context.scheduler.is_running(id) {
            self.is_doomed = true;
        }
    }

    /// A vcpu does not run any more, but can be started again.
    pub(super) fn stop_world(&mut self, world: Box<World<V, P>>) {
        let caller = Caller {
            domain: &world.domain,
            vcpu: &world.object,
        };
        abandon(caller, &mut self.context);
        self.context.scheduler.stop(world.object.id());
        self.take_from_cpu(world);
    }

    /// A vcpu of a domain that has ended runs no more.
    fn retire(&mut self, world: Box<World<V, P>>) {
        self.context.scheduler.retire(world.object.id());
        self.take_from_cpu(world);
    }

    /// Takes a vcpu from this CPU, and gives it back to its domain.
    fn take_from_cpu(&mut self, mut world: Box<World<V, P>>) {
        let id = world.object.id();
        let now_ns = self.context.platform.now_ns();
        self.context.states.close(id, now_ns);
        if self.loaded == Some(id) {
            self.loaded = None;
        }
        let context = &mut self.context;
        world
            .object
            .sleeper()
            .abandon(&mut |wake| context.apply(wake));
        if !world.domain.is_made() {
            let trace = world.take_trace();
            let mut domains = self.context.cpus.domains().lock();
            if let Some(record) = domains.record(world.domain.id) {
                record.counters.add(&world.counters);
                record.trace = record.trace.take().or(trace);
            }
        }
        // What it has taken is free before anybody can start it again.
        let (domain, vcpu) = {
            let world = world;
            let World { domain, object, .. } = *world;
            (domain, object)
        };
        self.give_back(&domain, vcpu);
    }

    /// A vcpu that runs nowhere goes back to its domain.
    pub(super) fn give_back(&mut self, domain: &Arc<Domain>, vcpu: Vcpu) {
        if domain.give_vcpu_back(vcpu) {
            self.close(domain);
        }
    }

    /// A domain that has ended gives back all it had; what is left of it is its report.
    fn close(&mut self, domain: &Arc<Domain>) {
        let name = domain.name;
        let platform = &mut self.context.platform;
        domain
            .console
            .lock()
            .finish(|line| platform.console_line(name.as_str(), line));
        let context = &mut self.context;
        for id in domain.close(&mut |wake| context.apply(wake)) {
            self.release_number(id);
        }
        let context = &mut self.context;
        // What a domain has made is its own affair: it learns of the end, and can ask why.
        if domain.is_made() {
            return;
        }
        let removed = context.cpus.domains().lock().remove(domain.id);
        let Some((_, Some(record))) = removed else {
            return;
        };
        let Some(ending) = domain.ending() else {
            return;
        };
        let background = record.background;
        context
            .cpus
            .report(DomainReport::new(domain, ending, record));
        if !background && context.cpus.foreground_ended() {
            context.end_run(StopReason::RunEnded);
        }
    }
}
