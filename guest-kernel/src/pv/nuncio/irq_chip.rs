//! Interrupts: each vcpu has an event in its own page, whose bits say what it is interrupted for.
//!
//! The upcall arrives at one vector and takes all bits that are set, so what comes together is one interrupt.

use core::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Release},
};

use nuncio_abi::Handle;

use super::{machine, Place, Refusal};
use crate::hv::{Client, Event, Machine, Object};
use crate::interface::{Interrupt, IrqChip, Line, NoSuchLine, Signal};
use crate::machine::Native;
use crate::trap::{UPCALL_VECTOR, VCPUS};

/// The slot of the event in each vcpu's page, which manifests do not use.
const SLOT: usize = 61;
/// The bit of the timer; those of the signals follow.
pub(super) const TIMER: u64 = 1 << 0;

/// The handles by which each vcpu's event is notified; 0 before the vcpu has one.
static FAR_ENDS: [AtomicU64; VCPUS] = [const { AtomicU64::new(0) }; VCPUS];

struct Events;

/// The bit of a signal.
pub(super) const fn bit(signal: Signal) -> u64 {
    TIMER << (1 + signal.number())
}

const ALL: u64 = TIMER | bit(Signal::Reschedule) | bit(Signal::Flush) | bit(Signal::Halt);

impl IrqChip for Events {
    fn start_cpu(&self) {
        let Some(machine) = Native::current() else {
            return;
        };
        let client = Client::new(machine, machine.boot_info());
        let event = match client.create_event(SLOT) {
            Ok(event) => event,
            Err(error) => panic!("the domain cannot pay for an event: {error}"),
        };
        FAR_ENDS[machine.vcpu_number()].store(event.far.object().handle().raw(), Release);
        let page = machine.vcpu_page();
        if let Some(word) = page.slot(SLOT) {
            word.enable(ALL);
        }
        page.set_upcall_vector(UPCALL_VECTOR);
    }

    fn take(&self, vector: u8, handle: &mut dyn FnMut(Interrupt)) {
        let machine = Native::current().filter(|_| vector == UPCALL_VECTOR);
        let word = machine.and_then(|machine| machine.vcpu_page().slot(SLOT));
        let bits = word.map_or(0, |word| word.take());
        if bits & TIMER != 0 {
            handle(Interrupt::Timer);
        }
        for signal in Signal::ALL {
            if bits & bit(signal) != 0 {
                handle(Interrupt::Signal(signal));
            }
        }
    }

    fn enable(&self, _: Line) -> Result<(), NoSuchLine> {
        // The console's port sends, and does not receive.
        Err(NoSuchLine)
    }
}

/// The end by which a vcpu's event is notified; `None` before it has one.
pub(super) fn far_end(machine: &'static Native, vcpu: usize) -> Option<Event<'static, Native>> {
    let raw = FAR_ENDS.get(vcpu)?.load(Acquire);
    let handle = Handle::from_raw(raw).filter(|_| raw != 0)?;
    Some(Event::new(Object::new(machine, handle), SLOT))
}

pub(super) fn open(place: &Place) -> Result<&'static dyn IrqChip, Refusal> {
    machine(place)?;
    Ok(&Events)
}
