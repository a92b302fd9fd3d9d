//! The queue inside a port: a ring of places that are written and read where they are.
//!
//! A message is some hundred bytes; moving one costs as much as the rest of a `send`.

use alloc::vec::Vec;

use nuncio_abi::{CallToken, Message, MESSAGE_WORDS};

use super::{Held, Queued};

/// A bounded queue of messages. All its memory is taken when it is made.
pub(super) struct Ring {
    places: Vec<Queued>,
    first: usize,
    length: usize,
    /// How many messages there can be: as many as places, or none while it is closed. So one
    /// comparison says whether there is room for everybody.
    limit: usize,
}

const EMPTY: Queued = Queued {
    message: Message {
        length: 0,
        words: [0; MESSAGE_WORDS],
    },
    badge: 0,
    token: None,
    handles: Vec::new(),
};

impl Ring {
    /// An empty queue for at most `capacity` messages.
    pub(super) fn new(capacity: usize) -> Self {
        Ring {
            places: (0..capacity).map(|_| EMPTY).collect(),
            first: 0,
            length: 0,
            limit: capacity,
        }
    }

    /// A closed queue takes no message.
    pub(super) fn set_open(&mut self, is_open: bool) {
        self.limit = if is_open { self.places.len() } else { 0 };
    }

    #[inline]
    pub(super) const fn is_open(&self) -> bool {
        self.limit != 0
    }

    /// Whether it takes a message.
    #[inline]
    pub(super) const fn has_room(&self) -> bool {
        self.length < self.limit
    }

    /// Whether it would take one if it were open.
    pub(super) fn has_place(&self) -> bool {
        self.length < self.places.len()
    }

    pub(super) const fn len(&self) -> usize {
        self.length
    }

    pub(super) fn capacity(&self) -> usize {
        self.places.len()
    }

    /// Adds a message at the end; `None` if there is no room, or it is closed.
    #[inline]
    pub(super) fn push(
        &mut self,
        message: &Message,
        badge: u64,
        token: Option<CallToken>,
        handles: Vec<Held>,
    ) -> Option<()> {
        if !self.has_room() {
            return None;
        }
        let index = self.wrap(self.first.saturating_add(self.length));
        let place = self.places.get_mut(index)?;
        // Field by field: each is copied by a few moves, the whole by a call.
        place.message.length = message.length;
        place.message.words = message.words;
        place.badge = badge;
        place.token = token;
        place.handles = handles;
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

    /// Takes the handles out of the first message; they are the caller's now.
    pub(super) fn take_handles(&mut self) -> Vec<Held> {
        let place = self.places.get_mut(self.first);
        place.map_or_else(Vec::new, |place| core::mem::take(&mut place.handles))
    }

    /// Drops the first message.
    #[inline]
    pub(super) fn pop(&mut self) {
        if self.length > 0 {
            self.first = self.wrap(self.first.saturating_add(1));
            self.length = self.length.saturating_sub(1);
        }
    }

    /// Drops all messages and returns the handles that were in them.
    pub(super) fn clear(&mut self) -> Vec<Held> {
        self.length = 0;
        let places = self.places.iter_mut();
        places
            .flat_map(|place| core::mem::take(&mut place.handles))
            .collect()
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
                    let pushed = ring.push(&message, number, None, Vec::new());
                    prop_assert_eq!(pushed.is_some(), room);
                    if room {
                        model.push_back((message, number));
                    }
                } else {
                    ring.pop();
                    model.pop_front();
                }
                let front = ring.front().map(|queued| (queued.message, queued.badge));
                prop_assert_eq!(front, model.front().copied());
                prop_assert_eq!(ring.len(), model.len());
            }
        }
    }

    #[test]
    fn a_closed_ring_takes_nothing_and_gives_what_it_has() {
        let mut ring = Ring::new(2);
        let push = |ring: &mut Ring| {
            let message = Message {
                length: 0,
                words: [0; MESSAGE_WORDS],
            };
            ring.push(&message, 0, None, Vec::new())
        };
        assert!(push(&mut ring).is_some());
        ring.set_open(false);
        assert!(!ring.has_room() && ring.has_place());
        assert!(push(&mut ring).is_none());
        ring.pop();
        assert_eq!((ring.len(), ring.is_open()), (0, false));
        ring.set_open(true);
        assert!(push(&mut ring).is_some() && push(&mut ring).is_some());
        assert!(!ring.has_room() && !ring.has_place());
    }
}
