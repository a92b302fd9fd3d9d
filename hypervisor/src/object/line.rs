//! The line of senders that wait for room in a port.

use alloc::collections::VecDeque;

use crate::sched::VcpuId;

/// Bytes of the line for each sender that it can hold.
pub(super) const BYTES_PER_SENDER: usize = size_of::<VcpuId>();

/// Vcpus in the order in which they came; a bounded number of them, each once.
pub(super) struct Line {
    waiting: VecDeque<VcpuId>,
    capacity: usize,
}

impl Line {
    /// A line for so many senders. All its memory is taken now.
    pub(super) fn new(capacity: usize) -> Self {
        Line {
            waiting: VecDeque::with_capacity(capacity),
            capacity,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whose turn it is.
    pub(super) fn first(&self) -> Option<VcpuId> {
        self.waiting.front().copied()
    }

    /// Whether a sender is in the line, or can join it.
    pub(super) fn takes(&self, sender: VcpuId) -> bool {
        self.waiting.len() < self.capacity || self.waiting.contains(&sender)
    }

    /// A sender keeps its place, or takes the last one.
    pub(super) fn join(&mut self, sender: VcpuId) {
        if !self.waiting.contains(&sender) && self.waiting.len() < self.capacity {
            self.waiting.push_back(sender);
        }
    }

    /// A sender waits no more.
    pub(super) fn leave(&mut self, sender: VcpuId) {
        self.waiting.retain(|other| *other != sender);
    }

    /// Everybody leaves.
    pub(super) fn take_all(&mut self) -> VecDeque<VcpuId> {
        core::mem::take(&mut self.waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_bounded_and_keeps_its_order() {
        let mut line = Line::new(2);
        let [first, second, third] = [1, 2, 3].map(VcpuId);
        line.join(first);
        line.join(second);
        line.join(first);
        assert!(line.takes(second) && !line.takes(third));
        line.join(third);
        line.leave(first);
        assert_eq!(line.first(), Some(second));
        line.leave(second);
        assert!(line.is_empty(), "the third had no place");
    }
}
