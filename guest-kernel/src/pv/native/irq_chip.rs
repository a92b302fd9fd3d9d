//! Interrupts by the local APIC.
// UNSAFETY: port I/O to the old interrupt controllers.
#![allow(unsafe_code)]

use super::local_apic::{LocalApic, Register};
use super::IRQ_CHIP;
use crate::instructions::write_port;
use crate::interface::{Identity, Interrupt, IrqChip, Line, NoSuchLine, Refusal, Signal};
use crate::pv::Place;

/// The vector of the timer; those of the signals follow. Vectors of one class, so none overtakes another.
pub(super) const TIMER_VECTOR: u8 = 0xE0;
/// The vector of an interrupt that was withdrawn; it wants no end.
const SPURIOUS_VECTOR: u8 = 0xFF;
const SOFTWARE_ENABLED: u32 = 1 << 8;
const MASKED: u32 = 1 << 16;

/// Both 8259s: where their vectors are set, and the masks.
const PIC_COMMANDS: [u16; 2] = [0x20, 0xA0];
const PIC_DATA: [u16; 2] = [0x21, 0xA1];
/// Vectors for what they send in spite of their masks: not those of exceptions.
const PIC_VECTORS: [u8; 2] = [0xF0, 0xF8];
/// The second hangs on line 2 of the first.
const PIC_CASCADE: [u8; 2] = [1 << 2, 2];

struct Apic(LocalApic);

static CHIP: spin::Once<Apic> = spin::Once::new();

/// The vector of a signal.
pub(super) const fn vector(signal: Signal) -> u8 {
    TIMER_VECTOR + 1 + signal.number()
}

impl IrqChip for Apic {
    fn start_cpu(&self) {
        let Apic(apic) = *self;
        apic.switch_on();
        apic.write(Register::TaskPriority, 0);
        apic.write(Register::Line0Entry, MASKED);
        apic.write(Register::TimerEntry, MASKED);
        apic.write(Register::ErrorStatus, 0);
        let spurious = SOFTWARE_ENABLED | u32::from(SPURIOUS_VECTOR);
        apic.write(Register::Spurious, spurious);
    }

    fn take(&self, vector: u8, handle: &mut dyn FnMut(Interrupt)) {
        let Some(interrupt) = interrupt(vector) else {
            return;
        };
        self.0.write(Register::EndOfInterrupt, 0);
        handle(interrupt);
    }

    fn enable(&self, _: Line) -> Result<(), NoSuchLine> {
        Err(NoSuchLine)
    }
}

/// What a vector means.
fn interrupt(vector: u8) -> Option<Interrupt> {
    let number = vector.checked_sub(TIMER_VECTOR)?;
    match number.checked_sub(1) {
        None => Some(Interrupt::Timer),
        Some(signal) => {
            let signal = Signal::ALL.get(usize::from(signal))?;
            Some(Interrupt::Signal(*signal))
        }
    }
}

/// Nothing comes from the old interrupt controllers any more (Intel 8259A data sheet).
fn silence_pics() {
    for pic in 0..2 {
        let data = [PIC_VECTORS[pic], PIC_CASCADE[pic], 0x01, 0xFF];
        // SAFETY: the controllers' ports; the kernel takes no interrupt from them. Edges, a cascade, four words;
        // then vectors, cascade, 8086 mode, and all lines masked.
        unsafe {
            write_port(PIC_COMMANDS[pic], 0x11);
            for byte in data {
                write_port(PIC_DATA[pic], byte);
            }
        }
    }
}

/// The local APIC, if that is what brings interrupts.
pub(super) fn chosen(place: &Place) -> Result<LocalApic, Refusal> {
    let own = Identity {
        backend: super::NAME,
        server: IRQ_CHIP,
    };
    if place.irq_chip != Some(own) {
        return Err(Refusal("it interrupts by the local APIC only"));
    }
    LocalApic::find()
}

pub(super) fn open(place: &Place) -> Result<&'static dyn IrqChip, Refusal> {
    place.devices()?;
    let apic = LocalApic::find()?;
    silence_pics();
    Ok(CHIP.call_once(|| Apic(apic)))
}
