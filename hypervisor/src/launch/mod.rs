//! From a plan to domains that are ready to run.
//!
//! First every domain gets its account, space, RAM and vcpu; then ports and events are made at
//! their receivers' pages; then everybody gets handles and a boot-info page. All of it is pure
//! but for the vendor's vcpu, so whole runs are tested on the host with a fake one.

#![forbid(unsafe_code)]

mod draft;
mod error;
mod first_tables;
mod layout;
mod ram;
mod vcpus;
mod wires;

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use nuncio_abi::CLOCK_ENTRY_OFFSET;

use crate::mem::{Account, FramePool, HostPhysical, OutOfFrames, PhysicalMemory};
use crate::nested::Run;
use crate::object::Memory;
use crate::plan::Plan;
use crate::run::{Platform, Runner};
use crate::vt::Vendor;

pub use error::LaunchError;

use draft::Draft;
use wires::Wires;

/// What launching needs of the machine.
pub struct Machine {
    /// Its memory.
    pub physical: &'static dyn PhysicalMemory,
    /// Its free frames.
    pub pool: Arc<FramePool>,
    /// Pays for what belongs to no domain: shared memory, the time page, the text page.
    pub account: Arc<Account>,
    /// What the boot loader has loaded.
    pub modules: Vec<LoadedModule>,
    /// The time page, already filled in.
    pub time_page: Arc<Memory>,
    /// The code that reads it, for the text page.
    pub clock_entry: &'static [u8],
    /// The first guest-physical address that cannot be mapped.
    pub address_limit: u64,
}

/// A file in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedModule {
    /// Its name in the plan.
    pub name: String,
    /// Address of its first byte, on a page boundary if it is not empty.
    pub start: HostPhysical,
    /// Length in bytes; may be 0.
    pub length: u64,
}

/// Makes the domains of a plan and adds them to the loop.
///
/// # Errors
/// Names the domain and what is wrong with its image, modules or memory.
pub fn launch<V: Vendor, P: Platform>(
    runner: &mut Runner<V, P>,
    machine: &Machine,
    plan: &Plan,
) -> Result<(), LaunchError> {
    let mut pages = SharedPages::new::<V>(machine)?;
    let mut drafts = Vec::new();
    let mut vcpus = 0usize;
    for (index, domain) in plan.domains.iter().enumerate() {
        let draft = Draft::new(runner, machine, &mut pages, domain, index, vcpus)
            .map_err(|fault| fault.of(&domain.name))?;
        drafts.push(draft);
        vcpus = vcpus.saturating_add(domain.vcpus as usize);
    }
    Wires::make(machine, plan, &mut drafts)?.connect(plan, &mut drafts)?;
    for draft in drafts {
        let name = draft.domain.name;
        draft
            .finish(runner, machine)
            .map_err(|fault| fault.of(&name))?;
    }
    match runner.settle() {
        Ok(()) => Ok(()),
        Err((name, error)) => Err(error::Fault::from(error).of(&name)),
    }
}

/// Pages that several domains see.
struct SharedPages {
    time: Arc<Memory>,
    text: Arc<Memory>,
    /// Modules of the boot loader that a domain has been given.
    modules: BTreeMap<usize, Arc<Memory>>,
}

/// RET, behind the call instruction.
const RETURN_INSTRUCTION: u8 = 0xC3;

impl SharedPages {
    fn new<V: Vendor>(machine: &Machine) -> Result<Self, OutOfFrames> {
        let text = Arc::new(Memory::allocate(&machine.account, 1)?);
        let [first, second, third] = V::CALL_INSTRUCTION;
        let code = [first, second, third, RETURN_INSTRUCTION];
        for (offset, code) in [(0, &code[..]), (CLOCK_ENTRY_OFFSET, machine.clock_entry)] {
            ram::write(machine.physical, &text, offset, code).ok_or(OutOfFrames::Memory)?;
        }
        Ok(SharedPages {
            time: machine.time_page.clone(),
            text,
            modules: BTreeMap::new(),
        })
    }
}

/// Whether the whole of a memory lies in frames of guests' memory.
fn is_reachable(physical: &dyn PhysicalMemory, runs: &[Run]) -> bool {
    runs.iter().all(|run| {
        let last = run.frame.offset(run.pages.saturating_sub(1));
        physical.words(run.frame).is_some() && physical.words(last).is_some()
    })
}
