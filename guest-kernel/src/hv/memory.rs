//! Memory objects, and the address space into which they are mapped.

use nuncio_abi::{Call, Error, QueryItem, Rights, MAP_LIMIT_BYTES};

use super::object::typed_object;
use super::{Machine, Object};

typed_object! {
    /// Pages that can be mapped, perhaps shared with another domain.
    Memory
}

impl<'m, M: Machine> Memory<'m, M> {
    /// The size in bytes.
    ///
    /// # Errors
    /// `BadHandle`.
    pub fn bytes(&self) -> Result<u64, Error> {
        self.object.query(QueryItem::Usage).map(|(bytes, _)| bytes)
    }

    /// Maps all of it where there is room.
    ///
    /// # Errors
    /// As [`Space::map`]; `QuotaExhausted` if there is no room.
    pub fn attach(&self, space: &Space<'m, M>, access: Rights) -> Result<M::View, Error> {
        self.object.machine().attach(space, self, access)
    }
}

typed_object! {
    /// A guest-physical address space.
    Space
}

impl<M: Machine> Space<'_, M> {
    /// Maps a part of a memory object, in as many calls as its length takes.
    ///
    /// # Errors
    /// `AlreadyMapped`, `BadAddress`, `MissingRight`, `QuotaExhausted`. What an earlier call of
    /// the same range has mapped is taken out again.
    pub fn map(
        &self,
        memory: &Memory<'_, M>,
        address: u64,
        offset: u64,
        length: u64,
        access: Rights,
    ) -> Result<(), Error> {
        let mut done = 0;
        while done < length {
            let step = (length - done).min(MAP_LIMIT_BYTES);
            let place = address.checked_add(done).zip(offset.checked_add(done));
            let (step_address, step_offset) = place.ok_or(Error::BadAddress)?;
            let mapped = self.object.invoke(Call::Map {
                space: self.object.handle(),
                memory: memory.object.handle(),
                address: step_address,
                offset: step_offset,
                length: step,
                access,
            });
            if let Err(error) = mapped {
                if done > 0 {
                    self.unmap(address, done)?;
                }
                return Err(error);
            }
            done += step;
        }
        Ok(())
    }

    /// Takes a range out of the space.
    ///
    /// # Errors
    /// `NotMapped`, `BadAddress`.
    pub fn unmap(&self, address: u64, length: u64) -> Result<(), Error> {
        let mut done = 0;
        while done < length {
            let step = (length - done).min(MAP_LIMIT_BYTES);
            self.object.invoke(Call::Unmap {
                space: self.object.handle(),
                address: address.checked_add(done).ok_or(Error::BadAddress)?,
                length: step,
            })?;
            done += step;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hv::fake::Script;
    use nuncio_abi::{Handle, Reply};

    fn map(address: u64, offset: u64, length: u64) -> Call {
        Call::Map {
            space: Handle::new(1, 1),
            memory: Handle::new(2, 1),
            address,
            offset,
            length,
            access: Rights::READ,
        }
    }

    #[test]
    fn a_long_range_takes_several_calls() {
        let limit = MAP_LIMIT_BYTES;
        let machine = Script::new([
            (map(limit, 0, limit), Reply::Done),
            (map(2 * limit, limit, 4096), Reply::Done),
        ]);
        let space = Space::new(Object::new(&machine, Handle::new(1, 1)));
        let memory = Memory::new(Object::new(&machine, Handle::new(2, 1)));
        let mapped = space.map(&memory, limit, 0, limit + 4096, Rights::READ);
        assert_eq!(mapped, Ok(()));
        machine.assert_finished();
    }

    #[test]
    fn a_half_mapped_range_is_taken_out_again() {
        let limit = MAP_LIMIT_BYTES;
        let unmap = Call::Unmap {
            space: Handle::new(1, 1),
            address: limit,
            length: limit,
        };
        let machine = Script::new([
            (map(limit, 0, limit), Reply::Done),
            (
                map(2 * limit, limit, 4096),
                Reply::Error(Error::AlreadyMapped),
            ),
            (unmap, Reply::Done),
        ]);
        let space = Space::new(Object::new(&machine, Handle::new(1, 1)));
        let memory = Memory::new(Object::new(&machine, Handle::new(2, 1)));
        let mapped = space.map(&memory, limit, 0, limit + 4096, Rights::READ);
        assert_eq!(mapped, Err(Error::AlreadyMapped));
        machine.assert_finished();
    }
}
