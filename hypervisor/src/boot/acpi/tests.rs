use super::super::physical_bytes::FakeMemory;
use super::*;
use proptest::prelude::*;

/// Where the tests have their tables: in the area that is searched.
const BASE: u64 = 0xE_0000;
const RSDT: usize = 0x100;
const XSDT: usize = 0x200;
const MADT: usize = 0x300;
const BYTES: usize = 0x1000;

fn seal(bytes: &mut [u8], checksum_at: usize) {
    bytes[checksum_at] = 0;
    let sum = bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    bytes[checksum_at] = sum.wrapping_neg();
}

fn table_of(signature: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; HEADER_BYTES];
    bytes[..4].copy_from_slice(signature);
    bytes.extend(body);
    let length = bytes.len() as u32;
    bytes[4..8].copy_from_slice(&length.to_le_bytes());
    seal(&mut bytes, 9);
    bytes
}

fn madt(entries: &[&[u8]]) -> Vec<u8> {
    let mut body = vec![0; MADT_ENTRIES - HEADER_BYTES];
    body.extend(entries.concat());
    table_of(b"APIC", &body)
}

fn xapic(identifier: u8, flags: u8) -> [u8; 8] {
    [LOCAL_APIC, 8, 7, identifier, flags, 0, 0, 0]
}

fn x2apic(identifier: u32, flags: u8) -> [u8; 16] {
    let [a, b, c, d] = identifier.to_le_bytes();
    [
        LOCAL_X2APIC,
        16,
        0,
        0,
        a,
        b,
        c,
        d,
        flags,
        0,
        0,
        0,
        9,
        0,
        0,
        0,
    ]
}

fn root_pointer(revision: u8) -> Vec<u8> {
    let mut bytes = ROOT_POINTER_SIGNATURE.to_vec();
    bytes.resize(ROOT_POINTER_BYTES, 0);
    bytes[15] = revision;
    bytes[16..20].copy_from_slice(&(BASE as u32 + RSDT as u32).to_le_bytes());
    bytes[20..24].copy_from_slice(&(ROOT_POINTER_BYTES as u32).to_le_bytes());
    bytes[24..32].copy_from_slice(&(BASE + XSDT as u64).to_le_bytes());
    seal(&mut bytes[..OLD_ROOT_POINTER_BYTES], 8);
    seal(&mut bytes, 32);
    bytes
}

/// A machine whose root pointer has this revision, and both root tables with this MADT behind another
/// table.
fn machine(revision: u8, madt: &[u8]) -> FakeMemory {
    let mut bytes = vec![0; BYTES];
    let mut put = |offset: usize, part: &[u8]| {
        bytes[offset..offset + part.len()].copy_from_slice(part);
    };
    let listed = [BASE + 0x80, BASE + MADT as u64];
    put(0x20, &root_pointer(revision));
    put(
        RSDT,
        &table_of(
            b"RSDT",
            &listed.map(|it| (it as u32).to_le_bytes()).concat(),
        ),
    );
    put(
        XSDT,
        &table_of(b"XSDT", &listed.map(u64::to_le_bytes).concat()),
    );
    put(0x80, &table_of(b"FACP", &[]));
    put(MADT, madt);
    FakeMemory { base: BASE, bytes }
}

fn four() -> Vec<u8> {
    madt(&[
        &xapic(0, 1),
        &[1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &xapic(5, 1),
        &xapic(3, 0),
        &xapic(0xFF, 1),
        &x2apic(5, 1),
        &x2apic(300, 1),
        &x2apic(301, 2),
        &x2apic(u32::MAX, 1),
    ])
}

#[test]
fn enabled_cpus_are_found_once_each_in_their_order() {
    for revision in [0, 2] {
        let memory = machine(revision, &four());
        assert_eq!(processors(None, &memory), Ok(vec![0, 5, 300]));
        assert_eq!(processors(Some(BASE + 0x20), &memory), Ok(vec![0, 5, 300]));
        // What the loader says is looked at first, but not believed.
        assert_eq!(processors(Some(BASE + 0x10), &memory), Ok(vec![0, 5, 300]));
    }
}

#[test]
fn the_root_table_of_the_revision_is_used() {
    let mut old = machine(0, &four());
    old.bytes[XSDT] = b'?';
    assert!(processors(None, &old).is_ok());
    old.bytes[RSDT] = b'?';
    assert_eq!(
        processors(None, &old),
        Err(AcpiError::Damaged("RSDT or XSDT"))
    );
    let mut new = machine(2, &four());
    new.bytes[RSDT] = b'?';
    assert!(processors(None, &new).is_ok());
    let mut fallen_back = machine(2, &four());
    fallen_back.bytes[XSDT + 9] ^= 1;
    assert!(processors(None, &fallen_back).is_ok());
}

#[test]
fn the_root_pointer_may_lie_in_the_extended_bios_data_area() {
    let bios = machine(0, &four());
    let mut bytes = vec![0; BIOS_END as usize];
    bytes[EBDA_SEGMENT as usize..][..2].copy_from_slice(&0x9FC0u16.to_le_bytes());
    bytes[BASE as usize..][..BYTES].copy_from_slice(&bios.bytes);
    bytes.copy_within(BASE as usize + 0x20..BASE as usize + 0x44, 0x9_FC30);
    bytes[BASE as usize + 0x20] = 0;
    let memory = FakeMemory { base: 0, bytes };
    assert_eq!(processors(None, &memory), Ok(vec![0, 5, 300]));
}

#[test]
fn what_is_damaged_is_named() {
    let nothing = FakeMemory {
        base: 0,
        bytes: Vec::new(),
    };
    assert_eq!(processors(None, &nothing), Err(AcpiError::NoRootPointer));
    let mut pointer = machine(2, &four());
    pointer.bytes[0x20 + 17] ^= 1;
    assert_eq!(processors(None, &pointer), Err(AcpiError::NoRootPointer));
    let mut checksum = machine(2, &four());
    checksum.bytes[MADT + 50] ^= 1;
    assert_eq!(processors(None, &checksum), Err(AcpiError::Damaged("MADT")));
    let mut none = machine(2, &four());
    none.bytes[MADT] = b'?';
    assert_eq!(processors(None, &none), Err(AcpiError::NoTable("MADT")));
    for length in [0u32, 35, MAX_TABLE_BYTES as u32 + 1, u32::MAX] {
        let mut memory = machine(2, &four());
        memory.bytes[MADT + 4..][..4].copy_from_slice(&length.to_le_bytes());
        assert_eq!(
            processors(None, &memory),
            Err(AcpiError::Damaged("MADT")),
            "{length}"
        );
    }
}

#[test]
fn an_entry_of_an_impossible_length_is_damage() {
    for entry in [
        &[0u8, 0][..],
        &[0, 1],
        &[0, 7, 1, 2, 1, 0, 0],
        &[9, 9, 0, 0, 1, 0, 0, 0, 1],
        &[5, 200],
    ] {
        let memory = machine(0, &madt(&[&xapic(0, 1), entry]));
        assert_eq!(
            processors(None, &memory),
            Err(AcpiError::Damaged("MADT")),
            "{entry:?}"
        );
    }
    let short = table_of(b"APIC", &[0; 3]);
    assert_eq!(
        processors(None, &machine(0, &short)),
        Err(AcpiError::Damaged("MADT"))
    );
    let empty = machine(0, &madt(&[]));
    assert_eq!(processors(None, &empty), Ok(vec![]));
}

#[test]
fn the_timer_is_found_in_its_table() {
    let fadt = |checksum_error: u8| {
        let mut body = vec![0; 116 - HEADER_BYTES];
        body[76 - HEADER_BYTES..][..2].copy_from_slice(&0x608u16.to_le_bytes());
        body[91 - HEADER_BYTES] = 4;
        let mut table = table_of(b"FACP", &body);
        table[40] ^= checksum_error;
        let mut memory = machine(2, &four());
        // Where the machine has an empty one of that name.
        memory.bytes[0x80..0x80 + table.len()].copy_from_slice(&table);
        memory
    };
    let timer = PmTimer::new(0x608, false);
    assert_eq!(pm_timer(None, &fadt(0)), Ok(Some(timer)));
    assert_eq!(pm_timer(None, &fadt(1)), Err(AcpiError::Damaged("FADT")));
    assert_eq!(pm_timer(None, &machine(2, &four())), Ok(None));
}

proptest! {
    #[test]
    fn any_entries_with_a_right_checksum_are_survived(body in prop::collection::vec(prop_oneof![any::<u8>(), 0u8..17], 0..400)) {
        let memory = machine(2, &table_of(b"APIC", &body));
        if let Ok(found) = processors(None, &memory) {
            let mut sorted = found.clone();
            sorted.sort_unstable();
            sorted.dedup();
            prop_assert_eq!(sorted.len(), found.len());
            prop_assert!(found.len() * 8 <= body.len());
        }
    }

    #[test]
    fn damage_never_panics(changes in prop::collection::vec((0usize..0x400, any::<u8>()), 0..20), cut in 0usize..0x400, at in any::<u64>()) {
        let mut memory = machine(2, &four());
        for (offset, byte) in changes {
            memory.bytes[offset] = byte;
        }
        memory.bytes.truncate(cut);
        let _ = processors(Some(at), &memory);
        let _ = processors(None, &memory);
        let _ = pm_timer(None, &memory);
    }

    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..600), at in 0u64..600) {
        let memory = FakeMemory { base: 0, bytes };
        let _ = root_tables(at, &memory);
        let _ = table(at, b"APIC", &memory);
        let _ = entries(&memory.bytes);
    }
}
