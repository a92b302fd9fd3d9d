//! When sleeping vcpus are to be woken, and when timers are due.

use alloc::vec::Vec;

use super::Numbered;

/// One deadline for each owner (a vcpu, a timer) that has one, the earliest first.
///
/// A binary heap in which every owner's item can be found: changes take time in the logarithm of
/// the number of deadlines. Equal deadlines are due in the order in which they were set.
///
/// # Panics
///
/// Operations on an owner panic if its number is not below the reserved capacity: numbers are given
/// out by the hypervisor, so that is an error of its own.
pub struct DeadlineQueue<I> {
    /// No item is earlier than its parent; item n has its children at 2n + 1 and 2n + 2.
    heap: Vec<Item<I>>,
    /// Where in the heap each owner's item is.
    places: Vec<Option<u32>>,
    /// How often a deadline has been set.
    sequence: u64,
}

/// Items compare by time, then by the order in which they were set.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Item<I> {
    deadline_ns: u64,
    sequence: u64,
    id: I,
}

impl<I: Numbered> Default for DeadlineQueue<I> {
    fn default() -> Self {
        Self::new()
    }
}

impl<I: Numbered> DeadlineQueue<I> {
    /// An empty queue without room for any owner.
    pub const fn new() -> Self {
        DeadlineQueue {
            heap: Vec::new(),
            places: Vec::new(),
            sequence: 0,
        }
    }

    /// Makes room for the owners with numbers below `capacity`.
    pub fn reserve(&mut self, capacity: u32) {
        let capacity = self.places.len().max(capacity as usize);
        self.places.resize(capacity, None);
        self.heap.reserve(capacity - self.heap.len());
    }

    /// Gives an owner a deadline, in place of any that it has.
    pub fn set(&mut self, id: I, deadline_ns: u64) {
        self.sequence += 1;
        let item = Item {
            deadline_ns,
            sequence: self.sequence,
            id,
        };
        let place = match self.places[id.index()] {
            Some(place) => place as usize,
            None => {
                self.heap.push(item);
                self.heap.len() - 1
            }
        };
        self.settle(place, item);
    }

    /// An owner's deadline, if it has one.
    pub fn get(&self, id: I) -> Option<u64> {
        let place = (*self.places.get(id.index())?)?;
        Some(self.heap[place as usize].deadline_ns)
    }

    /// Takes an owner's deadline away, if it has one.
    #[inline]
    pub fn clear(&mut self, id: I) {
        if let Some(place) = self.places[id.index()] {
            self.remove(place as usize);
        }
    }

    /// The earliest deadline, in nanoseconds.
    #[inline]
    pub fn earliest(&self) -> Option<u64> {
        self.heap.first().map(|item| item.deadline_ns)
    }

    /// Takes the earliest deadline if it is not after `now_ns`, and says whose it was.
    pub fn pop_due(&mut self, now_ns: u64) -> Option<I> {
        let first = *self.heap.first()?;
        if first.deadline_ns > now_ns {
            return None;
        }
        self.remove(0);
        Some(first.id)
    }

    #[inline(never)]
    fn remove(&mut self, place: usize) {
        let removed = self.heap.swap_remove(place);
        self.places[removed.id.index()] = None;
        if let Some(moved) = self.heap.get(place) {
            self.settle(place, *moved);
        }
    }

    /// Finds the place for an item, given a place in whose stead it comes.
    fn settle(&mut self, free: usize, item: Item<I>) {
        let free = self.sift_up(free, item);
        let free = self.sift_down(free, item);
        self.put(free, item);
    }

    /// Moves later items on the way to the root down; returns the place that gets free.
    fn sift_up(&mut self, mut free: usize, item: Item<I>) -> usize {
        while free > 0 {
            let parent = (free - 1) / 2;
            if self.heap[parent] < item {
                break;
            }
            self.put(free, self.heap[parent]);
            free = parent;
        }
        free
    }

    /// Moves earlier items below the place up; returns the place that gets free.
    fn sift_down(&mut self, mut free: usize, item: Item<I>) -> usize {
        while let Some(child) = self.earlier_child(free) {
            if item < self.heap[child] {
                break;
            }
            self.put(free, self.heap[child]);
            free = child;
        }
        free
    }

    fn earlier_child(&self, place: usize) -> Option<usize> {
        let children = 2 * place + 1..self.heap.len().min(2 * place + 3);
        children.min_by_key(|child| self.heap[*child])
    }

    fn put(&mut self, place: usize, item: Item<I>) {
        self.heap[place] = item;
        self.places[item.id.index()] = Some(place as u32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sched::VcpuId;
    use proptest::prelude::*;

    #[test]
    fn equal_deadlines_are_due_in_the_order_of_being_set() {
        let mut queue = DeadlineQueue::new();
        queue.reserve(4);
        for id in [3, 1, 0, 2, 1] {
            queue.set(VcpuId(id), 50);
        }
        assert_eq!(queue.pop_due(49), None);
        for expected in [3, 0, 2, 1] {
            assert_eq!(queue.pop_due(50), Some(VcpuId(expected)));
        }
        assert_eq!(queue.pop_due(u64::MAX), None);
    }

    #[test]
    fn a_deadline_is_replaced_and_cleared() {
        let mut queue = DeadlineQueue::new();
        queue.reserve(2);
        queue.set(VcpuId(0), 10);
        queue.set(VcpuId(1), 20);
        queue.set(VcpuId(0), 30);
        assert_eq!(queue.earliest(), Some(20));
        queue.clear(VcpuId(1));
        queue.clear(VcpuId(1));
        assert_eq!(queue.earliest(), Some(30));
        queue.clear(VcpuId(0));
        assert_eq!(queue.earliest(), None);
    }

    /// Vcpus with their deadlines in the order of being set.
    type Model = Vec<(VcpuId, u64)>;

    fn model_pop_due(model: &mut Model, now_ns: u64) -> Option<VcpuId> {
        let earliest = model.iter().map(|(_, deadline)| *deadline).min()?;
        if earliest > now_ns {
            return None;
        }
        let first = model
            .iter()
            .position(|(_, deadline)| *deadline == earliest)?;
        Some(model.remove(first).0)
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_list(
            steps in proptest::collection::vec((0u8..5, 0u32..20, 0u64..30), 0..300),
        ) {
            let mut queue = DeadlineQueue::new();
            queue.reserve(20);
            let room = (queue.heap.capacity(), queue.places.capacity());
            let mut model = Model::new();
            for (step, number, time) in steps {
                let id = VcpuId(number);
                match step {
                    0 => prop_assert_eq!(queue.pop_due(time), model_pop_due(&mut model, time)),
                    1 => {
                        queue.clear(id);
                        model.retain(|(other, _)| *other != id);
                    }
                    _ => {
                        queue.set(id, time);
                        model.retain(|(other, _)| *other != id);
                        model.push((id, time));
                    }
                }
                let earliest = model.iter().map(|(_, deadline)| *deadline).min();
                prop_assert_eq!(queue.earliest(), earliest);
            }
            prop_assert_eq!((queue.heap.capacity(), queue.places.capacity()), room);
        }
    }
}
