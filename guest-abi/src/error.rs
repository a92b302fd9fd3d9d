//! The errors: why a call had no effect.

use crate::table::abi_table;

abi_table! {
    /// A call that returns an error has changed nothing; status 0 is success.
    pub enum Error {
        1 UnknownVerb "unknown-verb" "This hypervisor has no verb of that number.",
        2 BadHandle "bad-handle" "The handle names nothing: never given, closed, or of an older generation.",
        3 WrongKind "wrong-kind" "The handle names an object of another kind than the verb takes.",
        4 MissingRight "missing-right" "The handle lacks the right that the verb needs.",
        5 BadArgument "bad-argument" "An argument is out of its range, or a reserved bit or unused register is not zero.",
        6 BadAddress "bad-address" "A range is misaligned, empty, too long, or leaves the object or address space.",
        7 QueueFull "queue-full" "The port holds as many messages as it can; wait for its reader and send again.",
        8 QueueEmpty "queue-empty" "The port holds no message.",
        9 TimedOut "timed-out" "The deadline passed first.",
        10 QuotaExhausted "quota-exhausted" "The domain has used up what its quota allows for this.",
        11 PeerGone "peer-gone" "Nobody is left at the other end.",
        12 AlreadyMapped "already-mapped" "Part of the range already has memory mapped.",
        13 NotMapped "not-mapped" "Part of the range has no memory mapped.",
        14 BufferTooSmall "buffer-too-small" "The message does not fit into registers and no buffer was given.",
        15 WrongVersion "wrong-version" "The hypervisor does not serve that ABI version.",
        16 Interrupted "interrupted" "An event became pending first; look at the event words and call again.",
        17 WrongState "wrong-state" "The object is not in a state in which that can be done to it.",
    }
}
