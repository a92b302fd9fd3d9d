//! Control blocks in a stretch of ordinary memory, with exits made up.

use super::*;
use crate::mem::arena::Arena;
use crate::mem::{Account, Frame, GuestPhysical, PhysicalMemory};

const START: StartState = StartState {
    nested_root: Frame(0x99),
    entry: GuestPhysical(0x20_0000),
    page_table: GuestPhysical(0x30_0000),
    stack: GuestPhysical(0xFF_FFF8),
    argument: GuestPhysical(0x100_0000),
};

fn vcpu() -> SvmVcpu {
    let arena = Arena::leak(16, 4);
    let account = Account::new(arena.pool(), 4);
    let frame = account.allocate(0).unwrap();
    let words = arena.words(frame.first()).unwrap();
    SvmVcpu::new(frame, words, &START, false)
}

fn exit(vcpu: &mut SvmVcpu, code: u64) -> Exit {
    vcpu.vmcb.set(vmcb::EXIT_CODE, code);
    assert_eq!(vcpu.left(), Left::ByExit);
    vcpu.exit()
}

fn call(vcpu: &mut SvmVcpu) -> RawCall {
    vcpu.vmcb.set(vmcb::EXIT_CODE, 0x81);
    assert_eq!(vcpu.left(), Left::ByCall);
    vcpu.call()
}

#[test]
fn a_call_is_read_from_and_answered_in_the_registers_of_the_abi() {
    let mut vcpu = vcpu();
    vcpu.vmcb.set(vmcb::RAX, 9);
    vcpu.registers.rdi = 1;
    vcpu.registers.rsi = 2;
    vcpu.registers.rdx = 3;
    vcpu.registers.r10 = 4;
    vcpu.registers.r8 = 5;
    let call = call(&mut vcpu);
    assert_eq!((call.verb, call.arguments), (9, [1, 2, 3, 4, 5]));
    vcpu.set_values(&[10, 11, 12, 13, 14]);
    vcpu.complete_call(0);
    assert_eq!(vcpu.vmcb.get(vmcb::RAX), 0);
    let registers = vcpu.registers;
    assert_eq!([registers.rdx, registers.r10, registers.r8], [10, 11, 12]);
    assert_eq!([registers.rdi, registers.rsi], [13, 14]);
    assert_eq!(vcpu.instruction_pointer(), 0x20_0003);
}

#[test]
fn a_call_from_outside_the_kernel_is_no_call() {
    let mut vcpu = vcpu();
    vcpu.vmcb.set(vmcb::PRIVILEGE, 3 << 24);
    assert_eq!(exit(&mut vcpu, 0x81), Exit::Call { privilege: 3 });
}

#[test]
fn an_error_changes_only_the_status() {
    let mut vcpu = vcpu();
    let before = vcpu.registers;
    call(&mut vcpu);
    vcpu.complete_call(2);
    assert_eq!(vcpu.vmcb.get(vmcb::RAX), 2);
    assert_eq!(vcpu.registers, before);
}

#[test]
fn the_next_rip_is_taken_from_the_cpu_where_it_gives_one() {
    let mut vcpu = vcpu();
    vcpu.has_next_rip = true;
    exit(&mut vcpu, 0x72);
    vcpu.vmcb.set(vmcb::NEXT_RIP, 0x20_0004);
    vcpu.complete_cpuid([1, 2, 3, 4]);
    assert_eq!(vcpu.instruction_pointer(), 0x20_0004);
}

#[test]
fn a_delivery_that_was_interrupted_is_repeated() {
    let mut vcpu = vcpu();
    let event = EVENT_VALID | EVENT_EXCEPTION | 14 | EVENT_HAS_ERROR_CODE | 2 << 32;
    vcpu.vmcb.set(vmcb::EXIT_INTERRUPT_INFO, event);
    exit(&mut vcpu, 0x60);
    assert_eq!(vcpu.vmcb.get(vmcb::EVENT_INJECTION), event);
}

#[test]
fn skipping_an_instruction_ends_its_interrupt_shadow() {
    let mut vcpu = vcpu();
    vcpu.vmcb.set(vmcb::INTERRUPT_SHADOW, 1);
    exit(&mut vcpu, 0x78);
    vcpu.skip_instruction();
    assert_eq!(vcpu.vmcb.get(vmcb::INTERRUPT_SHADOW), 0);
    assert_eq!(vcpu.instruction_pointer(), 0x20_0001);
}

#[test]
fn injected_exceptions_have_the_form_of_the_manual() {
    let mut vcpu = vcpu();
    let mut injected = |exception| {
        vcpu.inject(exception);
        vcpu.vmcb.get(vmcb::EVENT_INJECTION)
    };
    assert_eq!(injected(GuestException::InvalidOpcode), 0x8000_0306);
    assert_eq!(injected(GuestException::GeneralProtection), 0x8000_0B0D);
    let alignment = GuestException::Reflected {
        vector: 17,
        error_code: Some(0),
    };
    assert_eq!(injected(alignment), 0x8000_0B11);
}

#[test]
fn the_guest_never_sees_nor_clears_the_svm_bit() {
    let mut vcpu = vcpu();
    assert_eq!(vcpu.control_registers().efer & EFER_SVME, 0);
    vcpu.set_efer(0);
    assert_ne!(vcpu.vmcb.get(vmcb::EFER) & EFER_SVME, 0);
}

#[test]
fn an_upcall_stays_pending_until_the_cpu_delivers_it() {
    let mut vcpu = vcpu();
    assert!(!vcpu.upcall_is_pending());
    vcpu.vmcb
        .set(vmcb::VIRTUAL_INTERRUPT, VirtualInterrupt::MASKING | 0xF);
    vcpu.request_upcall(0x40);
    assert!(vcpu.upcall_is_pending());
    let word = vcpu.vmcb.get(vmcb::VIRTUAL_INTERRUPT);
    assert_eq!((word >> 32, word & 0xFF), (0x40, 0xF), "CR8 stays");
}

#[test]
fn an_upcall_is_injected_where_the_guest_takes_interrupts() {
    let mut vcpu = vcpu();
    vcpu.vmcb.set(vmcb::RFLAGS, 0x202);
    vcpu.request_upcall(0x40);
    assert!(vcpu.upcall_is_pending());
    assert_eq!(vcpu.vmcb.get(vmcb::EVENT_INJECTION), 0x8000_0040);
    let held =
        |vcpu: &SvmVcpu| vcpu.vmcb.get(vmcb::VIRTUAL_INTERRUPT) & VirtualInterrupt::PENDING != 0;
    assert!(!held(&vcpu), "it comes once");
    vcpu.request_upcall(0x40);
    assert!(!held(&vcpu), "and not twice if it is asked for again");

    vcpu.inject(GuestException::GeneralProtection);
    assert_eq!(vcpu.vmcb.get(vmcb::EVENT_INJECTION), 0x8000_0B0D);
    assert!(held(&vcpu), "after the exception, it is still due");
    assert_eq!(vcpu.vmcb.get(vmcb::VIRTUAL_INTERRUPT) >> 32, 0x40);
    vcpu.request_upcall(0x40);
    assert_eq!(vcpu.vmcb.get(vmcb::EVENT_INJECTION), 0x8000_0B0D);
}

#[test]
fn a_halt_in_the_shadow_of_sti_ends_with_the_upcall_that_was_held_back() {
    let mut vcpu = vcpu();
    vcpu.request_upcall(0x40);
    vcpu.vmcb.set(vmcb::RFLAGS, 0x202);
    vcpu.vmcb.set(vmcb::INTERRUPT_SHADOW, 1);
    exit(&mut vcpu, 0x78);
    assert_eq!(vcpu.vmcb.get(vmcb::EVENT_INJECTION), 0);
    vcpu.skip_instruction();
    assert!(vcpu.upcall_is_pending());
    assert_eq!(vcpu.vmcb.get(vmcb::EVENT_INJECTION), 0x8000_0040);
}
