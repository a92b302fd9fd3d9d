//! Vcpus: those with which the domain began, and those of domains that it has made.

use nuncio_abi::{BudgetChange, Call, Error, Resume, VcpuExit};

use super::{Machine, Object, Space, Start};

/// A virtual CPU.
pub struct Vcpu<'m, M> {
    object: Object<'m, M>,
}

impl<'m, M: Machine> Vcpu<'m, M> {
    pub(super) const fn new(object: Object<'m, M>) -> Self {
        Vcpu { object }
    }

    /// Its handle.
    pub const fn object(&self) -> &Object<'m, M> {
        &self.object
    }

    /// Lets it run; one that has a state page and no port waits for [`Vcpu::run`].
    ///
    /// # Errors
    /// `WrongState` if it runs already; `QuotaExhausted` if its domain cannot pay for it.
    pub fn start(&self, start: Start) -> Result<(), Error> {
        let call = Call::Start {
            vcpu: self.object.handle(),
            entry: start.entry,
            stack: start.stack,
            argument: start.argument,
            page_table: start.page_table,
        };
        self.object.invoke(call).map(drop)
    }

    /// Runs it until it exits, in that space or in that of its domain.
    ///
    /// # Errors
    /// `WrongState` if it cannot be run so; `BadArgument` if there is no instruction to complete;
    /// `Interrupted` if an event is pending; `PeerGone` if its domain has ended.
    pub fn run(&self, space: Option<&Space<'m, M>>, resume: Resume) -> Result<VcpuExit, Error> {
        let [first, second, third, ..] = self.object.invoke(Call::Run {
            vcpu: self.object.handle(),
            space: space.map(|space| space.object().handle()),
            resume,
        })?;
        VcpuExit::from_words([first, second, third]).ok_or(Error::BadArgument)
    }

    /// Sets its priority, and what becomes of its budget.
    ///
    /// # Errors
    /// `BadArgument` for a higher priority than the caller may give; `WrongState` if it uses its maker's
    /// budget; `PeerGone` if its domain has ended.
    pub fn schedule(&self, priority: Option<u8>, budget: BudgetChange) -> Result<(), Error> {
        self.schedule_on(None, priority, budget)
    }

    /// Has it run on the CPU with this number, from its next start on.
    ///
    /// # Errors
    /// `WrongState` if it runs; `BadArgument` if there is no such CPU; `PeerGone` if its domain has ended.
    pub fn move_to(&self, cpu: u8) -> Result<(), Error> {
        self.schedule_on(Some(cpu), None, BudgetChange::Keep)
    }

    fn schedule_on(
        &self,
        cpu: Option<u8>,
        priority: Option<u8>,
        budget: BudgetChange,
    ) -> Result<(), Error> {
        let call = Call::Schedule {
            vcpu: self.object.handle(),
            priority,
            budget,
            cpu,
        };
        self.object.invoke(call).map(drop)
    }

    /// Takes it from its CPU until it is started again; one that has a monitor exits where it is instead.
    ///
    /// # Errors
    /// `WrongState` if it does not run; `QueueFull` if its monitor's port has no room; `PeerGone`.
    pub fn stop(&self) -> Result<(), Error> {
        let object = self.object.handle();
        self.object.invoke(Call::Stop { object, code: 0 }).map(drop)
    }
}
