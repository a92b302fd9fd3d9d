//! The verbs: what a guest can ask for.

use crate::table::abi_table;

abi_table! {
    /// A verb's number goes into the call register (see the x86-64 binding in the specification).
    pub enum Verb {
        0 Hello "hello" "Agree on the ABI version and learn the hypervisor's.",
        1 Send "send" "Put a message on a port, waiting for room if asked to.",
        2 Receive "receive" "Take the next message from a port, waiting for it if asked to.",
        3 Notify "notify" "Set bits of an event.",
        4 Wait "wait" "Sleep until an event is pending or a deadline has passed.",
        5 Map "map" "Put pages of a memory object into an address space.",
        6 Unmap "unmap" "Take pages out of an address space.",
        7 Close "close" "Drop a handle.",
        8 Query "query" "Ask what a handle names and what it has used.",
        9 Stop "stop" "End a domain with an exit code, or stop a vcpu.",
        10 Create "create" "Make an object from the domain's own quota.",
        11 Grant "grant" "Make a weaker copy of a handle.",
        12 Arm "arm" "Set the time of a timer.",
        13 Call "call" "Send a message and wait for the answer to it.",
        14 Reply "reply" "Answer a call, and receive the next message if asked to.",
        15 Start "start" "Let a vcpu run.",
        16 Run "run" "Run a vcpu until it needs its runner.",
        17 Submit "submit" "Make the calls that stand in a ring.",
        18 Schedule "schedule" "Set the priority, the budget and the CPU of a vcpu.",
    }
}
