//! The queue inside a port: a ring of places that are written and read where they are.
//!
//! A message is some ninety bytes; moving one costs as much as the rest of a `send`.

use alloc::vec::Vec;

use nuncio_abi::{Message, MESSAGE_WORDS};

use super::Queued;

/// A bounded queue of messages. All its memory is taken when it is made.
pub(super) struct Ring {
    places: Vec<Queued>,
    first: usize,
    length: usize,
}

const EMPTY: Queued = Queued {
    message: Message {
        length: 0,
        words: [0; MESSAGE_WORDS],
    },
    badge: 0,
};

impl Ring {
    /// An empty queue for at most `capacity` messages.
    pub(super) fn new(capacity: usize) -> Self {
        Ring {
            places: alloc::vec![EMPTY; capacity],
            first: 0,
            length: 0,
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.length
    }

    pub(super) fn capacity(&self) -> usize {
        self.places.len()
    }

    /// Adds a message at the end; `None` if there is no room.
    #[inline]
    pub(super) fn push(&mut self, message: &Message, badge: u64) -> Option<()> {
        if self.length >= self.places.len() {
            return None;
        }
        let index = self.wrap(self.first.saturating_add(self.length));
        let place = self.places.get_mut(index)?;
        // Field by field: each is copied by a few moves, the whole by a call.
        place.message.length = message.length;
        place.message.words = message.words;
        place.badge = badge;
        self.length = self.length.saturating_add(1);
        Some(())
    }

    /// The first message.
    #[inline]
    pub(super) fn front(&self) -> Option<&Queued> {
        if self.length == 0 {
            return None;
        }
        self.places.get(self.first)
    }

    /// Drops the first message.
    #[inline]
    pub(super) fn pop(&mut self) {
        if self.length > 0 {
            self.first = self.wrap(self.first.saturating_add(1));
            self.length = self.length.saturating_sub(1);
        }
    }

    /// Drops all messages.
    pub(super) fn clear(&mut self) {
        self.length = 0;
    }

    /// An index below twice the capacity, brought below the capacity.
    fn wrap(&self, index: usize) -> usize {
        index.checked_sub(self.places.len()).unwrap_or(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    proptest! {
        #[test]
        fn a_ring_is_a_bounded_queue(capacity in 0usize..5, pushes in proptest::collection::vec(any::<bool>(), 0..80)) {
            let mut ring = Ring::new(capacity);
            let mut model = VecDeque::new();
            for (number, push) in (0u64..).zip(pushes) {
                if push {
                    let message = Message { length: 8, words: [number; MESSAGE_WORDS] };
                    let room = model.len() < capacity;
                    prop_assert_eq!(ring.push(&message, number).is_some(), room);
                    if room {
                        model.push_back(Queued { message, badge: number });
                    }
                } else {
                    ring.pop();
                    model.pop_front();
                }
                prop_assert_eq!(ring.front(), model.front());
                prop_assert_eq!(ring.len(), model.len());
            }
        }
    }
}
