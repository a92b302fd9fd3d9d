//! The specification against the code: numbers, names, texts, registers and layouts that stand in
//! `README.md` are those of the crate.

mod document;

use std::mem::size_of;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use nuncio_abi::{
    BootInfo, ClockScale, Error, ExitKind, Field, ImageNote, Meaning, Module, NamedHandle,
    ObjectKind, QueryItem, RawCall, Register, Reply, Rights, RingPage, RunState, StateGroups,
    StatePage, StateSegment, StateWord, StopReason, TimePage, TimeWord, VcpuPage, Verb,
    BOOT_INFO_MAGIC, LIMITS, NOTE_NAME, NOTE_TYPE, TIME_PAGE_WORDS, VERSION,
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
    assert_eq!(table("Exits and monitors", "Number"), numbered!(ExitKind));
    let states = table("Run state and stolen time", "Number");
    assert_eq!(states, numbered!(RunState));
}

#[test]
fn rights_are_those_of_the_crate() {
    let rows = table("Rights", "Bit");
    let expected = Rights::ROWS.iter().map(|(right, name, of, text)| {
        let bit = right.bits().trailing_zeros().to_string();
        [bit.as_str(), name, of, text].map(String::from).to_vec()
    });
    assert_eq!(rows, expected.collect::<Vec<_>>());
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
fn errors_of_verbs_are_those_of_the_crate_in_their_order() {
    let mut returned = vec![Error::UnknownVerb];
    for verb in Verb::ALL {
        let rows = table(&heading(*verb), "Error");
        let errors = verb.signature().errors;
        let names: Vec<_> = errors.iter().map(|error| error.name()).collect();
        assert_eq!(first_column(&rows), names, "{verb}");
        returned.extend(errors);
    }
    for error in Error::ALL {
        assert!(returned.contains(error), "no verb returns {error}");
    }
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
    assert_eq!(order, Register::ARGUMENTS.map(name));
    for verb in Verb::ALL {
        let signature = verb.signature();
        let rows = table(&heading(*verb), "In");
        let kinds = signature.kinds.iter().flat_map(|form| form.arguments);
        let used: Vec<_> = signature.arguments.iter().chain(kinds).collect();
        let used = order.iter().filter(|register| {
            let mut registers = used.iter().flat_map(|argument| argument.registers);
            registers.any(|other| name(*other) == **register)
        });
        assert_eq!(first_column(&rows), used.collect::<Vec<_>>(), "{verb}");
        for argument in signature.arguments {
            let registers: Vec<_> = argument.registers.iter().copied().map(name).collect();
            let row = rows.iter().find(|row| row[0] == registers.join(", "));
            let row = row.unwrap_or_else(|| panic!("{verb}: no row of {}", argument.name));
            assert!(
                means(&row[1], argument.meaning),
                "{verb}: {row:?} is {argument:?}"
            );
        }
    }
}

/// The register's name as the specification writes it.
fn name(register: Register) -> String {
    register.name().to_uppercase()
}

/// Whether the specification says of a register what the crate does.
fn means(content: &str, meaning: Meaning) -> bool {
    let content = without_links(content);
    match meaning {
        Meaning::Handle { .. } => content.starts_with(&meaning.to_string()),
        // "as for send"
        Meaning::Words => content.starts_with(meaning.text()) || content.starts_with("as for"),
        _ => content.contains(meaning.text()),
    }
}

/// `[text](target)` becomes `text`.
fn without_links(text: &str) -> String {
    let mut parts = text.split("](");
    let mut plain = parts.next().unwrap_or_default().to_string();
    for part in parts {
        plain.push_str(part.split_once(')').map_or(part, |(_, rest)| rest));
    }
    plain.replace('[', "")
}

#[test]
fn the_kinds_that_can_be_made_are_those_of_the_crate() {
    let signature = Verb::Create.signature();
    let rows = table(&heading(Verb::Create), "Kind");
    assert_eq!(rows.len(), signature.kinds.len());
    for (row, form) in rows.iter().zip(signature.kinds) {
        assert_eq!(row[0], form.kind.name());
        for (register, content) in Register::ARGUMENTS[1..].iter().zip(&row[1..row.len() - 1]) {
            let mut arguments = form.arguments.iter();
            match arguments.find(|argument| argument.registers == [*register]) {
                None => assert_eq!(content, "0", "{row:?}"),
                Some(argument) => {
                    assert!(means(content, argument.meaning), "{row:?}: {argument:?}")
                }
            }
        }
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
        let signature = verb.signature();
        let values = signature.values.iter().flat_map(|value| value.registers);
        let mut expected: Vec<_> = values.copied().map(name).collect();
        assert!([0, 2, 5].contains(&expected.len()), "{verb}");
        assert_eq!(expected, order[..expected.len()], "{verb}");
        if expected.is_empty() || signature.may_return_nothing {
            expected.insert(0, "none".to_string());
        }
        assert_eq!(listed, expected, "{verb}");
    }
}

/// The first three cells of the row that each field should have.
fn fields(fields: &[Field]) -> Vec<Row> {
    let row = |field: &Field| {
        let (offset, bytes) = (field.offset.to_string(), field.bytes.to_string());
        vec![offset, bytes, field.name.to_string()]
    };
    fields.iter().map(row).collect()
}

#[test]
fn the_boot_info_page_is_laid_out_as_in_the_crate() {
    let mut found = tables("The boot-info page", "Offset");
    found.iter_mut().flatten().for_each(|row| row.truncate(3));
    let expected = [BootInfo::FIELDS, Module::FIELDS, NamedHandle::FIELDS];
    assert_eq!(found, expected.map(fields));
    assert_eq!(BOOT_INFO_MAGIC.to_le_bytes(), *b"NUNCIO\0\0");
    assert_eq!(
        (size_of::<Module>(), size_of::<NamedHandle>()),
        (48, 48),
        "padding belongs to no field"
    );
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
    let rows = table("Time", "Word");
    let expected = TimeWord::ALL.iter();
    let expected = expected.map(|word| vec![word.number().to_string(), word.text().to_string()]);
    assert_eq!(rows, expected.collect::<Vec<_>>());
    let values: Vec<_> = words.iter().map(|word| word.load(Relaxed)).collect();
    assert_eq!(values[..TIME_PAGE_WORDS], [2, 11, 12, 13, 14, 15, 16]);
    assert!(values[TIME_PAGE_WORDS..].iter().all(|word| *word == 0));
}

#[test]
fn the_vcpu_page_is_laid_out_as_in_the_crate() {
    let rows = table("Events and the vcpu page", "Word");
    let places: Vec<&[String]> = rows.iter().map(|row| &row[..2]).collect();
    let expected = [
        ["0", "0"],
        ["1", "8"],
        ["2", "16"],
        ["3", "24"],
        ["4", "32"],
        ["5", "40"],
        ["6", "48"],
        ["64 + 2 s", "512 + 16 s"],
        ["65 + 2 s", "520 + 16 s"],
        ["192 + 2 s", "1536 + 16 s"],
        ["193 + 2 s", "1544 + 16 s"],
    ];
    assert_eq!(places, expected);
    let words = empty_page();
    let page = VcpuPage::new(&words);
    page.set_upcall_vector(99);
    page.set_ring(0x5000);
    page.set_threshold(7);
    let slot = page.slot(5).unwrap();
    page.cease_to_be_ready(44, RunState::Asleep);
    page.become_ready(55);
    slot.enable(0b11);
    slot.wake_at(77);
    words[192 + 2 * 5].store(76, Relaxed);
    slot.post(0b10);
    let value = |word: usize| words[word].load(Relaxed);
    assert_eq!((value(0), value(1)), (1 << 5, 99));
    assert_eq!((value(2), value(3)), (7, 0x5000));
    assert_eq!((value(4), value(5), value(6)), (1, 44, 55));
    assert_eq!((value(64 + 2 * 5), value(65 + 2 * 5)), (0b10, 0b11));
    assert_eq!((value(192 + 2 * 5), value(193 + 2 * 5)), (77, 77));
}

#[test]
fn the_ring_is_laid_out_as_in_the_crate() {
    let rows = table("The ring", "Word");
    let words = empty_page();
    let ring = RingPage::new(&words);
    let raw = RawCall {
        verb: 3,
        arguments: [11, 12, 13, 14, 15],
    };
    for number in 0..=31 {
        ring.push(&raw, 16 + number).or_else(|| {
            ring.finish(0, 17, &[21, 22, 23, 24, 25]);
            ring.push(&raw, 16 + number)
        });
    }
    // Entry 0 is that of call 31 too; its reply is still that of call 0.
    let value = |word: usize| words[word].load(Relaxed);
    assert_eq!((value(0), value(1), value(2)), (32, 1, 0));
    let entry: Vec<u64> = (16..32).map(value).collect();
    let expected = [3, 11, 12, 13, 14, 15, 47, 0, 17, 21, 22, 23, 24, 25, 0, 0];
    assert_eq!(entry, expected);
    assert_eq!(value(511 - 15), 3, "the last entry ends with the page");
    let place = |word: usize| match word {
        0..16 => [word.to_string(), (8 * word).to_string()],
        _ => [format!("{word} + 16 e"), format!("{} + 128 e", 8 * word)],
    };
    let places: Vec<_> = rows
        .iter()
        .map(|row| [row[0].clone(), row[1].clone()])
        .collect();
    assert_eq!(places, [0, 1, 2, 16, 17, 22, 23, 24, 25].map(place));
}

#[test]
fn the_state_page_is_laid_out_as_in_the_crate() {
    assert_eq!(table("The state page", "Bit"), {
        let row = |(group, name, words, text): &(StateGroups, &str, _, &str)| {
            let words: &std::ops::RangeInclusive<usize> = words;
            let bit = group.bits().trailing_zeros().to_string();
            let words = format!("{} to {}", words.start(), words.end());
            [bit.as_str(), name, &words, text].map(String::from)
        };
        StateGroups::ROWS.iter().map(row).collect::<Vec<_>>()
    });
    let words = tables("The state page", "Word");
    assert_eq!(words[0], numbered!(StateWord));
    let page = empty_page();
    let state = StatePage::new(&page);
    state.set_general(5, 1);
    let (access, limit) = (2, 3);
    let segment = StateSegment {
        selector: 4,
        access,
        limit,
        base: 5,
    };
    state.set_segment(6, segment);
    let places = table("The state page", "Words of");
    let places: Vec<_> = places.iter().map(|row| row[1].as_str()).collect();
    assert_eq!(places, ["16 + r", "64 + 2 s", "65 + 2 s"]);
    let value = |word: usize| page[word].load(Relaxed);
    assert_eq!(value(16 + 5), 1);
    assert_eq!(value(64 + 2 * 6), 4 | 2 << 16 | 3 << 32);
    assert_eq!(value(65 + 2 * 6), 5);
    // What is checked is a word that has a name, or the first of a segment register.
    for word in first_column(&words[1]) {
        let is_named = StateWord::ALL.iter().any(|known| known.name() == word);
        assert!(is_named || word == "64 + 2 s", "{word}");
    }
}

#[test]
fn limits_are_those_of_the_crate() {
    let rows = table("Limits", "What");
    for limit in LIMITS {
        let row = rows.iter().find(|row| row[0] == limit.what);
        let most = row.and_then(|row| row[1].split(' ').next_back());
        assert_eq!(
            most,
            Some(limit.most.to_string().as_str()),
            "{}",
            limit.what
        );
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
