//! Fills registers with a pattern, spins, makes a call, and says which registers came back changed.
// UNSAFETY: code that uses all registers at once, vector registers among them, cannot be Rust.
#![allow(unsafe_code)]

use core::arch::{asm, global_asm};

use crate::instructions::cpuid;
use crate::machine::Native;

/// Vector registers and those general registers that no call may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Registers {
    /// RBX, RBP, RCX, R9, R11 to R15, and three words of padding.
    pub general: [u64; 12],
    /// XMM0 to XMM15; with AVX all of YMM0 to YMM15, else the upper halves stay zero.
    pub vectors: [[u64; 4]; 16],
}

const GENERAL: usize = 9;

/// One probe: what to do, what the registers hold before, what they held after.
#[repr(C, align(32))]
struct Probe {
    verb: u64,
    argument: u64,
    spins: u64,
    has_avx: u64,
    before: Registers,
    after: Registers,
}

const _: () = assert!(size_of::<Registers>() == 608 && size_of::<Probe>() == 1248);

global_asm!(
    ".pushsection .text.register_probe, \"ax\", @progbits",
    // RDI: the entry for calls; RSI: the probe.
    "register_probe:",
    "push rbx",
    "push rbp",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "push rsi",
    "push rdi",
    "cmp qword ptr [rsi + 24], 0",
    "jne 3f",
    ".irp number, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
    "movdqu xmm\\number, [rsi + 128 + 32 * \\number]",
    ".endr",
    "jmp 4f",
    "3:",
    ".irp number, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
    "vmovdqu ymm\\number, [rsi + 128 + 32 * \\number]",
    ".endr",
    "4:",
    "mov rbx, [rsi + 32]",
    "mov rbp, [rsi + 40]",
    "mov rcx, [rsi + 48]",
    "mov r9, [rsi + 56]",
    "mov r11, [rsi + 64]",
    "mov r12, [rsi + 72]",
    "mov r13, [rsi + 80]",
    "mov r14, [rsi + 88]",
    "mov r15, [rsi + 96]",
    "mov rax, [rsi + 16]",
    "5:",
    "pause",
    "sub rax, 1",
    "ja 5b",
    "mov rax, [rsi]",
    "mov rdi, [rsi + 8]",
    "xor esi, esi",
    "xor edx, edx",
    "xor r10d, r10d",
    "xor r8d, r8d",
    "call [rsp]",
    "mov rsi, [rsp + 8]",
    "mov [rsi + 640], rbx",
    "mov [rsi + 648], rbp",
    "mov [rsi + 656], rcx",
    "mov [rsi + 664], r9",
    "mov [rsi + 672], r11",
    "mov [rsi + 680], r12",
    "mov [rsi + 688], r13",
    "mov [rsi + 696], r14",
    "mov [rsi + 704], r15",
    "cmp qword ptr [rsi + 24], 0",
    "jne 6f",
    ".irp number, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
    "movdqu [rsi + 736 + 32 * \\number], xmm\\number",
    ".endr",
    "jmp 7f",
    "6:",
    ".irp number, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
    "vmovdqu [rsi + 736 + 32 * \\number], ymm\\number",
    ".endr",
    "7:",
    "pop rdi",
    "pop rsi",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbp",
    "pop rbx",
    "ret",
    ".popsection",
);

extern "C" {
    fn register_probe(entry: u64, probe: *mut Probe) -> u64;
}

/// Fills the registers with a pattern made from the seed, spins that often, makes a call of one
/// argument, and gives the pattern and what the registers held afterwards.
pub fn over_call(
    machine: &Native,
    seed: u64,
    spins: u64,
    verb: u64,
    argument: u64,
    has_avx: bool,
) -> (Registers, Registers) {
    over(
        machine.text().entry(),
        seed,
        spins,
        [verb, argument],
        has_avx,
    )
}

/// The same over a reading of the clock, which may change RCX and R9.
pub fn over_clock(machine: &Native, seed: u64, has_avx: bool) -> (Registers, Registers) {
    let (entry, time_page) = machine.clock().parts();
    let (before, mut after) = over(entry, seed, 1, [0, time_page], has_avx);
    for changed in [2, 3] {
        after.general[changed] = before.general[changed];
    }
    (before, after)
}

fn over(
    entry: u64,
    seed: u64,
    spins: u64,
    [verb, argument]: [u64; 2],
    has_avx: bool,
) -> (Registers, Registers) {
    let before = pattern(seed, has_avx);
    let mut probe = Probe {
        verb,
        argument,
        spins,
        has_avx: has_avx.into(),
        before,
        after: Registers {
            general: before.general,
            vectors: [[0; 4]; 16],
        },
    };
    probe.after.general[..GENERAL].fill(0);
    // SAFETY: the routine saves what the calling convention asks it to and writes only to the
    // probe; this kernel is built without vector registers, so nobody else's are overwritten.
    unsafe { register_probe(entry, &raw mut probe) };
    (probe.before, probe.after)
}

/// The vector registers as they are now. Before the first probe: as the domain was started.
pub fn vectors() -> [[u64; 2]; 16] {
    let mut words = [[0u64; 2]; 16];
    // SAFETY: stores the registers into an array of that size; SSE is enabled from the start.
    unsafe {
        asm!(
            ".irp number, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
            "movdqu [{words} + 16 * \\number], xmm\\number",
            ".endr",
            words = in(reg) words.as_mut_ptr(),
            options(nostack),
        );
    }
    words
}

/// Turns on AVX, if this CPU lets us (Intel SDM 1, 13.3): CR4.OSXSAVE and three bits of XCR0.
pub fn enable_avx() -> bool {
    const XSAVE_AND_AVX: u32 = 1 << 26 | 1 << 28;
    let [_, _, features, _] = cpuid(1, 0);
    if features & XSAVE_AND_AVX != XSAVE_AND_AVX {
        return false;
    }
    // SAFETY: CPUID says that both exist; x87, SSE and AVX state are a valid choice of XCR0.
    unsafe {
        asm!(
            "mov {scratch}, cr4",
            "or {scratch}, 0x40000",
            "mov cr4, {scratch}",
            "xsetbv",
            scratch = out(reg) _,
            in("ecx") 0,
            in("eax") 7,
            in("edx") 0,
            options(nostack),
        );
    }
    true
}

fn pattern(seed: u64, has_avx: bool) -> Registers {
    let mut state = seed | 1;
    let mut next = || {
        state = state
            .wrapping_mul(0x5851_F42D_4C95_7F2D)
            .wrapping_add(0x1405_7B7E_F767_814F);
        state
    };
    let mut registers = Registers {
        general: [0; 12],
        vectors: [[0; 4]; 16],
    };
    registers.general[..GENERAL].fill_with(&mut next);
    for vector in &mut registers.vectors {
        let words = if has_avx { 4 } else { 2 };
        vector[..words].fill_with(&mut next);
    }
    registers
}

/// The name of the first register that differs.
pub fn first_difference(before: &Registers, after: &Registers) -> Option<&'static str> {
    const NAMES: [&str; GENERAL] = ["rbx", "rbp", "rcx", "r9", "r11", "r12", "r13", "r14", "r15"];
    let mut general = NAMES.iter().zip(before.general.iter().zip(&after.general));
    if let Some((name, _)) = general.find(|(_, (before, after))| before != after) {
        return Some(name);
    }
    (before.vectors != after.vectors).then_some("a vector register")
}
