//! The vcpu loop: the only code that is generic over the vendor, and the only code that moves a
//! guest's instruction pointer or injects something into it.
//!
//! [`Runner`] owns the vcpus of one physical CPU. It picks one, runs it until its time is up or
//! it goes to sleep, and turns each exit into what it means: a call goes to `call`, CPUID and
//! model-specific registers to `policy`, everything that is not the hypervisor's business ends
//! the domain with a reason. [`Cpus`] is what the loops of all CPUs share.
//!
//! Invariant: nothing a guest does makes one turn of the loop take longer than the longest call.

#![forbid(unsafe_code)]

mod context;
mod cpus;
mod domains;
mod endings;
mod exits;
mod launching;
mod monitoring;
mod moving;
mod outcomes;
mod platform;
mod report;
mod requests;
mod scheduling;
mod starting;
mod submitting;
#[cfg(test)]
mod tests;
mod timers;
mod trace;
mod turns;
mod world;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use nuncio_abi::{Deadline, RunState, StopReason};

use crate::lock;
use crate::sched::{Numbered, Place, Told, VcpuId};
use crate::vt::{FlushLog, FlushRecorder, Left, Step, Vendor, VirtualCpu};

pub use crate::sched::CpuIndex;
pub use cpus::Cpus;
pub use launching::{Launched, Planned};
pub use platform::Platform;
pub use report::{DomainReport, Verdict};
pub use timers::{Due, Timers};
pub use trace::CallTrace;
pub use world::{Counters, World};

use context::Context;

/// The loop of one physical CPU.
pub struct Runner<V: Vendor, P: Platform> {
    vendor: V,
    context: Context<P>,
    /// By the number of the vcpu; `None` while it runs and after its domain has ended.
    worlds: Vec<Option<Box<World<V, P>>>>,
    /// Whose extended state the CPU holds.
    loaded: Option<VcpuId>,
    /// When the machine's timer fires, in nanoseconds; `u64::MAX` if it does not run.
    armed_ns: u64,
    /// When the slice of the vcpu that runs is over, in nanoseconds.
    slice_end_ns: u64,
    /// When the run is ended from outside, in nanoseconds.
    limit_ns: Option<u64>,
    /// The vcpu that runs has to end, because the maker of its domain has.
    is_doomed: bool,
    /// Another CPU has asked for something.
    has_requests: bool,
    /// Whether anything is recorded before each entry.
    is_tracing: bool,
    /// Whether vcpus are added with a trace of their calls.
    traces_calls: bool,
}

/// What the loop does after an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    /// Run the same vcpu again.
    Continue,
    /// Give others the CPU: its time is up, or somebody is more urgent.
    Yield,
    /// Give that one the CPU, which cannot do without it.
    YieldTo(VcpuId),
    /// Sleep until woken or the deadline.
    Block(Deadline),
    /// Leave the CPU until it is started anew.
    Stop,
    /// The domain has come to its end.
    End(StopReason, u64),
}

impl<V: Vendor, P: Platform> Runner<V, P> {
    /// The loop of that CPU, without vcpus.
    pub fn new(
        cpus: Arc<Cpus>,
        index: CpuIndex,
        vendor: V,
        platform: P,
        limit_ns: Option<u64>,
    ) -> Self {
        Runner {
            vendor,
            context: Context::new(cpus, index, platform),
            worlds: Vec::new(),
            loaded: None,
            armed_ns: u64::MAX,
            slice_end_ns: 0,
            limit_ns,
            is_doomed: false,
            has_requests: false,
            is_tracing: false,
            traces_calls: false,
        }
    }

    /// Records the calls of every vcpu that is added from now on.
    pub fn trace_calls(&mut self) {
        self.traces_calls = true;
        self.begin_tracing();
    }

    fn begin_tracing(&mut self) {
        self.is_tracing = true;
        self.context.scheduler.attend_again();
    }

    /// Writes down in that log what becomes of cached translations.
    pub fn record_flushes(&mut self, log: Arc<FlushLog>) {
        let recorder = FlushRecorder::new(log, self.context.index.0);
        self.vendor.record_flushes(recorder.clone());
        self.context.record_flushes(recorder);
        self.begin_tracing();
    }

    /// The vendor, for making vcpus.
    pub fn vendor(&mut self) -> &mut V {
        &mut self.vendor
    }

    /// The machine.
    pub fn platform(&mut self) -> &mut P {
        &mut self.context.platform
    }

    /// Does something to the first vcpu, if there is one: for self tests.
    pub fn with_first_vcpu(&mut self, change: impl FnOnce(&mut V, &mut V::Vcpu)) {
        if let Some(world) = self.worlds.iter_mut().flatten().next() {
            change(&mut self.vendor, &mut world.vcpu);
        }
    }

    /// What the loops of all CPUs share.
    pub fn cpus(&self) -> &Arc<Cpus> {
        &self.context.cpus
    }

    /// Runs until the run is over on all CPUs.
    fn run_along(&mut self) {
        let reason = loop {
            if let Some(reason) = self.context.cpus.over() {
                break reason;
            }
            self.attend_to_others();
            self.context.note_passed_over();
            match self.context.scheduler.pick() {
                Some(id) => self.run_vcpu(id),
                None => self.sleep(),
            }
        };
        self.end_all(reason);
        self.context.cpus.finish();
        // Others may wait yet for what they have asked this CPU for.
        // ENDS: the run is over, so each CPU ends what it has, which has its bounds.
        while !self.context.cpus.are_finished() {
            self.attend_to_others();
            core::hint::spin_loop();
        }
        // What was asked for before the last of them was finished.
        self.attend_to_others();
        self.context.cpus.drain();
    }

    /// Does what other CPUs have asked this one for, while no vcpu runs.
    #[inline]
    fn attend_to_others(&mut self) {
        if self.context.scheduler.attention().is_told_by_others() {
            self.listen();
        }
        if core::mem::take(&mut self.has_requests) {
            self.grant_requests();
        }
    }

    /// Does what this CPU has been told. Whether the vcpu that runs may go on.
    #[cold]
    fn listen(&mut self) -> bool {
        let told = self.context.scheduler.attention().hear_others();
        if told.intersects(Told::MAIL) {
            self.read_mail();
        }
        if told.intersects(Told::TIMER) {
            let now_ns = self.context.platform.now_ns();
            self.context.expire(now_ns);
            self.context.scheduler.attend_again();
        }
        if told.intersects(Told::FLUSH) {
            self.context.scheduler.call_attention();
        }
        if told.intersects(Told::ORPHAN) {
            self.end_orphans();
        }
        if told.intersects(Told::REQUEST) {
            self.has_requests = true;
        }
        !told.intersects(Told::REQUEST) && !self.is_doomed && self.context.cpus.over().is_none()
    }

    fn run_vcpu(&mut self, id: VcpuId) {
        let now_ns = self.context.platform.now_ns();
        let Some(slice_ns) = self.context.scheduler.begin(id, now_ns) else {
            return;
        };
        let Some(mut world) = self.take(id) else {
            return;
        };
        self.context.states.run(id, now_ns);
        let slice_end_ns = now_ns.saturating_add(slice_ns);
        self.slice_end_ns = slice_end_ns;
        self.load(&mut world);
        self.attend(&mut world, slice_end_ns);
        self.limit_run(&mut world, slice_end_ns);
        self.run_slice(world, slice_end_ns);
        self.check_limit();
    }

    /// Lets a vcpu run until it leaves the CPU. If it goes to sleep and has handed the CPU over, the
    /// other one goes on in the same slice: whoever waits for an answer lends the rest of its slice
    /// to the one that is to give it.
    fn run_slice(&mut self, mut world: Box<World<V, P>>, slice_end_ns: u64) {
        let mut started = self.context.platform.ticks();
        loop {
            let flow = match self.resume(&mut world) {
                Flow::Continue => self.run_guest(&mut world, slice_end_ns),
                flow => flow,
            };
            let stopped = self.context.platform.ticks();
            world.counters.ticks += stopped.wrapping_sub(started);
            started = stopped;
            let id = world.object.id();
            let next = match flow {
                Flow::Block(deadline) => {
                    world.object.page().set_run_state(RunState::Asleep);
                    self.context.scheduler.block(id, deadline);
                    self.context.scheduler.take_over()
                }
                Flow::End(reason, detail) => {
                    self.end_turn();
                    return self.end(world, reason, detail);
                }
                Flow::Stop => {
                    self.end_turn();
                    return self.stop_world(world);
                }
                _ if core::mem::take(&mut self.is_doomed) => {
                    self.end_turn();
                    return self.end(world, StopReason::Destroyed, 0);
                }
                flow => {
                    let next = self.leave_cpu(flow, slice_end_ns);
                    self.context.becomes_ready(id);
                    next
                }
            };
            self.put_back(world);
            match next.and_then(|next| self.take(next)) {
                Some(next) => world = next,
                None => return self.end_turn(),
            }
            self.switch_to(&mut world, slice_end_ns);
        }
    }

    /// Goes on with another vcpu in the same slice.
    #[inline]
    fn switch_to(&mut self, world: &mut World<V, P>, slice_end_ns: u64) {
        // Who sleeps until the CPU is handed over has not waited for it, and needs no look at the clock.
        if self.context.states.is_ready(world.object.id()) {
            self.context.runs_at_last(world.object.id());
        } else {
            world.object.page().set_run_state(RunState::Running);
        }
        self.load(world);
        self.prepare(world);
        // What is due may be earlier now, but not for the slice: it has its end already.
        let earliest_ns = self.context.scheduler.earliest_deadline();
        let is_late = earliest_ns.is_some_and(|earliest_ns| earliest_ns < self.armed_ns);
        if V::Vcpu::LIMITS_RUNS || is_late {
            self.limit_run(world, slice_end_ns);
        }
    }

    /// Makes the CPU this vcpu's.
    #[inline]
    fn load(&mut self, world: &mut World<V, P>) {
        self.vendor.load(&mut world.vcpu);
        self.load_extended_state(world);
    }

    /// Enters the guest again and again, until an exit means that it must leave the CPU.
    ///
    /// This loop is the hypervisor's hot path: a short call goes round it without leaving it.
    #[inline(never)]
    fn run_guest(&mut self, world: &mut World<V, P>, slice_end_ns: u64) -> Flow {
        loop {
            // First it is said, then looked: whoever tells this CPU something after the look sees
            // that it has to be interrupted.
            let attention = self.context.scheduler.attention();
            attention.go(Place::Guest);
            if attention.is_told() && !self.may_enter(world, slice_end_ns) {
                return self.instead_of(world);
            }
            lock::assert_none_is_held();
            let left = self.vendor.run(&mut world.vcpu);
            self.context.scheduler.attention().come_back();
            let flow = match left {
                Left::ByCall => self.call(world),
                Left::ByExit => self.handle(world, slice_end_ns),
            };
            if flow != Flow::Continue {
                return flow;
            }
        }
    }

    /// Hears what this CPU has been told right before it enters a guest; whether it may.
    #[cold]
    fn may_enter(&mut self, world: &mut World<V, P>, slice_end_ns: u64) -> bool {
        loop {
            self.context.scheduler.attention().come_back();
            if self.context.scheduler.attention().is_told_by_others() && !self.listen() {
                return false;
            }
            if !self.attend(world, slice_end_ns) || self.awake_runner(world).is_some() {
                return false;
            }
            self.context.scheduler.attention().go(Place::Guest);
            // Where anything is recorded, the scheduler always has news.
            if !self.context.scheduler.attention().is_told_by_others() {
                return true;
            }
        }
    }

    /// Looks at what has changed: an upcall for this vcpu, translations that are wrong now, or
    /// somebody else who has become ready, so that the slice has an end. Whether the vcpu may go on: not
    /// if that one is more urgent.
    #[inline(always)]
    fn attend(&mut self, world: &mut World<V, P>, slice_end_ns: u64) -> bool {
        let became_ready = self.context.scheduler.attend();
        self.prepare(world);
        if !became_ready {
            return true;
        }
        self.renew_terms();
        self.note_rival();
        self.limit_slice(world, slice_end_ns);
        !self.context.scheduler.is_outranked()
    }

    /// Hands an upcall to the vcpu that runs next, and has it forget translations that are wrong.
    #[inline]
    fn prepare(&mut self, world: &mut World<V, P>) {
        let id = world.object.id();
        if self.context.scheduler.has_upcall(id) {
            self.context.scheduler.clear_upcall(id);
            if let Some(vector) = world.object.page().upcall_vector() {
                world.vcpu.request_upcall(vector);
            }
        }
        let space = world.space();
        self.context.scheduler.attention().use_space(space.id());
        let version = space.version();
        if version != world.seen_version {
            world.seen_version = version;
            world.vcpu.flush_translations();
        }
    }

    /// Gives the slice an end, and records what the vcpu has done if anything is recorded.
    /// Then somebody always seems to have become ready, so that every call is seen and other runs
    /// do not have to ask on its path.
    #[inline(never)]
    fn limit_slice(&mut self, world: &mut World<V, P>, slice_end_ns: u64) {
        self.context.note_passed_over();
        self.limit_run(world, slice_end_ns);
        if self.is_tracing {
            world.record_call();
            self.record_stale(world);
            // Also behind a vcpu that is not recorded, since the next one may be.
            self.context.scheduler.attend_again();
        }
    }

    /// Writes down that the vcpu has to forget translations, if it has been told so since the last time.
    #[cold]
    fn record_stale(&self, world: &mut World<V, P>) {
        let (space, version) = world.seen_version;
        if world.recorded_version != world.seen_version {
            world.recorded_version = world.seen_version;
            self.context.record(Step::Stale {
                vcpu: world.object.id().0,
                space,
                version,
            });
        }
    }

    /// Makes sure that the vcpu leaves the CPU when something is due.
    fn limit_run(&mut self, world: &mut World<V, P>, slice_end_ns: u64) {
        let due_ns = self.arm_timer(slice_end_ns);
        if V::Vcpu::LIMITS_RUNS {
            let platform = &self.context.platform;
            world
                .vcpu
                .limit_run(due_ns.map(|due_ns| platform.ticks_until(due_ns)));
        }
    }

    /// The timer fires at the next thing that is due: a deadline, the limit of the run, the end of a
    /// budget or, while others of the same priority wait, the end of the slice. When nothing is due there
    /// is no tick. Returns when it is.
    ///
    /// A timer that runs is left alone if it fires before that: most deadlines are gone before they
    /// are due, and then one early interrupt costs less than what would have been programmed for
    /// nothing.
    fn arm_timer(&mut self, slice_end_ns: u64) -> Option<u64> {
        let scheduler = &self.context.scheduler;
        let due = [
            scheduler.has_rival().then_some(slice_end_ns),
            scheduler.budget_end_ns(),
            self.context.earliest_deadline(),
            self.limit_ns,
        ];
        let due_ns = due.into_iter().flatten().min();
        if due_ns.is_some_and(|due_ns| due_ns < self.armed_ns) {
            self.context.platform.arm_timer(due_ns);
            self.armed_ns = due_ns.unwrap_or(u64::MAX);
        }
        due_ns
    }

    /// Nobody can run: wait for the next deadline or for another CPU, or end those that nothing can
    /// ever wake.
    fn sleep(&mut self) {
        let waits_for_others = self.context.earliest_deadline().is_none();
        if waits_for_others && self.context.cpus.fall_idle() {
            return self.context.end_run(StopReason::Deadlock);
        }
        self.arm_timer(u64::MAX);
        self.context.scheduler.attention().go(Place::Asleep);
        // That the run is over may have been heard since that was looked at last.
        let is_over = self.context.cpus.over().is_some();
        if !is_over && !self.context.scheduler.attention().is_told_by_others() {
            self.context.platform.idle();
            self.armed_ns = u64::MAX;
        }
        self.context.scheduler.attention().come_back();
        if waits_for_others {
            self.context.cpus.stir();
        }
        let now_ns = self.context.platform.now_ns();
        self.context.expire(now_ns);
        self.check_limit();
    }

    fn check_limit(&mut self) {
        if self
            .limit_ns
            .is_some_and(|limit_ns| limit_ns <= self.context.platform.now_ns())
        {
            self.context.end_run(StopReason::TimeLimit);
        }
    }

    #[inline]
    fn load_extended_state(&mut self, world: &mut World<V, P>) {
        let id = world.object.id();
        if self.loaded == Some(id) {
            return;
        }
        let previous = self.loaded.replace(id);
        let mut previous = previous.and_then(|id| self.worlds.get_mut(id.0 as usize)?.as_mut());
        let from = previous.as_mut().map(|world| &mut world.extended);
        self.context
            .platform
            .switch_extended_state(from, &mut world.extended);
    }

    /// Makes a place for the world of a vcpu with that number.
    fn make_room(&mut self, id: VcpuId) {
        if self.worlds.len() <= id.index() {
            self.worlds.resize_with(id.index() + 1, || None);
        }
    }

    #[inline]
    fn take(&mut self, id: VcpuId) -> Option<Box<World<V, P>>> {
        self.worlds.get_mut(id.0 as usize)?.take()
    }

    #[inline]
    fn put_back(&mut self, world: Box<World<V, P>>) {
        let id = world.object.id();
        if let Some(place) = self.worlds.get_mut(id.0 as usize) {
            *place = Some(world);
        }
    }
}
