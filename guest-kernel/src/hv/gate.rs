//! What the client needs of the place where it runs: a way to call, and memory shared with the
//! hypervisor.

use core::sync::atomic::{AtomicU64, Ordering};

use nuncio_abi::{
    Call, Error, Message, Module, RawCall, Reply, Rights, Transfer, VcpuPage, MAX_VALUES,
    MESSAGE_ALIGNMENT, MESSAGE_HANDLES, MESSAGE_WORDS,
};

use super::{Memory, Space};

/// Carries one call to the hypervisor and its reply back.
pub trait Gate {
    /// Makes the call.
    fn call(&self, raw: RawCall) -> Reply;

    /// Makes a typed call; the values are zeros where the verb has none.
    #[inline(always)]
    fn invoke(&self, call: Call) -> Result<[u64; MAX_VALUES], Error> {
        self.call(call.encode()).result()
    }
}

/// The machine that a program runs on.
pub trait Machine: Gate {
    /// How shared memory looks once it is mapped.
    type View: SharedView;

    /// The page of event words.
    fn vcpu_page(&self) -> VcpuPage<'_>;

    /// Nanoseconds of the system clock; reading it is no call.
    fn now_ns(&self) -> u64;

    /// Where messages lie that do not fit into registers.
    fn buffers(&self) -> &MessageBuffers;

    /// Takes those of the bits in `mask` of an event word that an upcall has already collected.
    fn collected_by_upcall(&self, slot: usize, mask: u64) -> u64;

    /// Maps a whole memory object where there is room, into the space and the page tables.
    fn attach(
        &self,
        space: &Space<'_, Self>,
        memory: &Memory<'_, Self>,
        access: Rights,
    ) -> Result<Self::View, Error>
    where
        Self: Sized;

    /// The bytes of a boot module; `None` if they are not where memory is mapped.
    fn module_bytes(&self, module: &Module) -> Option<&[u8]>;
}

/// Memory that somebody else may change at any time: bytes are copied in and out, never borrowed.
pub trait SharedView {
    /// Length in bytes.
    fn length(&self) -> u64;

    /// Copies bytes out of the memory; false, and nothing is copied, if they are not all in it.
    #[must_use]
    fn read(&self, offset: u64, bytes: &mut [u8]) -> bool;

    /// Copies bytes into the memory; false, and nothing is copied, if they do not all fit or the
    /// memory is read-only.
    #[must_use]
    fn write(&self, offset: u64, bytes: &[u8]) -> bool;
}

/// The two places in memory through which longer messages pass.
#[derive(Default)]
pub struct MessageBuffers {
    /// For messages that are sent.
    pub outgoing: MessageBuffer,
    /// For messages that are received.
    pub incoming: MessageBuffer,
}

impl MessageBuffers {
    /// Empty buffers.
    pub const fn new() -> Self {
        MessageBuffers {
            outgoing: MessageBuffer::new(),
            incoming: MessageBuffer::new(),
        }
    }
}

/// A message in memory, at an address that a call may name.
#[derive(Default)]
#[repr(C, align(128))]
pub struct MessageBuffer {
    words: [AtomicU64; MESSAGE_WORDS],
    /// A word for each handle in the message.
    handles: [AtomicU64; MESSAGE_HANDLES],
}

const _: () = assert!(align_of::<MessageBuffer>() as u64 == MESSAGE_ALIGNMENT);

impl MessageBuffer {
    const fn new() -> Self {
        MessageBuffer {
            words: [const { AtomicU64::new(0) }; MESSAGE_WORDS],
            handles: [const { AtomicU64::new(0) }; MESSAGE_HANDLES],
        }
    }

    /// The address for a call. The kernel maps its memory where it is, so a pointer is one.
    #[inline]
    pub fn address(&self) -> u64 {
        core::ptr::from_ref(self).addr() as u64
    }

    /// Puts the words of a message into memory.
    #[inline]
    pub fn store(&self, words: &[u64; MESSAGE_WORDS]) {
        for (place, word) in self.words.iter().zip(words) {
            place.store(*word, Ordering::Relaxed);
        }
    }

    /// Puts the handles of a message behind its words.
    pub fn store_handles(&self, transfers: &[Transfer]) {
        for (place, transfer) in self.handles.iter().zip(transfers) {
            place.store(transfer.to_raw(), Ordering::Relaxed);
        }
    }

    /// The words that stand for handles.
    pub fn load_handles(&self) -> [u64; MESSAGE_HANDLES] {
        core::array::from_fn(|index| {
            self.handles
                .get(index)
                .map_or(0, |place| place.load(Ordering::Relaxed))
        })
    }

    /// Reads a message of that length; bytes past it read as zero.
    pub fn load(&self, length: u8) -> Message {
        let mut words = [0; MESSAGE_WORDS];
        for (index, (word, place)) in words.iter_mut().zip(&self.words).enumerate() {
            let unused_bytes = ((index + 1) * 8).saturating_sub(usize::from(length)).min(8);
            let kept = u64::MAX.checked_shr(unused_bytes as u32 * 8).unwrap_or(0);
            *word = place.load(Ordering::Relaxed) & kept;
        }
        Message { length, words }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_past_a_message_is_not_part_of_it() {
        let buffer = MessageBuffer::default();
        buffer.store(&[u64::MAX; 8]);
        assert_eq!(buffer.load(64).words, [u64::MAX; 8]);
        assert_eq!(buffer.load(9).words, [u64::MAX, 0xFF, 0, 0, 0, 0, 0, 0]);
        assert_eq!(buffer.load(0).words, [0; 8]);
        assert_eq!(buffer.address() % 128, 0);
    }
}
