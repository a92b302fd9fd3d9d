//! What holds for every verb that takes a handle.

use alloc::string::String;
use alloc::vec::Vec;

use nuncio_abi::{Error, ObjectKind, Rights, Verb};

use super::subject::Arguments;
use super::{Subject, Verdict};

/// Every right that a handle can have.
pub(super) const ALL: Rights = match Rights::from_bits(0x7FFF) {
    Some(rights) => rights,
    None => Rights::NONE,
};

/// A call with a handle in one of its registers.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) verb: Verb,
    /// The call, right in everything else.
    pub(super) arguments: Arguments,
    /// The register: 0 is RDI.
    pub(super) register: usize,
}

impl Place {
    pub(super) const fn at(register: usize, verb: Verb, arguments: Arguments) -> Self {
        Place {
            verb,
            arguments,
            register,
        }
    }

    pub(super) const fn first(verb: Verb, arguments: Arguments) -> Self {
        Place {
            verb,
            arguments,
            register: 0,
        }
    }

    fn with(mut self, handle: u64) -> Arguments {
        if let Some(register) = self.arguments.get_mut(self.register) {
            *register = handle;
        }
        self.arguments
    }

    fn good(&self) -> u64 {
        self.arguments.get(self.register).copied().unwrap_or(0)
    }

    /// Never given, closed, of another generation, and with bits where none belong.
    pub(super) fn wants_a_handle(self, subject: &Subject<'_>) -> Verdict {
        subject.refuses(self.verb, self.with(0), Error::BadHandle)?;
        self.wants_a_handle_or_none(subject)
    }

    /// As [`Place::wants_a_handle`] where 0 stands for no handle.
    pub(super) fn wants_a_handle_or_none(self, subject: &Subject<'_>) -> Verdict {
        let good = self.good();
        let generation = ((good >> 16) + 1) & 0xFFFF;
        for handle in [
            good & 0xFFFF | 1 << 15,
            0xFFFF,
            0x1_FFFF,
            0xFFFF_FFFF,
            good & 0xFFFF | generation << 16,
            good | 1 << 32,
            good | 1 << 63,
            u64::MAX,
            subject.closed()?,
        ] {
            subject.refuses(self.verb, self.with(handle), Error::BadHandle)?;
        }
        Ok(())
    }

    /// A handle of every kind but that one.
    pub(super) fn wants_kind(self, subject: &Subject<'_>, kind: ObjectKind) -> Verdict {
        for (found, handle) in one_of_each(subject)? {
            if found != kind {
                subject.refuses(self.verb, self.with(handle), Error::WrongKind)?;
            }
        }
        Ok(())
    }

    /// That handle lacks the right.
    pub(super) fn wants_right(self, subject: &Subject<'_>, lacking: u64) -> Verdict {
        subject.refuses(self.verb, self.with(lacking), Error::MissingRight)
    }
}

/// A handle of each kind, with as many rights as a handle of it can have.
pub(super) fn one_of_each(subject: &Subject<'_>) -> Result<Vec<(ObjectKind, u64)>, String> {
    let port = subject.port(1)?;
    let event = subject.event(super::subject::SLOT)?;
    let child = subject.child()?;
    let memory = subject.memory(1)?;
    let vcpu = subject.vcpu(child, memory)?;
    Ok([
        (ObjectKind::Domain, child.domain),
        (ObjectKind::Vcpu, vcpu),
        (ObjectKind::Space, child.space),
        (ObjectKind::Domain, subject.given("domain", Rights::NONE)?),
        (ObjectKind::Vcpu, subject.given("vcpu", Rights::NONE)?),
        (ObjectKind::Space, subject.given("space", Rights::NONE)?),
        (ObjectKind::Memory, memory),
        (ObjectKind::Port, port.far),
        (ObjectKind::Port, port.near),
        (ObjectKind::Port, subject.given("console", Rights::NONE)?),
        (ObjectKind::Event, event.far),
        (ObjectKind::Event, event.near),
        (ObjectKind::Timer, subject.timer(event.far, 1)?),
    ]
    .into())
}
