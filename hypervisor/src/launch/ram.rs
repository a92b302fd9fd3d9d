//! Writing into the memory of a domain that does not run yet.

use core::sync::atomic::Ordering::Relaxed;

use crate::mem::{PhysicalMemory, PAGE_BYTES, PAGE_SHIFT};
use crate::object::Memory;

/// Writes bytes at an offset; `None` if they leave the memory.
pub fn write(
    physical: &dyn PhysicalMemory,
    memory: &Memory,
    offset: u64,
    bytes: &[u8],
) -> Option<()> {
    let mut offset = offset;
    let mut rest = bytes;
    while !rest.is_empty() {
        let inside = (offset % 8) as usize;
        let (chunk, tail) = rest.split_at(rest.len().min(8 - inside));
        let words = physical.words(memory.frame(offset >> PAGE_SHIFT)?)?;
        let word = words.get((offset % PAGE_BYTES / 8) as usize)?;
        let mut value = word.load(Relaxed).to_le_bytes();
        value
            .get_mut(inside..inside + chunk.len())?
            .copy_from_slice(chunk);
        word.store(u64::from_le_bytes(value), Relaxed);
        offset += chunk.len() as u64;
        rest = tail;
    }
    Some(())
}

/// Writes words at an offset that is a multiple of 8; `None` if they leave the memory.
pub fn write_words(
    physical: &dyn PhysicalMemory,
    memory: &Memory,
    offset: u64,
    words: &[u64],
) -> Option<()> {
    let offsets = (offset..).step_by(8);
    for (word, offset) in words.iter().zip(offsets) {
        write(physical, memory, offset, &word.to_le_bytes())?;
    }
    Some(())
}

/// Zeroes what lies behind the first `bytes` bytes.
pub fn clear_tail(physical: &dyn PhysicalMemory, memory: &Memory, bytes: u64) -> Option<()> {
    const ZEROS: [u8; PAGE_BYTES as usize] = [0; PAGE_BYTES as usize];
    let tail = memory.bytes().checked_sub(bytes)?;
    write(physical, memory, bytes, ZEROS.get(..tail as usize)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::arena::Arena;
    use crate::mem::Account;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn content(arena: &Arena, memory: &Memory) -> Vec<u8> {
        (0..memory.pages())
            .flat_map(|page| arena.words(memory.frame(page).unwrap()).unwrap())
            .flat_map(|word| word.load(Relaxed).to_le_bytes())
            .collect()
    }

    proptest! {
        #[test]
        fn bytes_land_where_they_belong(offset in 0usize..8192, bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let arena = Arena::leak(8, 2);
            let memory = Memory::allocate(&Account::new(arena.pool(), 2), 2).unwrap();
            let fits = offset + bytes.len() <= 8192;
            let written = write(arena, &memory, offset as u64, &bytes);
            prop_assert_eq!(written.is_some(), fits);
            if fits {
                let mut expected = std::vec![0; 8192];
                expected[offset..offset + bytes.len()].copy_from_slice(&bytes);
                prop_assert_eq!(content(arena, &memory), expected);
            }
        }
    }

    #[test]
    fn the_tail_of_a_module_is_cleared() {
        let arena = Arena::leak(8, 1);
        let memory = Memory::allocate(&Account::new(arena.pool(), 1), 1).unwrap();
        arena.fill(u64::MAX);
        clear_tail(arena, &memory, 13).unwrap();
        let content = content(arena, &memory);
        assert!(content[..13].iter().all(|byte| *byte == 0xFF));
        assert!(content[13..].iter().all(|byte| *byte == 0));
    }
}
