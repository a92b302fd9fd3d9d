//! The state in which a guest starts: 64-bit mode, as on SVM.

#![forbid(unsafe_code)]

use crate::vt::StartState;

use super::moves::{CR0_CACHE_DISABLE, CR0_NOT_WRITE_THROUGH};
use super::vmcs::{self, Segment, Vmcs};
use super::Features;

const START_EFER: u64 = 1 << 0 | 1 << 8 | 1 << 10 | 1 << 11;
/// Protection, monitor coprocessor, extension type, numeric error, write protect, paging.
const START_CR0: u64 = 0x8001_0033;
/// Physical address extension, FXSAVE and SSE exceptions.
const START_CR4: u64 = 1 << 5 | 1 << 9 | 1 << 10;
const START_RFLAGS: u64 = 0x2;
const START_DR7: u64 = 0x400;
/// The page-attribute table after reset (Intel SDM vol. 3, 11.12.4).
const START_PAT: u64 = 0x0007_0406_0007_0406;
/// 64-bit code, present, readable, accessed (24.4.1).
const CODE_ACCESS: u32 = 0xA09B;
/// Flat data, present, writable, accessed.
const DATA_ACCESS: u32 = 0xC093;
/// A busy 64-bit task-state segment.
const TASK_ACCESS: u32 = 0x008B;
const UNUSABLE: u32 = 1 << 16;
const CODE_SELECTOR: u16 = 0x08;
const DATA_SELECTOR: u16 = 0x10;

/// Writes the guest's fields that are not 0, all but the time it may run.
pub fn write(vmcs: &Vmcs, start: &StartState, features: &Features, ept_pointer: u64) {
    vmcs.set_segment(Segment::Cs, CODE_SELECTOR, CODE_ACCESS, u32::MAX);
    for segment in [
        Segment::Ss,
        Segment::Ds,
        Segment::Es,
        Segment::Fs,
        Segment::Gs,
    ] {
        vmcs.set_segment(segment, DATA_SELECTOR, DATA_ACCESS, u32::MAX);
    }
    vmcs.set_segment(Segment::Tr, 0, TASK_ACCESS, 0xFFFF);
    vmcs.set_segment(Segment::Ldtr, 0, UNUSABLE, 0);
    // Entries and exits leave the bits for the cache as they are (26.3.2.1, 27.5.1), so a
    // guest's would turn it off for everybody.
    let cr0_mask = features.cr0_fixed | CR0_NOT_WRITE_THROUGH | CR0_CACHE_DISABLE;
    for (field, value) in [
        (vmcs::GUEST_EFER, START_EFER),
        (vmcs::CR0, START_CR0 | features.cr0_fixed),
        (vmcs::CR0_MASK, cr0_mask),
        (vmcs::CR0_SHADOW, START_CR0),
        (vmcs::CR4, START_CR4 | features.cr4_fixed),
        (vmcs::CR4_MASK, features.cr4_fixed),
        (vmcs::CR4_SHADOW, START_CR4),
        (vmcs::CR3, start.page_table.0),
        (vmcs::RFLAGS, START_RFLAGS),
        (vmcs::DR7, START_DR7),
        (vmcs::GUEST_PAT, START_PAT),
        (vmcs::RIP, start.entry.0),
        (vmcs::RSP, start.stack.0),
        (vmcs::LINK_POINTER, u64::MAX),
        (vmcs::EPT_POINTER, ept_pointer),
    ] {
        vmcs.set(field, value);
    }
}
