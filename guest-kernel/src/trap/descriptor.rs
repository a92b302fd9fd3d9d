//! Segment and gate descriptors as numbers (Intel SDM 3A, 3.4.5, 6.14, 7.2; AMD APM 2, 4.8).
#![forbid(unsafe_code)]

/// Selector of the kernel's code segment.
pub const KERNEL_CODE: u16 = 0x08;
/// Selector of the kernel's data segment.
pub const KERNEL_DATA: u16 = 0x10;
/// Selector of the data segment for CPL 3.
pub const USER_DATA: u16 = 0x18 | 3;
/// Selector of the code segment for CPL 3.
pub const USER_CODE: u16 = 0x20 | 3;
/// Selector of the first vcpu's task state segment; those of the others follow.
pub const TASK_STATE: u16 = 0x28;
/// Bytes in the descriptor of a task state segment.
const TASK_STATE_ENTRY_BYTES: u16 = 16;

const PRESENT: u64 = 1 << 47;
const CODE_OR_DATA: u64 = 1 << 44;
const EXECUTABLE: u64 = 1 << 43;
const WRITABLE_OR_READABLE: u64 = 1 << 41;
const LEVEL_3: u64 = 3 << 45;
const LONG_MODE: u64 = 1 << 53;
const TASK_STATE_TYPE: u64 = 9 << 40;
const INTERRUPT_GATE_TYPE: u64 = 0xE << 40;

/// Bytes in a task state segment.
pub const TASK_STATE_BYTES: usize = 104;

/// The selector of a vcpu's task state segment.
pub const fn task_selector(vcpu: u16) -> u16 {
    TASK_STATE + vcpu * TASK_STATE_ENTRY_BYTES
}

/// The vcpu that has this selector in TR; the first, if that has none yet.
pub const fn vcpu_of_selector(selector: u16) -> u16 {
    selector.saturating_sub(TASK_STATE) / TASK_STATE_ENTRY_BYTES
}

/// The segments that come before the task state segments.
pub const fn segments() -> [u64; 5] {
    let code = PRESENT | CODE_OR_DATA | EXECUTABLE | WRITABLE_OR_READABLE | LONG_MODE;
    let data = PRESENT | CODE_OR_DATA | WRITABLE_OR_READABLE;
    [0, code, data, data | LEVEL_3, code | LEVEL_3]
}

/// The descriptor of a task state segment at that address, which is not in use.
pub const fn task_segment(task_state: u64) -> [u64; 2] {
    let limit = TASK_STATE_BYTES as u64 - 1;
    let low = limit | (task_state & 0xFF_FFFF) << 16 | (task_state >> 24 & 0xFF) << 56;
    [PRESENT | TASK_STATE_TYPE | low, task_state >> 32]
}

/// An interrupt gate to that handler; `stack` is a number from the task state segment, 0 for the
/// stack in use.
pub const fn interrupt_gate(handler: u64, stack: u8) -> [u64; 2] {
    let low = handler & 0xFFFF
        | (KERNEL_CODE as u64) << 16
        | (stack as u64 & 7) << 32
        | INTERRUPT_GATE_TYPE
        | PRESENT
        | (handler >> 16 & 0xFFFF) << 48;
    [low, handler >> 32]
}

/// A task state segment with these stacks: the first for exceptions, the second for double faults.
pub const fn task_state(exception_stack: u64, double_fault_stack: u64) -> [u32; 26] {
    let mut words = [0; 26];
    // RSP0, and the interrupt stacks 1 and 2.
    words[1] = exception_stack as u32;
    words[2] = (exception_stack >> 32) as u32;
    words[9] = words[1];
    words[10] = words[2];
    words[11] = double_fault_stack as u32;
    words[12] = (double_fault_stack >> 32) as u32;
    // The map of I/O ports begins past the end: there is none.
    words[25] = (TASK_STATE_BYTES as u32) << 16;
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_as_the_manual_draws_them() {
        let [null, code, data, user_data, user_code] = segments();
        assert_eq!(null, 0);
        assert_eq!(code, 0x0020_9A00_0000_0000);
        assert_eq!(data, 0x0000_9200_0000_0000);
        assert_eq!(user_data, 0x0000_F200_0000_0000);
        assert_eq!(user_code, 0x0020_FA00_0000_0000);
        let [low, high] = task_segment(0x1234_5678_9ABC_DEF0);
        assert_eq!(low, 0x9A00_89BC_DEF0_0067);
        assert_eq!(high, 0x1234_5678);
    }

    #[test]
    fn a_selector_tells_the_vcpu() {
        for vcpu in 0..16 {
            let selector = task_selector(vcpu);
            assert_eq!((selector / 8, selector % 8), (5 + 2 * vcpu, 0));
            assert_eq!(vcpu_of_selector(selector), vcpu);
        }
        assert_eq!(vcpu_of_selector(0), 0, "before any is loaded");
    }

    #[test]
    fn a_gate_as_the_manual_draws_it() {
        let [low, high] = interrupt_gate(0x1234_5678_9ABC_DEF0, 2);
        assert_eq!(low, 0x9ABC_8E02_0008_DEF0);
        assert_eq!(high, 0x1234_5678);
    }

    #[test]
    fn stacks_lie_where_the_cpu_looks() {
        let words = task_state(0x1_0000_0002, 0x3_0000_0004);
        let mut bytes = [0u8; TASK_STATE_BYTES];
        for (place, word) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(words) {
            *place = word.to_le_bytes();
        }
        let at = |offset: usize| u64::from_le_bytes(bytes[offset..offset + 8].try_into().unwrap());
        assert_eq!(
            (at(4), at(36), at(44)),
            (0x1_0000_0002, 0x1_0000_0002, 0x3_0000_0004)
        );
        assert_eq!(bytes[102..], [104, 0]);
    }
}
