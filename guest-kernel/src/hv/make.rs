//! Makes objects from the domain's own quota.

use nuncio_abi::{Call, Create, Error, Handle, QueryItem, Rights, StopReason};

use super::{Client, Event, Machine, Memory, Object, Port, Space, Timer, Vcpu};

/// The two ends of what connects domains: the first stays here, the second can be given away.
pub struct Ends<T> {
    /// Receives, or waits.
    pub near: T,
    /// Sends, or notifies.
    pub far: T,
}

impl<'m, M: Machine> Client<'m, M> {
    /// Zeroed memory, a multiple of 4096 bytes long.
    ///
    /// # Errors
    /// For this and the following: `BadArgument` for a number outside its range,
    /// `QuotaExhausted` when the domain cannot pay.
    pub fn create_memory(&self, bytes: u64) -> Result<Memory<'m, M>, Error> {
        let (object, _) = self.create(Create::Memory { bytes })?;
        Ok(Memory::new(object))
    }

    /// A port for `capacity` messages that announces them at that slot of the vcpu page.
    pub fn create_port(&self, capacity: u64, slot: usize) -> Result<Ends<Port<'m, M>>, Error> {
        let what = Create::Port {
            capacity,
            slot: slot as u64,
        };
        let (near, far) = self.create(what)?;
        Ok(Ends {
            near: Port::new(near, slot),
            far: Port::new(far.ok_or(Error::BadHandle)?, slot),
        })
    }

    /// An event whose word is that slot of the vcpu page.
    pub fn create_event(&self, slot: usize) -> Result<Ends<Event<'m, M>>, Error> {
        self.create_throttled_event(slot, 0)
    }

    /// An event through which bits are posted no oftener than that, for one sender of several: they can
    /// share a slot. An interval of 0 is none.
    pub fn create_throttled_event(
        &self,
        slot: usize,
        interval_ns: u64,
    ) -> Result<Ends<Event<'m, M>>, Error> {
        let what = Create::Event {
            slot: slot as u64,
            interval_ns,
        };
        let (near, far) = self.create(what)?;
        Ok(Ends {
            near: Event::new(near, slot),
            far: Event::new(far.ok_or(Error::BadHandle)?, slot),
        })
    }

    /// A timer that sets these bits of the event when it is due.
    pub fn create_timer(&self, event: &Event<'m, M>, bits: u64) -> Result<Timer<'m, M>, Error> {
        let event = event.object().handle();
        let (object, _) = self.create(Create::Timer { event, bits })?;
        Ok(Timer::new(object))
    }

    /// A space in which no domain lives.
    pub fn create_space(&self) -> Result<Space<'m, M>, Error> {
        let (object, _) = self.create(Create::Space)?;
        Ok(Space::new(object))
    }

    fn create(&self, what: Create) -> Result<(Object<'m, M>, Option<Object<'m, M>>), Error> {
        let machine = self.machine();
        let [first, second, ..] = machine.invoke(Call::Create(what))?;
        let handle = |raw| Handle::from_raw(raw).filter(|handle| handle.raw() != 0);
        let object = |handle| Object::new(machine, handle);
        let first = handle(first).ok_or(Error::BadHandle)?;
        Ok((object(first), handle(second).map(object)))
    }
}

/// A domain that this one has made: dropped, nothing happens; closed, it is destroyed.
pub struct Child<'m, M> {
    domain: Object<'m, M>,
    /// Where it will run.
    pub space: Space<'m, M>,
}

/// Where a vcpu begins, as addresses in its own space.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// The first instruction.
    pub entry: u64,
    /// The stack pointer.
    pub stack: u64,
    /// The first argument.
    pub argument: u64,
    /// The first page tables, a multiple of 4096.
    pub page_table: u64,
}

impl<'m, M: Machine> Client<'m, M> {
    /// A domain of its own that may use so much of what this one has. When it ends, these bits of
    /// the event are set.
    ///
    /// # Errors
    /// `QuotaExhausted`.
    pub fn create_domain(
        &self,
        frames: u64,
        kernel_bytes: u64,
        watch: Option<(&Event<'m, M>, u64)>,
    ) -> Result<Child<'m, M>, Error> {
        let (domain, space) = self.create(Create::Domain {
            frames,
            kernel_bytes,
            event: watch.map(|(event, _)| event.object().handle()),
            bits: watch.map_or(0, |(_, bits)| bits),
        })?;
        let space = Space::new(space.ok_or(Error::BadHandle)?);
        Ok(Child { domain, space })
    }
}

impl<'m, M: Machine> Child<'m, M> {
    /// Gives it a copy of a handle; returns the number that it has there.
    ///
    /// # Errors
    /// As [`Object::grant`].
    pub fn give(
        &self,
        object: &Object<'m, M>,
        rights: Rights,
        badge: u64,
    ) -> Result<Handle, Error> {
        let [copy, ..] = self.domain.invoke(Call::Grant {
            handle: object.handle(),
            rights,
            badge,
            to: Some(self.domain.handle()),
        })?;
        Handle::from_raw(copy).ok_or(Error::BadHandle)
    }

    /// Gives it the right to stop itself.
    ///
    /// # Errors
    /// As [`Object::grant`].
    pub fn give_itself(&self) -> Result<Handle, Error> {
        self.give(&self.domain, Rights::STOP, 0)
    }

    /// Makes its vcpu, with the first page of `page` as its vcpu page, and lets it run.
    ///
    /// # Errors
    /// `QuotaExhausted`; `WrongState` if it has one.
    pub fn start(&self, page: &Memory<'m, M>, start: Start) -> Result<(), Error> {
        let vcpu = self.create_vcpu(page, None, None)?;
        vcpu.start(start)?;
        vcpu.object().close()
    }

    /// Makes its vcpu, with the first page of `page` as its vcpu page. With a state page it has a
    /// monitor: the port, or whoever runs it.
    ///
    /// # Errors
    /// `QuotaExhausted`; `WrongState` if it has one; `BadArgument` for a port without a state page.
    pub fn create_vcpu(
        &self,
        page: &Memory<'m, M>,
        monitor: Option<&Port<'m, M>>,
        state: Option<&Memory<'m, M>>,
    ) -> Result<Vcpu<'m, M>, Error> {
        let [vcpu, ..] = self.domain.invoke(Call::Create(Create::Vcpu {
            domain: self.domain.handle(),
            page: page.object().handle(),
            monitor: monitor.map(|port| port.object().handle()),
            state: state.map(|memory| memory.object().handle()),
        }))?;
        let handle = Handle::from_raw(vcpu).ok_or(Error::BadHandle)?;
        Ok(Vcpu::new(Object::new(self.domain.machine(), handle)))
    }

    /// Why it ended, and the detail; `Running` before.
    ///
    /// # Errors
    /// `BadArgument` if the reason is outside the table of this version.
    pub fn status(&self) -> Result<(StopReason, u64), Error> {
        let (reason, detail) = self.domain.query(QueryItem::Status)?;
        let reason = StopReason::from_number(reason).ok_or(Error::BadArgument)?;
        Ok((reason, detail))
    }

    /// Ends it, wherever it is; why it ended can still be asked.
    ///
    /// # Errors
    /// `BadHandle`.
    pub fn stop(&self) -> Result<(), Error> {
        let object = self.domain.handle();
        self.domain.invoke(Call::Stop { object, code: 0 }).map(drop)
    }

    /// Ends it, if it still runs, and gives up what is left of it.
    ///
    /// # Errors
    /// `BadHandle`.
    pub fn destroy(self) -> Result<(), Error> {
        self.space.object().close()?;
        self.domain.close()
    }
}

impl<'m, M: Machine> Object<'m, M> {
    /// A copy with fewer rights, and with a badge if this handle has none; 0 gives none.
    ///
    /// # Errors
    /// `MissingRight`, `BadArgument` for rights that are never copied, `QuotaExhausted`.
    pub fn grant(&self, rights: Rights, badge: u64) -> Result<Self, Error> {
        let handle = self.handle();
        let [copy, ..] = self.invoke(Call::Grant {
            handle,
            rights,
            badge,
            to: None,
        })?;
        let copy = Handle::from_raw(copy).ok_or(Error::BadHandle)?;
        Ok(Object::new(self.machine(), copy))
    }
}
