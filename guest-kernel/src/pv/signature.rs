//! Which hypervisors say in CPUID that they are there: from leaf 0x4000_0000 on, every 0x100 leaves, EBX, ECX and EDX
//! hold a name. There can be several, as KVM behind Hyper-V's leaves.
#![forbid(unsafe_code)]

const FIRST: u32 = 0x4000_0000;
const LAST: u32 = 0x4001_0000;
const STEP: usize = 0x100;

/// CPUID 1, ECX: somebody answers in these leaves.
const HYPERVISOR_PRESENT: u32 = 1 << 31;

/// The first leaf of the hypervisor with this name.
pub fn find(name: &[u8; 12], cpuid: impl Fn(u32) -> [u32; 4]) -> Option<u32> {
    let [_, _, features, _] = cpuid(1);
    if features & HYPERVISOR_PRESENT == 0 {
        return None;
    }
    (FIRST..LAST).step_by(STEP).find(|leaf| {
        let [_, ebx, ecx, edx] = cpuid(*leaf);
        let found = [ebx, ecx, edx].map(u32::to_le_bytes);
        found.as_flattened() == name
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KVM: &[u8; 12] = b"KVMKVMKVM\0\0\0";

    fn named(name: &[u8; 12]) -> [u32; 4] {
        let word = |index: usize| u32::from_le_bytes(name[index..index + 4].try_into().unwrap());
        [FIRST + 1, word(0), word(4), word(8)]
    }

    #[test]
    fn a_name_is_found_behind_another() {
        let both = |leaf| match leaf {
            1 => [0, 0, HYPERVISOR_PRESENT, 0],
            0x4000_0000 => named(b"Microsoft Hv"),
            0x4000_0100 => named(KVM),
            _ => [0; 4],
        };
        assert_eq!(find(KVM, both), Some(0x4000_0100));
        assert_eq!(find(b"XenVMMXenVMM", both), None);
    }

    #[test]
    fn without_the_bit_nobody_is_asked() {
        let silent = |leaf| match leaf {
            1 => [0; 4],
            _ => named(KVM),
        };
        assert_eq!(find(KVM, silent), None);
    }
}
