//! The ground on which the program runs when it judges a hypervisor.

use nuncio_abi::{RawCall, VcpuPage, MAX_VALUES};

use super::{judge, Ground};
use crate::hv::Machine;
use crate::instructions::{
    disable_interrupts, enable_interrupts, enable_interrupts_and_halt, time_stamp_counter,
};
use crate::machine::Native;
use crate::programs::{probe, Context, ExitCode};
use crate::trap::{upcall, UPCALL_VECTOR};

/// Runs the program.
pub fn run(context: &mut Context<'_, Native>) -> ExitCode {
    judge(context.machine, context.boot, context.out)
}

impl Ground for Native {
    fn call(&self, raw: RawCall) -> (u64, [u64; MAX_VALUES]) {
        self.text().call_registers(raw)
    }

    fn page(&self) -> VcpuPage<'_> {
        self.vcpu_page()
    }

    fn now_ns(&self) -> u64 {
        Machine::now_ns(self)
    }

    fn now_ns_by_hand(&self) -> u64 {
        Native::now_ns_by_hand(self)
    }

    fn counter(&self) -> u64 {
        time_stamp_counter()
    }

    fn changed_over(&self, verb: u64, argument: u64) -> Option<&'static str> {
        let has_avx = probe::enable_avx();
        (1..4).find_map(|seed| {
            let (before, after) = probe::over_call(self, seed, 1, verb, argument, has_avx);
            probe::first_difference(&before, &after)
        })
    }

    fn changed_over_clock(&self) -> Option<&'static str> {
        let has_avx = probe::enable_avx();
        (1..4).find_map(|seed| {
            let (before, after) = probe::over_clock(self, seed, has_avx);
            probe::first_difference(&before, &after)
        })
    }

    fn upcalls_during(&self, halts: bool, action: &mut dyn FnMut()) -> u64 {
        let before = upcall::count();
        self.vcpu_page().set_upcall_vector(UPCALL_VECTOR);
        if halts {
            action();
            enable_interrupts_and_halt();
        } else {
            enable_interrupts();
            action();
        }
        disable_interrupts();
        self.vcpu_page().set_upcall_vector(0);
        upcall::count() - before
    }

    fn collected(&self, slot: usize) -> u64 {
        self.collected_by_upcall(slot, u64::MAX)
    }
}
