//! Which blocks of a range are free: a buddy allocator whose every operation takes about the same time,
//! whatever has been allocated and freed before.
//!
//! For each size there is a bitmap of the blocks that are free and as large as they can be, and above it
//! bitmaps of its words that are not zero. Finding a free block is one look a level, and whether a block's
//! buddy is free is one bit. A list of free blocks would have to be walked to find the buddy, and with it
//! freeing would take longer the more small pieces other domains have left free. A few blocks of each small
//! size that have been freed last are kept aside, since such are mostly wanted again.

#[cfg(test)]
use alloc::vec::Vec;

/// Bits of a word, and the logarithm of that.
const WORD_BITS: usize = 64;
const WORD_SHIFT: u32 = WORD_BITS.trailing_zeros();
/// Levels of a set: enough for 2^36 blocks.
const LEVELS: usize = 6;
/// Sizes of blocks: 1 to 2^39 times the smallest.
const ORDERS: usize = 40;

/// Sizes of which blocks are kept aside, and how many of each.
const SPARE_ORDERS: usize = 9;
const SPARES: usize = 8;

/// The free blocks of a range of numbers. The block of order n and number m has the 2^n numbers from
/// m * 2^n on.
pub struct Blocks<'a> {
    words: &'a mut [u64],
    sets: [Set; ORDERS],
    /// The orders of which a block is free.
    free_orders: u64,
    /// Blocks that are free and in no bitmap.
    spares: [Spares; SPARE_ORDERS],
}

/// The blocks of one size that have been freed last.
#[derive(Clone, Copy)]
struct Spares {
    starts: [usize; SPARES],
    count: usize,
}

const NO_SPARES: Spares = Spares {
    starts: [0; SPARES],
    count: 0,
};

/// Where the bitmaps of one order lie among the words.
#[derive(Clone, Copy)]
struct Set {
    levels: [u32; LEVELS],
    /// How many of the levels there are; the highest has one word.
    depth: u32,
    /// How many blocks of this order there can be.
    blocks: usize,
}

const NO_SET: Set = Set {
    levels: [0; LEVELS],
    depth: 0,
    blocks: 0,
};

impl Set {
    fn levels(&self) -> &[u32] {
        self.levels.get(..self.depth as usize).unwrap_or_default()
    }
}

impl<'a> Blocks<'a> {
    /// Nothing, of which nothing can be taken.
    pub const fn empty() -> Self {
        Blocks {
            words: &mut [],
            sets: [NO_SET; ORDERS],
            free_orders: 0,
            spares: [NO_SPARES; SPARE_ORDERS],
        }
    }

    /// How many words the bitmaps for so many numbers take.
    pub fn words_for(numbers: usize) -> usize {
        layout(numbers).1
    }

    /// Of so many numbers none is free. The words are zero, and as many as `words_for` says.
    pub fn new(words: &'a mut [u64], numbers: usize) -> Self {
        let (sets, _) = layout(numbers);
        Blocks {
            words,
            sets,
            free_orders: 0,
            spares: [NO_SPARES; SPARE_ORDERS],
        }
    }

    /// Makes the numbers of a range free, in as large blocks as there are. None of them is free before.
    pub fn add(&mut self, mut start: usize, end: usize) {
        while start < end {
            let aligned = start.trailing_zeros().min(ORDERS as u32 - 1);
            let fitting = (end - start).ilog2();
            let order = aligned.min(fitting) as usize;
            self.merge(start, order);
            start += 1 << order;
        }
    }

    /// Takes a block of that order; the number that it begins with.
    #[inline]
    pub fn take(&mut self, order: usize) -> Option<usize> {
        if let Some(spares) = self.spares.get_mut(order) {
            if let Some(last) = spares.count.checked_sub(1) {
                spares.count = last;
                return spares.starts.get(last).copied();
            }
        }
        self.split(order).or_else(|| {
            self.gather();
            self.split(order)
        })
    }

    /// Gives back a block of that order that begins with `start`.
    #[inline]
    pub fn free(&mut self, start: usize, order: usize) {
        if let Some(spares) = self.spares.get_mut(order) {
            if let Some(place) = spares.starts.get_mut(spares.count) {
                *place = start;
                spares.count += 1;
                return;
            }
        }
        self.merge(start, order);
    }

    /// Gives back what is kept aside: there may be large blocks with it.
    #[cold]
    fn gather(&mut self) {
        for order in 0..SPARE_ORDERS {
            let spares = core::mem::replace(&mut self.spares[order], NO_SPARES);
            for start in spares.starts.into_iter().take(spares.count) {
                self.merge(start, order);
            }
        }
    }

    fn split(&mut self, order: usize) -> Option<usize> {
        let large_enough = self.free_orders.checked_shr(order as u32)?;
        if large_enough == 0 {
            return None;
        }
        let found = order + large_enough.trailing_zeros() as usize;
        let mut block = self.first(found)?;
        self.clear(found, block);
        // What is too much goes back half by half; the lower half is taken.
        for smaller in (order..found).rev() {
            block <<= 1;
            self.set(smaller, block | 1);
        }
        Some(block << order)
    }

    fn merge(&mut self, start: usize, order: usize) {
        let (mut order, mut block) = (order, start >> order);
        while self.is_free(order, block ^ 1) {
            self.clear(order, block ^ 1);
            block >>= 1;
            order += 1;
        }
        self.set(order, block);
    }

    fn is_free(&self, order: usize, block: usize) -> bool {
        // The largest block has no buddy.
        let set = match self.sets.get(order + 1) {
            Some(above) if block >> 1 < above.blocks => &self.sets[order],
            _ => return false,
        };
        let word = self.words[set.levels[0] as usize + (block >> WORD_SHIFT)];
        block < set.blocks && word >> (block % WORD_BITS) & 1 != 0
    }

    fn first(&self, order: usize) -> Option<usize> {
        let set = &self.sets[order];
        let mut place = 0;
        for level in set.levels().iter().rev() {
            let word = *self.words.get(*level as usize + place)?;
            place = place << WORD_SHIFT | word.trailing_zeros() as usize;
        }
        Some(place)
    }

    #[inline]
    fn set(&mut self, order: usize, block: usize) {
        self.free_orders |= 1 << order;
        let mut place = block;
        for level in self.sets[order].levels() {
            let word = &mut self.words[*level as usize + (place >> WORD_SHIFT)];
            let before = *word;
            *word = before | 1 << (place % WORD_BITS);
            if before != 0 {
                return;
            }
            place >>= WORD_SHIFT;
        }
    }

    #[inline]
    fn clear(&mut self, order: usize, block: usize) {
        let mut place = block;
        for level in self.sets[order].levels() {
            let word = &mut self.words[*level as usize + (place >> WORD_SHIFT)];
            *word &= !(1 << (place % WORD_BITS));
            if *word != 0 {
                return;
            }
            place >>= WORD_SHIFT;
        }
        self.free_orders &= !(1 << order);
    }

    /// How many numbers are free.
    #[cfg(test)]
    fn free_numbers(&self) -> usize {
        let spares = self.spares.iter().enumerate();
        let aside: usize = spares.map(|(order, spares)| spares.count << order).sum();
        let merged: usize = self.merged().iter().map(|(order, _)| 1 << order).sum();
        aside + merged
    }

    /// Free blocks by order when nothing is kept aside.
    #[cfg(test)]
    fn free_blocks(&mut self) -> Vec<(usize, usize)> {
        self.gather();
        self.merged()
    }

    /// The blocks of the bitmaps.
    #[cfg(test)]
    fn merged(&self) -> Vec<(usize, usize)> {
        let orders = (0..ORDERS)
            .flat_map(|order| (0..self.sets[order].blocks).map(move |block| (order, block)));
        let is_set = |&(order, block): &(usize, usize)| {
            let word = self.words[self.sets[order].levels[0] as usize + (block >> WORD_SHIFT)];
            word >> (block % WORD_BITS) & 1 != 0
        };
        orders.filter(is_set).collect()
    }
}

/// The bitmaps for so many numbers, and how many words they take.
fn layout(numbers: usize) -> ([Set; ORDERS], usize) {
    let mut sets = [NO_SET; ORDERS];
    let mut next = 0;
    for (order, set) in sets.iter_mut().enumerate() {
        set.blocks = numbers >> order;
        let mut words = set.blocks;
        while words > 0 && (set.depth as usize) < LEVELS {
            words = words.div_ceil(WORD_BITS);
            set.levels[set.depth as usize] = next as u32;
            set.depth += 1;
            next += words;
            if words == 1 {
                break;
            }
        }
    }
    (sets, next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[derive(Clone, Debug)]
    enum Step {
        Take(usize),
        Free(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let take = (0usize..9).prop_map(Step::Take);
        let free = (0usize..64).prop_map(Step::Free);
        proptest::collection::vec(prop_oneof![take, free], 0..300)
    }

    proptest! {
        /// What is taken is aligned, in range and nobody else's; when all is given back, the blocks are what
        /// they were.
        #[test]
        fn blocks_have_one_owner_and_come_together_again(
            numbers in 1usize..5000, start in 0usize..500, steps in steps(),
        ) {
            let start = start.min(numbers);
            let mut words = vec![0; Blocks::words_for(numbers)];
            let mut blocks = Blocks::new(&mut words, numbers);
            blocks.add(start, numbers);
            let before = blocks.free_blocks();
            let mut taken: BTreeMap<usize, usize> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Take(order) => {
                        let Some(first) = blocks.take(order) else {
                            let is_there = blocks.free_blocks().iter().any(|(free, _)| *free >= order);
                            prop_assert!(!is_there, "there is a free block of order {order} or more");
                            continue;
                        };
                        let end = first + (1 << order);
                        prop_assert!(first % (1 << order) == 0 && first >= start && end <= numbers);
                        let below = taken.range(..end).next_back();
                        let below_end = below.map_or(0, |(other, order)| other + (1 << order));
                        prop_assert!(below_end <= first, "{first} is taken twice");
                        taken.insert(first, order);
                    }
                    Step::Free(nth) => {
                        if let Some((&first, &order)) = taken.iter().nth(nth) {
                            taken.remove(&first);
                            blocks.free(first, order);
                        }
                    }
                }
                let free = blocks.free_numbers();
                let used: usize = taken.values().map(|order| 1 << order).sum();
                prop_assert_eq!(free + used, numbers - start, "nothing is lost");
            }
            for (first, order) in taken {
                blocks.free(first, order);
            }
            prop_assert_eq!(blocks.free_blocks(), before);
        }
    }

    #[test]
    fn nothing_gives_nothing() {
        assert_eq!(Blocks::empty().take(0), None);
        let mut blocks = Blocks::new(&mut [], 0);
        assert_eq!(blocks.take(ORDERS + 30), None);
    }
}
