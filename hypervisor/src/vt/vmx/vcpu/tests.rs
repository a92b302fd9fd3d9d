//! The vcpu over a map in place of the CPU's control structure.

use super::super::probe::tests::GOOD;
use super::*;
use crate::mem::arena::Arena;
use crate::mem::{Account, Frame, GuestPhysical};
use crate::vt::vmx::start_state;

const START: StartState = StartState {
    nested_root: Frame(0x99),
    entry: GuestPhysical(0x20_0000),
    page_table: GuestPhysical(0x30_0000),
    stack: GuestPhysical(0xFF_FFF8),
    argument: GuestPhysical(0x100_0000),
};

fn vcpu() -> VmxVcpu {
    let arena = Arena::leak(16, 4);
    let account = Account::new(arena.pool(), 4);
    let frames = [account.allocate(0).unwrap(), account.allocate(0).unwrap()];
    let vmcs = Vmcs::new(frames[0].first().start());
    let features = GOOD.features().unwrap();
    let vcpu = VmxVcpu::new(vmcs, frames, &START, &features);
    start_state::write(&vcpu.vmcs, &START, &features, vcpu.ept_pointer);
    vcpu.vmcs.set(vmcs::EXIT_INSTRUCTION_LENGTH, 2);
    vcpu
}

fn exit(vcpu: &mut VmxVcpu, reason: u64) -> Exit {
    vcpu.vmcs.set(vmcs::EXIT_REASON, reason);
    assert_eq!(vcpu.left(true), Left::ByExit);
    vcpu.exit()
}

fn call(vcpu: &mut VmxVcpu) -> RawCall {
    vcpu.vmcs.set(vmcs::EXIT_REASON, 18);
    assert_eq!(vcpu.left(true), Left::ByCall);
    vcpu.call()
}

#[test]
fn a_call_is_read_from_and_answered_in_the_registers_of_the_abi() {
    let mut vcpu = vcpu();
    // RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10.
    vcpu.frame.registers = [9, 0, 3, 0, 0, 0, 2, 1, 5, 0, 4, 0, 0, 0, 0, 0];
    let call = call(&mut vcpu);
    assert_eq!((call.verb, call.arguments), (9, [1, 2, 3, 4, 5]));
    vcpu.set_values(&[10, 11, 12, 13, 14]);
    vcpu.complete_call(0);
    let expected = [0, 0, 10, 0, 0, 0, 14, 13, 12, 0, 11, 0, 0, 0, 0, 0];
    assert_eq!(vcpu.frame.registers, expected);
    assert_eq!(vcpu.instruction_pointer(), 0x20_0003);
    assert_eq!(vcpu.vmcs.get(vmcs::RIP), 0x20_0003);
}

#[test]
fn a_call_from_outside_the_kernel_is_no_call() {
    let mut vcpu = vcpu();
    vcpu.vmcs.set(vmcs::SS_ACCESS, 0xC0F3);
    assert_eq!(exit(&mut vcpu, 18), Exit::Call { privilege: 3 });
}

#[test]
fn an_error_changes_only_the_status() {
    let mut vcpu = vcpu();
    vcpu.frame.registers = core::array::from_fn(|index| index as u64);
    let mut expected = vcpu.frame.registers;
    call(&mut vcpu);
    vcpu.complete_call(2);
    expected[RAX] = 2;
    assert_eq!(vcpu.frame.registers, expected);
}

#[test]
fn a_delivery_that_was_interrupted_is_repeated() {
    let mut vcpu = vcpu();
    vcpu.vmcs.set(vmcs::VECTORING_EVENT, 0x8000_1B0E);
    vcpu.vmcs.set(vmcs::VECTORING_ERROR_CODE, 2);
    exit(&mut vcpu, 1);
    let event = [vmcs::ENTRY_EVENT, vmcs::ENTRY_ERROR_CODE].map(|field| vcpu.vmcs.get(field));
    assert_eq!(event, [0x8000_0B0E, 2], "without the CPU's own bit 12");
}

#[test]
fn skipping_an_instruction_ends_its_interrupt_shadow() {
    for shadow in [1, 2] {
        let mut vcpu = vcpu();
        vcpu.vmcs.set(vmcs::INTERRUPTIBILITY, shadow | 8);
        exit(&mut vcpu, 12);
        vcpu.skip_instruction();
        assert_eq!(vcpu.vmcs.get(vmcs::INTERRUPTIBILITY), 8);
        assert_eq!(vcpu.instruction_pointer(), 0x20_0002);
    }
}

#[test]
fn injected_exceptions_have_the_form_of_the_manual() {
    let mut vcpu = vcpu();
    let mut injected = |exception| {
        vcpu.inject(exception);
        vcpu.vmcs.get(vmcs::ENTRY_EVENT)
    };
    assert_eq!(injected(GuestException::InvalidOpcode), 0x8000_0306);
    assert_eq!(injected(GuestException::GeneralProtection), 0x8000_0B0D);
    vcpu.vmcs.set(vmcs::EXIT_EVENT, 0x8000_0501);
    vcpu.inject(GuestException::Reflected {
        vector: 1,
        error_code: None,
    });
    assert_eq!(
        vcpu.vmcs.get(vmcs::ENTRY_EVENT),
        0x8000_0501,
        "INT1 stays INT1"
    );
}

#[test]
fn in_real_mode_there_are_no_error_codes() {
    let mut vcpu = vcpu();
    vcpu.vmcs.set(vmcs::CR0, 0x20);
    vcpu.inject(GuestException::GeneralProtection);
    assert_eq!(vcpu.vmcs.get(vmcs::ENTRY_EVENT), 0x8000_030D);
}

#[test]
fn the_guest_sees_its_own_bits_of_cr0_and_cr4() {
    let mut vcpu = vcpu();
    assert_eq!(vcpu.vmcs.get(vmcs::CR4) & 0x2000, 0x2000);
    assert_eq!(vcpu.control_registers().cr4, 0x620);
    // MOV CR0, RDX with the cache disabled and without NE.
    vcpu.frame.registers[RDX] = 0xC001_0013;
    vcpu.vmcs.set(vmcs::EXIT_QUALIFICATION, 2 << 8);
    assert_eq!(exit(&mut vcpu, 28), Exit::Internal);
    assert_eq!(vcpu.control_registers().cr0, 0xC001_0013);
    assert_eq!(vcpu.vmcs.get(vmcs::CR0), 0x8001_0033);
    assert_eq!(vcpu.instruction_pointer(), 0x20_0000, "it tries again");
    vcpu.frame.registers[RDX] = 0xA001_0033;
    assert_eq!(exit(&mut vcpu, 28), Exit::RefusedInstruction);
}

#[test]
fn an_upcall_is_handed_over_when_the_guest_takes_interrupts() {
    let mut vcpu = vcpu();
    let window = |vcpu: &VmxVcpu| vcpu.vmcs.get(vmcs::PRIMARY_CONTROLS) & 4 != 0;
    vcpu.request_upcall(0x40);
    assert!(vcpu.upcall_is_pending() && vcpu.needs_attention);
    vcpu.prepare_upcall();
    assert!(
        vcpu.upcall_is_pending() && window(&vcpu),
        "interrupts are off"
    );
    vcpu.vmcs.set(vmcs::RFLAGS, 0x202);
    vcpu.needs_attention = false;
    assert_eq!(exit(&mut vcpu, 7), Exit::Internal);
    assert!(vcpu.needs_attention);
    vcpu.prepare_upcall();
    assert!(!vcpu.upcall_is_pending() && !window(&vcpu));
    assert_eq!(vcpu.vmcs.get(vmcs::ENTRY_EVENT), 0x8000_0040);
}

#[test]
fn an_upcall_waits_behind_a_shadow_and_behind_another_event() {
    for (field, value) in [
        (vmcs::INTERRUPTIBILITY, 1),
        (vmcs::ENTRY_EVENT, 0x8000_030E),
    ] {
        let mut vcpu = vcpu();
        vcpu.vmcs.set(vmcs::RFLAGS, 0x202);
        vcpu.vmcs.set(field, value);
        vcpu.request_upcall(0x40);
        vcpu.prepare_upcall();
        assert!(vcpu.upcall_is_pending());
        assert_eq!(vcpu.vmcs.get(field), value);
    }
}

#[test]
fn the_preemption_timer_is_late_rather_than_early_and_never_stands_still() {
    let mut vcpu = vcpu();
    let timer = |vcpu: &VmxVcpu| vcpu.vmcs.get(vmcs::PREEMPTION_TIMER);
    vcpu.limit_run(Some(320));
    assert_eq!(timer(&vcpu), 11);
    vcpu.limit_run(Some(0));
    assert_eq!(timer(&vcpu), 1);
    vcpu.vmcs.set(vmcs::PREEMPTION_TIMER, 0);
    assert_eq!(exit(&mut vcpu, 52), Exit::Interrupt);
    assert_eq!(timer(&vcpu), 513);
    vcpu.limit_run(None);
    assert_eq!(timer(&vcpu), u64::from(u32::MAX));
}

#[test]
fn an_entry_that_fails_is_a_bad_state() {
    let mut vcpu = vcpu();
    assert_eq!(exit(&mut vcpu, 0x8000_0021), Exit::BadState);
    assert_eq!(vcpu.left(false), Left::ByExit);
    assert_eq!(vcpu.exit(), Exit::BadState);
}
