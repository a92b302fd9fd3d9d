//! How large the heap is: running out of it is a panic, so it has room for all that a plan can make the
//! hypervisor allocate.

#![forbid(unsafe_code)]

use super::handover::module_name;
use super::{BootInformation, PhysicalBytes};
use crate::cpu::per_cpu::BLOCK_BYTES;
use crate::plan::{Outline, MAX_DOMAINS, MAX_KERNEL_BYTES, MAX_PLAN_BYTES, MODULE_NAME};

/// No heap is smaller. The heap rounds every piece up to a power of two and can only merge what lies side
/// by side, so a small plan has much more than it needs.
const LEAST_BYTES: u64 = 48 << 20;
/// The plan's text and what is parsed from it, the list of boot modules, the page tables, what is shared
/// by all domains.
const FIXED_BYTES: u64 = 8 << 20;
/// For each domain, on top of what it may take by itself: 1024 regions at up to 100 bytes, the
/// bookkeeping of 256 page-table frames at 100 bytes, extended registers of 11 KiB with AMX, 64 KiB of a
/// trace of calls if it is asked for, and the objects that stand for it.
const DOMAIN_BYTES: u64 = 224 << 10;
/// For each port: a queue of 256 messages and calls of 160 bytes.
const PORT_BYTES: u64 = 64 << 10;
/// The part of the heap that says what of it is free.
const BITMAPS_SHARE: u64 = 32;
/// The part of the RAM that the heap gets on top. The frame allocator keeps up to
/// 16 bytes for each frame of 4096, and the heap rounds an allocation up to a power of two:
/// 32 bytes in 4096 are 1/128.
const RAM_SHARE: u64 = 128;
/// What the heap has for each CPU but the first: its block, its tables, and the page tables that its guard
/// pages split.
const OTHER_CPU_BYTES: u64 = BLOCK_BYTES as u64 + 16 * 1024;

/// Bytes of the heap of a machine with so much RAM that runs such a plan.
pub(super) fn heap_bytes(plan: &Outline, ram_bytes: u64, other_cpus: u64) -> u64 {
    let domains = plan.domains.min(MAX_DOMAINS as u64);
    let objects = FIXED_BYTES
        .saturating_add(domains.saturating_mul(DOMAIN_BYTES))
        .saturating_add(
            plan.ports
                .min(MAX_DOMAINS as u64)
                .saturating_mul(PORT_BYTES),
        )
        .saturating_add(
            plan.kernel_bytes
                .min(domains.saturating_mul(MAX_KERNEL_BYTES)),
        );
    objects
        .saturating_add(objects / BITMAPS_SHARE)
        .max(LEAST_BYTES)
        .saturating_add(ram_bytes / RAM_SHARE)
        .saturating_add(other_cpus.saturating_mul(OTHER_CPU_BYTES))
}

/// What the plan among the boot modules asks for; nothing if there is none, or if it is none: that is said
/// when it is parsed.
pub(super) fn outline_of_plan(
    information: &BootInformation,
    memory: &impl PhysicalBytes,
) -> Outline {
    let mut modules = information.modules.iter();
    let Some(plan) = modules.find(|module| module_name(&module.text) == MODULE_NAME) else {
        return Outline::default();
    };
    let start = plan.range.start().0;
    let length = plan.range.length().min(MAX_PLAN_BYTES as u64);
    let bytes = (start..start.saturating_add(length)).map_while(|address| {
        let mut byte = [0];
        memory.read(address, &mut byte).map(|()| byte[0])
    });
    Outline::of(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::physical_bytes::FakeMemory;
    use super::super::LoadedModule;
    use super::*;
    use crate::mem::{HostPhysical, HostRange};

    const DOMAIN: &str = "domain a image=i memory=4096 vcpus=1 background=no\n";

    fn with_bitmaps(bytes: u64) -> u64 {
        bytes + bytes / 32
    }

    #[test]
    fn a_small_plan_has_the_least_heap_and_a_large_one_what_its_domains_may_take() {
        let small = Outline::of(DOMAIN.repeat(2).bytes());
        assert_eq!(heap_bytes(&small, 128 << 20, 0), (48 << 20) + (1 << 20));
        let large = Outline::of(DOMAIN.repeat(256).bytes());
        assert_eq!(large.kernel_bytes, 64 << 20);
        assert_eq!(heap_bytes(&large, 0, 0), with_bitmaps((8 + 56 + 64) << 20));
        let more = Outline {
            ports: 256,
            kernel_bytes: 65 << 20,
            ..large
        };
        assert_eq!(
            heap_bytes(&more, 0, 0),
            with_bitmaps((8 + 56 + 16 + 65) << 20)
        );
        assert_eq!(
            heap_bytes(&more, 0, 2) - heap_bytes(&more, 0, 0),
            2 * OTHER_CPU_BYTES
        );
    }

    #[test]
    fn what_no_plan_can_have_does_not_make_the_heap_endless() {
        let noise = Outline {
            domains: u64::MAX,
            ports: u64::MAX,
            kernel_bytes: u64::MAX,
        };
        assert!(heap_bytes(&noise, u64::MAX, u64::MAX) > 0);
        let one = Outline {
            domains: 1,
            ..noise
        };
        assert!(heap_bytes(&one, 0, 0) < 256 << 20);
    }

    #[test]
    fn the_plan_is_read_where_the_loader_has_put_it() {
        let memory = FakeMemory {
            base: 0x5000,
            bytes: [DOMAIN, DOMAIN, "port p capacity=1\n"]
                .concat()
                .into_bytes(),
        };
        let length = memory.bytes.len() as u64;
        let module = |text: &str, start| LoadedModule {
            text: text.into(),
            range: HostRange::from_length(HostPhysical(start), length).unwrap(),
        };
        let mut information = BootInformation::default();
        assert_eq!(outline_of_plan(&information, &memory), Outline::default());
        information.modules.push(module("x guest-kernel", 0x9000));
        information
            .modules
            .push(module("/tmp/y nuncio-plan", 0x5000));
        let outline = outline_of_plan(&information, &memory);
        assert_eq!((outline.domains, outline.ports), (2, 1));
        // What cannot be read ends it.
        information.modules[1].range =
            HostRange::from_length(HostPhysical(0x5000), 1 << 40).unwrap();
        assert_eq!(outline_of_plan(&information, &memory), outline);
    }
}
