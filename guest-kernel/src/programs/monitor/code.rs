//! What the children execute.
//!
//! The code runs at [`CODE`](super::stage::CODE) and finds tables of descriptors, a stack and the text
//! page where `stage` says; a handler of an interrupt or an exception lies at its byte 256.
// UNSAFETY: the bytes between two symbols of the assembler.
#![allow(unsafe_code)]

use crate::programs::machine_code::machine_code;

machine_code! {
    /// Prints by a serial port, and stops the domain whose handle is in RDI.
    prints:
        "mov rbp, rdi",
        "lea rsi, [rip + 4f]",
        "2:",
        "mov edx, 0x3FD",
        "in al, dx",
        "test al, 0x20",
        "jz 2b",
        "lodsb",
        "test al, al",
        "jz 3f",
        "mov edx, 0x3F8",
        "out dx, al",
        "jmp 2b",
        "3:",
        "mov eax, 9",
        "mov rdi, rbp",
        "mov esi, 42",
        "xor edx, edx",
        "xor r10d, r10d",
        "xor r8d, r8d",
        "mov ebx, 0x9000",
        "call rbx",
        "ud2",
        "4:",
        ".asciz \"hello\"",

    /// Asks for CPUID, writes a register that no CPU has, and reads it.
    asks:
        "mov eax, 0x4D6F6E69",
        "mov ecx, 7",
        "cpuid",
        "mov esi, eax",
        "mov edi, ebx",
        "mov r8d, ecx",
        "mov r9d, edx",
        "mov ecx, 0x40000123",
        "mov eax, 0x55667788",
        "mov edx, 0x11223344",
        "wrmsr",
        "xor eax, eax",
        "xor edx, edx",
        "rdmsr",
        "hlt",

    /// Stores to a device and loads from it.
    touches:
        "mov ebx, 0x100000",
        "mov eax, 0xAB12",
        "xor ecx, ecx",
        "mov [rbx + 0x10], eax",
        "mov ecx, [rbx + 0x20]",
        "hlt",

    /// Waits for an interrupt, which is counted in RCX.
    waits:
        "mov ebx, 0x6F00",
        "lgdt [rbx]",
        "lidt [rbx + 16]",
        "xor ecx, ecx",
        "sti",
        "hlt",
        "cli",
        "hlt",
        ".balign 256",
        "inc ecx",
        "iretq",

    /// Reads a port; an exception leaves its error code in RAX and goes on behind that instruction.
    faults:
        "mov ebx, 0x6F00",
        "lgdt [rbx]",
        "lidt [rbx + 16]",
        "in al, 0x60",
        "hlt",
        ".balign 256",
        "pop rax",
        "add qword ptr [rsp], 2",
        "iretq",

    /// Counts in RCX for ever. It takes interrupts, of which none is ever for it: on some test bed
    /// nothing stops a guest that does not.
    counts:
        "xor ecx, ecx",
        "sti",
        "2:",
        "inc rcx",
        "jmp 2b",

    /// Asks for CPUID, again and again.
    asks_for_ever:
        "2:",
        "xor eax, eax",
        "xor ecx, ecx",
        "cpuid",
        "jmp 2b",

    /// Leaves in R15 what 200 times CPUID take at best in eight rounds, and halts.
    measures:
        "mov r15, -1",
        "mov r12d, 8",
        "2:",
        "rdtsc",
        "shl rdx, 32",
        "or rax, rdx",
        "mov r13, rax",
        "mov r14d, 200",
        "3:",
        "xor eax, eax",
        "xor ecx, ecx",
        "cpuid",
        "dec r14d",
        "jnz 3b",
        "rdtsc",
        "shl rdx, 32",
        "or rax, rdx",
        "sub rax, r13",
        "cmp rax, r15",
        "cmovb r15, rax",
        "dec r12d",
        "jnz 2b",
        "hlt",

    /// What a CPU executes first after a reset: here OUT and HLT.
    begins:
        ".code16",
        "mov al, 0x5A",
        "out 0x80, al",
        "hlt",

    /// Halts, again and again.
    halts:
        "2:",
        "hlt",
        "jmp 2b",

    /// A process at CPL 3: it tells its number, touches what is not there yet, raises exceptions, and
    /// tells what it has found.
    process:
        "mov ebx, 0x8000",
        "mov rdi, [rbx]",
        "mov eax, 0x100",
        "mov ebx, 0x9000",
        "call rbx",
        "mov r12, rax",
        "mov ebx, 0x100000",
        "mov r13, [rbx]",
        "ud2",
        "xor ecx, ecx",
        "div ecx",
        "mov ebx, 0x200000",
        "mov r14, [rbx]",
        "mov eax, 0x101",
        "mov ebx, 0x9000",
        "call rbx",
}
