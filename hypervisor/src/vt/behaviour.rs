//! What the vcpus of both vendors do, as one list of tests: each vendor has a [`Bed`], with which
//! a test plays the CPU and the guest, and runs the list by `vcpu_behaviours!`.

use nuncio_abi::{RawCall, StateGroups, StateWord};

use super::event::Event;
use super::exit_cases::{Happened, PortAccess};
use super::state::{load, save};
use super::state_behaviour::Page;
use super::{
    start_state, Exit, GuestException, Left, Register, SegmentRegister, StartState, VirtualCpu,
};
use crate::mem::{Frame, GuestPhysical};

/// How every vcpu of the tests starts.
pub const START: StartState = StartState {
    nested_root: Frame(0x99),
    entry: GuestPhysical(0x20_0000),
    page_table: GuestPhysical(0x30_0000),
    stack: GuestPhysical(0xFF_FFF8),
    argument: GuestPhysical(0x100_0000),
};

/// The upcall's vector.
const UPCALL: u8 = 0x40;

/// A vcpu whose CPU and guest are played by a test.
pub trait Bed {
    /// The vcpu.
    type Vcpu: VirtualCpu;

    /// A vcpu that starts in [`START`].
    fn create() -> Self;

    /// The vcpu.
    fn vcpu(&mut self) -> &mut Self::Vcpu;

    /// The guest leaves the CPU.
    fn leave(&mut self, happened: Happened) -> Left;

    /// The guest leaves the CPU while an event is being delivered to it.
    fn interrupt_delivery(&mut self, event: Event, happened: Happened) -> Left;

    /// What the next entry delivers, after all that is done before an entry.
    fn enter(&mut self) -> Event;

    fn set_privilege(&mut self, privilege: u8);

    fn set_rflags(&mut self, rflags: u64);

    /// Puts the guest into the shadow of STI or takes it out.
    fn set_shadow(&mut self, is_in_shadow: bool);

    fn is_in_shadow(&self) -> bool;

    /// Whether translations are looked at before the next entry, and no more after this.
    fn take_attention(&mut self) -> bool;

    /// Whether a flush was asked for since this was last asked.
    fn take_flush(&mut self) -> bool;
}

fn exit(bed: &mut impl Bed, happened: Happened) -> Exit {
    assert_eq!(bed.leave(happened), Left::ByExit);
    bed.vcpu().exit()
}

fn call(bed: &mut impl Bed) -> RawCall {
    assert_eq!(bed.leave(Happened::Call), Left::ByCall);
    bed.vcpu().call()
}

const GENERAL: [Register; 16] = {
    let mut registers = [Register::RAX; 16];
    let mut number = 0;
    while number < 16 {
        registers[number] = Register::numbered(number as u64);
        number += 1;
    }
    registers
};

/// All general registers, in the order of their numbers.
fn registers(bed: &mut impl Bed) -> [u64; 16] {
    GENERAL.map(|register| bed.vcpu().register(register))
}

/// Sets all general registers to different values.
fn fill_registers(bed: &mut impl Bed) {
    for (register, value) in GENERAL.into_iter().zip(100..) {
        bed.vcpu().set_register(register, value);
    }
}

pub fn a_vcpu_starts_as_the_start_state_says<B: Bed>() {
    let mut bed = B::create();
    let mut expected = [0; 16];
    expected[4] = START.stack.0;
    expected[7] = START.argument.0;
    assert_eq!(registers(&mut bed), expected);
    let control = bed.vcpu().control_registers();
    assert_eq!(control.cr0, start_state::CR0);
    assert_eq!(
        (control.cr4, bed.vcpu().cr4()),
        (start_state::CR4, start_state::CR4)
    );
    assert_eq!(control.efer, start_state::EFER);
    assert_eq!(control.page_attributes, start_state::PAGE_ATTRIBUTES);
    assert_eq!(bed.vcpu().instruction_pointer(), START.entry.0);
    assert_eq!(bed.enter(), Event::default());
}

pub fn registers_have_their_numbers<B: Bed>() {
    let mut bed = B::create();
    fill_registers(&mut bed);
    assert_eq!(
        registers(&mut bed),
        core::array::from_fn(|number| number as u64 + 100)
    );
}

pub fn a_call_is_read_from_and_answered_in_the_registers_of_the_abi<B: Bed>() {
    let mut bed = B::create();
    fill_registers(&mut bed);
    let mut expected = registers(&mut bed);
    let call = call(&mut bed);
    assert_eq!(
        (call.verb, call.arguments),
        (100, [107, 106, 102, 110, 108])
    );

    bed.vcpu().set_values(&[10, 11, 12, 13, 14]);
    bed.vcpu().complete_call(0);
    for (number, value) in [(0, 0), (2, 10), (10, 11), (8, 12), (7, 13), (6, 14)] {
        expected[number] = value;
    }
    assert_eq!(registers(&mut bed), expected);
    assert_eq!(bed.vcpu().instruction_pointer(), 0x20_0003);

    bed.vcpu().set_pair(20, 21);
    (expected[2], expected[10]) = (20, 21);
    assert_eq!(registers(&mut bed), expected);
}

pub fn an_error_changes_only_the_status<B: Bed>() {
    let mut bed = B::create();
    fill_registers(&mut bed);
    let mut expected = registers(&mut bed);
    call(&mut bed);
    bed.vcpu().complete_call(2);
    expected[0] = 2;
    assert_eq!(registers(&mut bed), expected);
}

pub fn a_call_from_outside_the_kernel_is_no_call<B: Bed>() {
    let mut bed = B::create();
    bed.set_privilege(3);
    assert_eq!(exit(&mut bed, Happened::Call), Exit::Call { privilege: 3 });
}

pub fn cpuid_and_rdmsr_are_answered_in_their_registers<B: Bed>() {
    let mut bed = B::create();
    fill_registers(&mut bed);
    let mut expected = registers(&mut bed);
    let cpuid = Exit::Cpuid {
        leaf: 100,
        subleaf: 101,
    };
    assert_eq!(exit(&mut bed, Happened::Cpuid), cpuid);
    bed.vcpu().complete_cpuid([1, 2, 3, 4]);
    // EAX, ECX, EDX, EBX.
    expected[..4].copy_from_slice(&[1, 3, 4, 2]);
    assert_eq!(registers(&mut bed), expected);
    assert_eq!(bed.vcpu().instruction_pointer(), 0x20_0002);

    assert_eq!(
        exit(&mut bed, Happened::ReadMsr),
        Exit::MsrRead { index: 3 }
    );
    bed.vcpu().complete_msr_read(0x1234_5678_9ABC_DEF0);
    (expected[0], expected[2]) = (0x9ABC_DEF0, 0x1234_5678);
    assert_eq!(registers(&mut bed), expected);
    assert_eq!(bed.vcpu().instruction_pointer(), 0x20_0004);
}

pub const INPUT: PortAccess = PortAccess {
    port: 0x3F8,
    bytes: 1,
    is_read: true,
    is_string: false,
    repeats: false,
};

pub fn every_instruction_that_can_be_answered_is_moved_past<B: Bed>() {
    for (happened, length) in [
        (Happened::Halt, 1),
        (Happened::Cpuid, 2),
        (Happened::ReadMsr, 2),
        (Happened::WriteMsr, 2),
        (Happened::PortIo(INPUT), 2),
        (Happened::Call, 3),
    ] {
        let mut bed = B::create();
        bed.leave(happened);
        // What is put into registers meanwhile is none of its business.
        fill_registers(&mut bed);
        bed.vcpu().skip_instruction();
        assert_eq!(
            bed.vcpu().instruction_pointer(),
            START.entry.0 + length,
            "{happened:?}"
        );
    }
}

pub fn state_is_loaded_behind_the_instruction_that_was_moved_past<B: Bed>() {
    let mut bed = B::create();
    let page = Page::empty();
    bed.leave(Happened::PortIo(INPUT));
    save(bed.vcpu(), StateGroups::ALL, page.state());
    assert_eq!(page.state().get(StateWord::Rip), START.entry.0);
    load(bed.vcpu(), StateGroups::GENERAL, page.state()).unwrap();
    bed.vcpu().skip_instruction();
    assert_eq!(bed.vcpu().instruction_pointer(), START.entry.0 + 2);
    let others = StateGroups::CONTROL | StateGroups::SEGMENTS | StateGroups::SYSTEM;
    load(bed.vcpu(), others, page.state()).unwrap();
    assert_eq!(bed.vcpu().instruction_pointer(), START.entry.0 + 2);
    save(bed.vcpu(), StateGroups::INSTRUCTION, page.state());
    assert_eq!(page.state().get(StateWord::Rip), START.entry.0 + 2);
    page.state().set(StateWord::Rip, 0x7000);
    load(bed.vcpu(), StateGroups::INSTRUCTION, page.state()).unwrap();
    assert_eq!(bed.vcpu().instruction_pointer(), 0x7000);
}

pub fn an_upcall_goes_by_the_flags_that_were_loaded<B: Bed>() {
    let mut bed = B::create();
    bed.set_rflags(0x202);
    bed.vcpu().request_upcall(UPCALL);
    let page = Page::empty();
    for (rflags, shadow) in [(0x2, 0), (0x202, 1), (0x302, 1), (0x2, 1)] {
        save(bed.vcpu(), StateGroups::INSTRUCTION, page.state());
        page.state().set(StateWord::Rflags, rflags);
        page.state().set(StateWord::Shadow, shadow);
        load(bed.vcpu(), StateGroups::INSTRUCTION, page.state()).unwrap();
        assert_eq!(bed.is_in_shadow(), shadow == 1);
        assert_eq!(bed.enter(), Event::default(), "{rflags:#x} {shadow}");
    }
    page.state().set(StateWord::Rflags, 0x202);
    page.state().set(StateWord::Shadow, 0);
    load(bed.vcpu(), StateGroups::INSTRUCTION, page.state()).unwrap();
    assert_eq!(bed.enter(), Event::interrupt(UPCALL));
}

pub fn the_privilege_level_goes_with_the_stack<B: Bed>() {
    let mut bed = B::create();
    let page = Page::empty();
    save(bed.vcpu(), StateGroups::SEGMENTS, page.state());
    for privilege in [3, 0] {
        let mut stack = page.state().segment(2);
        stack.access = 0xC093 | u16::from(privilege) << 5;
        page.state().set_segment(2, stack);
        load(bed.vcpu(), StateGroups::SEGMENTS, page.state()).unwrap();
        let left = bed.leave(Happened::Call);
        assert_eq!(left == Left::ByCall, privilege == 0);
        if left == Left::ByExit {
            assert_eq!(bed.vcpu().exit(), Exit::Call { privilege });
        }
        bed.set_privilege(1);
        assert_eq!(bed.vcpu().segment(SegmentRegister::Ss).privilege(), 1);
    }
}

pub fn what_a_port_gives_lands_in_rax_as_far_as_it_is_wide<B: Bed>() {
    for (bytes, expected) in [
        (1, 0x1111_2222_3333_44DD),
        (2, 0x1111_2222_3333_CCDD),
        (4, 0xAABB_CCDD),
    ] {
        let mut bed = B::create();
        fill_registers(&mut bed);
        bed.vcpu()
            .set_register(Register::RAX, 0x1111_2222_3333_4444);
        let mut all = registers(&mut bed);
        bed.leave(Happened::PortIo(PortAccess { bytes, ..INPUT }));
        bed.vcpu().set_port_input(bytes, 0xAABB_CCDD);
        all[0] = expected;
        assert_eq!(registers(&mut bed), all);
        assert_eq!(bed.vcpu().instruction_pointer(), START.entry.0);
    }
}

pub fn what_moves_past_an_instruction_ends_its_shadow<B: Bed>() {
    let mut bed = B::create();
    bed.set_shadow(true);
    exit(&mut bed, Happened::Wbinvd);
    bed.vcpu().skip_instruction();
    assert!(!bed.is_in_shadow());
    assert_eq!(bed.vcpu().instruction_pointer(), 0x20_0002);

    bed.set_shadow(true);
    call(&mut bed);
    bed.vcpu().complete_call(0);
    assert!(!bed.is_in_shadow());
}

pub fn an_injected_exception_comes_with_the_next_entry<B: Bed>() {
    for exception in [
        GuestException::InvalidOpcode,
        GuestException::GeneralProtection,
    ] {
        let mut bed = B::create();
        exit(&mut bed, Happened::Rdpmc);
        bed.vcpu().inject(exception);
        assert_eq!(bed.enter(), Event::exception(exception));
        assert_eq!(bed.vcpu().instruction_pointer(), START.entry.0);
    }
}

pub fn a_caught_exception_is_handed_back_as_it_was<B: Bed>() {
    // Not #DB, after which VT-x has the real DR6 written.
    for (vector, error_code) in [(3, None), (17, Some(0))] {
        let mut bed = B::create();
        let exit = exit(&mut bed, Happened::Exception { vector, error_code });
        assert_eq!(exit, Exit::Exception { vector, error_code });
        let exception = GuestException::Reflected { vector, error_code };
        bed.vcpu().inject(exception);
        assert_eq!(bed.enter(), Event::exception(exception));
    }
}

pub fn a_delivery_that_was_interrupted_is_repeated<B: Bed>() {
    let fault = Event::exception(GuestException::Reflected {
        vector: 14,
        error_code: Some(2),
    });
    for event in [fault, Event::interrupt(UPCALL)] {
        let mut bed = B::create();
        let left = bed.interrupt_delivery(event, Happened::Interrupt);
        assert_eq!((left, bed.vcpu().exit()), (Left::ByExit, Exit::Interrupt));
        assert_eq!(bed.enter(), event);
    }
}

pub fn efer_and_page_attributes_are_the_guests<B: Bed>() {
    let mut bed = B::create();
    bed.take_attention();
    for efer in [0, start_state::EFER, 1 << 8] {
        bed.vcpu().set_efer(efer);
        assert_eq!(bed.vcpu().control_registers().efer, efer);
    }
    assert!(!bed.take_attention());
    bed.vcpu().set_page_attributes(0x0606);
    assert_eq!(bed.vcpu().control_registers().page_attributes, 0x0606);
    assert!(bed.take_attention(), "cached memory types must go");
    bed.vcpu().flush_translations();
    assert!(bed.take_attention());
}

pub fn an_upcall_comes_where_the_guest_takes_interrupts<B: Bed>() {
    let mut bed = B::create();
    assert!(!bed.vcpu().upcall_is_pending());
    bed.set_rflags(0x202);
    bed.vcpu().request_upcall(UPCALL);
    assert!(bed.vcpu().upcall_is_pending());
    bed.vcpu().request_upcall(UPCALL);
    assert_eq!(bed.enter(), Event::interrupt(UPCALL), "once");
}

pub fn an_upcall_waits_behind_flag_and_shadow<B: Bed>() {
    for (rflags, is_in_shadow) in [(0x2, false), (0x202, true)] {
        let mut bed = B::create();
        bed.set_rflags(rflags);
        bed.set_shadow(is_in_shadow);
        bed.vcpu().request_upcall(UPCALL);
        assert_eq!(bed.enter(), Event::default());
        assert!(bed.vcpu().upcall_is_pending());
        assert_eq!(bed.is_in_shadow(), is_in_shadow);
    }
}

pub fn an_upcall_waits_behind_an_exception<B: Bed>() {
    let fault = GuestException::GeneralProtection;
    for upcall_is_first in [true, false] {
        let mut bed = B::create();
        bed.set_rflags(0x202);
        exit(&mut bed, Happened::Rdpmc);
        if upcall_is_first {
            bed.vcpu().request_upcall(UPCALL);
        }
        bed.vcpu().inject(fault);
        if !upcall_is_first {
            bed.vcpu().request_upcall(UPCALL);
        }
        assert_eq!(bed.enter(), Event::exception(fault));
        assert!(bed.vcpu().upcall_is_pending());
    }
}

pub fn a_halt_in_the_shadow_of_sti_ends_with_the_upcall_that_was_held_back<B: Bed>() {
    let mut bed = B::create();
    bed.vcpu().request_upcall(UPCALL);
    bed.set_rflags(0x202);
    bed.set_shadow(true);
    let halt = Exit::Halt {
        interrupts_enabled: true,
    };
    assert_eq!(exit(&mut bed, Happened::Halt), halt);
    assert_eq!(bed.enter(), Event::default());
    bed.vcpu().skip_instruction();
    assert!(bed.vcpu().upcall_is_pending());
    assert_eq!(bed.enter(), Event::interrupt(UPCALL));
}

/// One test for each behaviour of the list, on this bed.
macro_rules! vcpu_behaviours {
    ($bed:ty) => {
        vcpu_behaviours! { $bed:
            a_vcpu_starts_as_the_start_state_says,
            registers_have_their_numbers,
            a_call_is_read_from_and_answered_in_the_registers_of_the_abi,
            an_error_changes_only_the_status,
            a_call_from_outside_the_kernel_is_no_call,
            cpuid_and_rdmsr_are_answered_in_their_registers,
            every_instruction_that_can_be_answered_is_moved_past,
            state_is_loaded_behind_the_instruction_that_was_moved_past,
            an_upcall_goes_by_the_flags_that_were_loaded,
            the_privilege_level_goes_with_the_stack,
            what_a_port_gives_lands_in_rax_as_far_as_it_is_wide,
            what_moves_past_an_instruction_ends_its_shadow,
            an_injected_exception_comes_with_the_next_entry,
            a_caught_exception_is_handed_back_as_it_was,
            a_delivery_that_was_interrupted_is_repeated,
            efer_and_page_attributes_are_the_guests,
            an_upcall_comes_where_the_guest_takes_interrupts,
            an_upcall_waits_behind_flag_and_shadow,
            an_upcall_waits_behind_an_exception,
            a_halt_in_the_shadow_of_sti_ends_with_the_upcall_that_was_held_back,
        }
    };
    ($bed:ty: $( $name:ident, )+) => { $(
        #[test]
        fn $name() {
            $crate::vt::behaviour::$name::<$bed>();
        }
    )+ };
}

pub(super) use vcpu_behaviours;
