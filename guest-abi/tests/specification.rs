//! The specification against the code: numbers, names, texts, registers and layouts that stand in
//! `README.md` are those of the crate.

mod document;

use std::mem::{offset_of, size_of};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use nuncio_abi::{
    BootInfo, Call, CallToken, ClockScale, Create, Deadline, Error, Handle, ImageNote, Module,
    Name, NamedHandle, ObjectKind, Outgoing, QueryItem, Reply, Rights, StopReason, TimePage,
    VcpuPage, Verb, BOOT_INFO_MAGIC, COMMAND_LINE_BYTES, EVENT_SLOTS, MAP_LIMIT_BYTES, MAX_HANDLES,
    MAX_MODULES, MESSAGE_BYTES, MESSAGE_HANDLES, NAME_BYTES, NOTE_NAME, NOTE_TYPE, REGISTER_BYTES,
    TIME_PAGE_WORDS, VERSION,
};

use document::{first_column, heading, section, table, tables, Row, SPECIFICATION};

/// The rows that a numbered table of the crate should have.
macro_rules! numbered {
    ($table:ty) => {
        <$table>::ALL
            .iter()
            .map(|row| [&row.number().to_string(), row.name(), row.text()].map(String::from))
            .collect::<Vec<_>>()
    };
}

#[test]
fn numbered_tables_are_those_of_the_crate() {
    assert_eq!(table("Verbs", "Number"), numbered!(Verb));
    assert_eq!(table("Errors", "Number"), numbered!(Error));
    assert_eq!(table("The model", "Kind"), numbered!(ObjectKind));
    assert_eq!(table(&heading(Verb::Query), "Item"), numbered!(QueryItem));
    assert_eq!(table("How a domain ends", "Number"), numbered!(StopReason));
}

#[test]
fn rights_are_those_of_the_crate() {
    let rows = table("Rights", "Bit");
    let found: Vec<_> = rows
        .iter()
        .map(|row| (row[0].clone(), row[1].clone()))
        .collect();
    let expected: Vec<_> = (0..64)
        .filter_map(|bit| Some((bit, Rights::from_bits(1 << bit)?)))
        .map(|(bit, right)| (bit.to_string(), right.to_string()))
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn every_verb_has_a_section_that_begins_with_its_purpose() {
    for verb in Verb::ALL {
        let text = section(&heading(*verb)).trim_start();
        let purpose = verb.text().trim_end_matches('.');
        assert!(text.starts_with(purpose), "{verb}: {text:.60}");
        for first in ["In", "Out", "Error"] {
            table(&heading(*verb), first);
        }
    }
    let lines = SPECIFICATION.lines();
    let sections = lines.filter(|line| line.starts_with('#') && line.contains("(verb "));
    assert_eq!(sections.count(), Verb::ALL.len());
}

#[test]
fn errors_of_verbs_exist_and_every_error_belongs_to_some_verb() {
    let mut mentioned = vec![Error::UnknownVerb];
    for verb in Verb::ALL {
        for name in first_column(&table(&heading(*verb), "Error")) {
            let error = Error::ALL.iter().find(|error| error.name() == name);
            mentioned.push(*error.unwrap_or_else(|| panic!("{verb}: {name} is no error")));
        }
    }
    for error in Error::ALL {
        assert!(mentioned.contains(error), "no verb returns {error}");
    }
}

/// One call of each verb, with no argument that is zero.
fn calls() -> [Call; 15] {
    let handle = Handle::new(1, 1);
    let deadline = Deadline(5);
    let (address, offset, length) = (4096, 4096, 4096);
    [
        Call::HELLO,
        Call::Send {
            port: handle,
            message: Outgoing::registers(24, [1, 2, 3]),
        },
        Call::Receive {
            port: handle,
            deadline,
            buffer: 64,
        },
        Call::Notify {
            event: handle,
            bits: 1,
        },
        Call::Wait { deadline },
        Call::Map {
            space: handle,
            memory: handle,
            address,
            offset,
            length,
            access: Rights::READ,
        },
        Call::Unmap {
            space: handle,
            address,
            length,
        },
        Call::Close { handle },
        Call::Query {
            handle,
            item: QueryItem::Usage,
        },
        Call::Stop {
            domain: handle,
            code: 1,
        },
        Call::Create(Create::Port {
            capacity: 1,
            slot: 1,
        }),
        Call::Grant {
            handle,
            rights: Rights::READ,
            badge: 1,
        },
        Call::Arm {
            timer: handle,
            deadline,
        },
        Call::Call {
            port: handle,
            message: Outgoing::registers(16, [1, 2, 0]),
            deadline,
        },
        Call::Reply {
            port: handle,
            token: CallToken::new(0, 1),
            message: Outgoing::registers(24, [1, 2, 3]),
            then_receive: true,
        },
    ]
}

/// The registers in a row of the table of the calling convention.
fn registers(row: &str) -> Vec<String> {
    let rows = table("A call", "");
    let row = rows.iter().find(|cells| cells[0] == row).unwrap();
    let list = row[1].strip_suffix(", in this order").unwrap();
    list.split(", ").map(String::from).collect()
}

#[test]
fn the_registers_of_arguments_are_those_that_each_call_uses() {
    let order = registers("Arguments");
    assert_eq!(order, ["RDI", "RSI", "RDX", "R10", "R8"]);
    for (call, verb) in calls().iter().zip(Verb::ALL) {
        assert_eq!(call.verb(), *verb);
        let arguments = order.iter().zip(call.encode().arguments);
        let used: Vec<&String> = arguments
            .filter_map(|(register, argument)| (argument != 0).then_some(register))
            .collect();
        let rows = table(&heading(*verb), "In");
        assert_eq!(first_column(&rows), used, "{verb}");
    }
}

#[test]
fn the_registers_of_values_are_two_or_five_in_order() {
    let order = registers("Values");
    assert_eq!(order, ["RDX", "R10", "R8", "RDI", "RSI"]);
    assert_eq!(Reply::Pair(1, 2).values(), [1, 2, 0, 0, 0]);
    for verb in Verb::ALL {
        let rows = table(&heading(*verb), "Out");
        let listed = first_column(&rows);
        match verb {
            Verb::Receive | Verb::Call => assert_eq!(listed, order),
            Verb::Hello | Verb::Query | Verb::Create | Verb::Grant => {
                assert_eq!(listed, order[..2]);
            }
            Verb::Reply => {
                assert_eq!(listed[0], "none");
                assert_eq!(listed[1..], order);
            }
            _ => assert_eq!(listed, ["none"], "{verb}"),
        }
    }
}

/// The first three cells of the row that a field of a structure should have.
macro_rules! field {
    ($structure:ty, $field:ident, $bytes:expr) => {
        [
            offset_of!($structure, $field).to_string(),
            $bytes.to_string(),
            stringify!($field).to_string(),
        ]
    };
}

#[test]
fn the_boot_info_page_is_laid_out_as_in_the_crate() {
    let mut found = tables("The boot-info page", "Offset");
    found.iter_mut().flatten().for_each(|row| row.truncate(3));
    let [page, module, handle] = found.as_slice() else {
        panic!("{} tables", found.len());
    };
    let expected = [
        field!(BootInfo, magic, 8),
        field!(BootInfo, version, 8),
        field!(BootInfo, name, NAME_BYTES),
        field!(BootInfo, ram_bytes, 8),
        field!(BootInfo, free_start, 8),
        field!(BootInfo, vcpu_page, 8),
        field!(BootInfo, time_page, 8),
        field!(BootInfo, text_page, 8),
        field!(BootInfo, mapped_end, 8),
        field!(BootInfo, address_limit, 8),
        field!(BootInfo, module_count, 8),
        field!(BootInfo, handle_count, 8),
        field!(BootInfo, command_line, COMMAND_LINE_BYTES),
        field!(BootInfo, modules, MAX_MODULES * size_of::<Module>()),
        field!(BootInfo, handles, MAX_HANDLES * size_of::<NamedHandle>()),
    ];
    assert_eq!(page, &expected);
    let expected = [
        field!(Module, name, size_of::<Name>()),
        field!(Module, address, 8),
        field!(Module, length, 8),
    ];
    assert_eq!(module, &expected);
    let expected = [
        field!(NamedHandle, name, size_of::<Name>()),
        field!(NamedHandle, handle, 8),
        field!(NamedHandle, description, 8),
    ];
    assert_eq!(handle, &expected);
    assert_eq!(BOOT_INFO_MAGIC.to_le_bytes(), *b"NUNCIO\0\0");
}

fn empty_page() -> [AtomicU64; 512] {
    std::array::from_fn(|_| AtomicU64::new(0))
}

#[test]
fn the_time_page_is_laid_out_as_in_the_crate() {
    let words = empty_page();
    let scale = ClockScale {
        multiplier: 13,
        shift: 14,
    };
    let page = TimePage {
        base_ticks: 11,
        base_ns: 12,
        scale,
        disruption: 15,
        frequency_hz: 16,
    };
    page.publish(&words);
    let contents = [
        (2, "sequence"),
        (11, "time-stamp counter at the base"),
        (12, "nanoseconds at the base"),
        (13, "multiplier"),
        (14, "shift"),
        (15, "disruption marker"),
        (16, "frequency"),
    ];
    let rows = table("Time", "Word");
    assert_eq!(rows.len(), TIME_PAGE_WORDS);
    for (index, (row, (value, content))) in rows.iter().zip(contents).enumerate() {
        assert_eq!(row[0], index.to_string());
        assert!(row[1].starts_with(content), "{row:?}");
        assert_eq!(words[index].load(Relaxed), value, "{content}");
    }
}

#[test]
fn the_vcpu_page_is_laid_out_as_in_the_crate() {
    let rows = table("Events and the vcpu page", "Word");
    let places: Vec<&[String]> = rows.iter().map(|row| &row[..2]).collect();
    let expected = [
        ["0", "0"],
        ["1", "8"],
        ["64 + 2 s", "512 + 16 s"],
        ["65 + 2 s", "520 + 16 s"],
    ];
    assert_eq!(places, expected);
    let words = empty_page();
    let page = VcpuPage::new(&words);
    page.set_upcall_vector(99);
    let slot = page.slot(5).unwrap();
    slot.enable(0b11);
    slot.post(0b10);
    let value = |word: usize| words[word].load(Relaxed);
    assert_eq!((value(0), value(1)), (1 << 5, 99));
    assert_eq!((value(64 + 2 * 5), value(65 + 2 * 5)), (0b10, 0b11));
}

#[test]
fn limits_are_those_of_the_crate() {
    let rows = table("Limits", "What");
    let limits = [
        ("bytes in a message", MESSAGE_BYTES),
        ("bytes in a message in registers", REGISTER_BYTES),
        ("slots in a vcpu page", EVENT_SLOTS as u64),
        (
            "bytes in one map or unmap, and in a memory from create",
            MAP_LIMIT_BYTES,
        ),
        ("handles in a message", MESSAGE_HANDLES as u64),
        ("handles in the boot-info page", MAX_HANDLES as u64),
        ("modules of a domain", MAX_MODULES as u64),
        ("bytes in a name, with its zero", NAME_BYTES as u64),
        (
            "bytes in the command line, with its zero",
            COMMAND_LINE_BYTES as u64,
        ),
    ];
    for (what, limit) in limits {
        let row = rows.iter().find(|row| row[0] == what);
        assert_eq!(row.map(|row| &row[1]), Some(&limit.to_string()), "{what}");
    }
}

#[test]
fn the_version_and_the_note_are_those_of_the_crate() {
    let title = SPECIFICATION.lines().next().unwrap_or_default();
    assert!(title.ends_with(&format!("version {VERSION}")), "{title}");
    let raw = VERSION.to_raw();
    let (major, minor) = (raw >> 16, raw & 0xFFFF);
    let stated = format!("This is version {VERSION}, 0x{major:04X}_{minor:04X}.");
    let versions = section("Versions").replace('\n', " ");
    assert!(versions.contains(&stated), "{stated}");
    let (name_bytes, descriptor_bytes) = (NOTE_NAME.len(), ImageNote::BYTES);
    let note = format!(".long  {name_bytes}, {descriptor_bytes}, {NOTE_TYPE}\n");
    assert!(section("Images").contains(&note), "{note}");
    let version = format!(".long  0x{raw:08x}, 0\n");
    assert!(section("Images").contains(&version), "{version}");
}
