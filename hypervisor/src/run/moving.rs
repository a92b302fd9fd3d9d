//! How a vcpu comes from one CPU to another, whatever it does.
//!
//! It leaves when its CPU runs no vcpu, or another one: between two entries, with all that is known of it. What
//! the CPU holds of its registers is saved first. It lies among the other CPU's arrivals before the mailboxes
//! name that one, so whoever finds out where it is finds it there: a CPU receives its arrivals before it does
//! anything to a vcpu that it is said to have, and between taking its mail and reading it.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::any::Any;

use crate::object::Domain;
use crate::sched::{CpuIndex, News, Standing, Told, Turns, VcpuId};
use crate::vt::Vendor;

use super::requests::Wish;
use super::{Platform, Runner, World};

/// A vcpu on its way to another CPU.
pub(super) struct Traveller {
    id: VcpuId,
    standing: Standing,
    luggage: Option<Luggage>,
}

/// What goes with one that has been started.
struct Luggage {
    /// Its [`World`]: what all CPUs share is there before the machine's vendor is known.
    world: Box<dyn Any + Send>,
    turns: Turns,
}

impl<V: Vendor, P: Platform> Runner<V, P> {
    /// A vcpu of this CPU's goes to another one, where it does what it has done here.
    pub(super) fn send_off(&mut self, mut world: Box<World<V, P>>, cpu: CpuIndex) {
        let id = world.object.id();
        self.vendor.release(&mut world.vcpu);
        if self.loaded == Some(id) {
            self.context
                .platform
                .save_extended_state(&mut world.extended);
            self.loaded = None;
        }
        // What was handed over to it, and taken back, is a turn that it waits for.
        self.context.note_passed_over();
        let luggage = Luggage {
            world,
            turns: self.context.states.depart(id),
        };
        self.send(id, Some(luggage), cpu);
    }

    /// A vcpu that has not been started will start on another CPU.
    pub(super) fn send_stopped(&mut self, id: VcpuId, cpu: CpuIndex) {
        self.send(id, None, cpu);
    }

    fn send(&mut self, id: VcpuId, luggage: Option<Luggage>, cpu: CpuIndex) {
        let now_ns = self.context.platform.now_ns();
        let traveller = Traveller {
            id,
            standing: self.context.scheduler.depart(id, now_ns),
            luggage,
        };
        let cpus = &self.context.cpus;
        cpus.cpu(cpu).add_arrival(traveller);
        cpus.mailboxes().open(id, cpu);
        self.context.tell(cpu, Told::REQUEST);
    }

    /// Takes in the vcpus that have been moved to this CPU.
    pub(super) fn receive_arrivals(&mut self) {
        for Traveller {
            id,
            standing,
            luggage,
        } in self.context.here.take_arrivals()
        {
            self.context.scheduler.arrive(id, standing);
            if let Some(luggage) = luggage {
                self.take_in(id, luggage);
            }
        }
    }

    fn take_in(&mut self, id: VcpuId, luggage: Luggage) {
        let Ok(mut world) = luggage.world.downcast::<World<V, P>>() else {
            unreachable!("all loops of a machine are of one kind");
        };
        self.vendor.adopt(&mut world.vcpu);
        self.context.states.arrive(id, luggage.turns);
        self.make_room(id);
        match self.context.cpus.over() {
            // This CPU may have ended all that it had before.
            Some(reason) => self.end(world, reason, 0),
            None => self.put_back(world),
        }
    }

    /// The CPU that has a vcpu, if that is another one. If it is this one, it is here when this returns.
    pub(super) fn locate(&mut self, id: VcpuId) -> Option<CpuIndex> {
        let elsewhere = self.context.elsewhere(id);
        if elsewhere.is_none() {
            self.receive_arrivals();
        }
        elsewhere
    }

    /// Lets what other CPUs have put into the mailbox take effect.
    #[cold]
    pub(super) fn read_mail(&mut self) {
        let (cpus, here) = (self.context.cpus.clone(), self.context.index);
        let mut has_looked = false;
        let read = |id: VcpuId, news: News| {
            // Only now: whoever is written to here was among the arrivals before.
            if !core::mem::replace(&mut has_looked, true) {
                self.receive_arrivals();
            }
            self.context.deliver(id, news);
        };
        cpus.mailboxes().collect(here, read);
    }

    /// A domain is closed; the number of one of its vcpus is free when nobody knows it any more.
    pub(super) fn release_number(&mut self, id: VcpuId) {
        match self.locate(id) {
            Some(cpu) if self.context.cpus.over().is_none() => {
                self.wish(cpu, Wish::Release(id));
            }
            _ => {
                // It may never have run, and have been counted among those whose maker pays.
                self.context.scheduler.retire(id);
                self.context.cpus.release_vcpu_id(id);
            }
        }
    }

    /// The vcpu with that number, if it is still that domain's.
    pub(super) fn take_of(&mut self, domain: &Arc<Domain>, id: VcpuId) -> Option<Box<World<V, P>>> {
        let place = self.worlds.get_mut(id.0 as usize)?;
        let is_its = |world: &mut Box<World<V, P>>| Arc::ptr_eq(&world.domain, domain);
        place.take_if(is_its)
    }
}
