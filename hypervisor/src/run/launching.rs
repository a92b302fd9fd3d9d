//! How the vcpus of a plan come to their CPUs, before any of them runs.
//!
//! The boot CPU makes everything but the vcpus themselves: control structures belong to the CPU on
//! which they are made. It waits until all CPUs have made theirs, so that a run begins whole or not.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use nuncio_abi::{Name, StopReason};

use crate::mem::OutOfFrames;
use crate::object::{Domain, Vcpu};
use crate::vt::{StartState, Vendor};

use super::{DomainReport, Platform, Runner, World};

/// A domain with all but the registers of its first vcpu.
pub struct Launched {
    /// The domain.
    pub domain: Arc<Domain>,
    /// Its first vcpu, taken from it.
    pub vcpu: Vcpu,
    /// Where it starts.
    pub start: StartState,
    /// Whether the run goes on without it.
    pub background: bool,
}

impl<V: Vendor, P: Platform> Runner<V, P> {
    /// Gives a domain to its CPU. Its vcpu is ready to run when [`Runner::settle`] returns.
    ///
    /// # Errors
    /// When the account or the machine has no frame left.
    pub fn launch(&mut self, launched: Launched) -> Result<(), OutOfFrames> {
        match self.context.elsewhere(launched.vcpu.id()) {
            None => self.make_launched(launched),
            Some(cpu) => {
                self.context.cpus.leave_launched(cpu, launched);
                Ok(())
            }
        }
    }

    /// Waits until all CPUs have made the vcpus that were launched.
    ///
    /// # Errors
    /// A domain for whose vcpu there was too little memory.
    pub fn settle(&mut self) -> Result<(), (Name, OutOfFrames)> {
        let cpus = self.context.cpus.clone();
        cpus.all_launched();
        // ENDS: each makes what it was given, or fails, without waiting for anybody.
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
        // ENDS: each does what it was asked for, which has its bounds, and goes.
        while !self.context.cpus.are_drained() {
            core::hint::spin_loop();
        }
        let reason = self.context.cpus.over();
        self.end_stopped(reason.unwrap_or(StopReason::RunEnded));
        self.context.cpus.take_reports()
    }

    /// The part of all other CPUs.
    pub fn serve(&mut self) {
        let cpus = self.context.cpus.clone();
        cpus.join();
        // ENDS: the boot CPU builds what the plan says, or ends the machine.
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
        // ENDS: the boot CPU begins when all have settled.
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
            background,
            ..
        } = launched;
        self.add(domain, object, vcpu, extended, background);
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
        let mut world = World::new(domain, object, vcpu, extended);
        world.trace = self.traces_calls.then(Box::default);
        let cpus = &self.context.cpus;
        let domain = world.domain.clone();
        cpus.domains().lock().keep_planned(domain, background);
        if !background {
            cpus.add_foreground();
        }
        self.make_room(id);
        let now_ns = self.context.platform.now_ns();
        self.context.states.open(id, world.object.page(), now_ns);
        self.put_back(Box::new(world));
        self.context.scheduler.add(id);
    }
}
