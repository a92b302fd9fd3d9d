//! Bytes that may lie in physical memory.

use core::sync::atomic::Ordering;

use super::{HostPhysical, PhysicalMemory, PAGE_BYTES};

/// Something that has a length and can be read from anywhere, such as a file.
pub trait ByteSource {
    /// Length in bytes.
    fn len(&self) -> usize;

    /// Whether there are no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `target` with the bytes from `offset` on. Returns false, with anything in `target`,
    /// if not all of them are there.
    #[must_use]
    fn read(&self, offset: usize, target: &mut [u8]) -> bool;
}

impl ByteSource for [u8] {
    fn len(&self) -> usize {
        <[u8]>::len(self)
    }

    fn read(&self, offset: usize, target: &mut [u8]) -> bool {
        let rest = self.get(offset..);
        match rest.and_then(|rest| rest.get(..target.len())) {
            Some(bytes) => {
                target.copy_from_slice(bytes);
                true
            }
            None => false,
        }
    }
}

/// A run of physical memory as bytes. It need not begin or end at a page or a word.
#[derive(Clone, Copy)]
pub struct FrameBytes {
    physical: &'static dyn PhysicalMemory,
    start: HostPhysical,
    length: usize,
}

impl FrameBytes {
    /// The bytes from `start` on, `length` of them. Those in frames that `physical` does not give
    /// access to cannot be read.
    pub fn new(physical: &'static dyn PhysicalMemory, start: HostPhysical, length: usize) -> Self {
        FrameBytes {
            physical,
            start,
            length,
        }
    }

    /// Reads up to the end of a word; returns how many bytes that were.
    fn read_word(&self, address: HostPhysical, target: &mut [u8]) -> Option<usize> {
        const WORD_BYTES: usize = size_of::<u64>();
        let page_offset = (address.0 % PAGE_BYTES) as usize;
        let words = self.physical.words(address.frame())?;
        let word = words.get(page_offset / WORD_BYTES)?.load(Ordering::Relaxed);
        let bytes = word.to_le_bytes();
        let wanted = bytes.get(page_offset % WORD_BYTES..)?;
        let count = wanted.len().min(target.len());
        target.get_mut(..count)?.copy_from_slice(&wanted[..count]);
        Some(count)
    }
}

impl ByteSource for FrameBytes {
    fn len(&self) -> usize {
        self.length
    }

    fn read(&self, offset: usize, target: &mut [u8]) -> bool {
        let end = offset.checked_add(target.len());
        let first = self.start.0.checked_add(offset as u64);
        let (Some(mut address), true) = (first, end.is_some_and(|end| end <= self.length)) else {
            return false;
        };
        let mut target = target;
        while !target.is_empty() {
            let Some(count) = self.read_word(HostPhysical(address), target) else {
                return false;
            };
            address = address.saturating_add(count as u64);
            target = &mut target[count..];
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::arena::Arena;
    use crate::mem::{Frame, WORDS_PER_PAGE};
    use alloc::vec;
    use proptest::prelude::*;

    const FIRST_FRAME: u64 = 3;

    /// Two frames in which the byte at offset n is n modulo 251.
    fn memory() -> &'static Arena {
        let arena = Arena::leak(FIRST_FRAME, 2);
        for index in 0..2 * WORDS_PER_PAGE {
            let bytes = core::array::from_fn(|byte| ((index * 8 + byte) % 251) as u8);
            let frame = Frame(FIRST_FRAME + (index / WORDS_PER_PAGE) as u64);
            let word = &arena.words(frame).unwrap()[index % WORDS_PER_PAGE];
            word.store(u64::from_le_bytes(bytes), Ordering::Relaxed);
        }
        arena
    }

    #[test]
    fn what_is_not_there_is_not_read() {
        let start = HostPhysical(FIRST_FRAME * PAGE_BYTES);
        let bytes = FrameBytes::new(memory(), start, 3 * PAGE_BYTES as usize);
        let mut two = [0; 2];
        assert!(bytes.read(8190, &mut two));
        assert!(!bytes.read(8191, &mut two), "the third frame is no memory");
        let bytes = FrameBytes::new(memory(), start, 10);
        assert!(bytes.read(8, &mut two));
        assert!(!bytes.read(9, &mut two));
        assert!(!bytes.read(usize::MAX, &mut two));
        assert!(bytes.read(10, &mut []));
        assert!(!bytes.read(11, &mut []));
        assert!(!b"ten bytes."[..].read(11, &mut []));
        let end = FrameBytes::new(memory(), HostPhysical(u64::MAX), usize::MAX);
        assert!(!end.read(1, &mut two));
    }

    proptest! {
        #[test]
        fn frames_and_slices_read_alike(
            start in 0usize..8192,
            length in 0usize..8192,
            offset in 0usize..8192,
            count in 0usize..200,
        ) {
            static ARENA: spin::Once<&'static Arena> = spin::Once::new();
            let arena = *ARENA.call_once(memory);
            let length = length.min(8192 - start);
            let address = HostPhysical(FIRST_FRAME * PAGE_BYTES + start as u64);
            let frames = FrameBytes::new(arena, address, length);
            let all: vec::Vec<u8> = (0..8192usize).map(|byte| (byte % 251) as u8).collect();
            let slice = &all[start..start + length];
            let (mut left, mut right) = (vec![0; count], vec![0; count]);
            let found = frames.read(offset, &mut left);
            prop_assert_eq!(found, slice.read(offset, &mut right));
            prop_assert!(!found || left == right);
            prop_assert_eq!(frames.len(), ByteSource::len(slice));
        }
    }
}
