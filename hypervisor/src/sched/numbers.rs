//! Numbers that are given out and used again.

use alloc::vec::Vec;

/// Numbers from 0 on, below a limit. Those that come back are given out again first.
pub struct Numbers {
    next: u32,
    limit: u32,
    free: Vec<u32>,
}

impl Numbers {
    /// So many numbers.
    pub const fn new(limit: u32) -> Self {
        Numbers {
            next: 0,
            limit,
            free: Vec::new(),
        }
    }

    /// A number that nobody has, if there is one.
    pub fn take(&mut self) -> Option<u32> {
        if let Some(number) = self.free.pop() {
            return Some(number);
        }
        let number = self.next;
        if number >= self.limit {
            return None;
        }
        self.next = number.saturating_add(1);
        // Giving one back takes no memory.
        self.free.reserve(self.next as usize);
        Some(number)
    }

    /// Nobody has the number any more.
    pub fn give_back(&mut self, number: u32) {
        self.free.push(number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_used_again_and_end() {
        let mut numbers = Numbers::new(4);
        let taken: Vec<_> = (0..3).filter_map(|_| numbers.take()).collect();
        assert_eq!(taken, [0, 1, 2]);
        numbers.give_back(1);
        let taken: Vec<_> = (0..3).map(|_| numbers.take()).collect();
        assert_eq!(taken, [Some(1), Some(3), None]);
    }
}
