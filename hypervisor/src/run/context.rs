//! How calls reach the loop: clock, wake-ups, timers and the console.

use alloc::sync::Arc;

use nuncio_abi::{Deadline, Message, StopReason};

use crate::call::{Effects, ScheduleTerms};
use crate::mem::KernelCharge;
use crate::object::{
    Domain, DomainId, Entry, Event, Release, Target, Timer, Vcpu, VcpuNumber, Wake,
};
use crate::sched::{CpuIndex, News, RunStates, Scheduler, TimerId, Told, VcpuId};
use crate::vt::{FlushRecorder, Step};

use super::cpus::{Cpu, Cpus};
use super::scheduling::Scheduling;
use super::starting::Starting;
use super::timers::Due;
use super::Platform;

/// The part of the loop that calls have an effect on.
pub(super) struct Context<P> {
    pub(super) scheduler: Scheduler,
    pub(super) platform: P,
    pub(super) cpus: Arc<Cpus>,
    /// The CPU of this loop.
    pub(super) here: Arc<Cpu>,
    pub(super) index: CpuIndex,
    /// Whether anybody else has to be told when translations change.
    tells_of_changes: bool,
    /// Writes down what becomes of cached translations, if that is asked for.
    pub(super) recorder: Option<FlushRecorder>,
    /// What the call that is being made asks to start.
    pub(super) starting: Option<Starting>,
    /// What it asks to stop.
    pub(super) stopping: Option<(Arc<Domain>, VcpuNumber)>,
    /// What the pages of this CPU's vcpus say of their turns.
    pub(super) states: RunStates,
    /// What it asks to schedule otherwise.
    pub(super) scheduling: Option<Scheduling>,
}

impl<P: Platform> Context<P> {
    /// Of that CPU, without vcpus.
    pub(super) fn new(cpus: Arc<Cpus>, index: CpuIndex, platform: P) -> Self {
        Context {
            scheduler: Scheduler::new(cpus.cpu(index).attention().clone(), cpus.offers().clone()),
            states: RunStates::default(),
            platform,
            here: cpus.cpu(index).clone(),
            tells_of_changes: cpus.count() > 1,
            recorder: None,
            cpus,
            index,
            starting: None,
            stopping: None,
            scheduling: None,
        }
    }

    /// Lets a wake-up take effect.
    #[inline]
    pub(super) fn apply(&mut self, wake: Wake) {
        match wake {
            Wake::Blocked(id) => {
                if !self.rouse(id, Scheduler::wake) {
                    self.post(id, News::BLOCKED);
                }
            }
            Wake::Event(id) => {
                if !self.rouse(id, Scheduler::signal) {
                    self.post(id, News::EVENT);
                }
            }
            Wake::Quiet(id) => {
                if !self.rouse(id, Scheduler::signal_asleep) {
                    self.post(id, News::QUIET);
                }
            }
            Wake::TranslationsChanged(space) => self.flush(space),
            wake => self.apply_rare(wake),
        }
    }

    /// Does to a vcpu what wakes it if it sleeps, and notes since when it is ready then.
    #[inline]
    pub(super) fn rouse(
        &mut self,
        id: VcpuId,
        wake: impl FnOnce(&mut Scheduler, VcpuId) -> bool,
    ) -> bool {
        let slept = self.scheduler.is_blocked(id);
        let is_known = wake(&mut self.scheduler, id);
        if slept {
            self.becomes_ready(id);
        }
        is_known
    }

    /// A vcpu waits for the CPU from now on.
    #[cold]
    #[inline(never)]
    pub(super) fn becomes_ready(&mut self, id: VcpuId) {
        self.states.become_ready(id, self.platform.now_ns());
    }

    /// So does one that the CPU was handed over to, if nobody has gone to sleep for it.
    #[cold]
    #[inline(never)]
    pub(super) fn note_passed_over(&mut self) {
        if let Some(id) = self.scheduler.take_passed_over() {
            self.becomes_ready(id);
        }
    }

    /// A vcpu that has waited for the CPU has it.
    #[cold]
    #[inline(never)]
    pub(super) fn runs_at_last(&mut self, id: VcpuId) {
        let now_ns = self.platform.now_ns();
        self.states.run(id, now_ns);
    }

    /// Puts a vcpu to sleep that waits for the CPU.
    pub(super) fn suspend(&mut self, id: VcpuId) {
        let has_slept = self.scheduler.is_blocked(id);
        self.scheduler.suspend(id);
        if !has_slept && self.scheduler.is_blocked(id) {
            self.states.suspend(id, self.platform.now_ns());
        }
    }

    #[cold]
    fn apply_rare(&mut self, wake: Wake) {
        match wake {
            Wake::TimerGone(id) => self.cpus.timers(id.cpu()).lock().remove(id),
            Wake::Held(id) => self.release(id),
            Wake::Orphaned(id) => self.orphan(id),
            // What is left has been seen to.
            _ => {}
        }
    }

    /// A vcpu of another CPU has got what the one that runs waits for now, which lends it what it has.
    #[cold]
    #[inline(never)]
    fn hand_over_afar(&mut self, id: VcpuId) {
        let lender = self.scheduler.turn_id();
        let news = match self.offer_afar(lender, id, true) {
            true => News::BLOCKED | News::LOAN,
            false => News::BLOCKED,
        };
        self.post(id, news);
    }

    /// Offers a vcpu of another CPU what the one that runs has. Whether it has to be told.
    fn offer_afar(&mut self, lender: VcpuId, to: VcpuId, is_served: bool) -> bool {
        let now_ns = self.platform.now_ns();
        self.elsewhere(to).is_some() && self.scheduler.offer_afar(lender, to, is_served, now_ns)
    }

    /// A vcpu that is not this CPU's has news, if there still is one of that number.
    #[cold]
    fn post(&mut self, id: VcpuId, news: News) {
        if news.contains(News::BLOCKED) {
            // It waits no longer. What it has lent to the one that runs is over before that goes on.
            self.cpus.offers().end(id);
            if !self.scheduler.is_plain() {
                self.scheduler.attend_again();
            }
        }
        if let Some(cpu) = self.cpus.mailboxes().post(id, news) {
            self.tell(cpu, Told::MAIL);
        }
    }

    /// Tells a CPU something, and interrupts it if it would not hear it soon.
    pub(super) fn tell(&mut self, cpu: CpuIndex, told: Told) {
        let must_be_interrupted = self.cpus.cpu(cpu).attention().tell(told);
        if must_be_interrupted && cpu != self.index {
            self.platform.interrupt(cpu);
        }
    }

    /// The run is over; every CPU ends what it has.
    pub(super) fn end_run(&mut self, reason: StopReason) {
        self.cpus.end(reason);
        for cpu in self.cpus.clone().indices() {
            self.tell(cpu, Told::OVER);
        }
    }

    /// The CPU of a vcpu that is not this one's.
    pub(super) fn elsewhere(&self, id: VcpuId) -> Option<CpuIndex> {
        let cpu = self.cpus.mailboxes().cpu(id)?;
        (cpu != self.index).then_some(cpu)
    }

    /// Lets news for a vcpu take effect, which this CPU was told.
    pub(super) fn deliver(&mut self, id: VcpuId, news: News) {
        // The number may be another CPU's vcpu's by now, whose news have come along.
        if self.elsewhere(id).is_some() {
            return self.post(id, news);
        }
        if news.contains(News::LOAN) {
            // First, so that who is woken stands where that belongs.
            let now_ns = self.platform.now_ns();
            self.scheduler.borrow_afar(id, now_ns);
        }
        if news.contains(News::BLOCKED) {
            self.rouse(id, Scheduler::wake);
        }
        if news.contains(News::EVENT) {
            self.rouse(id, Scheduler::signal);
        }
        if news.contains(News::QUIET) {
            self.rouse(id, Scheduler::signal_asleep);
        }
    }

    /// A domain was given up by its maker; it ends when this call is over.
    fn orphan(&mut self, id: DomainId) {
        self.here.add_orphan(id);
        self.scheduler.attention().call(Told::ORPHAN);
    }

    /// Every CPU forgets what it has cached of the space. Returns when none is in a guest with it any
    /// more; this one forgets before it enters a guest.
    ///
    /// A CPU in the hypervisor need not be waited for: it looks, after it has said that it enters a
    /// guest, whether it has been told. So nobody waits for a CPU that waits for him.
    #[inline]
    fn flush(&mut self, space: u64) {
        self.scheduler.call_attention();
        if self.tells_of_changes {
            self.flush_others(space);
        }
    }

    #[inline(never)]
    fn flush_others(&self, space: u64) {
        self.record(Step::Changed { space });
        for (index, cpu) in self.cpus.others(self.index) {
            if cpu.attention().uses_space(space) {
                self.record(Step::Told { cpu: index.0 });
                if cpu.attention().tell(Told::FLUSH) {
                    self.platform.interrupt(index);
                }
            }
        }
        for (index, cpu) in self.cpus.others(self.index) {
            if cpu.attention().uses_space(space) {
                let is_there = || cpu.attention().is_deaf_to(Told::FLUSH);
                self.platform.wait_while(index, &is_there);
            }
        }
        self.record(Step::Gone { space });
    }

    /// Writes down what becomes of cached translations from now on.
    pub(super) fn record_flushes(&mut self, recorder: FlushRecorder) {
        self.recorder = Some(recorder);
        self.tells_of_changes = true;
    }

    pub(super) fn record(&self, step: Step) {
        if let Some(recorder) = &self.recorder {
            recorder.record(step);
        }
    }

    /// An event holds bits back: they are posted now, or when its interval is over. Its own CPU sees to
    /// that.
    fn release(&mut self, id: TimerId) {
        let timers = self.cpus.timers(id.cpu());
        let event = timers.lock().event(id);
        let Some(event) = event else {
            return;
        };
        match event.release(self.platform.now_ns()) {
            Release::Done(wake) => wake.into_iter().for_each(|wake| self.apply(wake)),
            Release::At(until_ns) => {
                timers.lock().hold(id, &event, until_ns);
                self.call_for_timer(id.cpu());
            }
        }
    }

    /// What is due next on that CPU may have changed, and with it when its timer must fire.
    fn call_for_timer(&mut self, cpu: CpuIndex) {
        if cpu == self.index {
            self.scheduler.attend_again();
        } else {
            self.tell(cpu, Told::TIMER);
        }
    }

    /// The next deadline of a sleeping vcpu or an armed timer, in nanoseconds.
    pub(super) fn earliest_deadline(&self) -> Option<u64> {
        let timer = self.here.timers().lock().earliest();
        let deadlines = [self.scheduler.earliest_deadline(), timer];
        deadlines.into_iter().flatten().min()
    }

    /// Wakes whoever's deadline has passed and fires the timers that are due.
    pub(super) fn expire(&mut self, now_ns: u64) {
        let states = &mut self.states;
        self.scheduler
            .expire(now_ns, |id| states.become_ready(id, now_ns));
        while let Some(due) = self.take_due(now_ns) {
            match due {
                Some(Due::Timer(timer)) => {
                    timer.fire().into_iter().for_each(|wake| self.apply(wake));
                }
                Some(Due::Event(id)) => self.release(id),
                None => {}
            }
        }
    }

    /// Firing takes other locks than that of the timers.
    fn take_due(&self, now_ns: u64) -> Option<Option<Due>> {
        self.here.timers().lock().take_due(now_ns)
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
            Wake::Blocked(id) => {
                if self.scheduler.has_offer() {
                    self.note_passed_over();
                }
                if !self.scheduler.hand_over(id) {
                    self.hand_over_afar(id);
                }
            }
            wake => self.apply(wake),
        }
    }

    #[inline(always)]
    fn hand_back(&mut self, wake: Wake) {
        match wake {
            Wake::Blocked(id) => {
                if self.scheduler.has_offer() {
                    self.note_passed_over();
                }
                if !self.scheduler.hand_back(id) {
                    self.post(id, News::BLOCKED);
                }
            }
            wake => self.apply(wake),
        }
    }

    fn lend(&mut self, lender: VcpuId, to: VcpuId) {
        if !self.scheduler.is_known(lender) {
            // What one of another CPU lends is its own CPU's business.
        } else if self.scheduler.is_known(to) {
            self.scheduler.lend_to_busy(lender, to);
        } else if self.offer_afar(lender, to, false) {
            self.post(to, News::LOAN);
        }
    }

    fn end_lending(&mut self, caller: VcpuId) {
        self.scheduler.end_lending(caller);
    }

    fn serve(&mut self, caller: VcpuId, next: Option<VcpuId>) {
        let now_ns = self.platform.now_ns();
        self.scheduler.serve(caller, next, now_ns);
    }

    fn cpu(&self) -> CpuIndex {
        self.index
    }

    fn new_domain_id(&mut self) -> DomainId {
        self.cpus.domains().lock().new_id()
    }

    fn keep_domain(&mut self, domain: Arc<Domain>) {
        self.cpus.domains().lock().keep(domain);
    }

    fn new_vcpu_id(&mut self) -> Option<VcpuId> {
        let id = self.cpus.new_vcpu_id(self.index)?;
        self.scheduler.reserve_made(id);
        self.states.reserve(id);
        Some(id)
    }

    fn start(&mut self, domain: Arc<Domain>, vcpu: Vcpu, entry: Entry) {
        self.starting = Some(Starting {
            domain,
            vcpu,
            entry,
        });
    }

    fn stop_vcpu(&mut self, domain: Arc<Domain>, number: VcpuNumber) {
        self.stopping = Some((domain, number));
    }

    fn has_cpu(&self, cpu: CpuIndex) -> bool {
        cpu.index() < self.cpus.count()
    }

    fn ceiling(&self, caller: VcpuId) -> u8 {
        self.scheduler.ceiling(caller).level()
    }

    fn schedule(&mut self, domain: Arc<Domain>, number: VcpuNumber, terms: ScheduleTerms) {
        self.scheduling = Some(Scheduling {
            domain,
            number,
            terms,
        });
    }

    fn add_timer(
        &mut self,
        event: Arc<Event>,
        bits: u64,
        charge: KernelCharge,
    ) -> Option<Arc<Timer>> {
        self.here.timers().lock().add(event, bits, charge)
    }

    fn add_event(
        &mut self,
        target: Target,
        interval_ns: u64,
        charge: KernelCharge,
    ) -> Option<Arc<Event>> {
        let timers = self.here.timers();
        timers.lock().add_event(target, interval_ns, charge)
    }

    fn arm_timer(&mut self, timer: &Timer, deadline: Deadline) {
        let id = timer.id();
        self.cpus.timers(id.cpu()).lock().arm(id, deadline);
        if id.cpu() == self.index {
            let now_ns = self.platform.now_ns();
            if deadline.has_passed(now_ns) {
                self.expire(now_ns);
            }
        }
        self.call_for_timer(id.cpu());
    }

    fn console(&mut self, domain: &Domain, message: &Message) {
        domain.console.lock().write(message, |line| {
            self.platform.console_line(domain.name.as_str(), line);
        });
    }
}
