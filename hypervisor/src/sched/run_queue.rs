//! The vcpus that are ready to run: by priority, and among equals in the order in which they became so.

use alloc::vec::Vec;

use super::{Priority, VcpuId};

/// Circular lists through one array: the first places stand for the levels themselves, one for each
/// priority, and those behind them for the vcpus.
type Place = u32;

const LEVELS: Place = Priority::COUNT as Place;

/// A first-in, first-out queue of vcpus for each priority. Each vcpu can be at most once in one of them.
///
/// Every operation takes the same time whatever the number of vcpus.
///
/// # Panics
///
/// Operations on a vcpu panic if its number is not below the reserved capacity: numbers are given
/// out by the hypervisor, so that is an error of its own.
pub struct RunQueue {
    links: Vec<Link>,
    /// A bit for each priority of which somebody is in the queue.
    occupied: u64,
    /// How many places were looked at.
    #[cfg(test)]
    looks: u64,
}

/// A place's neighbours; a place that is not in a list is its own.
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
        RunQueue {
            links: Vec::new(),
            occupied: 0,
            #[cfg(test)]
            looks: 0,
        }
    }

    /// Makes room for the vcpus with numbers below `capacity`.
    pub fn reserve(&mut self, capacity: u32) {
        let end = capacity.saturating_add(LEVELS);
        let places = self.links.len() as Place..end;
        self.links.extend(places.map(Link::to_itself));
    }

    /// Whether no vcpu is in the queue.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.occupied == 0
    }

    /// Whether a vcpu of that priority is in the queue.
    #[inline]
    pub const fn has(&self, priority: Priority) -> bool {
        self.occupied >> priority.level() & 1 != 0
    }

    /// Whether a vcpu of a higher priority is in the queue.
    #[inline]
    pub const fn has_above(&self, priority: Priority) -> bool {
        self.occupied >> priority.level() > 1
    }

    /// Puts a vcpu behind those of its priority; one that is in the queue stays where it is.
    pub fn push_back(&mut self, id: VcpuId, priority: Priority) {
        let head = Place::from(priority.level());
        if !self.is_linked(place_of(id)) {
            let last = self.link(head).previous;
            self.insert(place_of(id), last, head);
            self.occupied |= 1 << head;
        }
    }

    /// Puts a vcpu before those of its priority; one that is in the queue stays where it is.
    pub fn push_front(&mut self, id: VcpuId, priority: Priority) {
        let head = Place::from(priority.level());
        if !self.is_linked(place_of(id)) {
            let first = self.link(head).next;
            self.insert(place_of(id), head, first);
            self.occupied |= 1 << head;
        }
    }

    /// Takes the first vcpu of the highest priority, and says which priority that is.
    pub fn pop(&mut self) -> Option<(VcpuId, Priority)> {
        let head = self.occupied.checked_ilog2()?;
        let first = self.link(head).next;
        self.unlink(first);
        Some((VcpuId(first - LEVELS), Priority::of_level(head as u8)))
    }

    /// Takes a vcpu out, wherever it is in the queue and if it is.
    pub fn remove(&mut self, id: VcpuId) {
        let place = place_of(id);
        if self.is_linked(place) {
            self.unlink(place);
        }
    }

    fn insert(&mut self, place: Place, previous: Place, next: Place) {
        *self.link(place) = Link { previous, next };
        self.link(previous).next = place;
        self.link(next).previous = place;
    }

    fn unlink(&mut self, place: Place) {
        let Link { previous, next } = *self.link(place);
        self.link(previous).next = next;
        self.link(next).previous = previous;
        *self.link(place) = Link::to_itself(place);
        // It was the last one: only the place of the level is left.
        if previous == next && previous < LEVELS {
            self.occupied &= !(1 << previous);
        }
    }

    fn is_linked(&mut self, place: Place) -> bool {
        self.link(place).next != place
    }

    fn link(&mut self, place: Place) -> &mut Link {
        #[cfg(test)]
        (self.looks += 1);
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
    id.0.saturating_add(LEVELS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    const LOW: Priority = Priority::of_level(3);
    const HIGH: Priority = Priority::of_level(63);

    fn pop(queue: &mut RunQueue) -> Option<u32> {
        queue.pop().map(|(id, _)| id.0)
    }

    #[test]
    fn vcpus_of_one_priority_take_turns() {
        let mut queue = RunQueue::new();
        assert!(queue.is_empty());
        assert_eq!(queue.pop(), None);
        queue.reserve(3);
        for id in [2, 0, 1, 2, 0] {
            queue.push_back(VcpuId(id), LOW);
        }
        for expected in [2, 0, 1, 2, 0, 1] {
            let (id, priority) = queue.pop().unwrap();
            assert_eq!((id, priority), (VcpuId(expected), LOW));
            queue.push_back(id, LOW);
        }
    }

    #[test]
    fn the_highest_priority_is_first_and_has_a_front() {
        let mut queue = RunQueue::new();
        queue.reserve(4);
        queue.push_back(VcpuId(0), LOW);
        queue.push_back(VcpuId(1), HIGH);
        queue.push_front(VcpuId(2), HIGH);
        queue.push_front(VcpuId(3), LOW);
        assert!(queue.has(LOW) && queue.has_above(LOW));
        assert!(queue.has(HIGH) && !queue.has_above(HIGH));
        let order: Vec<_> = core::iter::from_fn(|| pop(&mut queue)).collect();
        assert_eq!(order, [2, 1, 3, 0]);
        assert!(!queue.has(LOW) && !queue.has(HIGH));
    }

    /// How many places are looked at while each of so many vcpus, of all priorities, has one turn.
    fn looks_of_a_turn(vcpus: u32) -> u64 {
        let mut queue = RunQueue::new();
        queue.reserve(vcpus);
        let priority = |id: VcpuId| Priority::of_level((id.0 % 64) as u8);
        for id in (0..vcpus).map(VcpuId) {
            queue.push_back(id, priority(id));
        }
        queue.looks = 0;
        for _ in 0..vcpus {
            let (id, priority) = queue.pop().unwrap();
            queue.push_back(id, priority);
        }
        assert_eq!(queue.looks % u64::from(vcpus), 0);
        queue.looks / u64::from(vcpus)
    }

    #[test]
    fn a_turn_costs_the_same_with_2_vcpus_and_with_2000() {
        assert_eq!(looks_of_a_turn(2), looks_of_a_turn(2000));
        assert!(looks_of_a_turn(2000) <= 16, "{}", looks_of_a_turn(2000));
    }

    #[test]
    fn room_can_be_made_while_vcpus_are_queued() {
        let mut queue = RunQueue::new();
        queue.reserve(1);
        queue.push_back(VcpuId(0), LOW);
        queue.reserve(0);
        queue.reserve(2);
        queue.push_back(VcpuId(1), LOW);
        assert_eq!([pop(&mut queue), pop(&mut queue)], [Some(0), Some(1)]);
    }

    #[test]
    #[should_panic]
    fn a_vcpu_past_the_capacity_is_an_error_of_the_hypervisor() {
        let mut queue = RunQueue::new();
        queue.reserve(2);
        queue.push_back(VcpuId(2), LOW);
    }

    /// Lists by priority.
    type Model = [VecDeque<u32>; Priority::COUNT];

    fn model_pop(model: &mut Model) -> Option<(VcpuId, Priority)> {
        let level = model.iter().rposition(|level| !level.is_empty())?;
        let id = model[level].pop_front()?;
        Some((VcpuId(id), Priority::of_level(level as u8)))
    }

    proptest! {
        #[test]
        fn it_agrees_with_plain_lists(
            steps in proptest::collection::vec((0u8..6, 0u32..9, 0u8..64), 0..300),
        ) {
            let mut queue = RunQueue::new();
            queue.reserve(9);
            let room = queue.links.capacity();
            let mut model: Model = core::array::from_fn(|_| VecDeque::new());
            for (step, number, level) in steps {
                let (id, priority) = (VcpuId(number), Priority::of_level(level));
                let is_in = model.iter().any(|level| level.contains(&number));
                match step {
                    0 | 1 => {
                        queue.push_back(id, priority);
                        if !is_in {
                            model[usize::from(level)].push_back(number);
                        }
                    }
                    2 | 3 => {
                        queue.push_front(id, priority);
                        if !is_in {
                            model[usize::from(level)].push_front(number);
                        }
                    }
                    4 => prop_assert_eq!(queue.pop(), model_pop(&mut model)),
                    _ => {
                        queue.remove(id);
                        model.iter_mut().for_each(|level| level.retain(|other| *other != number));
                    }
                }
                prop_assert_eq!(queue.is_empty(), model.iter().all(VecDeque::is_empty));
                prop_assert_eq!(queue.has(priority), !model[usize::from(level)].is_empty());
                let above = model.iter().skip(usize::from(level) + 1);
                prop_assert_eq!(queue.has_above(priority), !above.into_iter().all(VecDeque::is_empty));
            }
            prop_assert_eq!(queue.links.capacity(), room);
        }
    }
}
