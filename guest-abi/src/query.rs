//! What `query` can be asked.

use crate::table::abi_table;

abi_table! {
    /// The item goes into the second argument; the answer is two values.
    pub enum QueryItem {
        0 Kind "kind" "Any handle: the number of its ObjectKind; the bits of its Rights.",
        1 Usage "usage" "Domain: frames used; frames allowed. Memory: bytes; 0. Port: messages queued; capacity. Event: slot; 0. Timer: 0; 0. Space: bytes mapped; first address past its end. Vcpu: 0; 0.",
        2 Status "status" "Domain: the number of its StopReason; the detail that goes with it.",
        3 KernelUsage "kernel-usage" "Domain: bytes of the hypervisor's memory used; bytes allowed.",
    }
}
