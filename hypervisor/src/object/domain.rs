//! Domains: who owns what.

use alloc::format;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use nuncio_abi::{Error, Name, StopReason};
use spin::Once;

use crate::lock::{rank, Mutex};
use crate::mem::{Account, KernelCharge};
use crate::sched::{CpuIndex, VcpuId};

use super::vcpus::Vcpus;
use super::{
    Event, HandleTable, Held, LineBuffer, Monitor, Sleeper, Space, Vcpu, VcpuNumber, Wake,
};

/// The number of a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DomainId(pub u32);

/// A virtual machine.
pub struct Domain {
    /// Its number.
    pub id: DomainId,
    /// Its name in the manifest.
    pub name: Name,
    /// The CPU on which it was made.
    pub cpu: CpuIndex,
    /// Pays for every frame that the domain causes.
    pub account: Arc<Account>,
    /// Where its vcpus run.
    pub space: Arc<Space>,
    /// What it holds.
    pub handles: Mutex<HandleTable, rank::HandleTable>,
    /// The line that it has begun on its console.
    pub console: Mutex<LineBuffer, rank::Console>,
    /// What it has sent and received.
    pub traffic: Traffic,
    vcpus: Mutex<Vcpus, rank::Vcpus>,
    ending: Once<Ending>,
    made: Option<Made>,
}

/// Where a vcpu begins, as guest-physical addresses.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The first instruction.
    pub instruction: u64,
    /// The stack pointer.
    pub stack: u64,
    /// The first argument.
    pub argument: u64,
    /// The first page tables.
    pub page_table: u64,
}

/// Characters of a maker's name in that of what it makes; behind them is room for any number.
const MOST_OF_MAKERS_NAME: usize = 20;

/// What a domain has that another one has made.
pub struct Made {
    /// The event, and its bits, that is told when it stops.
    pub watcher: Option<(Arc<Event>, u64)>,
    /// Pays for it.
    pub charge: KernelCharge,
}

/// Counts of what went through ports and events, from this domain's side.
#[derive(Default)]
pub struct Traffic {
    /// Messages sent.
    pub sent: AtomicU64,
    /// Messages received.
    pub received: AtomicU64,
    /// Notifications made.
    pub notified: AtomicU64,
    /// Those of them that were coalesced with earlier ones.
    pub coalesced: AtomicU64,
}

/// How a domain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Why.
    pub reason: StopReason,
    /// What goes with the reason.
    pub detail: u64,
    /// Where the vcpu was that ended it; 0 if it was none of its own.
    pub instruction_pointer: u64,
}

impl Domain {
    /// A domain without handles.
    pub fn new(
        id: DomainId,
        name: Name,
        cpu: CpuIndex,
        account: Arc<Account>,
        space: Arc<Space>,
    ) -> Self {
        Self::with(id, name, cpu, account, space, None)
    }

    /// A domain that another one makes.
    pub fn made(
        id: DomainId,
        name: Name,
        cpu: CpuIndex,
        account: Arc<Account>,
        space: Arc<Space>,
        made: Made,
    ) -> Self {
        Self::with(id, name, cpu, account, space, Some(made))
    }

    fn with(
        id: DomainId,
        name: Name,
        cpu: CpuIndex,
        account: Arc<Account>,
        space: Arc<Space>,
        made: Option<Made>,
    ) -> Self {
        Domain {
            id,
            name,
            cpu,
            handles: Mutex::new(HandleTable::new(account.clone())),
            account,
            space,
            console: Mutex::new(LineBuffer::new()),
            traffic: Traffic::default(),
            vcpus: Mutex::default(),
            ending: Once::new(),
            made,
        }
    }

    /// The name of a domain that this one makes: its own, cut off if need be, and a number.
    pub fn name_of_next(&self, id: DomainId) -> Name {
        let own = self.name.as_str();
        let own = own.get(..MOST_OF_MAKERS_NAME).unwrap_or(own);
        Name::new(&format!("{own}.{}", id.0)).unwrap_or(self.name)
    }

    /// Whether another domain has made it.
    pub const fn is_made(&self) -> bool {
        self.made.is_some()
    }

    /// Whether it can get another vcpu.
    pub fn has_room_for_vcpu(&self) -> bool {
        self.vcpus.lock().have_room()
    }

    /// Gives it the vcpu that `make` makes, which does not run.
    ///
    /// # Errors
    /// `WrongState` if it has as many as it can, or has ended; then none is made. And what `make`
    /// returns.
    pub fn add_vcpu(
        &self,
        make: impl FnOnce() -> Result<Vcpu, Error>,
    ) -> Result<VcpuNumber, Error> {
        let mut vcpus = self.vcpus.lock();
        if !vcpus.have_room() {
            return Err(Error::WrongState);
        }
        let vcpu = make()?;
        if let Some(monitor) = vcpu.monitor() {
            monitor.open();
        }
        Ok(vcpus.add(vcpu))
    }

    /// Takes a vcpu that does not run, to have it run.
    ///
    /// # Errors
    /// `PeerGone` if the domain has ended; `WrongState` if the vcpu runs.
    pub fn take_vcpu(&self, number: VcpuNumber) -> Result<Vcpu, Error> {
        self.vcpus.lock().take(number)
    }

    /// Gives back a vcpu that was taken: it could not be started, was stopped, or its domain has ended.
    /// Whether no vcpu of a domain that has ended can run any more: then the caller, and nobody else,
    /// closes it ([`Domain::close`]).
    #[must_use]
    pub fn give_vcpu_back(&self, vcpu: Vcpu) -> bool {
        self.vcpus.lock().give_back(vcpu)
    }

    /// The number by which the loops know a vcpu, and whether it has been started.
    pub fn vcpu(&self, number: VcpuNumber) -> Option<(VcpuId, bool)> {
        self.vcpus.lock().place(number)
    }

    /// The numbers of its vcpus.
    pub fn vcpu_ids(&self) -> alloc::vec::Vec<VcpuId> {
        self.vcpus.lock().ids()
    }

    /// The numbers of those vcpus that were taken and not given back.
    pub fn taken_vcpus(&self) -> alloc::vec::Vec<VcpuId> {
        self.vcpus.lock().taken()
    }

    /// Who is told of the exits of a vcpu.
    pub fn monitor(&self, number: VcpuNumber) -> Option<Arc<Monitor>> {
        self.vcpus.lock().monitor(number)
    }

    /// How it ended; `None` while it lives.
    pub fn ending(&self) -> Option<Ending> {
        self.ending.get().copied()
    }

    /// From here on it has ended, and no vcpu of it is started; only the first ending counts. Those that
    /// run have to be taken from their CPUs.
    pub fn end(&self, ending: Ending) -> Ended {
        let mut vcpus = self.vcpus.lock();
        if self.ending.is_completed() {
            return Ended::Before;
        }
        self.ending.call_once(|| ending);
        if vcpus.end() {
            Ended::Now
        } else {
            Ended::WhenVcpusStop
        }
    }

    /// Has a vcpu that sleeps wait until the domain is closed. False if it is, and the vcpu does not have
    /// to wait.
    pub fn await_close(&self, vcpu: VcpuId, sleeper: &Arc<Sleeper>) -> bool {
        self.vcpus.lock().await_close(vcpu, sleeper)
    }

    /// Gives up all that it holds and tells who may have waited for it. It has ended, and none of its
    /// vcpus can run any more. Returns their numbers, which nobody uses after that.
    pub fn close(&self, wake: &mut dyn FnMut(Wake)) -> alloc::vec::Vec<VcpuId> {
        let ids = self.vcpu_ids();
        // Whoever gives it a handle looks whether it has ended while its table is locked: either this
        // finds that handle, or it is refused.
        let handles: alloc::vec::Vec<_> = self.handles.lock().drain().collect();
        Held::close_all(handles, wake);
        // Only now: events and ports have announced themselves in the vcpus' pages.
        let vcpus = self.vcpus.lock().drain();
        for (vcpu, monitor) in vcpus {
            drop(vcpu);
            if let Some(monitor) = monitor {
                monitor.end(wake);
            }
        }
        self.space.clear(wake);
        let watcher = self.made.as_ref().and_then(|made| made.watcher.as_ref());
        if let Some(news) = watcher.and_then(|(event, bits)| event.announce(*bits).ok()) {
            news.into_iter().for_each(&mut *wake);
        }
        let waiting = self.vcpus.lock().close();
        for (vcpu, sleeper) in waiting {
            if sleeper.settle(Ok(())) {
                wake(Wake::Blocked(vcpu));
            }
        }
        ids
    }
}

/// What became of a domain that was to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Ended {
    /// It had ended before.
    Before,
    /// None of its vcpus runs: it is for the caller to close it.
    Now,
    /// It is for whoever gives back the last vcpu to close it.
    WhenVcpusStop,
}

impl Traffic {
    /// Adds one to a count.
    #[inline]
    pub fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}
