//! What the specification lists and no guest can bring about, and why.

use nuncio_abi::{Error, Verb};

/// An error of a verb's table that no case shows.
pub struct OutOfReach {
    /// The verb.
    pub verb: Verb,
    /// The error.
    pub error: Error,
    /// Which of the places where the table has it, from 0.
    pub place: usize,
    /// Why not.
    pub why: &'static str,
}

/// All of them.
pub const OUT_OF_REACH: &[OutOfReach] = &[
    OutOfReach {
        verb: Verb::Create,
        error: Error::PeerGone,
        place: 0,
        why: "`build` is in one handle, and the domain exists until that is closed",
    },
    OutOfReach {
        verb: Verb::Grant,
        error: Error::PeerGone,
        place: 0,
        why: "`build` is in one handle, and the domain exists until that is closed",
    },
    OutOfReach {
        verb: Verb::Call,
        error: Error::BadAddress,
        place: 1,
        why:
            "this domain has one vcpu, which sleeps in the call: nobody is left to unmap its memory",
    },
    OutOfReach {
        verb: Verb::Receive,
        error: Error::WrongState,
        place: 0,
        why: "this domain has one vcpu, which is the receiver of every port that it has",
    },
    OutOfReach {
        verb: Verb::Schedule,
        error: Error::WrongState,
        place: 0,
        why: "a domain without a budget does not make what shares one",
    },
    OutOfReach {
        verb: Verb::Schedule,
        error: Error::WrongState,
        place: 1,
        why: "there may be one CPU; on several a case of its behaviour shows it",
    },
];
