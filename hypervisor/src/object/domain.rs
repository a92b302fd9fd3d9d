//! Domains: who owns what.

use alloc::format;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use nuncio_abi::{Error, Name, StopReason};
use spin::Once;

use crate::lock::{rank, Mutex};
use crate::mem::{Account, KernelCharge};
use crate::sched::{CpuIndex, VcpuId};

use super::{Event, HandleTable, Held, LineBuffer, Monitor, Space, Vcpu, Wake};

/// The number of a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DomainId(pub u32);

/// A virtual machine.
pub struct Domain {
    /// Its number.
    pub id: DomainId,
    /// Its name in the manifest.
    pub name: Name,
    /// The CPU of its vcpu: what happens to the domain as a whole happens there.
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
    vcpu: Mutex<VcpuPlace, rank::VcpuPlace>,
    monitor: Once<Arc<Monitor>>,
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

/// The vcpu of a domain.
#[derive(Default)]
enum VcpuPlace {
    /// Not made yet.
    #[default]
    None,
    /// Made and not started.
    Waiting(Vcpu),
    /// In the loop, with this number.
    Started(VcpuId),
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
    /// Where its vcpu was.
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
            vcpu: Mutex::default(),
            monitor: Once::new(),
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

    /// Whether it has no vcpu yet.
    pub fn lacks_vcpu(&self) -> bool {
        matches!(*self.vcpu.lock(), VcpuPlace::None)
    }

    /// Gives it the vcpu that `make` makes, which has not started.
    ///
    /// # Errors
    /// `WrongState` if it has one, or has ended; then none is made. And what `make` returns.
    pub fn add_vcpu(&self, make: impl FnOnce() -> Result<Vcpu, Error>) -> Result<(), Error> {
        let mut place = self.vcpu.lock();
        if self.ending.is_completed() || !matches!(*place, VcpuPlace::None) {
            return Err(Error::WrongState);
        }
        let vcpu = make()?;
        if let Some(monitor) = vcpu.monitor() {
            self.monitor.call_once(|| {
                monitor.open();
                monitor.clone()
            });
        }
        *place = VcpuPlace::Waiting(vcpu);
        Ok(())
    }

    /// Takes the vcpu that has not started, to start it.
    ///
    /// # Errors
    /// `PeerGone` if the domain has ended; `WrongState` if there is no such vcpu.
    pub fn take_vcpu(&self) -> Result<Vcpu, Error> {
        let mut place = self.vcpu.lock();
        if self.ending.is_completed() {
            return Err(Error::PeerGone);
        }
        match core::mem::take(&mut *place) {
            VcpuPlace::Waiting(vcpu) => {
                *place = VcpuPlace::Started(vcpu.id());
                Ok(vcpu)
            }
            other => {
                *place = other;
                Err(Error::WrongState)
            }
        }
    }

    /// The vcpu that was taken could not be started.
    pub fn put_vcpu_back(&self, vcpu: Vcpu) {
        let mut place = self.vcpu.lock();
        if !self.ending.is_completed() {
            *place = VcpuPlace::Waiting(vcpu);
        }
    }

    /// Its vcpu is in the loop.
    pub fn started(&self, id: VcpuId) {
        *self.vcpu.lock() = VcpuPlace::Started(id);
    }

    /// The number of its vcpu, started or not.
    pub fn vcpu_id(&self) -> Option<VcpuId> {
        match &*self.vcpu.lock() {
            VcpuPlace::None => None,
            VcpuPlace::Waiting(vcpu) => Some(vcpu.id()),
            VcpuPlace::Started(id) => Some(*id),
        }
    }

    /// Who is told of the exits of its vcpu.
    pub fn monitor(&self) -> Option<&Arc<Monitor>> {
        self.monitor.get()
    }

    /// How it ended; `None` while it lives.
    pub fn ending(&self) -> Option<Ending> {
        self.ending.get().copied()
    }

    /// Ends the domain: gives up all it holds and tells who may have waited for it. Only the
    /// first ending counts. No vcpu of the domain may run again.
    pub fn end(&self, ending: Ending, wake: &mut dyn FnMut(Wake)) {
        let Some(vcpu) = self.mark_ended(ending) else {
            return;
        };
        // Whoever gives it a handle looks whether it has ended while its table is locked: either this
        // finds that handle, or it is refused.
        let handles: alloc::vec::Vec<_> = self.handles.lock().drain().collect();
        Held::close_all(handles, wake);
        // Only now: events and ports have announced themselves in the vcpu's page.
        drop(vcpu);
        if let Some(monitor) = self.monitor.get() {
            monitor.end(wake);
        }
        self.space.clear(wake);
        let watcher = self.made.as_ref().and_then(|made| made.watcher.as_ref());
        if let Some(news) = watcher.and_then(|(event, bits)| event.announce(*bits).ok()) {
            news.into_iter().for_each(wake);
        }
    }
}

impl Domain {
    /// From here on it has ended, and gets no vcpu. Returns the one that it had; `None` if it had ended
    /// before.
    fn mark_ended(&self, ending: Ending) -> Option<VcpuPlace> {
        let mut place = self.vcpu.lock();
        if self.ending.is_completed() {
            return None;
        }
        self.ending.call_once(|| ending);
        Some(core::mem::take(&mut *place))
    }
}

impl Traffic {
    /// Adds one to a count.
    #[inline]
    pub fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}
