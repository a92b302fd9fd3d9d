//! The threads of one CPU: who runs, who could, who sleeps until when. Knows no CPU, so that all of it is tested
//! on the host.
#![forbid(unsafe_code)]

use alloc::collections::VecDeque;
use alloc::sync::Arc;

use super::{Deadlines, Thread, ThreadState};

/// The threads of one CPU.
pub struct Queue {
    ready: VecDeque<Arc<Thread>>,
    /// How many of them, from the first on, were woken and come before all others.
    woken: usize,
    sleepers: Deadlines<Arc<Thread>>,
    /// Who runs. Nobody does before the CPU has its idle thread.
    current: Option<Arc<Thread>>,
    /// Who runs if nobody else can; never in `ready`.
    idle: Option<Arc<Thread>>,
    /// Since when the current one has run, as far as that was not charged.
    since_ns: u64,
}

/// From whom to whom the CPU goes.
pub struct Turn {
    /// Who has it now. It is ready, parked or has ended.
    pub from: Arc<Thread>,
    /// Who gets it.
    pub to: Arc<Thread>,
}

impl Queue {
    /// No threads.
    pub const fn new() -> Self {
        Queue {
            ready: VecDeque::new(),
            woken: 0,
            sleepers: Deadlines::new(),
            current: None,
            idle: None,
            since_ns: 0,
        }
    }

    /// The CPU begins with this thread, which idles.
    pub fn start(&mut self, idle: Arc<Thread>, now_ns: u64) {
        idle.set_state(ThreadState::Running);
        self.idle = Some(idle.clone());
        self.current = Some(idle);
        self.since_ns = now_ns;
    }

    /// Who runs.
    pub fn current(&self) -> Option<&Arc<Thread>> {
        self.current.as_ref()
    }

    /// A new thread of this CPU is the last in line.
    pub fn add(&mut self, thread: Arc<Thread>) {
        self.ready.push_back(thread);
    }

    /// Wakes a thread of this CPU: if it is parked it is ready, else its next park returns at once. Whether it
    /// has become ready, so that the CPU has to look; one that has used up its slice is the last in line.
    pub fn unpark(&mut self, thread: &Arc<Thread>) -> bool {
        if thread.state() != ThreadState::Parked {
            thread.give_permit();
            return false;
        }
        if let Some(deadline_ns) = thread.take_deadline() {
            self.sleepers.remove(deadline_ns, thread.number());
        }
        self.make_ready(thread.clone());
        true
    }

    /// The current thread parks, until somebody wakes it or the time has come. `None` if that is so already.
    pub fn park(&mut self, deadline_ns: Option<u64>, now_ns: u64) -> Option<Turn> {
        let current = self.current.clone()?;
        let is_over = deadline_ns.is_some_and(|deadline_ns| deadline_ns <= now_ns);
        if current.take_permit() || is_over || self.is_idle() {
            return None;
        }
        if let Some(deadline_ns) = deadline_ns {
            self.charge(now_ns);
            if deadline_ns - now_ns >= super::SLICE_NS {
                // Others have all this time, so it has a whole slice when it wakes.
                current.refill_slice();
            }
            current.set_deadline(deadline_ns);
            self.sleepers
                .add(deadline_ns, current.number(), current.clone());
        }
        current.set_state(ThreadState::Parked);
        self.switch(now_ns)
    }

    /// The current thread has returned.
    pub fn end(&mut self, now_ns: u64) -> Option<Turn> {
        self.current.as_ref()?.set_state(ThreadState::Ended);
        self.switch(now_ns)
    }

    /// The current thread lets all others run that are ready.
    pub fn yield_now(&mut self, now_ns: u64) -> Option<Turn> {
        self.requeue(now_ns, true)
    }

    /// Wakes whose time has come, and ends the turn of the current thread if its slice is over, or if somebody
    /// woke who is to run first.
    pub fn preempt(&mut self, now_ns: u64) -> Option<Turn> {
        let mut is_passed_over = false;
        while let Some(thread) = self.sleepers.take_due(now_ns) {
            thread.take_deadline();
            is_passed_over |= self.make_ready(thread);
        }
        self.charge(now_ns);
        let current = self.current.as_ref()?;
        let is_over = current.take_used_up();
        if is_over || is_passed_over || self.is_idle() {
            return self.requeue(now_ns, is_over);
        }
        None
    }

    /// The current thread makes room for the one that was just woken, and goes on after it.
    pub fn give_way(&mut self, now_ns: u64) -> Option<Turn> {
        self.charge(now_ns);
        let is_over = self.current.as_ref()?.take_used_up();
        self.requeue(now_ns, is_over)
    }

    /// When the CPU has to be interrupted next, if at all: for a sleeper, or because others are ready.
    pub fn next_event_ns(&self) -> Option<u64> {
        let current = self.current.as_ref().filter(|_| !self.ready.is_empty());
        let slice_end = current.map(|thread| self.since_ns.saturating_add(thread.slice_left_ns()));
        let events = [slice_end, self.sleepers.earliest_ns()];
        events.into_iter().flatten().min()
    }

    /// Whether it comes before the one that runs: behind those that were woken earlier.
    fn make_ready(&mut self, thread: Arc<Thread>) -> bool {
        thread.set_state(ThreadState::Ready);
        let comes_first = !thread.take_used_up();
        if comes_first {
            self.ready.insert(self.woken, thread);
            self.woken += 1;
        } else {
            self.ready.push_back(thread);
        }
        comes_first
    }

    fn is_idle(&self) -> bool {
        let number = |thread: &Option<Arc<Thread>>| thread.as_ref().map(|thread| thread.number());
        number(&self.current) == number(&self.idle)
    }

    /// Counts the time of the current thread.
    fn charge(&mut self, now_ns: u64) {
        let run_ns = now_ns.saturating_sub(self.since_ns);
        self.since_ns = now_ns;
        if let Some(thread) = &self.current {
            thread.charge(run_ns);
        }
    }

    /// The current thread is ready: behind all others, or right behind those that were woken.
    fn requeue(&mut self, now_ns: u64, is_last: bool) -> Option<Turn> {
        let stays = !is_last && self.woken == 0 && !self.is_idle();
        if self.ready.is_empty() || stays {
            return None;
        }
        let current = self.current.clone()?;
        current.set_state(ThreadState::Ready);
        if !self.is_idle() {
            let place = if is_last {
                self.ready.len()
            } else {
                self.woken
            };
            self.ready.insert(place, current);
        }
        self.switch(now_ns)
    }

    /// Whoever is first in line runs, or the idle thread.
    fn switch(&mut self, now_ns: u64) -> Option<Turn> {
        self.charge(now_ns);
        let to = self.ready.pop_front().or_else(|| self.idle.clone())?;
        self.woken = self.woken.saturating_sub(1);
        to.set_state(ThreadState::Running);
        let from = self.current.replace(to.clone())?;
        Some(Turn { from, to })
    }
}

impl Default for Queue {
    fn default() -> Self {
        Queue::new()
    }
}

#[cfg(test)]
mod tests;
