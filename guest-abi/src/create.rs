//! What `create` can make, and of which size.

use crate::call::handle;
use crate::{Error, Handle, ObjectKind, MAX_ARGUMENTS};

/// The longest that an event may be throttled for, in nanoseconds: an hour.
pub const MAX_INTERVAL_NS: u64 = 3_600_000_000_000;

/// An object to be made from the caller's own quota.
///
/// A receiver with several senders makes one event for each, all in one slot, so that none of them can
/// wake it more often than it likes:
///
/// ```
/// use nuncio_abi::{Call, Create};
///
/// let millisecond = Create::Event { slot: 3, interval_ns: 1_000_000 };
/// let arguments = Call::Create(millisecond).encode().arguments;
/// assert_eq!(arguments, [6, 3, 1_000_000, 0, 0]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Create {
    /// Zeroed pages.
    Memory {
        /// Their length: a multiple of 4096, up to 16 MiB.
        bytes: u64,
    },
    /// A port to which the calling vcpu is the receiver.
    Port {
        /// How many messages it can hold, 1 to 256.
        capacity: u64,
        /// The slot of the vcpu page at which messages are announced, 0 to 63.
        slot: u64,
    },
    /// An event for which the calling vcpu waits.
    Event {
        /// The slot of the vcpu page in which its bits are set, 0 to 63.
        slot: u64,
        /// The least nanoseconds between two postings through it, up to [`MAX_INTERVAL_NS`]; 0 for none.
        /// What is notified in between is posted when they are over.
        interval_ns: u64,
    },
    /// A domain with a space of its own and no vcpu yet.
    Domain {
        /// Frames of 4096 bytes that it may use, taken from the caller's.
        frames: u64,
        /// Bytes of the hypervisor's memory that it may use, taken from the caller's.
        kernel_bytes: u64,
        /// An event with [`crate::Rights::NOTIFY`] that is told when it stops, if any.
        event: Option<Handle>,
        /// The bits of the event.
        bits: u64,
    },
    /// A space in which no domain lives.
    Space,
    /// The vcpu of a domain.
    Vcpu {
        /// The domain, with [`crate::Rights::BUILD`].
        domain: Handle,
        /// Memory with [`crate::Rights::WRITE`], whose first page becomes the vcpu page.
        page: Handle,
        /// A port, with [`crate::Rights::SEND`], to which its exits go; only with `state`. Without
        /// one the vcpu runs by [`crate::Verb::Run`] alone.
        monitor: Option<Handle>,
        /// Memory as that of `page`, whose first page becomes the state page of a vcpu that has a
        /// monitor.
        state: Option<Handle>,
    },
    /// A timer.
    Timer {
        /// An event with [`crate::Rights::NOTIFY`].
        event: Handle,
        /// The bits of it that are set when the timer is due.
        bits: u64,
    },
}

impl Create {
    /// The kind of the object.
    pub const fn kind(&self) -> ObjectKind {
        match self {
            Create::Memory { .. } => ObjectKind::Memory,
            Create::Port { .. } => ObjectKind::Port,
            Create::Event { .. } => ObjectKind::Event,
            Create::Timer { .. } => ObjectKind::Timer,
            Create::Domain { .. } => ObjectKind::Domain,
            Create::Space => ObjectKind::Space,
            Create::Vcpu { .. } => ObjectKind::Vcpu,
        }
    }

    pub(crate) const fn encode(self) -> [u64; MAX_ARGUMENTS] {
        let kind = self.kind().number();
        match self {
            Create::Memory { bytes } => [kind, bytes, 0, 0, 0],
            Create::Port { capacity, slot } => [kind, capacity, slot, 0, 0],
            Create::Event { slot, interval_ns } => [kind, slot, interval_ns, 0, 0],
            Create::Timer { event, bits } => [kind, event.raw(), bits, 0, 0],
            Create::Domain {
                frames,
                kernel_bytes,
                event,
                bits,
            } => [kind, frames, kernel_bytes, raw_or_zero(event), bits],
            Create::Space => [kind, 0, 0, 0, 0],
            Create::Vcpu {
                domain,
                page,
                monitor,
                state,
            } => {
                let (monitor, state) = (raw_or_zero(monitor), raw_or_zero(state));
                [kind, domain.raw(), page.raw(), monitor, state]
            }
        }
    }

    /// Reads the argument registers.
    pub(crate) fn decode(arguments: &[u64; MAX_ARGUMENTS]) -> Result<Self, Error> {
        let [kind, first, second, third, fourth] = *arguments;
        let two_only = || {
            if third | fourth == 0 {
                Ok(())
            } else {
                Err(Error::BadArgument)
            }
        };
        let create = match ObjectKind::from_number(kind) {
            Some(ObjectKind::Memory) => Create::Memory { bytes: first },
            Some(ObjectKind::Port) => Create::Port {
                capacity: first,
                slot: second,
            },
            Some(ObjectKind::Event) => Create::Event {
                slot: first,
                interval_ns: second,
            },
            Some(ObjectKind::Timer) => {
                two_only()?;
                Create::Timer {
                    event: handle(first)?,
                    bits: second,
                }
            }
            // Without an event there are no bits of it.
            Some(ObjectKind::Domain) if third == 0 && fourth != 0 => {
                return Err(Error::BadArgument);
            }
            Some(ObjectKind::Domain) => Create::Domain {
                frames: first,
                kernel_bytes: second,
                event: handle_or_zero(third)?,
                bits: fourth,
            },
            Some(ObjectKind::Space) => Create::Space,
            // What a monitor is told lies in the state page.
            Some(ObjectKind::Vcpu) if third != 0 && fourth == 0 => {
                return Err(Error::BadArgument);
            }
            Some(ObjectKind::Vcpu) => Create::Vcpu {
                domain: handle(first)?,
                page: handle(second)?,
                monitor: handle_or_zero(third)?,
                state: handle_or_zero(fourth)?,
            },
            _ => return Err(Error::BadArgument),
        };
        // What encodes to other registers had a bit where none belongs.
        if create.encode() == *arguments {
            Ok(create)
        } else {
            Err(Error::BadArgument)
        }
    }
}

const fn raw_or_zero(handle: Option<Handle>) -> u64 {
    match handle {
        Some(handle) => handle.raw(),
        None => 0,
    }
}

pub(crate) fn handle_or_zero(raw: u64) -> Result<Option<Handle>, Error> {
    match raw {
        0 => Ok(None),
        raw => handle(raw).map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_made_is_decoded() {
        let kind = |kind: ObjectKind| kind.number();
        for arguments in [
            [kind(ObjectKind::Space), 1, 0, 0, 0],
            [kind(ObjectKind::Domain), 1, 1, 0, 1],
            [kind(ObjectKind::Vcpu), 0x1_0001, 0x1_0001, 1, 0],
            [0, 0, 0, 0, 0],
            [kind(ObjectKind::Memory), 4096, 1, 0, 0],
            [kind(ObjectKind::Port), 1, 1, 1, 0],
            [kind(ObjectKind::Event), 1, 1, 1, 0],
            [kind(ObjectKind::Timer), 0x1_0001, 1, 0, 1],
        ] {
            assert_eq!(Create::decode(&arguments), Err(Error::BadArgument));
        }
        let timer = [kind(ObjectKind::Timer), 1 << 32, 1, 0, 0];
        assert_eq!(Create::decode(&timer), Err(Error::BadHandle));
    }
}
