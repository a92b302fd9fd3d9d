//! Who is told of the exits of a vcpu: a port, or whoever runs it.
//!
//! With a port, an exit is a call that the vcpu makes there. Without one the vcpu stands still until
//! somebody runs it, and its exit goes back to that runner, who sleeps meanwhile.

use alloc::sync::Arc;

use nuncio_abi::{Error, ExitKind, Message, Resume, ResumeAction, VcpuExit};
use spin::Once;

use crate::lock::{rank, Mutex};
use crate::mem::{OutOfFrames, PhysicalMemory, Words};
use crate::sched::VcpuId;

use super::waiting::{Sleeper, Waiting};
use super::{Held, Memory, Object, Space, Wake};

/// The monitor of one vcpu.
pub struct Monitor {
    page: &'static Words,
    _memory: Arc<Memory>,
    /// A handle to the port, which counts as held until the domain ends.
    port: Option<Held>,
    vcpu: Once<VcpuId>,
    run: Mutex<Run, rank::Monitor>,
}

/// Where a vcpu without a port is between two exits.
enum Run {
    /// It has not been started.
    Unstarted,
    /// It stands still after an exit of that kind, or has not run yet.
    Stopped(ExitKind),
    /// Somebody runs it; what it goes on with, until it has.
    Running {
        runner: Runner,
        order: Option<Order>,
    },
    /// It never runs again.
    Ended,
}

/// Who runs a vcpu.
pub struct Runner {
    /// The vcpu to wake.
    pub vcpu: VcpuId,
    /// Where the exit is left.
    pub sleeper: Arc<Sleeper>,
}

/// How a runner lets a vcpu go on.
pub struct Order {
    /// What becomes of the instruction at which it stopped, and what arrives.
    pub resume: Resume,
    /// Where it runs; in the space of its domain if there is none.
    pub space: Option<Arc<Space>>,
}

/// What a vcpu without a port is to do.
pub enum Next {
    /// Nobody runs it.
    Stand,
    /// It goes on, as it is ordered if it has just been run.
    Go(Option<Order>),
}

impl Monitor {
    /// A monitor whose state page is the first page of `memory`. `port` does not count as held yet.
    ///
    /// # Errors
    /// If that is no guest memory.
    pub fn new(
        memory: Arc<Memory>,
        port: Option<Held>,
        physical: &'static dyn PhysicalMemory,
    ) -> Result<Self, OutOfFrames> {
        let page = memory.first_page(physical)?;
        Ok(Monitor {
            page,
            _memory: memory,
            port,
            vcpu: Once::new(),
            run: Mutex::new(Run::Unstarted),
        })
    }

    /// The port counts as held until [`Monitor::end`].
    pub fn open(&self) {
        if let Some(port) = &self.port {
            port.object.opened(port.rights);
        }
    }

    /// The state page.
    pub const fn page(&self) -> &'static Words {
        self.page
    }

    /// The port that is told, if there is one.
    pub const fn port(&self) -> Option<&Held> {
        self.port.as_ref()
    }

    /// Whether the vcpu has been started.
    pub fn is_started(&self) -> bool {
        matches!(*self.run.lock(), Run::Stopped(_) | Run::Running { .. })
    }

    /// Whether an exit could be told of. Without a port, always.
    pub fn has_room(&self) -> bool {
        match &self.port {
            Some(Held {
                object: Object::Port(port),
                ..
            }) => port.takes_calls(),
            _ => true,
        }
    }

    /// The vcpu has been started, and has that number: it can be run.
    pub fn started(&self, id: VcpuId) {
        self.vcpu.call_once(|| id);
        let mut run = self.run.lock();
        // It may have ended while it was started.
        if matches!(*run, Run::Unstarted) {
            *run = Run::Stopped(ExitKind::Recalled);
        }
    }

    /// The vcpu, once it has been started.
    pub fn vcpu(&self) -> Option<VcpuId> {
        self.vcpu.get().copied()
    }

    /// Lets the vcpu go on, until it exits, and has its runner sleep for that. Returns the vcpu.
    ///
    /// # Errors
    /// `PeerGone` if the vcpu never runs again; `WrongState` if it has a port, has not been started or is being run; `BadArgument` if there
    /// is no instruction that could be complete; `Interrupted` if all that is well and the runner has
    /// something else to do.
    pub fn run(
        self: &Arc<Self>,
        runner: Runner,
        order: Order,
        is_interrupted: bool,
    ) -> Result<VcpuId, Error> {
        let mut run = self.run.lock();
        let kind = match *run {
            Run::Stopped(kind) => kind,
            Run::Ended => return Err(Error::PeerGone),
            Run::Unstarted | Run::Running { .. } => return Err(Error::WrongState),
        };
        let vcpu = self.vcpu().filter(|_| self.port.is_none());
        let vcpu = vcpu.ok_or(Error::WrongState)?;
        if !can_follow(order.resume, kind) {
            return Err(Error::BadArgument);
        }
        if is_interrupted {
            return Err(Error::Interrupted);
        }
        // Before the vcpu can run: its exit is left only to a runner that sleeps.
        runner.sleeper.wait_for(Waiting::Run(self.clone()));
        *run = Run::Running {
            runner,
            order: Some(order),
        };
        Ok(vcpu)
    }

    /// Who runs the vcpu.
    pub fn runner(&self) -> Option<VcpuId> {
        match &*self.run.lock() {
            Run::Running { runner, .. } => Some(runner.vcpu),
            _ => None,
        }
    }

    /// Whether the vcpu, which has no port, may run.
    pub fn next(&self) -> Next {
        match &mut *self.run.lock() {
            Run::Running { order, .. } => Next::Go(order.take()),
            _ => Next::Stand,
        }
    }

    /// The vcpu has exited. Returns its runner, who has to be told.
    pub fn exited(&self, exit: VcpuExit) -> Option<Wake> {
        let mut run = self.run.lock();
        let Run::Running { runner, .. } = &*run else {
            return None;
        };
        let wake = Wake::Blocked(runner.vcpu);
        runner.sleeper.exit(self, exit);
        *run = Run::Stopped(exit.kind());
        Some(wake)
    }

    /// That runner does not wait any more; the vcpu stands still where it is, unless somebody else
    /// runs it already.
    pub fn given_up(&self, sleeper: &Sleeper) {
        let mut run = self.run.lock();
        let is_runner = |runner: &Runner| core::ptr::eq(&raw const *runner.sleeper, sleeper);
        if matches!(&*run, Run::Running { runner, .. } if is_runner(runner)) {
            *run = Run::Stopped(ExitKind::Recalled);
        }
    }

    /// The vcpu never runs again.
    pub fn end(&self, wake: &mut dyn FnMut(Wake)) {
        let before = core::mem::replace(&mut *self.run.lock(), Run::Ended);
        if let Run::Running { runner, .. } = before {
            runner.sleeper.runs_nothing(self);
            wake(Wake::Blocked(runner.vcpu));
        }
        if let Some(port) = &self.port {
            port.object.closed(port.rights, wake);
        }
    }
}

/// Whether a vcpu can go on so after an exit of that kind.
fn can_follow(resume: Resume, kind: ExitKind) -> bool {
    resume.action() == ResumeAction::Go || kind.has_instruction()
}

/// How a vcpu goes on after an exit of that kind: one to three words.
///
/// # Errors
/// `BadArgument`.
pub(super) fn answer_to_exit(message: &Message, kind: ExitKind) -> Result<Resume, Error> {
    let [first, second, third, ..] = message.words;
    if !matches!(message.length, 8 | 16 | 24) {
        return Err(Error::BadArgument);
    }
    let resume = Resume::from_words([first, second, third])?;
    can_follow(resume, kind)
        .then_some(resume)
        .ok_or(Error::BadArgument)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::arena::Arena;
    use crate::mem::Account;
    use crate::object::{Arrival, Waiting};

    const HALTED: VcpuExit = VcpuExit::Halt {
        interrupts_enabled: true,
        instruction: 0x1000,
    };

    fn monitor() -> Arc<Monitor> {
        let arena = Arena::leak(4, 4);
        let account = Account::new(arena.pool(), 4);
        let memory = Arc::new(Memory::allocate(&account, 1).unwrap());
        Arc::new(Monitor::new(memory, None, arena).unwrap())
    }

    /// A runner that sleeps in `run`.
    fn run(monitor: &Arc<Monitor>, number: u32, resume: Resume) -> Result<Arc<Sleeper>, Error> {
        let sleeper = Arc::new(Sleeper::default());
        let runner = Runner {
            vcpu: VcpuId(number),
            sleeper: sleeper.clone(),
        };
        let space = None;
        monitor.run(runner, Order { resume, space }, false)?;
        Ok(sleeper)
    }

    #[test]
    fn a_vcpu_goes_on_only_for_its_runner() {
        let monitor = monitor();
        let error = |resume| run(&monitor, 1, resume).err();
        assert_eq!(error(Resume::GO), Some(Error::WrongState));
        monitor.started(VcpuId(7));
        assert!(matches!(monitor.next(), Next::Stand));
        assert_eq!(error(Resume::complete(0)), Some(Error::BadArgument));
        let sleeper = run(&monitor, 1, Resume::GO).unwrap();
        assert_eq!(
            error(Resume::GO),
            Some(Error::WrongState),
            "it is being run"
        );
        assert!(matches!(monitor.next(), Next::Go(Some(_))));
        assert!(matches!(monitor.next(), Next::Go(None)), "told once");
        assert_eq!(monitor.exited(HALTED), Some(Wake::Blocked(VcpuId(1))));
        assert!(matches!(monitor.next(), Next::Stand));
        let [first, second, third] = HALTED.to_words();
        let Some(Arrival::Exit(values)) = sleeper.take_arrival() else {
            panic!("no exit")
        };
        assert_eq!(values, [first, second, third, 0, 0]);
        assert!(run(&monitor, 2, Resume::complete(0)).is_ok());
    }

    #[test]
    fn it_stands_still_when_its_runner_has_gone() {
        let monitor = monitor();
        monitor.started(VcpuId(7));
        let sleeper = run(&monitor, 1, Resume::GO).unwrap();
        sleeper.abandon(&mut |_| {});
        assert!(matches!(monitor.next(), Next::Stand));
        assert_eq!(monitor.exited(HALTED), None);
        assert!(run(&monitor, 2, Resume::GO).is_ok());
    }

    #[test]
    fn the_runner_learns_that_the_vcpu_has_ended() {
        let monitor = monitor();
        monitor.started(VcpuId(7));
        let sleeper = run(&monitor, 1, Resume::GO).unwrap();
        let mut woken = std::vec::Vec::new();
        monitor.end(&mut |wake| woken.push(wake));
        assert_eq!(woken, [Wake::Blocked(VcpuId(1))]);
        assert!(matches!(sleeper.take(), Waiting::Ended));
    }

    #[test]
    fn who_gives_up_late_stops_nobody_else() {
        let monitor = monitor();
        monitor.started(VcpuId(7));
        let first = run(&monitor, 1, Resume::GO).unwrap();
        // The first runner dies on one CPU: it has taken what it waits for, and not told the monitor.
        // Meanwhile the vcpu exits on another one, and the next runner comes.
        assert!(matches!(first.take(), Waiting::Run(_)));
        assert!(monitor.exited(HALTED).is_some());
        let second = run(&monitor, 2, Resume::GO).unwrap();
        monitor.given_up(&first);
        assert!(matches!(monitor.next(), Next::Go(Some(_))));
        assert!(monitor.exited(HALTED).is_some());
        assert!(matches!(second.take_arrival(), Some(Arrival::Exit(_))));
    }

    #[test]
    fn a_vcpu_that_has_ended_while_it_was_started_cannot_be_run() {
        let monitor = monitor();
        monitor.end(&mut |_| {});
        monitor.started(VcpuId(7));
        assert!(!monitor.is_started());
        let refused = run(&monitor, 1, Resume::GO).err();
        assert_eq!(refused, Some(Error::PeerGone));
    }

    #[test]
    fn an_exit_is_left_only_to_whoever_runs_the_vcpu() {
        let [first, second] = [7, 8].map(|number| {
            let monitor = monitor();
            monitor.started(VcpuId(number));
            monitor
        });
        let sleeper = run(&first, 1, Resume::GO).unwrap();
        // It does not wait for the first any more, which has not been told.
        sleeper.take();
        sleeper.wait_for(Waiting::Run(second));
        first.exited(HALTED);
        first.end(&mut |_| {});
        assert!(matches!(sleeper.take(), Waiting::Run(_)));
    }
}
