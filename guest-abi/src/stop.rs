//! The reasons for which a domain stops.

use crate::table::abi_table;

abi_table! {
    /// Why a domain stopped; `query` and the report at the end of a run carry the number.
    pub enum StopReason {
        0 Running "running" "It has not stopped.",
        1 Exited "exited" "It asked to stop; the detail is its exit code.",
        2 TripleFault "triple-fault" "It faulted while its CPU delivered a double fault; nothing was there to handle it.",
        3 BadMemory "bad-memory" "It touched memory that it was not given; the detail is the guest-physical address.",
        4 PortIo "port-io" "It used an I/O port and has nobody who emulates one; the detail is the port.",
        5 HaltedForEver "halted-for-ever" "It halted with interrupts off; nothing can wake it.",
        6 BadState "bad-state" "Its registers are in a state that the CPU refuses to run.",
        7 Unsupported "unsupported" "It did something that this hypervisor does not offer; the detail is the CPU's exit code.",
        8 Deadlock "deadlock" "It waits without a deadline and nobody is left who could wake it.",
        9 TimeLimit "time-limit" "It still ran when the time limit of the run was reached.",
        10 RunEnded "run-ended" "It was in the background, and the domains it served have all stopped.",
        11 Destroyed "destroyed" "Its creator gave it up: it closed the handle, or ended itself.",
    }
}

impl StopReason {
    /// Whether the detail word that goes with the reason is an address (shown in hexadecimal).
    pub const fn detail_is_address(self) -> bool {
        matches!(
            self,
            StopReason::BadMemory | StopReason::PortIo | StopReason::Unsupported
        )
    }
}
