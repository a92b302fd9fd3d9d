//! The image: what needs the linker script or is known to the compiler by name. Everything else
//! is in the library.

// UNSAFETY: the entry point, the linker's symbols, and the first hand-outs of memory.
#![allow(unsafe_code)]
#![no_std]
#![no_main]

use core::arch::global_asm;
use core::cell::UnsafeCell;
use core::panic::PanicInfo;

use hypervisor::boot::{self, self_test};
use hypervisor::cpu::fixup::{self, Fixup};
use hypervisor::cpu::heap::Heap;
use hypervisor::cpu::page_tables::ImageSections;
use hypervisor::cpu::{
    machine_exit, per_cpu, report, segments, serial, startup, traps, ExitCode, BOCHS_PORT,
    DEBUG_EXIT_PORT,
};
use hypervisor::mem::{HostPhysical, HostRange};
use hypervisor::start;

global_asm!(
    include_str!("boot/entry.S"),
    multiboot1_magic = const boot::MULTIBOOT1_MAGIC,
    multiboot1_flags = const boot::MULTIBOOT1_FLAGS,
    multiboot1_checksum = const boot::MULTIBOOT1_CHECKSUM,
    multiboot2_magic = const boot::MULTIBOOT2_MAGIC,
    architecture = const boot::ARCHITECTURE_I386,
    multiboot2_length = const boot::MULTIBOOT2_LENGTH,
    multiboot2_checksum = const boot::MULTIBOOT2_CHECKSUM,
    boot_block = sym per_cpu::BOOT_BLOCK,
    boot_stack_top = const per_cpu::MAIN_STACK_TOP,
    debug_exit_port = const DEBUG_EXIT_PORT,
    exit_refused = const ExitCode::Refused as u8,
    bochs_port = const BOCHS_PORT,
    boot_main = sym boot_main,
    mailbox = sym startup::MAILBOX,
    mailbox_offer = const startup::OFFER_OFFSET,
    mailbox_apic_id = const startup::APIC_ID_OFFSET,
    mailbox_stack = const startup::STACK_OFFSET,
    mailbox_no_offer = const startup::NO_OFFER,
    arrive = sym startup::arrive,
);

#[global_allocator]
static HEAP: Heap = Heap::empty();

/// What is allocated before the RAM is known: copies of the boot information, descriptor tables.
const FIRST_HEAP_BYTES: usize = 512 * 1024;

#[repr(C, align(4096))]
struct FirstHeap(UnsafeCell<[u8; FIRST_HEAP_BYTES]>);

// SAFETY: only the allocator uses the bytes, through the address that it is given once.
unsafe impl Sync for FirstHeap {}

static FIRST_HEAP: FirstHeap = FirstHeap(UnsafeCell::new([0; FIRST_HEAP_BYTES]));

/// Called by `entry.S` with what the boot loader left in EAX and EBX.
extern "C" fn boot_main(magic: u32, information: u32) -> ! {
    serial::init();
    let first_heap = FIRST_HEAP.0.get() as u64;
    let first_heap = HostRange::from_length(HostPhysical(first_heap), FIRST_HEAP_BYTES as u64);
    add_heap(first_heap.unwrap_or(HostRange::EMPTY));
    fixup::install(fault_fixups());
    let image = image();
    report::install(image.text);
    segments::load();
    traps::load();
    log::info!("Nuncio {}", env!("CARGO_PKG_VERSION"));
    // An old CPU lacks much, and this first: nothing else that it lacks is worth a word.
    let machine = start::find_virtualization().and_then(|found| {
        // SAFETY: entry.S calls this function once, on its own page tables; the traps are set up.
        let machine = unsafe { boot::bring_up(magic, information, image, start_code(), add_heap) };
        machine.map(|machine| (found, machine))
    });
    match machine {
        Ok((found, machine)) => {
            self_test::run(&machine.handover.command_line, &machine.platform);
            start::start(found, machine, heap_bytes_used)
        }
        Err(refusal) => {
            serial::print(format_args!(
                "@refused code={} text={}\n",
                refusal.code, refusal.text
            ));
            machine_exit(ExitCode::Refused)
        }
    }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    report::panic(info)
}

/// What Rust objects take of the heap, as it rounds them up.
fn heap_bytes_used() -> u64 {
    HEAP.used_bytes()
}

fn add_heap(range: HostRange) {
    // SAFETY: the range is either `FIRST_HEAP` or the one that `boot::divide` sets aside: RAM,
    // mapped, and used by nobody else.
    unsafe { HEAP.add(range) };
}

// The linker script's symbols; only their addresses mean anything.
extern "C" {
    static image_start: u8;
    static text_end: u8;
    static rodata_end: u8;
    static image_end: u8;
    static fault_fixups_start: Fixup;
    static fault_fixups_end: Fixup;
    // entry.S has these two.
    static other_cpu_start: u8;
    static other_cpu_start_end: u8;
}

fn image() -> ImageSections {
    // The linker script lays the symbols out in this order.
    let between = |start: *const u8, end: *const u8| {
        HostRange::new(HostPhysical(start as u64), HostPhysical(end as u64))
            .unwrap_or(HostRange::EMPTY)
    };
    ImageSections {
        text: between(&raw const image_start, &raw const text_end),
        constants: between(&raw const text_end, &raw const rodata_end),
        variables: between(&raw const rodata_end, &raw const image_end),
    }
}

fn start_code() -> &'static [u8] {
    let start = &raw const other_cpu_start;
    let length = (&raw const other_cpu_start_end) as usize - start as usize;
    // SAFETY: between the two symbols lies code that is never written to, among the constants.
    unsafe { core::slice::from_raw_parts(start, length) }
}

fn fault_fixups() -> &'static [Fixup] {
    let start = &raw const fault_fixups_start;
    let end = (&raw const fault_fixups_end) as usize;
    let count = (end - start as usize) / size_of::<Fixup>();
    // SAFETY: between the two symbols lie the entries of `.fault_fixups`, aligned to 4 bytes and
    // never written to.
    unsafe { core::slice::from_raw_parts(start, count) }
}
