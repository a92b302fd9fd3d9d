//! Segments and the task-state segment, of which 64-bit mode uses little: one code and one data
//! segment, and the stacks for exceptions.

// UNSAFETY: loads GDTR, TR and the segment registers.
#![allow(unsafe_code)]

use alloc::boxed::Box;

use x86_64::instructions::tables::load_tss;
use x86_64::registers::segmentation::{Segment, CS, DS, ES, FS, GS, SS};
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable, SegmentSelector};
use x86_64::structures::tss::TaskStateSegment;
use x86_64::VirtAddr;

use super::per_cpu;
use super::stacks::InterruptStack;

/// What a virtual machine's exit must restore (VMCS host-state area: Intel SDM vol. 3, 24.5).
#[derive(Clone, Copy, Debug)]
pub struct HostSegments {
    /// CS.
    pub code: SegmentSelector,
    /// SS, DS and ES; FS and GS are null.
    pub data: SegmentSelector,
    /// TR.
    pub task: SegmentSelector,
    /// Base of the GDT.
    pub gdt_base: u64,
    /// Base of the task-state segment.
    pub task_base: u64,
}

/// The segments that this CPU uses; `None` before [`load`].
pub fn current() -> Option<HostSegments> {
    per_cpu::current().segments.get().copied()
}

/// Builds and loads this CPU's tables; called once on each CPU.
pub fn load() {
    let block = per_cpu::block();
    let mut task_state = Box::new(TaskStateSegment::new());
    for (index, stack) in InterruptStack::ALL.into_iter().enumerate() {
        task_state.interrupt_stack_table[index] =
            VirtAddr::new(block.stacks.interrupt(stack).body.end().0);
    }
    let task_state: &'static TaskStateSegment = Box::leak(task_state);
    let mut table = Box::new(GlobalDescriptorTable::new());
    let segments = HostSegments {
        code: table.append(Descriptor::kernel_code_segment()),
        data: table.append(Descriptor::kernel_data_segment()),
        task: table.append(Descriptor::tss_segment(task_state)),
        gdt_base: core::ptr::from_ref(table.entries()).cast::<u8>() as u64,
        task_base: core::ptr::from_ref(task_state) as u64,
    };
    Box::leak(table).load();
    // SAFETY: the selectors name the 64-bit code segment, the data segment and the available
    // task-state segment of the table just loaded, which is never freed. Nothing uses FS or GS.
    unsafe {
        CS::set_reg(segments.code);
        SS::set_reg(segments.data);
        DS::set_reg(segments.data);
        ES::set_reg(segments.data);
        FS::set_reg(SegmentSelector::NULL);
        GS::set_reg(SegmentSelector::NULL);
        load_tss(segments.task);
    }
    block.cpu().segments.call_once(|| segments);
}
