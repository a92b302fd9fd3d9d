//! A walk along the frame pointers of a stack that may be damaged.

#![forbid(unsafe_code)]

use crate::mem::HostPhysical;
use crate::mem::HostRange;

/// Most return addresses that a report shows.
pub(super) const MAX_DEPTH: usize = 32;

/// Walks from the frame at `frame_pointer` outwards and gives the return addresses.
///
/// A frame is believed if it lies aligned in one of the `stacks` and its return address in the
/// `text`. `read` is called only for words inside the stacks. A cycle ends at [`MAX_DEPTH`].
pub(super) fn walk<'walk>(
    frame_pointer: u64,
    stacks: &'walk [HostRange],
    text: HostRange,
    read: impl Fn(u64) -> u64 + 'walk,
) -> impl Iterator<Item = u64> + 'walk {
    let mut frame_pointer = frame_pointer;
    core::iter::from_fn(move || {
        let frame = HostRange::from_length(HostPhysical(frame_pointer), 16)?;
        if !frame_pointer.is_multiple_of(8)
            || !stacks.iter().any(|stack| stack.contains_range(&frame))
        {
            return None;
        }
        let return_address = read(frame_pointer.checked_add(8)?);
        frame_pointer = read(frame_pointer);
        text.contains(HostPhysical(return_address))
            .then_some(return_address)
    })
    .take(MAX_DEPTH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    const STACK: u64 = 0x8000;
    const STACK_WORDS: usize = 64;

    fn walk_over(words: &[u64], frame_pointer: u64) -> Vec<u64> {
        let length = words.len() as u64 * 8;
        let stack = HostRange::from_length(HostPhysical(STACK), length).unwrap();
        let text = HostRange::from_length(HostPhysical(0x10_0000), 0x1000).unwrap();
        let stacks = [stack];
        let addresses = walk(frame_pointer, &stacks, text, |address| {
            words[((address - STACK) / 8) as usize]
        });
        addresses.collect()
    }

    #[test]
    fn a_sound_chain_is_followed_to_its_end() {
        let mut words = vec![0; STACK_WORDS];
        (words[2], words[3]) = (STACK + 80, 0x10_0010);
        (words[10], words[11]) = (0, 0x10_0020);
        assert_eq!(walk_over(&words, STACK + 16), [0x10_0010, 0x10_0020]);
    }

    #[test]
    fn a_frame_outside_the_stack_or_the_text_ends_the_walk() {
        let mut words = vec![0; STACK_WORDS];
        (words[2], words[3]) = (STACK + 80, 0x10_0010);
        (words[10], words[11]) = (STACK + 160, 0x20_0000);
        assert_eq!(walk_over(&words, STACK + 16), [0x10_0010]);
        assert_eq!(walk_over(&words, STACK + 17), []);
        assert_eq!(walk_over(&words, STACK + STACK_WORDS as u64 * 8 - 8), []);
        assert_eq!(walk_over(&words, u64::MAX - 7), []);
    }

    #[test]
    fn a_cycle_ends() {
        let mut words = vec![0; STACK_WORDS];
        (words[2], words[3]) = (STACK + 16, 0x10_0010);
        assert_eq!(walk_over(&words, STACK + 16).len(), MAX_DEPTH);
    }

    proptest! {
        #[test]
        fn no_stack_leads_the_walk_outside(words in prop::collection::vec(prop_oneof![any::<u64>(), STACK..STACK + 512, 0x10_0000u64..0x10_1000], STACK_WORDS), start: u64) {
            // `read` above panics on an index outside the words.
            prop_assert!(walk_over(&words, start).len() <= MAX_DEPTH);
            prop_assert!(walk_over(&words, STACK + start % 512).len() <= MAX_DEPTH);
        }
    }
}
