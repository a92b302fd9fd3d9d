//! The answers to CPUID: the machine's own, less what guests do not get.
//!
//! Bits are named as in the Intel SDM volume 2, CPUID, and the AMD APM volume 3, appendix E. A
//! leaf or bit without an entry reads as zero.

/// EAX, EBX, ECX, EDX.
pub type Answer = [u32; 4];

/// First leaf of the range that belongs to hypervisors.
const HYPERVISOR_BASE: u32 = 0x4000_0000;
/// `NuncioNuncio` in EBX, ECX, EDX.
const SIGNATURE: [u32; 3] = [
    u32::from_le_bytes(*b"Nunc"),
    u32::from_le_bytes(*b"ioNu"),
    u32::from_le_bytes(*b"ncio"),
];
const ALL: u32 = u32::MAX;

/// Leaf 1 ECX: SSE3, PCLMULQDQ, SSSE3, FMA, CMPXCHG16B, SSE4.1, SSE4.2, MOVBE, POPCNT, AES,
/// XSAVE, AVX, F16C, RDRAND.
const FEATURES_ECX: u32 = 1 << 0
    | 1 << 1
    | 1 << 9
    | 1 << 12
    | 1 << 13
    | 1 << 19
    | 1 << 20
    | 1 << 22
    | 1 << 23
    | 1 << 25
    | 1 << 26
    | 1 << 28
    | 1 << 29
    | 1 << 30;
const OSXSAVE: u32 = 1 << 27;
const HYPERVISOR_PRESENT: u32 = 1 << 31;
/// Leaf 1 EDX: FPU, DE, PSE, TSC, MSR, PAE, CX8, SEP, PGE, CMOV, PAT, PSE-36, CLFSH, MMX, FXSR,
/// SSE, SSE2, SS. No APIC, MTRR or machine checks: they belong to the hypervisor.
const FEATURES_EDX: u32 = 1 << 0
    | 1 << 2
    | 1 << 3
    | 1 << 4
    | 1 << 5
    | 1 << 6
    | 1 << 8
    | 1 << 11
    | 1 << 13
    | 1 << 15
    | 1 << 16
    | 1 << 17
    | 1 << 19
    | 1 << 23
    | 1 << 24
    | 1 << 25
    | 1 << 26
    | 1 << 27;
/// Leaf 7 EBX: FSGSBASE, BMI1, AVX2, SMEP, BMI2, ERMS, RDSEED, ADX, SMAP, CLFLUSHOPT, CLWB, SHA.
const STRUCTURED_EBX: u32 = 1 << 0
    | 1 << 3
    | 1 << 5
    | 1 << 7
    | 1 << 8
    | 1 << 9
    | 1 << 18
    | 1 << 19
    | 1 << 20
    | 1 << 23
    | 1 << 24
    | 1 << 29;
/// Leaf 7 ECX: UMIP, GFNI, VAES, VPCLMULQDQ.
const STRUCTURED_ECX: u32 = 1 << 2 | 1 << 8 | 1 << 9 | 1 << 10;
/// Leaf 7 EDX: fast short REP MOV.
const STRUCTURED_EDX: u32 = 1 << 4;
/// Leaf 0xD: x87, SSE and AVX.
const OFFERED_COMPONENTS: u32 = 0b111;
const AVX_COMPONENT: u32 = 1 << 2;
/// The legacy region and the header of an XSAVE area, and AVX's 256 bytes right behind them: on
/// every CPU, because AVX was the first component with a place of its own (Intel SDM vol. 1, 13.4).
const LEGACY_AREA_BYTES: u32 = 512 + 64;
const AVX_AREA_BYTES: u32 = LEGACY_AREA_BYTES + 256;
/// Leaf 8000_0001 ECX: LAHF, ABM, SSE4A, misaligned SSE, 3DNow prefetch, FMA4, TBM.
const EXTENDED_ECX: u32 = 1 << 0 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 16 | 1 << 21;
/// Leaf 8000_0001 EDX: the bits that AMD repeats from leaf 1, SYSCALL, NX, FFXSR is left out,
/// 1 GiB pages, long mode.
const EXTENDED_EDX: u32 = (FEATURES_EDX & 0x0183_F3FF) | 1 << 11 | 1 << 20 | 1 << 26 | 1 << 29;
/// Leaf 8000_0007 EDX: invariant TSC.
const INVARIANT_TSC: u32 = 1 << 8;

/// The answer that a guest gets where the machine answers `host`.
///
/// `xsave_enabled` is the guest's CR4.OSXSAVE, which CPUID mirrors.
pub fn answer(leaf: u32, subleaf: u32, host: Answer, xsave_enabled: bool) -> Answer {
    match leaf {
        1 => features(host, xsave_enabled),
        7 if subleaf == 0 => masked(host, [0, STRUCTURED_EBX, STRUCTURED_ECX, STRUCTURED_EDX]),
        0xD => extended_state(subleaf, host),
        // The vendor and the highest leaf; caches.
        0 | 2 | 4 => host,
        HYPERVISOR_BASE => {
            let [ebx, ecx, edx] = SIGNATURE;
            [HYPERVISOR_BASE + 1, ebx, ecx, edx]
        }
        0x4000_0001 => [nuncio_abi::VERSION.to_raw(), 0, 0, 0],
        0x8000_0000 => [
            host[0].clamp(0x8000_0000, 0x8000_0008),
            host[1],
            host[2],
            host[3],
        ],
        0x8000_0001 => masked(host, [ALL, 0, EXTENDED_ECX, EXTENDED_EDX]),
        // The brand string and the caches.
        0x8000_0002..=0x8000_0006 => host,
        0x8000_0007 => masked(host, [0, 0, 0, INVARIANT_TSC]),
        // The widths of addresses.
        0x8000_0008 => masked(host, [ALL, 0, 0, 0]),
        _ => [0; 4],
    }
}

fn features(host: Answer, xsave_enabled: bool) -> Answer {
    // EBX: brand index and cache-line size; one CPU, number 0.
    let [eax, ebx, ecx, edx] = masked(host, [ALL, 0xFFFF, FEATURES_ECX, FEATURES_EDX]);
    let mirrored = if xsave_enabled { OSXSAVE } else { 0 };
    [eax, ebx | 1 << 16, ecx | mirrored | HYPERVISOR_PRESENT, edx]
}

/// Leaf 0xD offers the components whose instructions leaf 1 offers.
///
/// Others stay within reach: XSETBV takes what the CPU has, and not every CPU lets it be caught. A
/// guest that uses one it was not told of keeps it to itself, since all of them change hands with
/// the vcpu. EBX is the size for what the guest itself has switched on.
fn extended_state(subleaf: u32, host: Answer) -> Answer {
    match subleaf {
        0 => {
            let components = host[0] & OFFERED_COMPONENTS;
            let bytes = if components & AVX_COMPONENT != 0 {
                AVX_AREA_BYTES
            } else {
                LEGACY_AREA_BYTES
            };
            [components, host[1], bytes, 0]
        }
        // XSAVEOPT, XSAVEC and XGETBV with ECX = 1; no supervisor components.
        1 => masked(host, [0b111, ALL, 0, 0]),
        2 => host,
        _ => [0; 4],
    }
}

fn masked(host: Answer, allowed: Answer) -> Answer {
    core::array::from_fn(|register| host[register] & allowed[register])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EVERYTHING: Answer = [u32::MAX; 4];

    #[test]
    fn guests_see_a_hypervisor_and_neither_vmx_nor_svm_nor_an_apic() {
        let [_, _, ecx, edx] = answer(1, 0, EVERYTHING, false);
        assert_ne!(ecx & HYPERVISOR_PRESENT, 0);
        assert_eq!(ecx & (1 << 5 | 1 << 3 | 1 << 21 | 1 << 24 | 1 << 17), 0);
        assert_eq!(edx & (1 << 9 | 1 << 12 | 1 << 7 | 1 << 14), 0);
        let [_, _, ecx, edx] = answer(0x8000_0001, 0, EVERYTHING, false);
        assert_eq!(ecx & 1 << 2, 0, "SVM");
        assert_eq!(edx & 1 << 27, 0, "RDTSCP");
        assert_ne!(edx & 1 << 29, 0, "long mode");
    }

    #[test]
    fn osxsave_mirrors_the_guests_own_cr4() {
        assert_eq!(answer(1, 0, EVERYTHING, false)[2] & OSXSAVE, 0);
        assert_ne!(answer(1, 0, [0; 4], true)[2] & OSXSAVE, 0);
    }

    #[test]
    fn the_signature_reads_nuncio() {
        let [_, ebx, ecx, edx] = answer(HYPERVISOR_BASE, 0, [0; 4], false);
        let bytes: std::vec::Vec<u8> = [ebx, ecx, edx]
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect();
        assert_eq!(bytes, b"NuncioNuncio");
    }

    #[test]
    fn only_components_with_visible_instructions_are_offered() {
        let everything = [u32::MAX, 0x2AC8, 0x2AC8, u32::MAX];
        assert_eq!(answer(0xD, 0, everything, true), [0b111, 0x2AC8, 832, 0]);
        assert_eq!(answer(0xD, 0, [0b11, 576, 576, 0], true), [3, 576, 576, 0]);
        assert_eq!(answer(0xD, 1, EVERYTHING, true), [0b111, u32::MAX, 0, 0]);
        assert_eq!(answer(0xD, 2, [256, 576, 0, 0], true), [256, 576, 0, 0]);
    }

    proptest! {
        #[test]
        fn hidden_components_have_no_size(subleaf in 3u32..) {
            prop_assert_eq!(answer(0xD, subleaf, EVERYTHING, true), [0; 4]);
        }

        #[test]
        fn leaves_without_an_entry_read_as_zero(leaf: u32, subleaf: u32) {
            let listed = matches!(leaf, 0..=2 | 4 | 7 | 0xD | 0x4000_0000 | 0x4000_0001 | 0x8000_0000..=0x8000_0008);
            if !listed {
                prop_assert_eq!(answer(leaf, subleaf, EVERYTHING, true), [0; 4]);
            }
        }
    }
}
