//! Handle tables: from the number that a guest holds to the object, its rights and its badge.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use nuncio_abi::{Error, Handle, Rights};

use crate::mem::{Account, KernelCharge};

use super::{Domain, Event, Memory, Object, Port, Space, Timer, VcpuNumber, Wake};

/// Handles that one domain can hold at a time.
pub const MAX_DOMAIN_HANDLES: usize = 1024;

/// The handles of one domain.
pub struct HandleTable {
    entries: Vec<Entry>,
    /// Places that are free, the one to use next at the end.
    free: Vec<u16>,
    /// Free places that are promised to answers.
    reserved: usize,
    account: Arc<Account>,
    charge: Option<KernelCharge>,
}

/// Places that a table begins with; it doubles when it is full.
const FIRST_PLACES: usize = 32;

struct Entry {
    generation: u16,
    held: Option<Held>,
}

/// What one handle stands for.
#[derive(Clone)]
pub struct Held {
    /// The object.
    pub object: Object,
    /// What may be done with it.
    pub rights: Rights,
    /// What a receiver learns of messages sent through this handle.
    pub badge: u64,
}

const FIRST_GENERATION: u16 = 1;

impl HandleTable {
    /// A table without handles, paid by `account`.
    pub const fn new(account: Arc<Account>) -> Self {
        HandleTable {
            entries: Vec::new(),
            free: Vec::new(),
            reserved: 0,
            account,
            charge: None,
        }
    }

    /// Gives the domain a handle.
    ///
    /// # Errors
    /// `QuotaExhausted` when the table is full or cannot be paid.
    pub fn insert(&mut self, held: Held) -> Result<Handle, Error> {
        self.ensure(1)?;
        let rights = held.rights;
        let object = held.object.clone();
        let handle = self.adopt(held)?;
        object.opened(rights);
        Ok(handle)
    }

    /// Puts into the table what counts as held already, such as a handle out of a message.
    ///
    /// # Errors
    /// `QuotaExhausted` without a place that [`HandleTable::ensure`] or
    /// [`HandleTable::reserve`] has seen to.
    pub fn adopt(&mut self, held: Held) -> Result<Handle, Error> {
        let index = self.free.pop().ok_or(Error::QuotaExhausted)?;
        let entry = self.entry_mut(index)?;
        let handle = Handle::new(index, entry.generation);
        entry.held = Some(held);
        Ok(handle)
    }

    /// Whether so many handles can be added without making the table larger.
    #[inline]
    pub fn has_room(&self, count: usize) -> bool {
        self.free.len() >= self.reserved.saturating_add(count)
    }

    /// Makes sure that so many handles can be added, beside those that are reserved.
    ///
    /// # Errors
    /// `QuotaExhausted`.
    #[inline]
    pub fn ensure(&mut self, count: usize) -> Result<(), Error> {
        let needed = self.reserved.saturating_add(count);
        while self.free.len() < needed {
            self.grow()?;
        }
        Ok(())
    }

    /// Keeps so many places free until [`HandleTable::release`].
    ///
    /// # Errors
    /// `QuotaExhausted`.
    #[inline]
    pub fn reserve(&mut self, count: usize) -> Result<(), Error> {
        self.ensure(count)?;
        self.reserved = self.reserved.saturating_add(count);
        Ok(())
    }

    /// Takes a reservation back.
    #[inline]
    pub fn release(&mut self, count: usize) {
        self.reserved = self.reserved.saturating_sub(count);
    }

    /// Places that there are, used or free.
    pub fn places(&self) -> usize {
        self.entries.len()
    }

    /// Gives back the places beyond that many, for a call that made them and then failed: a call
    /// that fails has used up nothing. Does nothing if one of them has been used.
    #[cold]
    pub fn shrink_to(&mut self, places: usize) {
        let is_new = |entry: &Entry| entry.held.is_none() && entry.generation == FIRST_GENERATION;
        if self.entries.len() <= places || !self.entries.iter().skip(places).all(is_new) {
            return;
        }
        self.free.retain(|place| usize::from(*place) < places);
        self.free.shrink_to(places);
        self.entries.truncate(places);
        self.entries.shrink_to_fit();
        // Less than what is given back at the same time, so it can be paid.
        self.charge = None;
        self.charge = self.pay(places).ok();
    }

    fn pay(&self, places: usize) -> Result<KernelCharge, Error> {
        let bytes = |size: usize| places.saturating_mul(size);
        let pieces = [bytes(size_of::<Entry>()), bytes(size_of::<u16>())];
        let charge = self.account.charge_kernel(&pieces);
        charge.map_err(|_| Error::QuotaExhausted)
    }

    #[cold]
    fn grow(&mut self) -> Result<(), Error> {
        let old = self.entries.len();
        let new = old
            .saturating_mul(2)
            .clamp(FIRST_PLACES, MAX_DOMAIN_HANDLES);
        if new <= old {
            return Err(Error::QuotaExhausted);
        }
        self.charge = Some(self.pay(new)?);
        self.entries.reserve_exact(new.saturating_sub(old));
        self.free.reserve_exact(new.saturating_sub(self.free.len()));
        self.entries.resize_with(new, || Entry {
            generation: FIRST_GENERATION,
            held: None,
        });
        let places = old as u16..new as u16;
        self.free.splice(0..0, places.rev());
        Ok(())
    }

    /// Takes a handle away and returns what it stood for.
    ///
    /// # Errors
    /// `BadHandle`.
    pub fn remove(&mut self, handle: Handle) -> Result<Held, Error> {
        let entry = self
            .entry_mut(handle.index())
            .ok()
            .filter(|entry| entry.generation == handle.generation())
            .ok_or(Error::BadHandle)?;
        let held = entry.held.take().ok_or(Error::BadHandle)?;
        // Generation 0 is none: a place whose numbers have run out is not used again, so that no
        // old handle ever comes back to life.
        entry.generation = entry.generation.wrapping_add(1);
        if entry.generation != 0 {
            self.free.push(handle.index());
        }
        Ok(held)
    }

    /// Takes all handles away.
    pub fn drain(&mut self) -> impl Iterator<Item = Held> {
        self.free = Vec::new();
        self.charge = None;
        core::mem::take(&mut self.entries)
            .into_iter()
            .filter_map(|entry| entry.held)
    }

    /// What a handle stands for.
    ///
    /// # Errors
    /// `BadHandle`.
    #[inline]
    pub fn get(&self, handle: Handle) -> Result<&Held, Error> {
        self.entries
            .get(usize::from(handle.index()))
            .filter(|entry| entry.generation == handle.generation())
            .and_then(|entry| entry.held.as_ref())
            .ok_or(Error::BadHandle)
    }

    /// A port and the handle's badge.
    ///
    /// # Errors
    /// `BadHandle`, `WrongKind`, `MissingRight`.
    #[inline]
    pub fn port(&self, handle: Handle, needed: Rights) -> Result<(&Arc<Port>, u64), Error> {
        let held = self.get(handle)?;
        match &held.object {
            Object::Port(port) => held.with(needed, (port, held.badge)),
            _ => Err(Error::WrongKind),
        }
    }

    /// An event.
    ///
    /// # Errors
    /// `BadHandle`, `WrongKind`, `MissingRight`.
    #[inline]
    pub fn event(&self, handle: Handle, needed: Rights) -> Result<&Arc<Event>, Error> {
        let held = self.get(handle)?;
        match &held.object {
            Object::Event(event) => held.with(needed, event),
            _ => Err(Error::WrongKind),
        }
    }

    /// A timer.
    ///
    /// # Errors
    /// `BadHandle`, `WrongKind`, `MissingRight`.
    pub fn timer(&self, handle: Handle, needed: Rights) -> Result<&Timer, Error> {
        let held = self.get(handle)?;
        match &held.object {
            Object::Timer(timer) => held.with(needed, &**timer),
            _ => Err(Error::WrongKind),
        }
    }

    /// A copy of what a handle stands for, with these rights, for somebody else or under another
    /// number. It does not count as held yet.
    ///
    /// # Errors
    /// `BadHandle`; `BadArgument` for rights that stay with their domain; `MissingRight` if the
    /// handle may not be copied or has not all these rights.
    pub fn copy(&self, handle: Handle, rights: Rights) -> Result<Held, Error> {
        let held = self.get(handle)?;
        if rights.intersects(Rights::BOUND) {
            return Err(Error::BadArgument);
        }
        held.with(Rights::GRANT | rights, ())?;
        Ok(Held {
            object: held.object.clone(),
            rights,
            badge: held.badge,
        })
    }

    /// A space.
    ///
    /// # Errors
    /// `BadHandle`, `WrongKind`, `MissingRight`.
    pub fn space(&self, handle: Handle, needed: Rights) -> Result<&Arc<Space>, Error> {
        let held = self.get(handle)?;
        match &held.object {
            Object::Space(space) => held.with(needed, space),
            _ => Err(Error::WrongKind),
        }
    }

    /// A memory object.
    ///
    /// # Errors
    /// `BadHandle`, `WrongKind`, `MissingRight`.
    pub fn memory(&self, handle: Handle, needed: Rights) -> Result<&Arc<Memory>, Error> {
        let held = self.get(handle)?;
        match &held.object {
            Object::Memory(memory) => held.with(needed, memory),
            _ => Err(Error::WrongKind),
        }
    }

    /// A domain that still exists.
    ///
    /// # Errors
    /// `BadHandle`, `WrongKind`, `MissingRight`, `PeerGone`.
    pub fn domain(&self, handle: Handle, needed: Rights) -> Result<Arc<Domain>, Error> {
        let held = self.get(handle)?;
        match &held.object {
            Object::Domain(domain) => held
                .with(needed, domain)
                .and_then(|domain| Weak::upgrade(domain).ok_or(Error::PeerGone)),
            _ => Err(Error::WrongKind),
        }
    }

    /// A vcpu: its domain, which may not exist any more, and its number there.
    ///
    /// # Errors
    /// `BadHandle`, `WrongKind`, `MissingRight`.
    pub fn vcpu(
        &self,
        handle: Handle,
        needed: Rights,
    ) -> Result<(&Weak<Domain>, VcpuNumber), Error> {
        let held = self.get(handle)?;
        match &held.object {
            Object::Vcpu(domain, number) => held.with(needed, (domain, *number)),
            _ => Err(Error::WrongKind),
        }
    }

    fn entry_mut(&mut self, index: u16) -> Result<&mut Entry, Error> {
        self.entries
            .get_mut(usize::from(index))
            .ok_or(Error::BadHandle)
    }
}

impl Held {
    /// Gives up handles that counted as held.
    pub fn close_all(handles: Vec<Held>, wake: &mut dyn FnMut(Wake)) {
        for held in handles {
            held.object.closed(held.rights, wake);
        }
    }

    /// The object, if the handle has these rights.
    ///
    /// # Errors
    /// `MissingRight`.
    #[inline]
    pub fn with<T>(&self, needed: Rights, object: T) -> Result<T, Error> {
        if self.rights.contains(needed) {
            Ok(object)
        } else {
            Err(Error::MissingRight)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::arena::Arena;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn table() -> HandleTable {
        HandleTable::new(Account::new(Arena::leak(0, 1).pool(), 1))
    }

    fn held(number: u32) -> Held {
        Held {
            object: Object::Vcpu(Weak::new(), VcpuNumber::FIRST),
            rights: Rights::NONE,
            badge: u64::from(number),
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert,
        Remove(usize),
    }

    proptest! {
        /// Live handles name what they were given for; every handle that was ever closed stays dead.
        #[test]
        fn handles_name_one_object_for_ever(
            steps in proptest::collection::vec(
                prop_oneof![Just(Step::Insert), (0usize..64).prop_map(Step::Remove)], 0..200),
        ) {
            let mut table = table();
            let mut live: HashMap<Handle, u64> = HashMap::new();
            let mut dead: Vec<Handle> = Vec::new();
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Insert => {
                        let handle = table.insert(held(number as u32)).unwrap();
                        prop_assert!(!dead.contains(&handle) && handle.raw() != 0);
                        prop_assert!(live.insert(handle, number as u64).is_none());
                    }
                    Step::Remove(nth) => {
                        let mut handles: Vec<_> = live.keys().copied().collect();
                        handles.sort();
                        if let Some(handle) = handles.get(nth) {
                            let badge = table.remove(*handle).map(|held| held.badge);
                            prop_assert_eq!(badge, Ok(live.remove(handle).unwrap()));
                            dead.push(*handle);
                        }
                    }
                }
                for (handle, number) in &live {
                    prop_assert_eq!(table.get(*handle).map(|held| held.badge), Ok(*number));
                }
                for handle in &dead {
                    prop_assert_eq!(table.get(*handle).map(|held| held.badge), Err(Error::BadHandle));
                }
            }
        }

        #[test]
        fn numbers_nobody_gave_out_name_nothing(index: u16, generation: u16) {
            let mut table = table();
            let given = table.insert(held(1)).unwrap();
            let guess = Handle::new(index, generation);
            prop_assert_eq!(table.get(guess).is_ok(), guess == given);
        }
    }

    #[test]
    fn a_place_retires_when_its_generations_have_run_out() {
        let mut table = table();
        for _ in 0..u16::MAX {
            let handle = table.insert(held(0)).unwrap();
            assert_eq!(handle.index(), 0);
            table.remove(handle).map(|_| ()).unwrap();
        }
        assert_eq!(table.insert(held(0)).unwrap().index(), 1);
    }

    #[test]
    fn a_full_table_refuses() {
        let mut table = table();
        for _ in 0..MAX_DOMAIN_HANDLES {
            table.insert(held(0)).unwrap();
        }
        assert_eq!(table.insert(held(0)), Err(Error::QuotaExhausted));
        let port = Arc::new(Port::console());
        let sender = Held {
            object: Object::Port(port.clone()),
            rights: Rights::SEND,
            badge: 0,
        };
        assert_eq!(table.insert(sender), Err(Error::QuotaExhausted));
        assert_eq!(
            port.senders(),
            0,
            "a handle that was not given counts for nothing"
        );
    }

    #[test]
    fn places_that_a_failed_call_has_made_are_given_back() {
        let mut table = table();
        let handles: Vec<_> = (0..30).map(|_| table.insert(held(0)).unwrap()).collect();
        let (places, used) = (table.places(), table.account.kernel_bytes_used());
        table.ensure(4).unwrap();
        assert!(table.places() > places && table.account.kernel_bytes_used() > used);
        table.shrink_to(places);
        assert_eq!(table.places(), places);
        assert_eq!(table.account.kernel_bytes_used(), used);
        assert!(handles.iter().all(|handle| table.get(*handle).is_ok()));
        let more: Vec<_> = (0..4).map(|_| table.insert(held(0)).unwrap()).collect();
        // Somebody uses what was added: it stays.
        let grown = table.places();
        table.shrink_to(places);
        assert_eq!(table.places(), grown);
        assert!(more.iter().all(|handle| table.get(*handle).is_ok()));
    }

    #[test]
    fn kind_comes_before_right() {
        let mut table = table();
        let vcpu = table.insert(held(0)).unwrap();
        assert_eq!(table.port(vcpu, Rights::SEND).err(), Some(Error::WrongKind));
        let port = Held {
            object: Object::Port(Arc::new(Port::console())),
            rights: Rights::RECEIVE,
            badge: 0,
        };
        let port = table.insert(port).unwrap();
        assert_eq!(
            table.port(port, Rights::SEND).err(),
            Some(Error::MissingRight)
        );
        assert!(table.port(port, Rights::RECEIVE).is_ok());
    }
}
