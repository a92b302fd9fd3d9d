//! A guest in less than 1 MiB of RAM, of which any number stand in a ring: each receives from the one
//! before it and sends to the one behind it.
//!
//! Its command line is `number=N in=PORT out=PORT count=COUNT rounds=ROUNDS`. The one with number 0 sends
//! a message round, looks at what comes back, and says so after the last round; every other one adds its
//! number to what it passes on. With no rounds a guest waits for messages for ever.
#![no_std]
#![no_main]
// UNSAFETY: calls are assembly, and the hypervisor writes to a buffer.
#![allow(unsafe_code)]

use core::arch::{asm, global_asm};
use core::cell::UnsafeCell;
use core::fmt::{self, Write};
use nuncio_abi::{BootInfo, Call, Deadline, Handle, Message, Outgoing, Reply, VERSION};

// The image's note: which ABI it was built for, and where it begins.
global_asm!(
    ".pushsection .note.nuncio, \"a\", @note; .balign 4; .long 7, 16, 1; .asciz \"Nuncio\"",
    ".balign 4; .long {version}, 0; .quad {start}; .popsection",
    version = const VERSION.to_raw(),
    start = sym start,
);

/// Bytes of what goes round: the round, how often it was passed on, and a sum.
const BYTES: u8 = 24;

extern "C" fn start(info: &'static BootInfo) -> ! {
    let code = match run(info) {
        Some(()) => 0,
        None => {
            print(
                info,
                format_args!("ring: something is wrong in {}", info.name.as_str()),
            );
            1
        }
    };
    if let Some(object) = handle(info, "domain") {
        call(info, Call::Stop { object, code });
    }
    loop {
        core::hint::spin_loop();
    }
}

fn run(info: &BootInfo) -> Option<()> {
    let port = |word| handle(info, value(info, word)?);
    let number = |word| value(info, word)?.parse::<u64>().ok();
    let (from, to) = (port("in")?, port("out")?);
    let (own, count, rounds) = (number("number")?, number("count")?, number("rounds")?);
    let mut round = 0;
    while rounds == 0 || round < rounds {
        round += 1;
        if own == 0 && rounds > 0 {
            send(info, to, [round, 1, 0])?;
            let expected = [round, count, sum_below(count)];
            (receive(info, from)? == expected).then_some(())?;
        } else {
            let [received, passes, sum] = receive(info, from)?;
            (received == round).then_some(())?;
            send(info, to, [round, passes + 1, sum + own])?;
        }
    }
    if own == 0 {
        print(info, format_args!("ring: {rounds} rounds of {count} ok"));
    }
    Some(())
}

/// 0 + 1 + ... up to one less than `count`.
const fn sum_below(count: u64) -> u64 {
    count * (count - 1) / 2
}

fn send(info: &BootInfo, port: Handle, words: [u64; 3]) -> Option<()> {
    let message = Outgoing::registers(BYTES, words);
    call(info, Call::Send { port, message })?;
    Some(())
}

/// The words of a message of the right length.
fn receive(info: &BootInfo, port: Handle) -> Option<[u64; 3]> {
    let [header, _, words @ ..] = call(
        info,
        Call::Receive {
            port,
            deadline: Deadline::NEVER,
            buffer: BUFFER.0.get() as u64,
        },
    )?;
    (header == BYTES.into()).then_some(words)
}

/// Where the hypervisor would put a longer message than any that goes round; unlike most memory it has to
/// be a page that is there. Guest-physical and virtual addresses are the same.
#[repr(C, align(4096))]
struct Buffer(UnsafeCell<[u64; 512]>);

// SAFETY: nobody reads or writes it but the hypervisor.
unsafe impl Sync for Buffer {}

static BUFFER: Buffer = Buffer(UnsafeCell::new([0; 512]));

fn handle(info: &BootInfo, name: &str) -> Option<Handle> {
    info.handle(name).and_then(|named| named.handle())
}

/// What stands behind `word=` on the command line.
fn value<'a>(info: &'a BootInfo, word: &str) -> Option<&'a str> {
    let mut words = info.command_line().split_ascii_whitespace();
    words.find_map(|found| found.strip_prefix(word)?.strip_prefix('='))
}

fn print(info: &BootInfo, text: fmt::Arguments<'_>) {
    let _ = writeln!(Console(info), "{text}");
}

struct Console<'a>(&'a BootInfo);

impl Write for Console<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let port = handle(self.0, "console").ok_or(fmt::Error)?;
        for piece in text.as_bytes().chunks(BYTES.into()) {
            let message = Message::from_bytes(piece).ok_or(fmt::Error)?;
            let [first, second, third, ..] = message.words;
            let message = Outgoing::registers(message.length, [first, second, third]);
            call(self.0, Call::Send { port, message }).ok_or(fmt::Error)?;
        }
        Ok(())
    }
}

/// The values of a call that succeeds.
fn call(info: &BootInfo, call: Call) -> Option<[u64; 5]> {
    let [mut rdi, mut rsi, mut rdx, mut r10, mut r8] = call.encode().arguments;
    let mut rax = call.verb().number();
    // SAFETY: the text page makes the call and returns; no call writes to memory of ours but to the buffer.
    unsafe {
        asm!("call {}", in(reg) info.text_page, inout("rax") rax, inout("rdi") rdi,
            inout("rsi") rsi, inout("rdx") rdx, inout("r10") r10, inout("r8") r8);
    }
    Reply::from_registers(rax, [rdx, r10, r8, rdi, rsi])
        .result()
        .ok()
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
