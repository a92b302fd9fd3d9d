//! What the calls cost elsewhere, and where Nuncio's instructions go.
//!
//! Instructions of one round trip unless the row says otherwise, in emulators that count them, the same
//! from run to run. KVM: kvm-amd of Debian 12's Linux 6.1, mitigations off, in QEMU 7.2 with the
//! instruction lengths and decode assists that every AMD CPU of today has (without them KVM emulates each
//! instruction to skip it, and its numbers say nothing). NOVA: version 24.08, its own flags.

/// What an operation costs, here and elsewhere.
pub struct Row {
    /// The name of the line that `program=bench` prints.
    pub bench: &'static str,
    /// The operation, for people.
    pub operation: &'static str,
    /// KVM on SVM.
    pub kvm: Option<u32>,
    /// NOVA on SVM and on VT-x, where they differ.
    pub nova: Option<(u32, u32)>,
    /// What is compared with what, if that is not plain.
    pub note: &'static str,
    /// Where Nuncio's instructions go.
    pub parts: &'static str,
}

const fn same(cost: u32) -> Option<(u32, u32)> {
    Some((cost, cost))
}

/// The rows, in the order in which they are shown.
pub const ROWS: [Row; 14] = [
    Row {
        bench: "hello",
        operation: "call that does nothing",
        kvm: Some(1_245),
        nova: same(52),
        note: "KVM: VMMCALL. NOVA: a system call of a process, without a world switch",
        parts: "world switch 46, guest's wrapper 24, the rest decoding and the loop",
    },
    Row {
        bench: "cpuid",
        operation: "CPUID, answered by the hypervisor",
        kvm: Some(1_192),
        nova: None,
        note: "",
        parts: "world switch 46, decoding the exit, the table of leaves, four registers",
    },
    Row {
        bench: "query",
        operation: "look up a handle, two values",
        kvm: None,
        nova: None,
        note: "",
        parts: "as the call that does nothing, and table of handles with its lock",
    },
    Row {
        bench: "notify-coalesced",
        operation: "notify, bits pending already",
        kvm: Some(2_028),
        nova: same(135),
        note: "KVM: OUT to an ioeventfd that is the irqfd of another guest. NOVA: semaphore up",
        parts: "as query, and one atomic operation in the waiter's page",
    },
    Row {
        bench: "submit-notify-16",
        operation: "notify in a ring of 16, each",
        kvm: None,
        nova: None,
        note: "One exit for all sixteen",
        parts:
            "writing the entry, reading it, checking it again, the call, its result written back",
    },
    Row {
        bench: "notify",
        operation: "notify oneself, and take it",
        kvm: Some(2_713),
        nova: None,
        note: "KVM: interrupt to oneself until its handler runs",
        parts: "as above, waking, and the loop's look at what has changed",
    },
    Row {
        bench: "send-receive-24",
        operation: "send and receive, 24 bytes, no switch",
        kvm: None,
        nova: None,
        note: "Two calls",
        parts: "two exits, the port's lock twice, a place in its ring filled and emptied",
    },
    Row {
        bench: "send-receive-64",
        operation: "send and receive, 64 bytes, no switch",
        kvm: None,
        nova: None,
        note: "Two calls",
        parts: "as with 24 bytes, and two looks at the guest's memory",
    },
    Row {
        bench: "call-reply-8",
        operation: "call and reply, another domain, 8 bytes",
        kvm: None,
        nova: same(278),
        note: "NOVA: between two protection domains, one word, without a world switch",
        parts:
            "two exits, two switches of vcpus with their registers, clock and timer, two wrappers",
    },
    Row {
        bench: "call-reply-64",
        operation: "call and reply, another domain, 64 bytes",
        kvm: None,
        nova: same(348),
        note: "NOVA: eight words",
        parts: "as with 8 bytes, and four looks at guests' memory",
    },
    Row {
        bench: "run-exit",
        operation: "exit of a vcpu that one runs, and on",
        kvm: None,
        nova: None,
        note: "",
        parts: "two exits, two switches of vcpus, the state page's words",
    },
    Row {
        bench: "exit-to-domain",
        operation: "exit that another domain handles",
        kvm: Some(3_098),
        nova: Some((431, 505)),
        note: "KVM: port write to a minimal user-space program. NOVA: CPUID to a portal",
        parts: "as call and reply, and the state page's words",
    },
    Row {
        bench: "map-unmap",
        operation: "map a page and unmap it",
        kvm: None,
        nova: same(941),
        note: "NOVA: map into another space, without unmap",
        parts: "two exits, the list of mappings, a walk of the nested tables, a flush",
    },
    Row {
        bench: "clock",
        operation: "read the clock, no exit",
        kvm: None,
        nova: None,
        note: "",
        parts: "the time page twice and a product of 128 bits",
    },
];
