//! Exits that go to a monitor, and how a vcpu goes on after the answer.
//!
//! `translate` turns exits into their words and answers into what they do; `stopping` has vcpus exit for
//! somebody else's reasons.

mod stopping;
mod translate;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use nuncio_abi::{Deadline, Error, ExitKind, ResumeAction, StatePage, StopReason, VcpuExit};

use crate::call::{lend_to_busy, Effects};
use crate::object::{
    AwaitedResume, CallingVcpu, Domain, Held, Monitor, Next, Object, Order, Port, Space, Waiting,
    Wake,
};
use crate::vt::{state, Exit, Vendor, VirtualCpu};

use super::{Flow, Platform, Runner, World};

use translate::{arrive, complete, describe, message};

/// NMIs and machine checks are the machine's.
const NO_EXCEPTIONS: u32 = 1 << 2 | 1 << 18;

/// How long a vcpu sleeps whose monitor's port has no room for its exit, before it tries again.
const UNTOLD_NS: u64 = 1_000_000;

/// What the loop keeps of a vcpu that has a monitor.
pub struct Monitoring {
    monitor: Arc<Monitor>,
    /// Kinds of exits that go there, a bit each.
    exits: u64,
    /// Exceptions that go there, a bit each.
    exceptions: u32,
    phase: Phase,
    /// The last exit that was told of and has no answer yet.
    exited: Option<VcpuExit>,
    /// Where it runs, if not in the space of its domain, for as long as it runs.
    space: Option<Arc<Space>>,
    /// The space whose tables its control block names.
    loaded_space: u64,
    /// Somebody has stopped it while it slept in a call of its own.
    is_recalled: bool,
    /// It was stopped while it slept in HLT.
    was_halted: bool,
}

/// Where a vcpu with a monitor is.
#[derive(Clone, Copy)]
enum Phase {
    /// It runs, if its monitor lets it.
    Running,
    /// It has exited, and the port had no room.
    Untold(VcpuExit),
    /// It waits for the answer.
    Asking,
}

impl Monitoring {
    /// Of a vcpu that has not run yet.
    pub fn new(monitor: &Arc<Monitor>, domain: &Domain) -> Box<Self> {
        Box::new(Monitoring {
            monitor: monitor.clone(),
            exits: 0,
            exceptions: 0,
            phase: Phase::Running,
            exited: None,
            space: None,
            loaded_space: domain.space.id(),
            is_recalled: false,
            was_halted: false,
        })
    }

    /// Where it runs, if not in the space of its domain.
    pub fn space(&self) -> Option<&Space> {
        self.space.as_deref()
    }

    fn port(&self) -> Option<(&Arc<Port>, u64)> {
        match self.monitor.port() {
            Some(Held {
                object: Object::Port(port),
                badge,
                ..
            }) => Some((port, *badge)),
            _ => None,
        }
    }

    /// Kinds of exits that always go to the monitor.
    fn always(&self) -> u64 {
        let of_all = ExitKind::Refused.bit() | ExitKind::Recalled.bit();
        match self.port() {
            Some(_) => of_all,
            None => of_all | ExitKind::Call.bit() | ExitKind::Halt.bit(),
        }
    }

    /// Whether such an exit goes to the monitor.
    fn wants(&self, exit: VcpuExit) -> bool {
        let is_of_kind = self.exits & exit.kind().bit() != 0;
        match exit {
            VcpuExit::Exception { vector, .. } => is_of_kind && self.exceptions & 1 << vector != 0,
            _ => is_of_kind,
        }
    }

    /// Whether it has exited, and its monitor does not know yet.
    fn is_untold(&self) -> bool {
        matches!(self.phase, Phase::Untold(_))
    }

    /// Whether it stands still because it has exited, or because nobody runs it.
    fn stands_still(&self) -> bool {
        !matches!(self.phase, Phase::Running)
            || (self.port().is_none() && self.monitor.runner().is_none())
    }
}

impl<V: Vendor, P: Platform> Runner<V, P> {
    /// Leaves an exit to the monitor, if it goes there.
    #[cold]
    pub(super) fn leave_to_monitor(&mut self, world: &mut World<V, P>, exit: Exit) -> Option<Flow> {
        let exit = describe(exit, &world.vcpu)?;
        if world.monitoring.as_ref()?.wants(exit) {
            self.tell(world, exit)
        } else {
            None
        }
    }

    /// Before a vcpu with a monitor runs: whether it may, and with what.
    #[cold]
    pub(super) fn resume_monitored(&mut self, world: &mut World<V, P>) -> Flow {
        let Some(monitoring) = &mut world.monitoring else {
            return Flow::Continue;
        };
        let flow = match monitoring.phase {
            Phase::Running if monitoring.port().is_some() => self.resume_call(world),
            Phase::Running => match monitoring.monitor.next() {
                Next::Stand => Flow::Block(Deadline::NEVER),
                Next::Go(None) => Flow::Continue,
                Next::Go(Some(order)) => self.follow(world, order),
            },
            Phase::Untold(exit) => self.tell(world, exit).unwrap_or_else(|| unanswered(exit)),
            Phase::Asking => self.take_answer(world),
        };
        match flow {
            Flow::Continue => self.exit_if_recalled(world),
            flow => flow,
        }
    }

    /// A vcpu that was stopped in a call exits behind it.
    pub(super) fn exit_if_recalled(&mut self, world: &mut World<V, P>) -> Flow {
        match &mut world.monitoring {
            Some(monitoring) if monitoring.is_recalled => {
                monitoring.is_recalled = false;
                let exit = recalled(&world.vcpu);
                self.tell(world, exit).unwrap_or(Flow::Continue)
            }
            _ => Flow::Continue,
        }
    }

    fn take_answer(&mut self, world: &mut World<V, P>) -> Flow {
        let sleeper = world.object.sleeper();
        if sleeper.awaits_monitor() {
            return Flow::Block(Deadline::NEVER);
        }
        let answer = sleeper.take();
        let Some(monitoring) = &mut world.monitoring else {
            return Flow::Continue;
        };
        monitoring.phase = Phase::Running;
        match answer {
            Waiting::Resumed(resume) => {
                let space = None;
                self.follow(world, Order { resume, space })
            }
            _ => {
                let exit = monitoring.exited.take();
                world.give_up_monitor();
                exit.map_or(Flow::Continue, unanswered)
            }
        }
    }

    /// Lets a vcpu go on as its monitor says.
    fn follow(&mut self, world: &mut World<V, P>, order: Order) -> Flow {
        let Order { resume, space } = order;
        let Some(monitoring) = &mut world.monitoring else {
            return Flow::Continue;
        };
        if let (ResumeAction::Complete, Some(exit)) = (resume.action(), monitoring.exited.take()) {
            complete(&mut world.vcpu, exit, resume.results());
        }
        monitoring.space = space;
        let page = StatePage::new(monitoring.monitor.page());
        let loaded = page
            .load()
            .map(|groups| state::load(&mut world.vcpu, groups, page));
        if !matches!(loaded, Some(Ok(()))) {
            let instruction = world.vcpu.instruction_pointer();
            let exit = VcpuExit::Refused { instruction };
            return self.tell(world, exit).unwrap_or_else(|| unanswered(exit));
        }
        arrive(&mut world.vcpu, resume.arrival());
        let space = world.space().id();
        self.context.scheduler.attention().use_space(space);
        world.enter_space();
        world.read_wishes();
        self.sleep_on(world)
    }

    /// A vcpu that was stopped while it slept in HLT sleeps on, unless something has come.
    fn sleep_on(&mut self, world: &mut World<V, P>) -> Flow {
        let id = world.object.id();
        let was_halted =
            |monitoring: &mut Box<Monitoring>| core::mem::take(&mut monitoring.was_halted);
        let sleeps = world.monitoring.as_mut().is_some_and(was_halted)
            && !world.vcpu.upcall_is_pending()
            && !self.context.scheduler.has_upcall(id);
        if sleeps {
            world.object.sleeper().wait_for(Waiting::Upcall);
            Flow::Block(Deadline::NEVER)
        } else {
            Flow::Continue
        }
    }

    /// Tells the monitor of an exit; `None` if nobody is left to tell.
    fn tell(&mut self, world: &mut World<V, P>, exit: VcpuExit) -> Option<Flow> {
        let monitoring = world.monitoring.as_mut()?;
        let page = StatePage::new(monitoring.monitor.page());
        if let Some(groups) = page.save() {
            state::save(&world.vcpu, groups, page);
        }
        monitoring.space = None;
        monitoring.exited = Some(exit);
        let Some((port, badge)) = monitoring.port() else {
            let wake = monitoring.monitor.exited(exit);
            wake.into_iter()
                .for_each(|wake| self.context.hand_back(wake));
            return Some(Flow::Block(Deadline::NEVER));
        };
        let port = port.clone();
        let sleeper = world.object.sleeper();
        let caller = CallingVcpu {
            vcpu: world.object.id(),
            sleeper: sleeper.clone(),
        };
        let sleep = |token| {
            let (port, kind) = (port.clone(), exit.kind());
            sleeper.wait_for(Waiting::Monitor(AwaitedResume { port, token, kind }));
        };
        match port.call(&message(exit), Vec::new(), badge, caller, sleep) {
            Ok(wake) => {
                monitoring.phase = Phase::Asking;
                let is_taken = matches!(wake, Some(Wake::Blocked(_)));
                wake.into_iter()
                    .for_each(|wake| self.context.hand_over(wake));
                if !is_taken {
                    lend_to_busy(world.object.id(), &port, &mut self.context);
                }
                Some(Flow::Block(Deadline::NEVER))
            }
            Err((Error::QueueFull, _)) => {
                monitoring.phase = Phase::Untold(exit);
                // However urgent it is: who makes room may be less so.
                let again_ns = self.context.now_ns().saturating_add(UNTOLD_NS);
                Some(Flow::Block(Deadline(again_ns)))
            }
            Err(_) => {
                monitoring.phase = Phase::Running;
                monitoring.exited = None;
                world.give_up_monitor();
                None
            }
        }
    }

    /// A vcpu that was stopped in the ring with which its HLT began exits, and sleeps when it goes on.
    pub(super) fn halt_if_recalled(&mut self, world: &mut World<V, P>) -> Flow {
        match &mut world.monitoring {
            Some(monitoring) => monitoring.was_halted = monitoring.is_recalled,
            None => return Flow::Continue,
        }
        self.exit_if_recalled(world)
    }
}

impl<V: Vendor, P: Platform> World<V, P> {
    /// The vcpu that runs has asked to be stopped itself: it exits behind its call.
    ///
    /// # Errors
    /// `QueueFull` if its monitor's port has no room.
    pub(super) fn stop_after_call(&mut self) -> Result<(), Error> {
        match &mut self.monitoring {
            Some(monitoring) if monitoring.monitor.has_room() => {
                monitoring.is_recalled = true;
                Ok(())
            }
            _ => Err(Error::QueueFull),
        }
    }

    /// Nobody is left who could answer: it runs as if it had no monitor.
    fn give_up_monitor(&mut self) {
        if let Some(monitoring) = &mut self.monitoring {
            monitoring.exits = 0;
            monitoring.exceptions = 0;
        }
        self.vcpu.set_calls_exit(false);
        self.vcpu.catch_exceptions(0);
    }

    /// The space in which it runs.
    pub fn space(&self) -> &Space {
        let monitoring = self.monitoring.as_ref();
        let elsewhere = monitoring.and_then(|monitoring| monitoring.space());
        elsewhere.unwrap_or(&self.domain.space)
    }

    /// Reads what the monitor wants to be told of.
    pub(super) fn read_wishes(&mut self) {
        let Some(monitoring) = &mut self.monitoring else {
            return;
        };
        let page = StatePage::new(monitoring.monitor.page());
        monitoring.exits = page.exits() | monitoring.always();
        let calls_exit = monitoring.exits & ExitKind::Call.bit() != 0;
        let sees_exceptions = monitoring.exits & ExitKind::Exception.bit() != 0;
        monitoring.exceptions = match sees_exceptions {
            true => page.exceptions() as u32 & !NO_EXCEPTIONS,
            false => 0,
        };
        self.vcpu.set_calls_exit(calls_exit);
        self.vcpu.catch_exceptions(monitoring.exceptions);
    }

    /// Has the CPU use the tables of the space in which it is to run.
    fn enter_space(&mut self) {
        let (version, root) = {
            let space = self.space();
            (space.version(), space.root())
        };
        let (id, _) = version;
        let Some(monitoring) = &mut self.monitoring else {
            return;
        };
        if monitoring.loaded_space != id {
            monitoring.loaded_space = id;
            self.vcpu.set_nested_root(root);
        } else if self.seen_version != version {
            self.vcpu.flush_translations();
        }
        self.seen_version = version;
    }
}

/// What becomes of an exit that nobody answers.
fn unanswered(exit: VcpuExit) -> Flow {
    match exit {
        VcpuExit::Refused { .. } => Flow::End(StopReason::BadState, 0),
        // It happens once more, and then as without a monitor.
        _ => Flow::Continue,
    }
}

fn recalled(vcpu: &impl VirtualCpu) -> VcpuExit {
    VcpuExit::Recalled {
        instruction: vcpu.instruction_pointer(),
    }
}
