//! The plan of a run: which domains there are, and what each is given.
//!
//! The plan comes as text from outside; [`Plan::parse`] is the only way to get one, so whoever
//! holds a [`Plan`] can rely on every rule of the format. Nothing here builds anything.
//!
//! Invariant: indices in a plan are in range, names are unique where they must be, every port that
//! is given to anybody has one receiver, and every event that is given to anybody has one waiter.

#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

mod builder;
mod fault;
mod line;
mod outline;
mod parse;

use alloc::string::String;
use alloc::vec::Vec;

use nuncio_abi::{Budget, Name, Rights, MAX_HANDLES, PAGE_BYTES};

pub use fault::{Fault, FieldProblem, Limit, PlanError};
pub use outline::Outline;

/// The name of the boot module that holds the plan.
pub const MODULE_NAME: &str = "nuncio-plan";
/// Bytes in the text of a plan.
pub const MAX_PLAN_BYTES: usize = 1 << 20;
/// Domains in a plan.
pub const MAX_DOMAINS: usize = 512;
/// Ports in a plan; as many memories and as many events.
pub const MAX_OBJECTS: usize = 512;
/// Objects that a domain can be given: its first handles but the six that every domain has, and
/// one that is kept in reserve.
pub const MAX_GRANTS: usize = MAX_HANDLES - 7;
/// Messages that a port can hold.
pub const MAX_PORT_CAPACITY: usize = 256;
/// CPUs that can be named: 0 to one less.
pub const MAX_CPUS: u64 = 256;
/// Bytes in a domain's memory or a shared memory: 1 TiB.
pub const MAX_MEMORY_BYTES: u64 = 1 << 40;

/// What a domain may take of the hypervisor's own memory if the plan does not say otherwise, in bytes.
pub const DEFAULT_KERNEL_BYTES: u64 = 256 << 10;
/// The least of it that a plan can say: less is not enough for a domain's first handles.
pub const MIN_KERNEL_BYTES: u64 = 16 << 10;
/// The most.
pub const MAX_KERNEL_BYTES: u64 = 64 << 20;

/// Names of the handles that every domain has.
pub const RESERVED_NAMES: [&str; 6] = [
    "domain",
    "vcpu",
    "space",
    "console",
    "time-page",
    "text-page",
];

/// All of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// After how many milliseconds the hypervisor ends the run.
    pub limit_ms: Option<u64>,
    /// The domains, at least one.
    pub domains: Vec<DomainPlan>,
    /// The ports.
    pub ports: Vec<PortPlan>,
    /// The memories that are shared.
    pub memories: Vec<MemoryPlan>,
    /// The events.
    pub events: Vec<EventPlan>,
    /// Who is given what: at most one grant for each pair of a domain and an object.
    pub grants: Vec<Grant>,
}

impl Plan {
    /// Frames of all memory that the plan gives to domains, but for modules.
    pub fn memory_frames(&self) -> u64 {
        let domains = self.domains.iter().map(|domain| domain.memory_bytes);
        let memories = self.memories.iter().map(|memory| memory.bytes);
        let bytes = domains.chain(memories).fold(0, u64::saturating_add);
        bytes / PAGE_BYTES
    }
}

/// A domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainPlan {
    /// Its name.
    pub name: Name,
    /// The name of the boot module that is its image.
    pub image: Name,
    /// Its RAM in bytes, a multiple of the page size.
    pub memory_bytes: u64,
    /// How many vcpus it has: 1 to [`nuncio_abi::MAX_VCPUS`].
    pub vcpus: u32,
    /// The CPUs on which its vcpus run, in turn; any if there is none.
    pub cpus: Vec<u8>,
    /// How its vcpus are scheduled.
    pub schedule: SchedulePlan,
    /// What it may take of the hypervisor's own memory, in bytes, if the plan says so.
    pub kernel_bytes: Option<u64>,
    /// Whether the run may end while it is running.
    pub background: bool,
    /// Printable ASCII, shorter than [`nuncio_abi::COMMAND_LINE_BYTES`].
    pub command_line: String,
    /// Its modules, at most [`nuncio_abi::MAX_MODULES`].
    pub modules: Vec<ModulePlan>,
}

/// How a vcpu is scheduled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SchedulePlan {
    /// Its priority, up to [`nuncio_abi::MAX_PRIORITY`].
    pub priority: u8,
    /// Its budget, if it has one.
    pub budget: Option<Budget>,
}

impl Default for SchedulePlan {
    fn default() -> Self {
        SchedulePlan {
            priority: nuncio_abi::DEFAULT_PRIORITY,
            budget: None,
        }
    }
}

/// A boot module that a domain can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModulePlan {
    /// The name under which the domain sees it.
    pub name: Name,
    /// The name under which the boot loader knows it.
    pub boot_module: Name,
}

/// A port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortPlan {
    /// Its name.
    pub name: Name,
    /// How many messages it can hold.
    pub capacity: usize,
}

/// A memory that domains share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryPlan {
    /// Its name.
    pub name: Name,
    /// Its size in bytes, a multiple of the page size.
    pub bytes: u64,
}

/// An event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventPlan {
    /// Its name.
    pub name: Name,
}

/// What a domain may do with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Index of the domain.
    pub domain: usize,
    /// The object.
    pub object: GrantedObject,
    /// All that it may do.
    pub rights: Rights,
}

/// An object of a plan, by its index in the list of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantedObject {
    /// A port.
    Port(usize),
    /// A shared memory.
    Memory(usize),
    /// An event.
    Event(usize),
}

#[cfg(test)]
mod tests;
