//! How calls reach the loop: clock, wake-ups, timers and the console.

use alloc::sync::Arc;

use nuncio_abi::{Deadline, Message};

use crate::call::Effects;
use crate::mem::KernelCharge;
use crate::object::{Domain, DomainId, Entry, Event, Target, Timer, Vcpu, Wake};
use crate::sched::{Scheduler, TimerId, VcpuId};

use super::domains::{Domains, Starting};
use super::timers::Timers;
use super::Platform;

/// The part of the loop that calls have an effect on.
pub(super) struct Context<P> {
    pub(super) scheduler: Scheduler,
    pub(super) timers: Timers,
    pub(super) domains: Domains,
    pub(super) platform: P,
}

impl<P: Platform> Context<P> {
    /// Lets a wake-up take effect.
    #[inline]
    pub(super) fn apply(&mut self, wake: Wake) {
        match wake {
            Wake::Blocked(id) => self.scheduler.wake(id),
            Wake::Event(id) => self.scheduler.signal(id),
            Wake::Quiet(id) => self.scheduler.signal_asleep(id),
            Wake::TimerGone(id) => self.timers.remove(id),
            Wake::Held(id) => self.release(id),
            Wake::Orphaned(id) => {
                self.domains.orphan(id);
                self.scheduler.call_attention();
            }
            Wake::TranslationsChanged => self.scheduler.call_attention(),
        }
    }

    /// An event holds bits back: they are posted now, or when its interval is over.
    #[cold]
    #[inline(never)]
    fn release(&mut self, id: TimerId) {
        let now_ns = self.platform.now_ns();
        // By hand: `apply` is part of the path of a call, which a function that calls itself cannot be.
        match self.timers.release(id, now_ns) {
            Some(Wake::Event(id)) => self.scheduler.signal(id),
            Some(Wake::Quiet(id)) => self.scheduler.signal_asleep(id),
            _ => {}
        }
        // As for a timer that was armed.
        self.scheduler.attend_again();
    }

    /// The next deadline of a sleeping vcpu or an armed timer, in nanoseconds.
    pub(super) fn earliest_deadline(&self) -> Option<u64> {
        let deadlines = [self.scheduler.earliest_deadline(), self.timers.earliest()];
        deadlines.into_iter().flatten().min()
    }

    /// Wakes whoever's deadline has passed and fires the timers that are due.
    pub(super) fn expire(&mut self, now_ns: u64) {
        self.scheduler.expire(now_ns);
        while let Some(wake) = self.timers.fire_next(now_ns) {
            wake.into_iter().for_each(|wake| self.apply(wake));
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

    #[inline(always)]
    fn hand_over(&mut self, wake: Wake) {
        match wake {
            Wake::Blocked(id) => self.scheduler.hand_over(id),
            wake => self.apply(wake),
        }
    }

    fn new_domain_id(&mut self) -> DomainId {
        self.domains.new_id()
    }

    fn keep_domain(&mut self, domain: Arc<Domain>) {
        self.domains.keep(domain);
    }

    fn new_vcpu_id(&mut self) -> VcpuId {
        self.scheduler.reserve()
    }

    fn start(&mut self, domain: Arc<Domain>, vcpu: Vcpu, entry: Entry) {
        self.domains.start(Starting {
            domain,
            vcpu,
            entry,
        });
    }

    fn add_timer(&mut self, event: Arc<Event>, bits: u64, charge: KernelCharge) -> Arc<Timer> {
        self.timers.add(event, bits, charge)
    }

    fn add_event(&mut self, target: Target, interval_ns: u64, charge: KernelCharge) -> Arc<Event> {
        self.timers.add_event(target, interval_ns, charge)
    }

    fn arm_timer(&mut self, timer: &Timer, deadline: Deadline) {
        self.timers.arm(timer.id(), deadline);
        let now_ns = self.platform.now_ns();
        if deadline.has_passed(now_ns) {
            self.expire(now_ns);
        }
        // What is due next may have changed, and with it when the machine's timer must fire.
        self.scheduler.attend_again();
    }

    fn console(&mut self, domain: &Domain, message: &Message) {
        domain.console.lock().write(message, |line| {
            self.platform.console_line(domain.name.as_str(), line);
        });
    }
}
