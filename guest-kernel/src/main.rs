//! The image: the notes for the loaders, the entries, the allocator and the panic handler.
#![no_std]
#![no_main]
// UNSAFETY: the entries run without a stack, and their symbols are what the notes name.
#![allow(unsafe_code)]

use core::arch::global_asm;
use core::panic::PanicInfo;

use guest_kernel::boot::{identity::IdentityMap, pvh};
use guest_kernel::mm::heap::{self, KernelHeap};
use guest_kernel::{kernel, trap};
use nuncio_abi::{ImageNote, NOTE_NAME, NOTE_TYPE, VERSION};

#[global_allocator]
static HEAP: KernelHeap = KernelHeap;

// The stack below which the loader leaves us is in RAM that will be heap, so we change to our own
// before anything else. RBP is zero there: a walk along the frames ends.
global_asm!(
    ".pushsection .note.nuncio, \"a\", @note",
    ".balign 4",
    ".long {name_bytes}, {descriptor_bytes}, {note_type}",
    ".asciz \"Nuncio\"",
    ".balign 4",
    ".long {version}, 0",
    ".quad guest_entry",
    ".popsection",
    ".pushsection .text.entry, \"ax\", @progbits",
    ".globl guest_entry",
    "guest_entry:",
    "cld",
    "lea rsp, [rip + {stack} + {stack_bytes}]",
    "xor ebp, ebp",
    "call {start}",
    "ud2",
    ".popsection",
    name_bytes = const NOTE_NAME.len(),
    descriptor_bytes = const ImageNote::BYTES,
    note_type = const NOTE_TYPE,
    version = const VERSION.to_raw(),
    stack = sym trap::MAIN_STACK,
    stack_bytes = const trap::STACK_BYTES,
    start = sym start,
);

/// `XEN_ELFNOTE_PHYS32_ENTRY` of Xen's public/elfnote.h: the entry for 32-bit mode.
const PVH_NOTE_TYPE: u32 = 18;
/// Multiboot2 2.0, section 3.1.1.
const MULTIBOOT2_HEADER_MAGIC: u32 = 0xE852_50D6;

global_asm!(
    ".pushsection .text.entry, \"ax\", @progbits",
    include_str!("boot/entry.S"),
    ".popsection",
    pvh_note_type = const PVH_NOTE_TYPE,
    pvh_magic = const pvh::MAGIC,
    multiboot2_header_magic = const MULTIBOOT2_HEADER_MAGIC,
    stack = sym trap::MAIN_STACK,
    stack_bytes = const trap::STACK_BYTES,
    start = sym start_bare,
);

extern "C" fn start(boot_info: u64) -> ! {
    kernel::nuncio::run(boot_info, add_heap)
}

extern "C" fn start_bare(magic: u32, information: u32) -> ! {
    // SAFETY: the tables of the entry are loaded, and the kernel reads nothing this way once it has its own.
    let memory = unsafe { IdentityMap::new() };
    kernel::bare::run(&memory, magic, information, add_heap)
}

fn add_heap(start: usize, bytes: usize) {
    // SAFETY: the kernel names RAM that is mapped and holds nothing, each piece once.
    unsafe { heap::add(start, bytes) }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    kernel::panic(info)
}
