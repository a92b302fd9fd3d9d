//! Control blocks in a stretch of ordinary memory, with exits made up.

use super::super::exit::tests::raw;
use super::super::probe::tests::GOOD;
use super::*;
use crate::mem::arena::Arena;
use crate::mem::{Account, PhysicalMemory};
use crate::vt::behaviour::{vcpu_behaviours, Bed, START};
use crate::vt::exit_cases::Happened;
use crate::vt::state_behaviour::state_behaviours;

struct SvmBed(SvmVcpu);

impl Bed for SvmBed {
    type Vcpu = SvmVcpu;

    fn create() -> Self {
        let arena = Arena::leak(16, 4);
        let account = Account::new(arena.pool(), 4);
        let frame = account.allocate(0).unwrap();
        let words = arena.words(frame.first()).unwrap();
        SvmBed(SvmVcpu::new(
            frame,
            words,
            &START,
            &GOOD.features().unwrap(),
        ))
    }

    fn vcpu(&mut self) -> &mut SvmVcpu {
        &mut self.0
    }

    fn leave(&mut self, happened: Happened) -> Left {
        let raw = raw(&happened);
        for (field, value) in [
            (vmcb::EXIT_CODE, raw.code),
            (vmcb::EXIT_INFO_1, raw.info_1),
            (vmcb::EXIT_INFO_2, raw.info_2),
        ] {
            self.0.vmcb.set(field, value);
        }
        self.0.left()
    }

    fn interrupt_delivery(&mut self, event: Event, happened: Happened) -> Left {
        let word = u64::from(event.information) | u64::from(event.error_code) << 32;
        self.0.vmcb.set(vmcb::EXIT_INTERRUPT_INFO, word);
        self.leave(happened)
    }

    fn enter(&mut self) -> Event {
        self.0.next_event()
    }

    fn set_privilege(&mut self, privilege: u8) {
        self.0.vmcb.set(vmcb::PRIVILEGE, u64::from(privilege) << 24);
    }

    fn set_rflags(&mut self, rflags: u64) {
        self.0.vmcb.set(vmcb::RFLAGS, rflags);
    }

    fn set_shadow(&mut self, is_in_shadow: bool) {
        self.0
            .vmcb
            .set(vmcb::INTERRUPT_SHADOW, u64::from(is_in_shadow));
    }

    fn is_in_shadow(&self) -> bool {
        self.0.is_in_shadow()
    }

    fn take_attention(&mut self) -> bool {
        core::mem::take(&mut self.0.asid_is_stale)
    }

    fn take_flush(&mut self) -> bool {
        self.0.asid.take_request()
    }
}

vcpu_behaviours!(SvmBed);
state_behaviours!(SvmBed);

#[test]
fn the_next_rip_is_taken_from_the_cpu_where_it_gives_one() {
    let mut bed = SvmBed::create();
    bed.0.has_next_rip = true;
    bed.leave(Happened::Cpuid);
    bed.0.vmcb.set(vmcb::NEXT_RIP, 0x20_0004);
    bed.0.complete_cpuid([1, 2, 3, 4]);
    assert_eq!(bed.0.instruction_pointer(), 0x20_0004);
}

#[test]
fn the_guest_never_sees_nor_clears_the_svm_bit() {
    let mut bed = SvmBed::create();
    assert_eq!(bed.0.control_registers().efer & EFER_SVME, 0);
    bed.0.set_efer(0);
    assert_ne!(bed.0.vmcb.get(vmcb::EFER) & EFER_SVME, 0);
}

#[test]
fn a_waiting_upcall_leaves_the_task_priority_alone() {
    let mut bed = SvmBed::create();
    let vmcb = bed.0.vmcb;
    vmcb.set(vmcb::VIRTUAL_INTERRUPT, VirtualInterrupt::MASKING | 0xF);
    bed.0.request_upcall(0x40);
    let word = vmcb.get(vmcb::VIRTUAL_INTERRUPT);
    assert_eq!((word >> 32, word & 0xFF), (0x40, 0xF), "CR8 stays");
    assert!(bed.0.upcall_is_held());
}

#[test]
fn an_upcall_is_injected_or_held_and_never_both() {
    let mut bed = SvmBed::create();
    bed.set_rflags(0x202);
    for _ in 0..2 {
        bed.0.request_upcall(0x40);
        assert_eq!(bed.enter(), Event::interrupt(0x40));
        assert!(!bed.0.upcall_is_held());
    }
    let fault = GuestException::GeneralProtection;
    bed.0.inject(fault);
    for _ in 0..2 {
        assert_eq!(bed.enter(), Event::exception(fault));
        assert!(
            bed.0.upcall_is_held(),
            "after the exception, it is still due"
        );
        assert_eq!(bed.0.vmcb.get(vmcb::VIRTUAL_INTERRUPT) >> 32, 0x40);
        bed.0.request_upcall(0x40);
    }
}
