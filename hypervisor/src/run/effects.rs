//! How calls reach the loop: clock, wake-ups and the console.

use nuncio_abi::Message;

use crate::call::Effects;
use crate::object::{Domain, Wake};
use crate::sched::Scheduler;

use super::{apply, Platform};

/// The loop as a call sees it.
pub(super) struct LoopEffects<'a, P> {
    pub(super) scheduler: &'a mut Scheduler,
    pub(super) platform: &'a mut P,
}

impl<P: Platform> Effects for LoopEffects<'_, P> {
    fn now_ns(&self) -> u64 {
        self.platform.now_ns()
    }

    #[inline]
    fn wake(&mut self, wake: Wake) {
        apply(self.scheduler, wake);
    }

    fn console(&mut self, domain: &Domain, message: &Message) {
        domain.console.lock().write(message, |line| {
            self.platform.console_line(domain.name.as_str(), line);
        });
    }
}
