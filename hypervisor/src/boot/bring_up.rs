//! The order in which the machine is brought up, from the loader's information to a CPU with its
//! own page tables, clock and timer.

// UNSAFETY: promises that memory is what the boot loader and the page tables make it.
#![allow(unsafe_code)]

use alloc::vec::Vec;

use super::{divide, read, Division, Handover, IdentityBytes};
use crate::cpu::features::CpuFeatures;
use crate::cpu::page_tables::{self, ImageSections, Layout};
use crate::cpu::{extended_state, local_apic_address, stacks, DirectMap, Platform, Refusal};
use crate::mem::{HostPhysical, HostRange, PAGE_BYTES};

/// Brings the boot CPU up. `add_heap` gives a range of RAM to the global allocator.
///
/// # Safety
///
/// Called once, on the page tables of `entry.S`, with what the loader left in EAX and EBX; `image`
/// is where the linker put the hypervisor, and the traps are set up.
pub unsafe fn bring_up(
    magic: u32,
    information: u32,
    image: ImageSections,
    add_heap: impl FnOnce(HostRange),
) -> Result<(Handover, Platform, &'static DirectMap), Refusal> {
    let features = CpuFeatures::detect();
    features.check()?;
    features.enable();
    extended_state::enable(&extended_state::Capabilities::detect());
    // SAFETY: the page tables of entry.S are in use (caller), and interrupts are off: nobody
    // writes to memory while the parsers read.
    let bytes = unsafe { IdentityBytes::new() };
    let information = read(magic, information, &bytes)?;
    let division = divide(&information, image.whole())?;
    add_heap(division.heap);
    // SAFETY: `image` is the linker's (caller), and the heap is part of the RAM.
    unsafe { use_own_page_tables(&division, image)? };
    // SAFETY: 1. Both kinds of range are whole pages of RAM outside the image, and the page tables
    // just loaded map all such RAM writable. 2. `divide` keeps them apart from image and heap,
    // where all Rust objects lie.
    let memory = unsafe { DirectMap::new(&division.handover.usable, &division.module_pages) };
    let platform = Platform::new(&features)?;
    Ok((division.handover, platform, memory))
}

/// # Safety
///
/// `image` is where the hypervisor's code and variables are, and its heap is in the RAM.
unsafe fn use_own_page_tables(division: &Division, image: ImageSections) -> Result<(), Refusal> {
    let guards = stacks::all().map(|stack| stack.guard);
    let devices: Vec<HostRange> = local_apic_address()
        .into_iter()
        .chain([page_tables::IO_APIC_ADDRESS])
        .filter_map(|address| HostRange::from_length(HostPhysical(address), PAGE_BYTES))
        .collect();
    let layout = Layout {
        ram: &division.ram,
        image,
        guards: &guards,
        devices: &devices,
    };
    let root = page_tables::build(&layout).map_err(|problem| Refusal::new("bad-boot", problem))?;
    // SAFETY: they map all RAM with the heap in it, the image, and the devices' registers, all at
    // their physical addresses; the guard pages hold nothing.
    unsafe { page_tables::load(root) };
    Ok(())
}
