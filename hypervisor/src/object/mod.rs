//! The objects that handles name, and the tables of handles.
//!
//! Pure: an object changes its own state and says who has to be woken; waking is the loop's.
//! Objects are shared between the domains that hold handles to them, and each locks only itself.
//!
//! Lock order: a domain's handle table, then a port, an event or a monitor, then what a vcpu waits for
//! ([`Sleeper`]), then a space, then the list of where a memory is mapped. Nothing is locked across a world
//! switch.
//!
//! Who is about to sleep says for what before anybody can see what wakes it: the other one may be on
//! another CPU.
//!
//! Guest memory is read and written by address only while its space is locked
//! ([`Space::with_page`]); pages that are shared with the hypervisor for good are held by their memory.
//!
//! Invariant: an object never names the domain that holds it strongly, so dropping a domain's
//! handles frees what only it used.

#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

mod buffer;
mod calls;
mod console;
mod domain;
mod event;
mod handles;
mod lending;
mod line;
mod memory;
mod monitor;
mod port;
mod ring;
mod space;
mod throttle;
mod timer;
mod vcpu;
mod vcpus;
mod waiting;

use alloc::sync::{Arc, Weak};

use nuncio_abi::{ObjectKind, Posted, Rights};

pub use buffer::{deliver, fits_registers, Buffer, Place};
pub use calls::CallingVcpu;
pub use console::LineBuffer;
pub use domain::{Domain, DomainId, Ended, Ending, Entry, Made, Traffic};
pub use event::{Event, Notified, Release};
pub use handles::{HandleTable, Held, MAX_DOMAIN_HANDLES};
pub use memory::Memory;
pub use monitor::{Monitor, Next, Order, Runner};
pub use port::{Delivery, Port, Queued, Refused, Sent, Taken};
pub use space::{Mapping, Space, MAX_REGIONS};
pub use throttle::Throttle;
pub use timer::Timer;
pub use vcpu::{Target, Vcpu};
pub use vcpus::VcpuNumber;
pub use waiting::{
    Arrival, Awaited, AwaitedAnswer, AwaitedMessage, AwaitedResume, AwaitedRoom, Found,
    PackedAnswer, Sleeper, Waiting,
};

use crate::sched::TimerId;
pub use crate::sched::{CpuIndex, VcpuId};

/// What a handle names.
#[derive(Clone)]
pub enum Object {
    /// A virtual machine.
    Domain(Weak<Domain>),
    /// A virtual CPU of a domain.
    Vcpu(Weak<Domain>, VcpuNumber),
    /// An address space.
    Space(Arc<Space>),
    /// Pages.
    Memory(Arc<Memory>),
    /// A queue of messages.
    Port(Arc<Port>),
    /// A word of bits.
    Event(Arc<Event>),
    /// A point in time.
    Timer(Arc<Timer>),
}

impl Object {
    /// Its kind.
    pub const fn kind(&self) -> ObjectKind {
        match self {
            Object::Domain(_) => ObjectKind::Domain,
            Object::Vcpu(..) => ObjectKind::Vcpu,
            Object::Space(_) => ObjectKind::Space,
            Object::Memory(_) => ObjectKind::Memory,
            Object::Port(_) => ObjectKind::Port,
            Object::Event(_) => ObjectKind::Event,
            Object::Timer(_) => ObjectKind::Timer,
        }
    }

    /// A handle with these rights has come into being.
    pub fn opened(&self, rights: Rights) {
        match self {
            Object::Port(port) if rights.contains(Rights::SEND) => port.sender_added(),
            Object::Timer(timer) => timer.handle_added(),
            _ => {}
        }
    }

    /// A handle with these rights is gone; `wake` is told who may have waited for its holder.
    pub fn closed(&self, rights: Rights, wake: &mut dyn FnMut(Wake)) {
        match self {
            Object::Port(port) => {
                if rights.contains(Rights::RECEIVE) {
                    port.receiver_gone(wake);
                }
                if rights.contains(Rights::SEND) {
                    port.sender_gone(wake);
                }
            }
            Object::Event(event) if rights.contains(Rights::WAIT) => {
                event.detach().into_iter().for_each(wake);
            }
            Object::Timer(timer) => timer.handle_gone().into_iter().for_each(wake),
            Object::Memory(memory) if rights.contains(Rights::REVOKE) => {
                memory.revoke(wake);
            }
            Object::Domain(domain) if rights.contains(Rights::BUILD) => {
                if let Some(domain) = domain.upgrade() {
                    wake(Wake::Orphaned(domain.id));
                }
            }
            _ => {}
        }
    }
}

/// What the loop has to attend to, mostly that a vcpu may have to run again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// What it is blocked on can go on.
    Blocked(VcpuId),
    /// One of its event words has become pending.
    Event(VcpuId),
    /// The same, which matters only if it sleeps.
    Quiet(VcpuId),
    /// Nobody holds the timer with this number any more, or nobody waits for the event that has it.
    TimerGone(TimerId),
    /// The event with this number holds bits back, perhaps for nothing.
    Held(TimerId),
    /// The maker of this domain has given it up.
    Orphaned(DomainId),
    /// The space with that number has lost memory or page tables: cached translations of it are wrong.
    /// They are forgotten on every CPU when the wake-up has taken effect.
    TranslationsChanged(u64),
}

impl Wake {
    /// Whom to wake after a posting to a vcpu.
    #[inline]
    const fn after(posted: Posted, vcpu: VcpuId) -> Option<Wake> {
        match posted {
            Posted::Announced => Some(Wake::Event(vcpu)),
            Posted::Quiet => Some(Wake::Quiet(vcpu)),
            Posted::Masked | Posted::Coalesced | Posted::Counted => None,
        }
    }
}
