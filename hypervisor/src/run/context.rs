//! How calls reach the loop: clock, wake-ups and the console.

use nuncio_abi::Message;

use crate::call::Effects;
use crate::object::{Domain, Wake};
use crate::sched::Scheduler;

use super::Platform;

/// The part of the loop that calls have an effect on.
pub(super) struct Context<P> {
    pub(super) scheduler: Scheduler,
    pub(super) platform: P,
}

impl<P> Context<P> {
    /// Lets a wake-up take effect.
    #[inline]
    pub(super) fn apply(&mut self, wake: Wake) {
        match wake {
            Wake::Blocked(id) => self.scheduler.wake(id),
            Wake::Event(id) => self.scheduler.signal(id),
        }
    }
}

impl<P: Platform> Effects for Context<P> {
    fn now_ns(&self) -> u64 {
        self.platform.now_ns()
    }

    #[inline]
    fn wake(&mut self, wake: Wake) {
        self.apply(wake);
    }

    fn translations_changed(&mut self) {
        self.scheduler.call_attention();
    }

    fn console(&mut self, domain: &Domain, message: &Message) {
        domain.console.lock().write(message, |line| {
            self.platform.console_line(domain.name.as_str(), line);
        });
    }
}
