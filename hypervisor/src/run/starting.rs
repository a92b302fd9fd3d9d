//! How a domain that another one has made begins to run.

use alloc::boxed::Box;
use alloc::sync::Arc;

use nuncio_abi::{Error, Reply};

use crate::mem::GuestPhysical;
use crate::object::{Domain, Entry, Vcpu};
use crate::vt::{StartState, Vendor};

use super::requests::Wish;
use super::{Flow, Platform, Runner, World};

/// What a `start` asks for.
pub(super) struct Starting {
    pub(super) domain: Arc<Domain>,
    pub(super) vcpu: Vcpu,
    pub(super) entry: Entry,
}

impl<V: Vendor, P: Platform> Runner<V, P> {
    /// Starts what a call has asked for.
    #[cold]
    pub(super) fn start_made(&mut self, world: &mut World<V, P>) -> Result<Reply, Flow> {
        let Some(starting) = self.context.starting.take() else {
            return Ok(Reply::Error(Error::WrongState));
        };
        if let Some(cpu) = self.locate(starting.vcpu.id()) {
            return Err(self.ask(world, cpu, Wish::Start(starting)));
        }
        let started = self.start(starting);
        // Making a vcpu may have taken the caller's out of the CPU.
        self.vendor.load(&mut world.vcpu);
        Ok(started.map_or_else(Reply::Error, |()| Reply::Done))
    }

    /// Makes a vcpu of this CPU, and lets it run.
    ///
    /// # Errors
    /// `PeerGone` if its domain has ended meanwhile, `QuotaExhausted` if that cannot pay.
    pub(super) fn start(&mut self, starting: Starting) -> Result<(), Error> {
        let Starting {
            domain,
            vcpu: object,
            entry,
        } = starting;
        // Whoever ends it from here on finds the vcpu on this CPU, and asks for it behind this.
        if domain.ending().is_some() {
            self.give_back(&domain, object);
            return Err(Error::PeerGone);
        }
        let account = &domain.account;
        let start = StartState {
            nested_root: domain.space.root(),
            entry: GuestPhysical(entry.instruction),
            page_table: GuestPhysical(entry.page_table),
            stack: GuestPhysical(entry.stack),
            argument: GuestPhysical(entry.argument),
        };
        let made = account
            .charge_kernel(&[size_of::<World<V, P>>()])
            .and_then(|charge| {
                let extended = self.context.platform.new_extended_state(account)?;
                let vcpu = self.vendor.create_vcpu(account, &start)?;
                Ok((charge, extended, vcpu))
            });
        let (charge, extended, vcpu) = match made {
            Ok(made) => made,
            Err(_) => {
                self.give_back(&domain, object);
                return Err(Error::QuotaExhausted);
            }
        };
        let id = object.id();
        let mut world = World::new(domain, object, vcpu, extended);
        world.charge = Some(charge);
        let monitor = world.object.monitor().cloned();
        world.read_wishes();
        self.make_room(id);
        let now_ns = self.context.platform.now_ns();
        self.context.states.open(id, world.object.page(), now_ns);
        self.put_back(Box::new(world));
        self.context.scheduler.reserve(id);
        self.context.scheduler.start(id);
        if let Some(monitor) = monitor {
            monitor.started(id);
            if monitor.port().is_none() {
                self.context.suspend(id);
            }
        }
        Ok(())
    }
}
