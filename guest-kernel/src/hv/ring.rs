//! Rings: many calls in one exit.

use core::sync::atomic::AtomicU64;

use nuncio_abi::{Call, Error, Reply, RingPage, RING_ENTRIES};

use super::Machine;

/// The page of a ring. The kernel maps its memory where it is, so a pointer is its address.
#[repr(C, align(4096))]
pub struct RingMemory([AtomicU64; 512]);

impl Default for RingMemory {
    fn default() -> Self {
        Self::new()
    }
}

impl RingMemory {
    /// An empty ring.
    pub const fn new() -> Self {
        RingMemory([const { AtomicU64::new(0) }; 512])
    }

    /// The words.
    pub const fn page(&self) -> RingPage<'_> {
        RingPage::new(&self.0)
    }

    /// All words as they are.
    pub const fn words(&self) -> &[AtomicU64; 512] {
        &self.0
    }

    /// The address for a call.
    pub fn address(&self) -> u64 {
        core::ptr::from_ref(self).addr() as u64
    }
}

/// A ring in which one thread puts calls.
pub struct Ring<'m, M> {
    machine: &'m M,
    memory: &'m RingMemory,
}

impl<'m, M: Machine> Ring<'m, M> {
    /// A ring in that memory.
    pub const fn new(machine: &'m M, memory: &'m RingMemory) -> Self {
        Ring { machine, memory }
    }

    /// Adds a call and gives its number; `None` if the ring is full.
    #[inline]
    pub fn push(&self, call: Call) -> Option<u64> {
        self.memory.page().push(&call.encode(), 0)
    }

    /// Has all calls made that were added, and gives their count.
    ///
    /// # Errors
    /// `BadAddress` if the page is not mapped.
    #[inline]
    pub fn submit(&self) -> Result<u64, Error> {
        let [done, ..] = self.machine.invoke(Call::Submit {
            ring: self.memory.address(),
            entries: RING_ENTRIES as u8,
        })?;
        Ok(done)
    }

    /// The reply to the call of that number, once it has been made.
    pub fn reply(&self, number: u64) -> Option<Reply> {
        self.memory.page().reply(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hv::fake::Script;

    #[test]
    fn calls_are_added_and_submitted_together() {
        let memory = RingMemory::new();
        let submit = Call::Submit {
            ring: memory.address(),
            entries: 31,
        };
        let machine = Script::new([(submit, Reply::Pair(31, 0))]);
        let ring = Ring::new(&machine, &memory);
        for number in 0..31 {
            assert_eq!(ring.push(Call::HELLO), Some(number));
        }
        assert_eq!(ring.push(Call::HELLO), None);
        assert_eq!(ring.reply(0), None);
        assert_eq!(ring.submit(), Ok(31));
        memory.page().finish(0, 0, &[2, 0, 0, 0, 0]);
        assert_eq!(ring.reply(0), Some(Reply::Full([2, 0, 0, 0, 0])));
        assert_eq!(memory.address() % 4096, 0);
        machine.assert_finished();
    }
}
