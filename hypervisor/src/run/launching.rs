//! How the vcpus of a plan come to their CPUs, before any of them runs.
//!
//! The boot CPU makes everything but the vcpus themselves: control structures belong to the CPU on
//! which they are made. It waits until all CPUs have made theirs, so that a run begins whole or not.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use nuncio_abi::{Budget, Name, StopReason};

use crate::mem::OutOfFrames;
use crate::object::{Domain, Vcpu};
use crate::sched::Priority;
use crate::vt::{StartState, Vendor};

use super::{DomainReport, Platform, Runner, World};

/// A domain with all but its vcpu's registers.
pub struct Launched {
    /// The domain.
    pub domain: Arc<Domain>,
    /// Its vcpu.
    pub vcpu: Vcpu,
    /// Where it starts.
    pub start: StartState,
    /// Its priority, which is also the highest that it may give.
    pub priority: Priority,
    /// Its budget, if it has one.
    pub budget: Option<Budget>,
    /// Whether the run goes on without it.
    pub background: bool,
}

impl<V: Vendor, P: Platform> Runner<V, P> {
    /// Gives a domain to its CPU. Its vcpu is ready to run when [`Runner::settle`] returns.
    ///
    /// # Errors
    /// When the account or the machine has no frame left.
    pub fn launch(&mut self, launched: Launched) -> Result<(), OutOfFrames> {
        let cpu = launched.domain.cpu;
        if cpu == self.context.index {
            return self.make_launched(launched);
        }
        self.context.cpus.leave_launched(cpu, launched);
        Ok(())
    }

    /// Waits until all CPUs have made the vcpus that were launched.
    ///
    /// # Errors
    /// A domain for whose vcpu there was too little memory.
    pub fn settle(&mut self) -> Result<(), (Name, OutOfFrames)> {
        let cpus = self.context.cpus.clone();
        cpus.all_launched();
        while !cpus.are_settled() {
            core::hint::spin_loop();
        }
        cpus.launch_failure().map_or(Ok(()), Err)
    }

    /// Runs until the run is over on all CPUs, and says how each domain ended: the boot CPU's part.
    pub fn run(&mut self) -> Vec<DomainReport> {
        if !self.context.cpus.has_foreground() {
            self.context.end_run(StopReason::RunEnded);
        }
        self.context.cpus.begin();
        self.run_along();
        self.context.cpus.take_reports()
    }

    /// The part of all other CPUs.
    pub fn serve(&mut self) {
        let cpus = self.context.cpus.clone();
        cpus.join();
        while !cpus.is_launched() {
            core::hint::spin_loop();
        }
        for launched in cpus.take_launched(self.context.index) {
            let name = launched.domain.name;
            if let Err(error) = self.make_launched(launched) {
                cpus.launch_failed(name, error);
            }
        }
        cpus.has_settled();
        while !cpus.has_begun() {
            core::hint::spin_loop();
        }
        self.run_along();
    }

    /// Makes the vcpu of a domain of this CPU's.
    fn make_launched(&mut self, launched: Launched) -> Result<(), OutOfFrames> {
        let account = &launched.domain.account;
        let vcpu = self.vendor.create_vcpu(account, &launched.start)?;
        let extended = self.context.platform.new_extended_state(account)?;
        let Launched {
            domain,
            vcpu: object,
            priority,
            budget,
            background,
            ..
        } = launched;
        let id = object.id();
        self.add(domain, object, vcpu, extended, background);
        self.context.scheduler.plan(id, priority, budget);
        Ok(())
    }

    /// Adds a domain's vcpu, ready to run. `background` domains do not keep the run going.
    pub fn add(
        &mut self,
        domain: Arc<Domain>,
        object: Vcpu,
        vcpu: V::Vcpu,
        extended: P::Extended,
        background: bool,
    ) {
        let id = object.id();
        let mut world = World::new(domain, object, vcpu, extended, background);
        world.trace = self.is_tracing.then(Box::default);
        world.domain.started(id);
        let cpus = &self.context.cpus;
        cpus.domains().lock().keep(world.domain.clone());
        if !background {
            cpus.add_foreground();
        }
        self.make_room(id);
        self.put_back(Box::new(world));
        self.context.scheduler.add(id);
    }
}
