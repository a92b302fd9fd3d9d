//! Writes the state in which a guest starts into a control block.

#![forbid(unsafe_code)]

use crate::vt::start_state::{self, StartState, SEGMENTS};

use super::control_block::{self as vmcb, VirtualInterrupt, Vmcb};
use super::vcpu::EFER_SVME;

/// Writes the guest's fields, whose block is all 0.
pub fn write(vmcb: Vmcb, start: &StartState) {
    for segment in &SEGMENTS {
        vmcb.set_segment(segment);
    }
    for (field, value) in [
        (vmcb::EFER, start_state::EFER | EFER_SVME),
        (vmcb::CR0, start_state::CR0),
        (vmcb::CR4, start_state::CR4),
        (vmcb::CR3, start.page_table.0),
        (vmcb::RFLAGS, start_state::RFLAGS),
        (vmcb::DR6, start_state::DR6),
        (vmcb::DR7, start_state::DR7),
        (vmcb::G_PAT, start_state::PAGE_ATTRIBUTES),
        (vmcb::RIP, start.entry.0),
        (vmcb::RSP, start.stack.0),
        (vmcb::VIRTUAL_INTERRUPT, VirtualInterrupt::MASKING),
        (vmcb::NESTED_CONTROL, 1),
        (vmcb::NESTED_CR3, start.nested_root.start().0),
    ] {
        vmcb.set(field, value);
    }
}
