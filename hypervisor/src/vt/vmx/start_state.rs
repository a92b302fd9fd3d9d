//! Writes the state in which a guest starts into a control structure.

#![forbid(unsafe_code)]

use crate::vt::start_state::{self, Segment, StartState, SEGMENTS};

use super::control_block::{self as vmcs, Vmcs};
use super::moves::{CR0_CACHE_DISABLE, CR0_NOT_WRITE_THROUGH};
use super::Features;

/// Writes the guest's fields that are not 0, all but the time it may run.
pub fn write(vmcs: &Vmcs, start: &StartState, features: &Features, ept_pointer: u64) {
    vmcs.set_all(SEGMENTS.into_iter().flat_map(Segment::to_vmcs));
    // Entries and exits leave the bits for the cache as they are (26.3.2.1, 27.5.1), so a
    // guest's would turn it off for everybody.
    let cr0_mask = features.cr0_fixed | CR0_NOT_WRITE_THROUGH | CR0_CACHE_DISABLE;
    vmcs.set_all([
        (vmcs::EFER, start_state::EFER),
        (vmcs::CR0, start_state::CR0 | features.cr0_fixed),
        (vmcs::CR0_MASK, cr0_mask),
        (vmcs::CR0_SHADOW, start_state::CR0),
        (vmcs::CR4, start_state::CR4 | features.cr4_fixed),
        (vmcs::CR4_MASK, features.cr4_fixed),
        (vmcs::CR4_SHADOW, start_state::CR4),
        (vmcs::CR3, start.page_table.0),
        (vmcs::RFLAGS, start_state::RFLAGS),
        (vmcs::DR7, start_state::DR7),
        (vmcs::PAT, start_state::PAGE_ATTRIBUTES),
        (vmcs::RIP, start.entry.0),
        (vmcs::RSP, start.stack.0),
        (vmcs::LINK_POINTER, u64::MAX),
        (vmcs::EPT_POINTER, ept_pointer),
    ]);
}
