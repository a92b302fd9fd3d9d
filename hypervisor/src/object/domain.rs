//! Domains: who owns what.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use nuncio_abi::{Name, StopReason};
use spin::{Mutex, Once};

use crate::mem::Account;

use super::{HandleTable, Held, LineBuffer, Space, Wake};

/// The number of a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DomainId(pub u32);

/// A virtual machine.
pub struct Domain {
    /// Its number.
    pub id: DomainId,
    /// Its name in the manifest.
    pub name: Name,
    /// Pays for every frame that the domain causes.
    pub account: Arc<Account>,
    /// Where its vcpus run.
    pub space: Arc<Space>,
    /// What it holds.
    pub handles: Mutex<HandleTable>,
    /// The line that it has begun on its console.
    pub console: Mutex<LineBuffer>,
    /// What it has sent and received.
    pub traffic: Traffic,
    ending: Once<Ending>,
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
    pub fn new(id: DomainId, name: Name, account: Arc<Account>, space: Arc<Space>) -> Self {
        Domain {
            id,
            name,
            handles: Mutex::new(HandleTable::new(account.clone())),
            account,
            space,
            console: Mutex::new(LineBuffer::new()),
            traffic: Traffic::default(),
            ending: Once::new(),
        }
    }

    /// How it ended; `None` while it lives.
    pub fn ending(&self) -> Option<Ending> {
        self.ending.get().copied()
    }

    /// Ends the domain: gives up all it holds and tells who may have waited for it. Only the
    /// first ending counts. No vcpu of the domain may run again.
    pub fn end(&self, ending: Ending, wake: &mut dyn FnMut(Wake)) {
        if self.ending.is_completed() {
            return;
        }
        self.ending.call_once(|| ending);
        let handles: alloc::vec::Vec<_> = self.handles.lock().drain().collect();
        Held::close_all(handles, wake);
        self.space.clear();
    }
}

impl Traffic {
    /// Adds one to a count.
    #[inline]
    pub fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}
