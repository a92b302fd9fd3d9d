//! A call as it stands in registers. The x86-64 binding in the specification is this file in words.

use crate::Error;

/// Argument registers of a call, in order: RDI, RSI, RDX, R10, R8. The verb is in RAX.
pub const MAX_ARGUMENTS: usize = 5;

/// Value registers of a reply, in order: RDX, R10, R8, RDI, RSI. The status is in RAX.
pub const MAX_VALUES: usize = 5;

/// The six registers of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawCall {
    /// RAX: the number of the verb.
    pub verb: u64,
    /// RDI, RSI, RDX, R10, R8; those that the verb does not use are zero.
    pub arguments: [u64; MAX_ARGUMENTS],
}

/// What comes back from a call. Registers that carry no value keep what they held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// RAX is the error's number; nothing else changes.
    Error(Error),
    /// RAX is 0.
    Done,
    /// RAX is 0; RDX and R10 carry values.
    Pair(u64, u64),
    /// RAX is 0; all five value registers carry values.
    Full([u64; MAX_VALUES]),
}

impl Reply {
    /// The content of RAX.
    #[inline]
    pub const fn status(&self) -> u64 {
        match self {
            Reply::Error(error) => error.number(),
            _ => 0,
        }
    }

    /// The values of a successful reply, with zeros where it carries none.
    pub const fn values(&self) -> [u64; MAX_VALUES] {
        match *self {
            Reply::Error(_) | Reply::Done => [0; MAX_VALUES],
            Reply::Pair(first, second) => [first, second, 0, 0, 0],
            Reply::Full(values) => values,
        }
    }

    /// Reads the registers of a reply as the caller sees them.
    ///
    /// A hypervisor that serves the guest's version returns only that version's errors, so a status
    /// outside the table cannot come from a conforming one; it reads as [`Error::BadArgument`].
    pub fn from_registers(status: u64, values: [u64; MAX_VALUES]) -> Self {
        match status {
            0 => Reply::Full(values),
            number => Reply::Error(Error::from_number(number).unwrap_or(Error::BadArgument)),
        }
    }

    /// The values, or the error.
    pub const fn result(self) -> Result<[u64; MAX_VALUES], Error> {
        match self {
            Reply::Error(error) => Err(error),
            _ => Ok(self.values()),
        }
    }
}
