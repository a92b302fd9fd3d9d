//! Good inputs, from the project's own files and types.

use std::path::{Path, PathBuf};

use nuncio_abi::{
    Budget, BudgetChange, Call, CallToken, Create, Deadline, Handle, Header, Outgoing, QueryItem,
    Resume, Rights, Transfer,
};
use nuncio_tools::manifest;

use super::boot::BASE;

fn bytes(words: impl IntoIterator<Item = u64>) -> Vec<u8> {
    words.into_iter().flat_map(u64::to_le_bytes).collect()
}

/// Calls of every verb, and of `create` for every kind.
pub fn calls() -> Vec<Vec<u8>> {
    let handle = Handle::new(3, 1);
    let message = Outgoing::registers(5, [0x6F_6C6C_6568, 0, 0]);
    let budget =
        Budget::new(20_000_000, 100_000_000).map_or(BudgetChange::Keep, BudgetChange::Limited);
    let calls = [
        Call::HELLO,
        Call::Send {
            port: handle,
            message,
        },
        Call::SendWaiting {
            port: handle,
            message,
            deadline: Deadline(5),
        },
        Call::Receive {
            port: handle,
            deadline: Deadline(5),
            buffer: 0x1080,
        },
        Call::Notify {
            event: handle,
            bits: 1,
        },
        Call::Wait {
            deadline: Deadline::NEVER,
        },
        Call::Map {
            space: handle,
            memory: handle,
            address: 0x1000,
            offset: 0,
            length: 0x2000,
            access: Rights::READ,
        },
        Call::Unmap {
            space: handle,
            address: 0x1000,
            length: 0x1000,
        },
        Call::Close { handle },
        Call::Query {
            handle,
            item: QueryItem::Usage,
        },
        Call::Stop {
            object: handle,
            code: 1,
        },
        Call::Create(Create::Memory { bytes: 0x3000 }),
        Call::Create(Create::Port {
            capacity: 4,
            slot: 3,
        }),
        Call::Create(Create::Event {
            slot: 5,
            interval_ns: 1_000_000,
        }),
        Call::Create(Create::Domain {
            frames: 32,
            kernel_bytes: 0xC000,
            event: Some(handle),
            bits: 1,
        }),
        Call::Create(Create::Space),
        Call::Create(Create::Vcpu {
            domain: handle,
            page: handle,
            monitor: Some(handle),
            state: Some(handle),
        }),
        Call::Create(Create::Timer {
            event: handle,
            bits: 1,
        }),
        Call::Grant {
            handle,
            rights: Rights::SEND,
            badge: 7,
            to: None,
        },
        Call::Arm {
            timer: handle,
            deadline: Deadline(9),
        },
        Call::Call {
            port: handle,
            message,
            deadline: Deadline::NEVER,
        },
        Call::Reply {
            port: handle,
            token: CallToken::new(0, 1),
            message: Outgoing::memory(60, 0x1080),
            then_receive: true,
        },
        Call::Start {
            vcpu: handle,
            entry: 0x10_0000,
            stack: 0x20_0000,
            argument: 7,
            page_table: 0x3000,
        },
        Call::Schedule {
            vcpu: handle,
            priority: Some(20),
            budget,
            cpu: None,
        },
        Call::Run {
            vcpu: handle,
            space: Some(handle),
            resume: Resume::GO,
        },
        Call::Submit {
            ring: 0x4000,
            entries: 31,
        },
    ];
    let raw = calls.map(|call| call.encode());
    raw.map(|raw| bytes([raw.verb].into_iter().chain(raw.arguments)))
        .to_vec()
}

/// Headers, and a handle in a message.
pub fn messages() -> Vec<Vec<u8>> {
    let transfer = Transfer {
        handle: Handle::new(4, 1),
        rights: Rights::READ,
    };
    let headers = [
        Header::new(24, false),
        Header::new(64, true),
        Header::new(0, false),
    ];
    headers
        .map(|header| bytes([header.to_raw(), transfer.to_raw(), u64::MAX]))
        .to_vec()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The manifests of the project.
pub fn manifests() -> Vec<Vec<u8>> {
    let files = std::fs::read_dir(root().join("tools/manifests"))
        .into_iter()
        .flatten()
        .flatten();
    let mut files: Vec<PathBuf> = files.map(|file| file.path()).collect();
    files.sort();
    files
        .iter()
        .filter_map(|path| std::fs::read(path).ok())
        .collect()
}

/// The plans that they compile to.
pub fn plans() -> Vec<Vec<u8>> {
    let texts = manifests()
        .into_iter()
        .filter_map(|bytes| String::from_utf8(bytes).ok());
    let manifests = texts.filter_map(|text| manifest::parse(Path::new("m.toml"), &text).ok());
    manifests
        .map(|manifest| manifest::compile(&manifest, Some(9000)).text.into_bytes())
        .collect()
}

/// The smallest image: one executable segment of 8 bytes at 1 MiB, and the note.
pub fn images() -> Vec<Vec<u8>> {
    const ENTRY: u64 = 0x10_0000;
    let mut file = b"\x7FELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3E\0\x01\0\0\0".to_vec();
    file.extend(bytes([ENTRY, 64, 0]));
    file.extend([0; 4]);
    file.extend(
        [64u16, 56, 2, 0, 0, 0]
            .into_iter()
            .flat_map(u16::to_le_bytes),
    );
    let headers = [
        ([1u32, 5], [176, ENTRY, ENTRY, 8, 8, 4096]),
        ([4, 4], [184, 0, 0, 36, 36, 4]),
    ];
    for (kind, words) in headers {
        file.extend(kind.into_iter().flat_map(u32::to_le_bytes));
        file.extend(bytes(words));
    }
    file.extend(*b"\x90\x90\x90\x90\x90\x90\x90\xF4");
    file.extend([7u32, 16, 1].into_iter().flat_map(u32::to_le_bytes));
    file.extend(*b"Nuncio\0\0");
    file.extend(bytes([u64::from(nuncio_abi::VERSION.to_raw()), ENTRY]));
    vec![file]
}

/// A command line, a module and a memory map in the forms of both protocols, and tables with two CPUs.
pub fn boots() -> Vec<Vec<u8>> {
    vec![multiboot1(), multiboot2(), acpi()]
}

fn acpi() -> Vec<u8> {
    let seal = |mut bytes: Vec<u8>, place: usize| {
        let sum = bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
        bytes[place] = sum.wrapping_neg();
        bytes
    };
    let table = |signature: &[u8; 4], body: &[u8]| {
        let mut table = signature.to_vec();
        table.extend((36 + body.len() as u32).to_le_bytes());
        table.resize(36, 0);
        table.extend(body);
        seal(table, 9)
    };
    let mut pointer = b"RSD PTR ".to_vec();
    pointer.resize(16, 0);
    pointer.extend((BASE + 20).to_le_bytes());
    let pointer = seal(pointer, 8);
    let rsdt = table(b"RSDT", &(BASE + 20 + 40).to_le_bytes());
    let mut body = vec![0; 8];
    body.extend([0, 8, 0, 0, 1, 0, 0, 0]);
    body.extend([9, 16, 0, 0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    [vec![3], pointer, rsdt, table(b"APIC", &body)].concat()
}

fn multiboot1() -> Vec<u8> {
    let at = |offset: u32| BASE + offset;
    let mut words = [0u32; 13];
    words[0] = 1 << 2 | 1 << 3 | 1 << 6;
    (words[4], words[5], words[6]) = (at(64), 1, at(80));
    (words[11], words[12]) = (24, at(96));
    let mut memory: Vec<u8> = words.into_iter().flat_map(u32::to_le_bytes).collect();
    memory.resize(64, 0);
    memory.extend(*b"trace=calls\0plan");
    memory.extend(
        [0x20_0000, 0x20_1000, at(64), 0]
            .into_iter()
            .flat_map(u32::to_le_bytes),
    );
    memory.extend(20u32.to_le_bytes());
    memory.extend(bytes([0x10_0000, 1 << 30]));
    memory.extend(1u32.to_le_bytes());
    [vec![1], memory].concat()
}

fn multiboot2() -> Vec<u8> {
    let tag = |kind: u32, body: &[u8]| {
        let size = 8 + body.len() as u32;
        let mut tag: Vec<u8> = [kind, size]
            .into_iter()
            .flat_map(u32::to_le_bytes)
            .collect();
        tag.extend(body);
        tag.resize(tag.len().next_multiple_of(8), 0);
        tag
    };
    let module = [
        &0x20_0000u32.to_le_bytes()[..],
        &0x20_1000u32.to_le_bytes(),
        b"plan\0",
    ]
    .concat();
    let map = [
        &24u32.to_le_bytes()[..],
        &[0; 4],
        &bytes([0x10_0000, 1 << 30, 1]),
    ]
    .concat();
    let tags = [
        tag(1, b"test=panic\0"),
        tag(3, &module),
        tag(6, &map),
        tag(0, &[]),
    ]
    .concat();
    let mut memory = (8 + tags.len() as u32).to_le_bytes().to_vec();
    memory.extend([0; 4]);
    [vec![2], memory, tags].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use nuncio_abi::Verb;
    use std::collections::BTreeSet;

    #[test]
    fn every_verb_has_a_call() {
        let calls = calls();
        let first = |call: &Vec<u8>| u64::from_le_bytes(call[..8].try_into().unwrap());
        let verbs: BTreeSet<u64> = calls.iter().map(first).collect();
        assert!(verbs
            .into_iter()
            .eq(Verb::ALL.iter().map(|verb| verb.number())));
    }
}
