//! The vcpu over a map in place of the CPU's control structure.

use super::super::exit::tests::fields;
use super::super::probe::tests::GOOD;
use super::super::start_state::write;
use super::*;
use crate::mem::arena::Arena;
use crate::mem::{Account, PhysicalMemory};
use crate::vt::behaviour::{vcpu_behaviours, Bed, START};
use crate::vt::exit_cases::Happened;
use crate::vt::state::{load, save};
use crate::vt::state_behaviour::{state_behaviours, Page};
use nuncio_abi::{StateGroups, StateWord};

struct VmxBed(VmxVcpu);

impl VmxBed {
    fn get(&self, field: vmcs::Field) -> u64 {
        self.0.vmcs.get(field)
    }

    fn set(&self, field: vmcs::Field, value: u64) {
        self.0.vmcs.set(field, value);
    }

    fn leave_for(&mut self, reason: u64) -> Left {
        self.set(vmcs::EXIT_REASON, reason);
        self.0.left(true)
    }

    fn exit(&mut self, reason: u64) -> Exit {
        assert_eq!(self.leave_for(reason), Left::ByExit);
        self.0.exit()
    }

    fn has_window(&self) -> bool {
        self.get(vmcs::PRIMARY_CONTROLS) & 4 != 0
    }
}

impl Bed for VmxBed {
    type Vcpu = VmxVcpu;

    fn create() -> Self {
        let arena = Arena::leak(16, 4);
        let account = Account::new(arena.pool(), 4);
        let frames = [account.allocate(0).unwrap(), account.allocate(0).unwrap()];
        let vmcs = Vmcs::new(frames[0].first().start());
        let words = arena.words(frames[1].first()).unwrap();
        let features = GOOD.features().unwrap();
        let vcpu = VmxVcpu::new(vmcs, frames, words, &START, &features);
        write(&vcpu.vmcs, &START, &features, vcpu.ept_pointer);
        VmxBed(vcpu)
    }

    fn vcpu(&mut self) -> &mut VmxVcpu {
        &mut self.0
    }

    fn leave(&mut self, happened: Happened) -> Left {
        let (reason, fields) = fields(&happened);
        for (field, value) in fields {
            self.set(field, value);
        }
        let length = match happened {
            Happened::Halt => 1,
            Happened::Call => 3,
            _ => 2,
        };
        self.set(vmcs::EXIT_INSTRUCTION_LENGTH, length);
        self.leave_for(u64::from(reason))
    }

    fn interrupt_delivery(&mut self, event: Event, happened: Happened) -> Left {
        // Bit 12 is the CPU's own.
        let information = event.information | 1 << 12;
        self.set(vmcs::VECTORING_EVENT, u64::from(information));
        self.set(vmcs::VECTORING_ERROR_CODE, u64::from(event.error_code));
        self.leave(happened)
    }

    fn enter(&mut self) -> Event {
        self.0.prepare_upcall();
        let event = Event {
            error_code: self.get(vmcs::ENTRY_ERROR_CODE) as u32,
            ..self.0.next_event()
        };
        // The next exit clears it (27.2.4).
        self.set(vmcs::ENTRY_EVENT, 0);
        event
    }

    fn set_privilege(&mut self, privilege: u8) {
        self.set(vmcs::SS_ACCESS, 0xC093 | u64::from(privilege) << 5);
    }

    fn set_rflags(&mut self, rflags: u64) {
        self.set(vmcs::RFLAGS, rflags);
    }

    fn set_shadow(&mut self, is_in_shadow: bool) {
        self.set(vmcs::INTERRUPTIBILITY, u64::from(is_in_shadow));
    }

    fn is_in_shadow(&self) -> bool {
        self.get(vmcs::INTERRUPTIBILITY) & INTERRUPT_SHADOW != 0
    }

    fn take_attention(&mut self) -> bool {
        core::mem::take(&mut self.0.needs_attention)
    }

    fn take_flush(&mut self) -> bool {
        self.0.vpid.take_request()
    }
}

vcpu_behaviours!(VmxBed);
state_behaviours!(VmxBed);

#[test]
fn the_blocking_of_nmis_is_no_shadow() {
    for shadow in [1, 2] {
        let mut bed = VmxBed::create();
        bed.set(vmcs::INTERRUPTIBILITY, shadow | 8);
        bed.leave(Happened::Wbinvd);
        bed.0.skip_instruction();
        assert_eq!(bed.get(vmcs::INTERRUPTIBILITY), 8);
    }
}

#[test]
fn a_debug_exception_of_int1_stays_one() {
    let mut bed = VmxBed::create();
    bed.set(vmcs::EXIT_EVENT, 0x8000_0501);
    bed.0.inject(GuestException::Reflected {
        vector: 1,
        error_code: None,
    });
    assert_eq!(bed.get(vmcs::ENTRY_EVENT), 0x8000_0501);
}

#[test]
fn in_real_mode_there_are_no_error_codes() {
    let mut bed = VmxBed::create();
    bed.set(vmcs::CR0, 0x20);
    bed.0.inject(GuestException::GeneralProtection);
    assert_eq!(bed.get(vmcs::ENTRY_EVENT), 0x8000_030D);
}

#[test]
fn the_guest_sees_its_own_bits_of_cr0_and_cr4() {
    let mut bed = VmxBed::create();
    assert_eq!(bed.get(vmcs::CR4) & 0x2000, 0x2000);
    assert_eq!(bed.0.cr4(), 0x620);
    // MOV CR0, RDX with the cache disabled and without NE.
    bed.0.set_register(Register::RDX, 0xC001_0013);
    bed.set(vmcs::EXIT_QUALIFICATION, 2 << 8);
    assert_eq!(bed.exit(28), Exit::Internal);
    assert_eq!(bed.0.control_registers().cr0, 0xC001_0013);
    assert_eq!(bed.get(vmcs::CR0), 0x8001_0033);
    assert_eq!(bed.0.instruction_pointer(), 0x20_0000, "it tries again");
    bed.0.set_register(Register::RDX, 0xA001_0033);
    assert_eq!(bed.exit(28), Exit::RefusedInstruction);
}

#[test]
fn an_upcall_that_waits_asks_for_an_exit_when_interrupts_are_taken() {
    let mut bed = VmxBed::create();
    bed.take_attention();
    bed.0.request_upcall(0x40);
    assert!(bed.take_attention());
    assert_eq!(bed.enter(), Event::default());
    assert!(bed.0.upcall_is_pending() && bed.has_window());
    bed.set_rflags(0x202);
    assert_eq!(bed.exit(7), Exit::Internal);
    assert!(bed.take_attention());
    assert_eq!(bed.enter(), Event::interrupt(0x40));
    assert!(!bed.0.upcall_is_pending() && !bed.has_window());
}

#[test]
fn the_preemption_timer_is_late_rather_than_early_and_never_stands_still() {
    let mut bed = VmxBed::create();
    bed.0.limit_run(Some(320));
    assert_eq!(bed.get(vmcs::PREEMPTION_TIMER), 11);
    bed.0.limit_run(Some(0));
    assert_eq!(bed.get(vmcs::PREEMPTION_TIMER), 1);
    bed.set(vmcs::PREEMPTION_TIMER, 0);
    assert_eq!(bed.exit(52), Exit::Interrupt);
    assert_eq!(bed.get(vmcs::PREEMPTION_TIMER), 513);
    bed.0.limit_run(None);
    assert_eq!(bed.get(vmcs::PREEMPTION_TIMER), u64::from(u32::MAX));
}

#[test]
fn an_entry_that_fails_is_a_bad_state() {
    let mut bed = VmxBed::create();
    assert_eq!(bed.exit(0x8000_0021), Exit::BadState);
    assert_eq!(bed.0.left(false), Left::ByExit);
    assert_eq!(bed.0.exit(), Exit::BadState);
}

/// Loads these control registers through a state page.
fn load_control(bed: &mut VmxBed, cr0: u64, cr4: u64, efer: u64) {
    let page = Page::empty();
    save(&bed.0, StateGroups::CONTROL, page.state());
    for (word, value) in [
        (StateWord::Cr0, cr0),
        (StateWord::Cr4, cr4),
        (StateWord::Efer, efer),
    ] {
        page.state().set(word, value);
    }
    load(&mut bed.0, StateGroups::CONTROL, page.state()).unwrap();
}

#[test]
fn a_mode_that_is_loaded_keeps_the_hypervisors_bits() {
    let mut bed = VmxBed::create();
    load_control(&mut bed, 0x6000_0010, 0, 0);
    // NE, which must be 1, and VMXE; the cache stays on.
    assert_eq!((bed.get(vmcs::CR0), bed.get(vmcs::CR4)), (0x30, 0x2000));
    assert_eq!(bed.get(vmcs::CR0_SHADOW), 0x6000_0010);
    assert_eq!(bed.get(vmcs::ENTRY_CONTROLS) & 1 << 9, 0);
    load_control(&mut bed, 0x8000_0011, 0x20, 0x500);
    assert_eq!(
        (bed.get(vmcs::CR0), bed.get(vmcs::CR4)),
        (0x8000_0031, 0x2020)
    );
    assert_eq!(bed.get(vmcs::ENTRY_CONTROLS) & 1 << 9, 1 << 9);
}

#[test]
fn a_shadow_that_is_loaded_is_one_that_can_be_entered() {
    for (rflags, blocking, pending) in [(0x2, 2, 0), (0x202, 1, 0), (0x302, 1, 1 << 14)] {
        let mut bed = VmxBed::create();
        bed.set(vmcs::INTERRUPTIBILITY, 8 | 3);
        bed.set(vmcs::PENDING_DEBUG, 1 << 14);
        bed.set_rflags(rflags);
        bed.0.set_shadow(true);
        assert_eq!(bed.get(vmcs::INTERRUPTIBILITY), 8 | blocking);
        assert_eq!(bed.get(vmcs::PENDING_DEBUG), pending);
    }
}

#[test]
fn the_task_priority_lies_where_the_cpu_has_it() {
    let mut bed = VmxBed::create();
    bed.0.set_system_register(SystemRegister::Cr8, 0xF);
    assert_eq!(bed.0.virtual_apic[16].load(Relaxed), 0xF0);
}
