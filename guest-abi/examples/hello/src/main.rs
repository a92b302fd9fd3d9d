//! A whole guest: it says hello on its console and stops.
#![no_std]
#![no_main]
// UNSAFETY: calls are assembly.
#![allow(unsafe_code)]

use core::arch::{asm, global_asm};
use nuncio_abi::{BootInfo, Call, Message, Outgoing, VERSION};

// The image's note: which ABI it was built for, and where it begins.
global_asm!(
    ".pushsection .note.nuncio, \"a\", @note; .balign 4; .long 7, 16, 1; .asciz \"Nuncio\"",
    ".balign 4; .long {version}, 0; .quad {start}; .popsection",
    version = const VERSION.to_raw(),
    start = sym start,
);

extern "C" fn start(info: &'static BootInfo) -> ! {
    let handle = |name| info.handle(name).and_then(|named| named.handle());
    let text = Message::from_bytes(b"hello from a small guest");
    if let (Some(port), Some(domain), Some(text)) = (handle("console"), handle("domain"), text) {
        let [first, second, third, ..] = text.words;
        let message = Outgoing::registers(text.length, [first, second, third]);
        call(info, Call::Send { port, message });
        call(
            info,
            Call::Stop {
                object: domain,
                code: 0,
            },
        );
    }
    loop {
        core::hint::spin_loop();
    }
}

fn call(info: &BootInfo, call: Call) {
    let [rdi, rsi, rdx, r10, r8] = call.encode().arguments;
    // SAFETY: the text page makes the call and returns; neither call writes to memory of ours.
    unsafe {
        asm!("call {}", in(reg) info.text_page, inout("rax") call.verb().number() => _,
            in("rdi") rdi, in("rsi") rsi, in("rdx") rdx, in("r10") r10, in("r8") r8);
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
