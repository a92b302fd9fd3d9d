//! What an exit loads (Intel SDM vol. 3, 27.5): the state of the hypervisor.

#![forbid(unsafe_code)]

use x86::msr::{IA32_EFER, IA32_PAT};
use x86_64::instructions::tables::sidt;
use x86_64::registers::control::{Cr0, Cr3, Cr4};

use crate::cpu::{msr, segments};

use super::control_block::{self as vmcs, Vmcs};
use super::insn;

/// Writes it as it is now, and for good. The stack is the world switch's affair.
pub fn write(vmcs: &Vmcs) {
    let segments = segments::current().expect("the hypervisor's own segments are loaded");
    let data = u64::from(segments.data.0);
    let (table, flags) = Cr3::read_raw();
    let cr3 = table.start_address().as_u64() | u64::from(flags);
    vmcs.set_all([
        (vmcs::HOST_CS, u64::from(segments.code.0)),
        (vmcs::HOST_SS, data),
        (vmcs::HOST_DS, data),
        (vmcs::HOST_ES, data),
        (vmcs::HOST_TR, u64::from(segments.task.0)),
        (vmcs::HOST_TR_BASE, segments.task_base),
        (vmcs::HOST_GDTR_BASE, segments.gdt_base),
        (vmcs::HOST_IDTR_BASE, sidt().base.as_u64()),
        (vmcs::HOST_CR0, Cr0::read_raw()),
        (vmcs::HOST_CR3, cr3),
        (vmcs::HOST_CR4, Cr4::read_raw()),
        (vmcs::HOST_EFER, msr::read(IA32_EFER).unwrap_or_default()),
        (vmcs::HOST_PAT, msr::read(IA32_PAT).unwrap_or_default()),
        (vmcs::HOST_RIP, insn::exit_point as *const () as u64),
    ]);
}
