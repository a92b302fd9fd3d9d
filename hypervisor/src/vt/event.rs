//! Events that an entry delivers to a guest. Both vendors write them in the same way (Intel SDM
//! vol. 3, 24.8.3; AMD APM vol. 2, section 15.20).

#![forbid(unsafe_code)]

use super::GuestException;

/// Exceptions that are caught on their way to the guest, one bit each. #DB (1) and #AC (17) can be
/// made to loop inside the CPU without end; #MC (18) is the machine's, not the guest's.
pub const CAUGHT_EXCEPTIONS: u32 = 1 << 1 | 1 << 17 | 1 << 18;

/// RFLAGS, bit 9: the guest takes interrupts.
pub const RFLAGS_INTERRUPT: u64 = 1 << 9;

const INVALID_OPCODE: u8 = 6;
const GENERAL_PROTECTION: u8 = 13;

/// An event, or none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// Vector, kind, whether there is an error code, and whether there is an event at all.
    pub information: u32,
    /// The error code.
    pub error_code: u32,
}

impl Event {
    /// There is an event.
    const VALID: u32 = 1 << 31;
    /// It has an error code.
    const HAS_ERROR_CODE: u32 = 1 << 11;
    const KIND: u32 = 7 << 8;
    const EXTERNAL_INTERRUPT: u32 = 0;
    const NMI: u32 = 2 << 8;
    const EXCEPTION: u32 = 3 << 8;
    const VECTOR: u32 = 0xFF;
    /// What of an interrupted delivery goes into the next one; the other bits are the CPU's own.
    const DELIVERED: u32 = Self::VALID | Self::HAS_ERROR_CODE | Self::KIND | Self::VECTOR;

    /// An interrupt.
    pub const fn interrupt(vector: u8) -> Self {
        Event {
            information: Self::VALID | Self::EXTERNAL_INTERRUPT | vector as u32,
            error_code: 0,
        }
    }

    /// An exception.
    pub const fn exception(exception: GuestException) -> Self {
        let (vector, error_code) = match exception {
            GuestException::InvalidOpcode => (INVALID_OPCODE, None),
            GuestException::GeneralProtection => (GENERAL_PROTECTION, Some(0)),
            GuestException::Reflected { vector, error_code }
            | GuestException::Raised { vector, error_code } => (vector, error_code),
        };
        let information = Self::VALID | Self::EXCEPTION | vector as u32;
        match error_code {
            None => Event {
                information,
                error_code: 0,
            },
            Some(error_code) => Event {
                information: information | Self::HAS_ERROR_CODE,
                error_code,
            },
        }
    }

    /// The delivery that an exit has interrupted, to be delivered again.
    pub const fn interrupted(information: u64, error_code: u64) -> Self {
        Event {
            information: information as u32 & Self::DELIVERED,
            error_code: error_code as u32,
        }
    }

    /// Whether there is an event.
    #[inline]
    pub const fn is_valid(&self) -> bool {
        self.information & Self::VALID != 0
    }

    /// The vector.
    pub const fn vector(&self) -> u8 {
        (self.information & Self::VECTOR) as u8
    }

    /// The vector, if it is an interrupt.
    pub const fn interrupt_vector(&self) -> Option<u8> {
        if self.is_valid() && self.information & Self::KIND == Self::EXTERNAL_INTERRUPT {
            Some(self.vector())
        } else {
            None
        }
    }

    /// Whether it is an NMI.
    pub const fn is_nmi(&self) -> bool {
        self.information & Self::KIND == Self::NMI
    }

    /// The error code, if it has one.
    pub const fn error_code(&self) -> Option<u32> {
        if self.information & Self::HAS_ERROR_CODE != 0 {
            Some(self.error_code)
        } else {
            None
        }
    }

    /// The same event of the kind that `other` is.
    pub const fn of_kind(self, other: Event) -> Self {
        Event {
            information: self.information & !Self::KIND | other.information & Self::KIND,
            ..self
        }
    }

    /// The same event without its error code.
    pub const fn without_error_code(self) -> Self {
        Event {
            information: self.information & !Self::HAS_ERROR_CODE,
            ..self
        }
    }
}

/// Whether a guest takes an interrupt at its next entry: its flag is set, no instruction of its
/// casts a shadow, and no other event is on its way.
pub const fn takes_interrupt(rflags: u64, is_in_shadow: bool, next: Event) -> bool {
    rflags & RFLAGS_INTERRUPT != 0 && !is_in_shadow && !next.is_valid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_have_the_form_of_the_manuals() {
        let information = |exception| Event::exception(exception).information;
        assert_eq!(information(GuestException::InvalidOpcode), 0x8000_0306);
        assert_eq!(information(GuestException::GeneralProtection), 0x8000_0B0D);
        let fault = Event::exception(GuestException::Reflected {
            vector: 14,
            error_code: Some(2),
        });
        assert_eq!((fault.information, fault.error_code), (0x8000_0B0E, 2));
        assert_eq!(fault.without_error_code().information, 0x8000_030E);
        assert_eq!(Event::interrupt(0x40).information, 0x8000_0040);
    }

    #[test]
    fn an_interrupted_delivery_loses_the_bits_that_are_the_cpus_own() {
        let event = Event::interrupted(0x8000_1B0E, 2);
        assert_eq!(
            (event.information, event.error_code()),
            (0x8000_0B0E, Some(2))
        );
        assert!(!Event::interrupted(0x0000_0B0E, 2).is_valid());
    }

    #[test]
    fn only_interrupts_are_interrupts() {
        assert_eq!(Event::interrupt(0x40).interrupt_vector(), Some(0x40));
        let fault = Event::exception(GuestException::GeneralProtection);
        assert_eq!(fault.interrupt_vector(), None);
        assert_eq!(Event::default().interrupt_vector(), None);
    }

    #[test]
    fn an_interrupt_waits_for_flag_shadow_and_other_events() {
        let none = Event::default();
        assert!(takes_interrupt(0x202, false, none));
        assert!(!takes_interrupt(0x002, false, none));
        assert!(!takes_interrupt(0x202, true, none));
        assert!(!takes_interrupt(0x202, false, Event::interrupt(0x40)));
    }
}
