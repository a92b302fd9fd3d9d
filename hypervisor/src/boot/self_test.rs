//! Faults on demand: a word `test=...` on the command line provokes one after set-up, so that boot
//! tests can check the panic report, the guard pages and the page permissions.
//!
//! | word | what happens | what the report must say |
//! | --- | --- | --- |
//! | `test=panic` | a Rust panic | the message with file and line |
//! | `test=page-fault` | a read where nothing is mapped | page fault, the address |
//! | `test=null` | a read at address 8 | page fault, the null page is unmapped |
//! | `test=stack-overflow` | endless recursion | stack overflow |
//! | `test=write-text` | a write to the hypervisor's code | page fault, write, protection |
//! | `test=write-constant` | a write to a constant | page fault, write, protection |
//! | `test=execute-data` | a call into the heap | page fault, instruction fetch |
//! | `test=invalid-opcode` | an instruction that does not exist | invalid opcode |
//!
//! Four more check what needs a real CPU and let the machine go on; a failure is a panic:
//!
//! | word | what must hold |
//! | --- | --- |
//! | `test=fault-fix-up` | an XSETBV and a WRMSR that fault are survived |
//! | `test=nmi` | an NMI is counted and returns |
//! | `test=debug-exception` | an instruction breakpoint on the hypervisor's code is passed |
//! | `test=extended-state` | two sets of SSE, XCR0, x87 and debug registers stay apart |
//!
//! Those that need a vendor come later: `start/self_test.rs`.

// UNSAFETY: the point of this module is to break the rules that page tables must enforce.
#![allow(unsafe_code)]

use alloc::boxed::Box;
use core::arch::asm;
use core::hint::black_box;

use crate::cpu::extended_state::{self, Capabilities, ExtendedState};
use crate::cpu::{msr, Platform};

/// Nobody's address: canonical, and far above what is mapped.
const UNMAPPED: u64 = 0x0000_5EAD_0000_0000;

/// The self test that the command line asks for.
pub fn asked_for(command_line: &str) -> Option<&str> {
    command_line
        .split_ascii_whitespace()
        .find_map(|word| word.strip_prefix("test="))
}

/// Runs the self test that the command line asks for, if any.
pub fn run(command_line: &str, platform: &Platform) {
    let test = asked_for(command_line);
    match test {
        None => {}
        Some("entry-rules" | "entry-refused" | "state") => return,
        Some("cpus" | "cpu-absent" | "cpus-panic" | "cpu-overflow") => return,
        Some("panic") => panic!("this panic was asked for on the command line"),
        Some("page-fault") => read(UNMAPPED),
        Some("null") => read(8),
        Some("stack-overflow") => overflow_the_stack(),
        Some("write-text") => write(run as *const () as u64),
        Some("write-constant") => write((&raw const CONSTANT) as u64),
        Some("execute-data") => execute_data(),
        Some("invalid-opcode") => invalid_opcode(),
        Some("fault-fix-up") => fault_fix_up(),
        Some("nmi") => nmi(platform),
        Some("debug-exception") => debug_exception(platform),
        Some("extended-state") => extended_state(),
        Some(other) => panic!("there is no self test '{other}'"),
    }
    if let Some(test) = test {
        log::info!("self test {test}: the machine goes on");
    }
}

static CONSTANT: u64 = 1;

fn read(address: u64) {
    let pointer = address as *const u64;
    // SAFETY: not safe, and meant so: the page fault ends the run. If there were none, the value
    // would be dropped.
    black_box(unsafe { pointer.read_volatile() });
}

fn write(address: u64) {
    let pointer = address as *mut u8;
    // SAFETY: not safe, and meant so: the page fault ends the run before anything is changed.
    unsafe { pointer.write_volatile(0xCC) };
}

/// Goes on until the stack is full.
pub fn overflow_the_stack() {
    black_box(recurse(black_box(1)));
}

#[expect(
    unconditional_recursion,
    reason = "the guard page under the stack ends it"
)]
fn recurse(depth: u64) -> u64 {
    let frame = black_box([depth; 32]);
    recurse(depth + 1) + frame[0]
}

fn execute_data() {
    // 0xC3 is RET: if the page were executable, the call would come back.
    let code = Box::new([0xC3u8; 16]);
    let address = (&raw const *code).cast::<()>();
    // SAFETY: not safe, and meant so: the page fault ends the run. Were the page executable, RET
    // would be a valid function without arguments.
    let function = unsafe { core::mem::transmute::<*const (), extern "C" fn()>(address) };
    function();
}

fn invalid_opcode() {
    // SAFETY: UD2 touches nothing; the exception ends the run.
    unsafe { asm!("ud2", options(nomem, nostack)) };
}

fn fault_fix_up() {
    const IA32_APIC_BASE: u32 = 0x1B;
    // XCR0 bit 0 cannot be cleared (Intel SDM vol. 1, 13.3).
    assert_eq!(extended_state::try_write_xcr0(0), None);
    assert!(msr::read(IA32_APIC_BASE).is_some());
    // Emulators differ on MSRs that do not exist: some read 0 instead of raising #GP.
    log::info!("MSR 0x12345: {:x?}", msr::read(0x12345));
}

fn nmi(platform: &Platform) {
    let before = platform.nmi_count();
    // SAFETY: takes the same way through the table and the stack as an NMI from outside.
    unsafe { asm!("int 2", options(nostack)) };
    assert_eq!(platform.nmi_count(), before + 1);
}

fn debug_exception(platform: &Platform) {
    // DR7: breakpoint 0 is on, for instruction fetches; bit 10 is always 1.
    const ON: u64 = 1 << 10 | 1;
    const OFF: u64 = 1 << 10;
    let before = platform.debug_exception_count();
    // SAFETY: the breakpoint lies on the NOP and is off again behind it; its handler returns.
    unsafe {
        asm!(
            "lea {address}, [rip + 2f]",
            "mov dr0, {address}",
            "mov dr7, {on}",
            "2: nop",
            "mov dr7, {off}",
            address = out(reg) _,
            on = in(reg) ON,
            off = in(reg) OFF,
            options(nostack),
        );
    }
    assert_eq!(platform.debug_exception_count(), before + 1);
}

fn extended_state() {
    let capabilities = Capabilities::detect();
    for has_x87_race in [false, true] {
        state_changes_hands(Capabilities {
            has_x87_race,
            ..capabilities
        });
    }
}

fn state_changes_hands(capabilities: Capabilities) {
    const PATTERN: [u64; 2] = [0x0123_4567_89AB_CDEF, 0xFEDC_BA98_7654_3210];
    const BREAKPOINT: u64 = 0x1234_5678;
    let mut first = ExtendedState::new(capabilities);
    let mut second = ExtendedState::new(capabilities);
    ExtendedState::switch(None, &first);
    assert_eq!(vector_register(), [0, 0]);
    set_vector_register(PATTERN);
    set_debug_register(BREAKPOINT);
    use_x87();
    let first_pointer = use_x87();
    let two_ones = x87_registers();
    assert!(extended_state::try_write_xcr0(0b11).is_some());
    ExtendedState::switch(Some(&mut first), &second);
    assert_eq!((vector_register(), debug_register()), ([0, 0], 0));
    assert_ne!(x87_instruction_pointer(), first_pointer);
    // QEMU empties registers and leaves what is in them, if it is XRSTOR that puts them in order.
    assert_eq!(x87_registers()[0], 0);
    assert!(!capabilities.has_x87_race || x87_registers() == [0; 3]);
    let second_pointer = use_x87();
    ExtendedState::switch(Some(&mut second), &first);
    assert_eq!((first.xcr0(), second.xcr0()), (0b11, 0b1));
    assert_eq!((vector_register(), debug_register()), (PATTERN, BREAKPOINT));
    assert_ne!(x87_instruction_pointer(), second_pointer);
    assert_eq!(x87_registers(), two_ones);
    ExtendedState::switch(None, &second);
    assert_ne!(x87_registers(), two_ones);
}

/// Executes an x87 instruction and returns the lower half of its address, which is another one
/// wherever this is called.
#[inline(always)]
fn use_x87() -> u32 {
    let address: u64;
    // SAFETY: loads a number into a register that the hypervisor's own code does not use.
    unsafe {
        asm!(
            "2: fld1",
            "lea {address}, [rip + 2b]",
            address = out(reg) address,
            options(nomem, nostack),
        );
    }
    assert_eq!(x87_instruction_pointer(), address as u32);
    address as u32
}

/// The lower half of the address of the last x87 instruction.
fn x87_instruction_pointer() -> u32 {
    // The environment has the pointer in its fourth word (Intel SDM vol. 1, figure 8-9).
    let mut environment = [0u32; 7];
    // SAFETY: stores 28 bytes into `environment`.
    unsafe { asm!("fnstenv [{}]", in(reg) &mut environment, options(nostack)) };
    environment[3]
}

/// Which x87 registers are not empty, a bit each, and what is in the topmost.
fn x87_registers() -> [u64; 3] {
    #[repr(align(16))]
    struct Area([u64; 64]);
    let mut area = Area([0; 64]);
    // SAFETY: stores 512 bytes into `area`.
    unsafe { asm!("fxsave64 [{}]", in(reg) &raw mut area.0, options(nostack)) };
    // The tags are the fifth byte (Intel SDM vol. 1, table 10-2).
    [area.0[0] >> 32 & 0xFF, area.0[4], area.0[5]]
}

fn vector_register() -> [u64; 2] {
    let mut value = [0; 2];
    // SAFETY: stores 16 bytes into `value`.
    unsafe { asm!("movdqu [{}], xmm7", in(reg) &mut value, options(nostack)) };
    value
}

fn set_vector_register(value: [u64; 2]) {
    // SAFETY: loads 16 bytes from `value`. The hypervisor's own code uses no vector registers;
    // built for a target where it does, this function is never called.
    unsafe { asm!("movdqu xmm7, [{}]", in(reg) &value, options(nostack, readonly)) };
}

fn debug_register() -> u64 {
    let value: u64;
    // SAFETY: copies a register.
    unsafe { asm!("mov {}, dr0", out(reg) value, options(nomem, nostack)) };
    value
}

fn set_debug_register(value: u64) {
    // SAFETY: the address does nothing while DR7 enables no breakpoint.
    unsafe { asm!("mov dr0, {}", in(reg) value, options(nomem, nostack)) };
}
