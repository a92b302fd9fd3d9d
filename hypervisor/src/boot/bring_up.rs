//! The order in which the machine is brought up, from the loader's information to a CPU with its
//! own page tables, clock and timer.

// UNSAFETY: promises that memory is what the boot loader and the page tables make it.
#![allow(unsafe_code)]

use alloc::vec::Vec;

use super::{
    divide, pm_timer, processors, read, BootInformation, Division, Handover, IdentityBytes,
};
use crate::cpu::features::CpuFeatures;
use crate::cpu::page_tables::{self, ImageSections, Layout};
use crate::cpu::{
    extended_state, local_apic_address, own_apic_id, stacks, startup, DirectMap, OtherCpus,
    Platform, Refusal, TimeOptions,
};
use crate::mem::{HostPhysical, HostRange, PAGE_BYTES};

/// What runs after the bring-up: the boot CPU and its memory.
pub struct BroughtUp {
    /// What the boot loader brought.
    pub handover: Handover,
    /// The boot CPU's clock, timer and interrupts.
    pub platform: Platform,
    /// The memory that is not the hypervisor's own.
    pub memory: &'static DirectMap,
    /// The CPUs that wait to be started.
    pub other_cpus: OtherCpus,
}

/// Brings the boot CPU up. `add_heap` gives a range of RAM to the global allocator; `start_code` is what
/// other CPUs begin with.
///
/// # Safety
///
/// Called once, on the page tables of `entry.S`, with what the loader left in EAX and EBX; `image`
/// is where the linker put the hypervisor, and the traps are set up.
pub unsafe fn bring_up(
    magic: u32,
    information: u32,
    image: ImageSections,
    start_code: &'static [u8],
    add_heap: impl FnOnce(HostRange),
) -> Result<BroughtUp, Refusal> {
    let features = CpuFeatures::detect();
    features.check()?;
    features.enable();
    extended_state::enable(&extended_state::Capabilities::detect());
    // SAFETY: the page tables of entry.S are in use (caller), and interrupts are off: nobody
    // writes to memory while the parsers read.
    let bytes = unsafe { IdentityBytes::new() };
    let information = read(magic, information, &bytes)?;
    let time_options = TimeOptions::parse(&information.command_line)?;
    let boot_cpu = own_apic_id();
    let apic_ids = apic_ids(&information, boot_cpu, &bytes);
    // It is the second choice; that there is none is said where it is missed.
    let pm_timer = pm_timer(information.acpi_root_pointer, &bytes).unwrap_or(None);
    let other_count = startup::usable_others(&apic_ids, boot_cpu);
    let division = divide(&information, image.whole(), other_count)?;
    add_heap(division.heap);
    let low_page = division.low_page;
    let other_cpus = OtherCpus::prepare(&apic_ids, boot_cpu, features, low_page, start_code);
    // SAFETY: `image` is the linker's (caller), and the heap is part of the RAM.
    unsafe { use_own_page_tables(&division, image)? };
    // SAFETY: 1. Both kinds of range are whole pages of RAM outside the image, and the page tables
    // just loaded map all such RAM writable. 2. `divide` keeps them apart from image and heap,
    // where all Rust objects lie.
    let memory = unsafe { DirectMap::new(&division.handover.usable, &division.module_pages) };
    let platform = Platform::new(&features, time_options, pm_timer)?;
    Ok(BroughtUp {
        handover: division.handover,
        platform,
        memory,
        other_cpus,
    })
}

/// The local APICs of the machine, among which the boot CPU's may be missing. Without tables that say
/// something there is one CPU.
fn apic_ids(information: &BootInformation, boot_cpu: u32, bytes: &IdentityBytes) -> Vec<u32> {
    let found = processors(information.acpi_root_pointer, bytes);
    let apic_ids = found.unwrap_or_else(|error| {
        log::warn!("{error}; only the boot CPU is used");
        Vec::new()
    });
    if !apic_ids.is_empty() && !apic_ids.contains(&boot_cpu) {
        log::warn!("the firmware's ACPI tables do not have the boot CPU, local APIC {boot_cpu}");
    }
    apic_ids
}

/// # Safety
///
/// `image` is where the hypervisor's code and variables are, and its heap is in the RAM.
unsafe fn use_own_page_tables(division: &Division, image: ImageSections) -> Result<(), Refusal> {
    let guards = stacks::guards();
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
