//! Makes objects from the domain's own quota.

use nuncio_abi::{Call, Create, Error, Handle, Rights};

use super::{Client, Event, Machine, Memory, Object, Port, Timer};

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
        let what = Create::Event { slot: slot as u64 };
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

    fn create(&self, what: Create) -> Result<(Object<'m, M>, Option<Object<'m, M>>), Error> {
        let machine = self.machine();
        let [first, second, ..] = machine.invoke(Call::Create(what))?;
        let handle = |raw| Handle::from_raw(raw).filter(|handle| handle.raw() != 0);
        let object = |handle| Object::new(machine, handle);
        let first = handle(first).ok_or(Error::BadHandle)?;
        Ok((object(first), handle(second).map(object)))
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
        })?;
        let copy = Handle::from_raw(copy).ok_or(Error::BadHandle)?;
        Ok(Object::new(self.machine(), copy))
    }
}
