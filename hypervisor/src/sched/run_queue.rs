//! The vcpus that are ready to run, in the order in which they became so.

use alloc::vec::Vec;

use super::VcpuId;

/// A circular list through an array: place 0 stands for the queue itself, place n + 1 for vcpu n.
type Place = u32;

const QUEUE: Place = 0;

/// A first-in, first-out queue of vcpus in which each can be at most once.
///
/// Every operation takes the same time whatever the number of vcpus.
///
/// # Panics
///
/// Operations on a vcpu panic if its number is not below the reserved capacity: numbers are given
/// out by the hypervisor, so that is an error of its own.
pub struct RunQueue {
    links: Vec<Link>,
}

/// A place's neighbours; a place that is not in the list is its own.
#[derive(Clone, Copy)]
struct Link {
    previous: Place,
    next: Place,
}

impl Default for RunQueue {
    fn default() -> Self {
        Self::new()
    }
}

impl RunQueue {
    /// An empty queue without room for any vcpu.
    pub const fn new() -> Self {
        RunQueue { links: Vec::new() }
    }

    /// Makes room for the vcpus with numbers below `capacity`.
    pub fn reserve(&mut self, capacity: u32) {
        let end = capacity.saturating_add(1);
        let places = self.links.len() as Place..end;
        self.links.extend(places.map(Link::to_itself));
    }

    /// Whether no vcpu is in the queue.
    pub fn is_empty(&self) -> bool {
        self.links.first().is_none_or(|link| link.next == QUEUE)
    }

    /// Puts a vcpu at the end; one that is in the queue stays where it is.
    pub fn push(&mut self, id: VcpuId) {
        let place = place_of(id);
        if self.is_linked(place) {
            return;
        }
        let last = self.link(QUEUE).previous;
        *self.link(place) = Link {
            previous: last,
            next: QUEUE,
        };
        self.link(last).next = place;
        self.link(QUEUE).previous = place;
    }

    /// Takes the first vcpu.
    pub fn pop(&mut self) -> Option<VcpuId> {
        if self.is_empty() {
            return None;
        }
        let first = self.link(QUEUE).next;
        self.unlink(first);
        Some(VcpuId(first - 1))
    }

    /// Takes a vcpu out, wherever it is in the queue and if it is.
    pub fn remove(&mut self, id: VcpuId) {
        let place = place_of(id);
        if self.is_linked(place) {
            self.unlink(place);
        }
    }

    fn unlink(&mut self, place: Place) {
        let Link { previous, next } = *self.link(place);
        self.link(previous).next = next;
        self.link(next).previous = previous;
        *self.link(place) = Link::to_itself(place);
    }

    fn is_linked(&self, place: Place) -> bool {
        self.links[place as usize].next != place
    }

    fn link(&mut self, place: Place) -> &mut Link {
        &mut self.links[place as usize]
    }
}

impl Link {
    const fn to_itself(place: Place) -> Self {
        Link {
            previous: place,
            next: place,
        }
    }
}

const fn place_of(id: VcpuId) -> Place {
    id.0.saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    #[test]
    fn vcpus_take_turns() {
        let mut queue = RunQueue::new();
        assert!(queue.is_empty());
        assert_eq!(queue.pop(), None);
        queue.reserve(3);
        for id in [2, 0, 1, 2, 0] {
            queue.push(VcpuId(id));
        }
        for expected in [2, 0, 1, 2, 0, 1] {
            let id = queue.pop().unwrap();
            assert_eq!(id, VcpuId(expected));
            queue.push(id);
        }
    }

    #[test]
    fn room_can_be_made_while_vcpus_are_queued() {
        let mut queue = RunQueue::new();
        queue.reserve(1);
        queue.push(VcpuId(0));
        queue.reserve(0);
        queue.reserve(2);
        queue.push(VcpuId(1));
        assert_eq!(
            [queue.pop(), queue.pop()],
            [Some(VcpuId(0)), Some(VcpuId(1))]
        );
    }

    #[test]
    #[should_panic]
    fn a_vcpu_past_the_capacity_is_an_error_of_the_hypervisor() {
        let mut queue = RunQueue::new();
        queue.reserve(2);
        queue.push(VcpuId(2));
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_list(steps in proptest::collection::vec((0u8..3, 0u32..9), 0..200)) {
            let mut queue = RunQueue::new();
            queue.reserve(9);
            let room = queue.links.capacity();
            let mut model = VecDeque::new();
            for (step, number) in steps {
                let id = VcpuId(number);
                match step {
                    0 => {
                        queue.push(id);
                        if !model.contains(&id) {
                            model.push_back(id);
                        }
                    }
                    1 => prop_assert_eq!(queue.pop(), model.pop_front()),
                    _ => {
                        queue.remove(id);
                        model.retain(|other| *other != id);
                    }
                }
                prop_assert_eq!(queue.is_empty(), model.is_empty());
            }
            prop_assert_eq!(queue.links.capacity(), room);
        }
    }
}
