//! Waiting in the model: a clock that jumps to the next deadline when all domains wait.

use std::sync::MutexGuard;

use nuncio_abi::{Deadline, Error};

use super::world::{State, World};

impl World {
    /// Blocks a domain until `ready` finds what it waits for.
    ///
    /// # Panics
    /// If every domain waits for ever: the test would hang.
    pub(super) fn block<T>(
        &self,
        mut state: MutexGuard<'_, State>,
        domain: usize,
        deadline: Deadline,
        mut ready: impl FnMut(&mut State) -> Option<T>,
    ) -> Result<T, Error> {
        loop {
            if !state.domains[domain].is_alive() {
                return Err(Error::BadHandle);
            }
            if let Some(found) = ready(&mut state) {
                state.domains[domain].blocked_until_ns = None;
                return Ok(found);
            }
            if deadline.has_passed(state.now_ns) {
                state.domains[domain].blocked_until_ns = None;
                return Err(Error::TimedOut);
            }
            state.domains[domain].blocked_until_ns = Some(deadline.0);
            if let Some(next_ns) = state.next_deadline_if_all_wait() {
                assert!(next_ns != u64::MAX, "every domain waits for ever");
                state.now_ns = state.now_ns.max(next_ns);
                state.wake_all();
                self.changed.notify_all();
            } else {
                state = self.changed.wait(state).expect("no test thread panicked");
            }
        }
    }
}

impl State {
    fn next_deadline_if_all_wait(&self) -> Option<u64> {
        let alive = self.domains.iter().filter(|domain| domain.is_alive());
        alive
            .map(|domain| domain.blocked_until_ns)
            .collect::<Option<std::vec::Vec<u64>>>()?
            .into_iter()
            .min()
    }
}
