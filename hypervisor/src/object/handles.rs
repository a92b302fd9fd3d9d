//! Handle tables: from the number that a guest holds to the object, its rights and its badge.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use nuncio_abi::{Error, Handle, Rights};

use super::{Domain, Event, Memory, Object, Port, Space};

/// Handles that one domain can hold at a time.
pub const MAX_DOMAIN_HANDLES: usize = 1024;

/// The handles of one domain.
pub struct HandleTable {
    entries: Vec<Entry>,
    /// Places that are free, the one to use next at the end.
    free: Vec<u16>,
}

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
    /// A table without handles.
    pub const fn new() -> Self {
        HandleTable {
            entries: Vec::new(),
            free: Vec::new(),
        }
    }

    /// Gives the domain a handle.
    ///
    /// # Errors
    /// `QuotaExhausted` when the table is full.
    pub fn insert(&mut self, held: Held) -> Result<Handle, Error> {
        let index = match self.free.pop() {
            Some(index) => index,
            None => self.new_place()?,
        };
        let entry = self.entry_mut(index)?;
        let handle = Handle::new(index, entry.generation);
        held.object.opened(held.rights);
        entry.held = Some(held);
        Ok(handle)
    }

    fn new_place(&mut self) -> Result<u16, Error> {
        if self.entries.len() >= MAX_DOMAIN_HANDLES {
            return Err(Error::QuotaExhausted);
        }
        let index = u16::try_from(self.entries.len()).map_err(|_| Error::QuotaExhausted)?;
        self.entries.push(Entry {
            generation: FIRST_GENERATION,
            held: None,
        });
        Ok(index)
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
        self.free.clear();
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
    pub fn port(&self, handle: Handle, needed: Rights) -> Result<(&Port, u64), Error> {
        let held = self.get(handle)?;
        match &held.object {
            Object::Port(port) => held.with(needed, (&**port, held.badge)),
            _ => Err(Error::WrongKind),
        }
    }

    /// An event.
    ///
    /// # Errors
    /// `BadHandle`, `WrongKind`, `MissingRight`.
    #[inline]
    pub fn event(&self, handle: Handle, needed: Rights) -> Result<&Event, Error> {
        let held = self.get(handle)?;
        match &held.object {
            Object::Event(event) => held.with(needed, &**event),
            _ => Err(Error::WrongKind),
        }
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

    fn entry_mut(&mut self, index: u16) -> Result<&mut Entry, Error> {
        self.entries
            .get_mut(usize::from(index))
            .ok_or(Error::BadHandle)
    }
}

impl Default for HandleTable {
    fn default() -> Self {
        Self::new()
    }
}

impl Held {
    #[inline]
    fn with<T>(&self, needed: Rights, object: T) -> Result<T, Error> {
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
    use crate::sched::VcpuId;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn held(number: u32) -> Held {
        Held {
            object: Object::Vcpu(VcpuId(number)),
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
            let mut table = HandleTable::new();
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
            let mut table = HandleTable::new();
            let given = table.insert(held(1)).unwrap();
            let guess = Handle::new(index, generation);
            prop_assert_eq!(table.get(guess).is_ok(), guess == given);
        }
    }

    #[test]
    fn a_place_retires_when_its_generations_have_run_out() {
        let mut table = HandleTable::new();
        for _ in 0..u16::MAX {
            let handle = table.insert(held(0)).unwrap();
            assert_eq!(handle.index(), 0);
            table.remove(handle).map(|_| ()).unwrap();
        }
        assert_eq!(table.insert(held(0)).unwrap().index(), 1);
    }

    #[test]
    fn a_full_table_refuses() {
        let mut table = HandleTable::new();
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
    fn kind_comes_before_right() {
        let mut table = HandleTable::new();
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
