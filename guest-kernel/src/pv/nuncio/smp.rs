//! The domain's vcpus.

use nuncio_abi::Error;

use super::irq_chip::{bit, far_end};
use super::{machine_with_event, Place, Refusal};
use crate::hv::{Client, Start};
use crate::interface::{CpuNumber, CpuStart, Signal, Smp, StartError};
use crate::machine::Native;

struct Vcpus(&'static Native);

static VCPUS: spin::Once<Vcpus> = spin::Once::new();

impl Smp for Vcpus {
    fn count(&self) -> usize {
        self.0.boot_info().vcpus().len().max(1)
    }

    fn start(&self, cpu: CpuNumber, start: &CpuStart) -> Result<(), StartError> {
        let machine = Native::current().ok_or(StartError::NoSuchCpu)?;
        let client = Client::new(machine, machine.boot_info());
        let vcpu = client.vcpu(cpu).map_err(start_error)?;
        machine.install_other(cpu).map_err(start_error)?;
        let started = vcpu.start(Start {
            entry: start.entry as *const () as u64,
            // As after a call: a multiple of 16 less the return address.
            stack: start.stack_top - 8,
            argument: start.argument,
            page_table: start.page_table,
        });
        started.map_err(start_error)
    }

    fn signal(&self, cpu: CpuNumber, signal: Signal) {
        let event = Native::current().and_then(|machine| far_end(machine, cpu));
        if let Some(event) = event {
            // The event is never closed, so this does not fail.
            let _ = event.notify(bit(signal));
        }
    }
}

fn start_error(error: Error) -> StartError {
    match error {
        Error::BadArgument | Error::BadHandle => StartError::NoSuchCpu,
        Error::WrongState => StartError::Running,
        error => StartError::Hypervisor(error.number()),
    }
}

pub(super) fn open(place: &Place) -> Result<&'static dyn Smp, Refusal> {
    let machine = machine_with_event(place)?;
    Ok(VCPUS.call_once(|| Vcpus(machine)))
}
