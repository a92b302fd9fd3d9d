//! The limits that the ABI itself sets, as a table.

use crate::{
    COMMAND_LINE_BYTES, EVENT_SLOTS, MAP_LIMIT_BYTES, MAX_HANDLES, MAX_INTERVAL_NS, MAX_MODULES,
    MAX_PERIOD_NS, MAX_PORT_CAPACITY, MAX_PRIORITY, MAX_VCPUS, MESSAGE_BYTES, MESSAGE_HANDLES,
    NAME_BYTES, REGISTER_BYTES, RING_ENTRIES,
};

/// A limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Its name, in words joined by hyphens.
    pub name: &'static str,
    /// What it limits, in the words of the specification.
    pub what: &'static str,
    /// How much there may be at most.
    pub most: u64,
}

const fn limit(name: &'static str, what: &'static str, most: u64) -> Limit {
    Limit { name, what, most }
}

/// Every limit for which this crate has a constant.
pub const LIMITS: &[Limit] = &[
    limit("message-bytes", "bytes in a message", MESSAGE_BYTES),
    limit(
        "register-bytes",
        "bytes in a message in registers",
        REGISTER_BYTES,
    ),
    limit(
        "message-handles",
        "handles in a message",
        MESSAGE_HANDLES as u64,
    ),
    limit(
        "port-capacity",
        "messages queued on a port",
        MAX_PORT_CAPACITY,
    ),
    limit("slots", "slots in a vcpu page", EVENT_SLOTS as u64),
    limit("event-bits", "bits in an event", u64::BITS as u64),
    limit(
        "event-interval",
        "least nanoseconds between two postings of an event",
        MAX_INTERVAL_NS,
    ),
    limit("priority", "priorities", MAX_PRIORITY as u64),
    limit(
        "period",
        "nanoseconds in the period of a budget",
        MAX_PERIOD_NS,
    ),
    limit("ring-entries", "entries in a ring", RING_ENTRIES as u64),
    limit(
        "map-bytes",
        "bytes in one map or unmap, and in a memory from create",
        MAP_LIMIT_BYTES,
    ),
    limit(
        "boot-handles",
        "handles in the boot-info page",
        MAX_HANDLES as u64,
    ),
    limit("vcpus", "vcpus of a domain", MAX_VCPUS as u64),
    limit("modules", "modules of a domain", MAX_MODULES as u64),
    limit(
        "name-bytes",
        "bytes in a name, with its zero",
        NAME_BYTES as u64,
    ),
    limit(
        "command-line-bytes",
        "bytes in the command line, with its zero",
        COMMAND_LINE_BYTES as u64,
    ),
];
