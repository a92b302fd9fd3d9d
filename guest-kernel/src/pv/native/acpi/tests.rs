//! The tables of a PC, good ones, broken ones, and noise.

use super::fake::{fadt, hpet, machine, madt, pointer, table, ROOT, START, TABLES};
use super::*;
use crate::boot::physical::fake::Bytes;
use proptest::prelude::*;
use std::string::ToString;
use std::vec::Vec;

const CPU_0: &[u8] = &[0, 8, 0, 0, 1, 0, 0, 0];
const CPU_3: &[u8] = &[0, 8, 1, 3, 1, 0, 0, 0];
const CPU_THAT_IS_OFF: &[u8] = &[0, 8, 2, 4, 0, 0, 0, 0];
const CPU_3_AGAIN: &[u8] = &[9, 16, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0];
const CPU_300: &[u8] = &[9, 16, 0, 0, 0x2C, 1, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0];
const CHIP: &[u8] = &[1, 12, 5, 0, 0, 0, 0xC0, 0xFE, 24, 0, 0, 0];
const TIMER: &[u8] = &[2, 10, 0, 0, 2, 0, 0, 0, 0, 0];
const LEVEL_9: &[u8] = &[2, 10, 0, 9, 9, 0, 0, 0, 0x0F, 0];

fn good(revision: u8) -> Bytes {
    let entries = [
        CPU_0,
        CPU_3,
        CPU_THAT_IS_OFF,
        CPU_3_AGAIN,
        CPU_300,
        CHIP,
        TIMER,
        LEVEL_9,
    ];
    let tables = [madt(&entries), fadt(0x608, 1 << 8), hpet(0xFED0_0000)];
    machine(revision, &tables)
}

#[test]
fn the_tables_of_a_pc_in_both_forms() {
    for revision in [0, 2] {
        // Found in the ROM, or told by the loader.
        for given in [None, Some(pointer(revision))] {
            let hardware = read(&good(revision), given).unwrap();
            let interrupts = hardware.interrupts.unwrap();
            assert_eq!(interrupts.cpus(), [0, 3, 300]);
            assert_eq!(interrupts.local_apic, 0xFEE0_0000);
            let chip = IoApic {
                id: 5,
                address: 0xFEC0_0000,
                first_line: 24,
            };
            assert_eq!(interrupts.io_apics(), [chip]);
            let timer = Override {
                source: 0,
                line: 2,
                is_active_low: false,
                trigger: Trigger::Edge,
            };
            let level = Override {
                source: 9,
                line: 9,
                is_active_low: true,
                trigger: Trigger::Level,
            };
            assert_eq!(interrupts.overrides(), [timer, level]);
            assert_eq!(
                hardware.pm_timer,
                Some(PmTimer {
                    port: 0x608,
                    bits: 32
                })
            );
            assert_eq!(hardware.hpet, Some(0xFED0_0000));
        }
    }
}

#[test]
fn a_pointer_of_the_loader_that_is_damaged_is_not_used() {
    let mut damaged = pointer(2);
    damaged.0[30] ^= 1;
    assert!(read(&good(2), Some(damaged)).unwrap().hpet.is_some());
    let nothing = Bytes::zeros(START, 0x2_0000);
    assert_eq!(
        read(&nothing, Some(damaged)).unwrap_err(),
        AcpiProblem::NoRoot
    );
}

#[test]
fn the_extended_bios_data_area_is_searched_first() {
    let rom = good(0);
    let mut memory = Bytes::zeros(0x400, 0x10_0000 - 0x400);
    memory.put(START, &rom.bytes);
    memory.put(0x40E, &0x9FC0u16.to_le_bytes());
    let other = table(b"RSDT", &(TABLES[2] as u32).to_le_bytes());
    memory.put(0x9_0000, &other);
    let mut pointer = pointer(0).0;
    pointer[16..20].copy_from_slice(&0x9_0000u32.to_le_bytes());
    super::fake::seal(&mut pointer[..20], 8);
    memory.put(0x9_FC10, &pointer[..20]);
    let hardware = read(&memory, None).unwrap();
    assert!(hardware.interrupts.is_none() && hardware.hpet.is_some());
}

#[test]
fn damaged_tables_are_not_there() {
    for (number, address) in TABLES.iter().enumerate() {
        let mut memory = good(2);
        memory.put(address + 20, &[1]);
        let hardware = read(&memory, None).unwrap();
        let found = [
            hardware.interrupts.is_some(),
            hardware.pm_timer.is_some(),
            hardware.hpet.is_some(),
        ];
        assert_eq!(found, [0, 1, 2].map(|other| other != number));
    }
    let mut memory = good(2);
    memory.put(ROOT + 20, &[1]);
    assert_eq!(
        read(&memory, None).unwrap_err(),
        AcpiProblem::DamagedRoot(ROOT)
    );
}

#[test]
fn entries_end_with_the_table() {
    let cut: &[u8] = &[0, 8, 1];
    let zero: &[u8] = &[0, 0, 0, 0, 1, 0, 0, 0];
    let short: &[u8] = &[0, 4, 1, 7];
    let long: &[u8] = &[0, 40, 1, 7, 1, 0, 0, 0];
    for (last, cpus) in [
        (cut, &[0u32][..]),
        (zero, &[0]),
        (short, &[0]),
        (long, &[0]),
    ] {
        let memory = machine(2, &[madt(&[CPU_0, last])]);
        let hardware = read(&memory, None).unwrap();
        assert_eq!(hardware.interrupts.unwrap().cpus(), cpus);
    }
    let many: Vec<&[u8]> = std::iter::repeat_n(TIMER, 33).collect();
    let memory = machine(2, &[madt(&many)]);
    assert!(matches!(read(&memory, None), Err(AcpiProblem::TooMany(_))));
}

#[test]
fn timers_that_cannot_be_used_are_not_there() {
    let timer = |port, flags| {
        read(&machine(2, &[fadt(port, flags)]), None)
            .unwrap()
            .pm_timer
    };
    assert_eq!(
        timer(0xB008, 0),
        Some(PmTimer {
            port: 0xB008,
            bits: 24
        })
    );
    assert_eq!(timer(0, 0), None);
    assert_eq!(timer(0x1_0000, 0), None);
    assert_eq!(timer(0xB008, 1 << 20), None, "reduced hardware");
    assert_eq!(read(&machine(2, &[hpet(0)]), None).unwrap().hpet, None);
}

proptest! {
    /// Bytes change, and checksums are made right again so that more than these is tried.
    #[test]
    fn any_bytes_are_hardware_or_a_problem(
        changes in proptest::collection::vec((0usize..0x700, any::<u8>()), 0..30),
        revision in prop_oneof![Just(0u8), Just(2)],
    ) {
        let mut memory = good(revision);
        for (place, byte) in changes {
            memory.bytes[place] = byte;
        }
        for address in TABLES.iter().chain([&ROOT]) {
            let start = (address - START) as usize;
            let length = u32::from_le_bytes(memory.bytes[start + 4..start + 8].try_into().unwrap());
            if let Some(bytes) = memory.bytes.get_mut(start..start + length as usize) {
                if length > 36 {
                    super::fake::seal(bytes, 9);
                }
            }
        }
        match read(&memory, Some(pointer(revision))) {
            Ok(hardware) => prop_assert!(hardware.interrupts.is_none_or(|found| found.cpus().len() <= 256)),
            Err(problem) => prop_assert!(!problem.to_string().is_empty()),
        }
    }
}
