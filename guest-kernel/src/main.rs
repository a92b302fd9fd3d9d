//! The image: the note for the loader, the entry, the allocator and the panic handler.
#![no_std]
#![no_main]
// UNSAFETY: the entry runs without a stack, and its symbol is what the note names.
#![allow(unsafe_code)]

use core::arch::global_asm;
use core::panic::PanicInfo;

use buddy_system_allocator::LockedHeap;
use guest_kernel::{kernel, trap};
use nuncio_abi::{ImageNote, NOTE_NAME, NOTE_TYPE, VERSION};

/// Orders 0 to 32: blocks of up to 4 GiB.
#[global_allocator]
static HEAP: LockedHeap<33> = LockedHeap::empty();

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

extern "C" fn start(boot_info: u64) -> ! {
    kernel::run(boot_info, |start, bytes| {
        // SAFETY: the kernel names RAM that is mapped, that holds nothing, and does so once.
        unsafe { HEAP.lock().init(start, bytes) }
    })
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    kernel::panic(info)
}
