//! The structures of the C header, each with what the compiler is to check.

use std::fmt::{self, Write as _};

use nuncio_abi::{
    BootInfo, Field, Form, Handle, Module, Name, NamedHandle, ObjectKind, Rights, RingPage,
    StateGroups, StatePage, StateWord, TimeWord, VcpuPage, CLOCK_ENTRY_OFFSET, EVENT_SLOTS,
    MAX_ARGUMENTS, MAX_VALUES, PAGE_BYTES, RING_ENTRIES,
};

/// Words in a page.
const WORDS: usize = PAGE_BYTES as usize / 8;

/// Writes all structures.
pub fn write(text: &mut String) -> fmt::Result {
    structure(text, "module", "A module of the domain.", Module::FIELDS)?;
    structure(
        text,
        "named_handle",
        "A handle that the domain starts with.",
        NamedHandle::FIELDS,
    )?;
    description(text)?;
    structure(
        text,
        "boot_info",
        "The boot-info page: RDI points to it when the domain starts.",
        BootInfo::FIELDS,
    )?;
    vcpu_page(text)?;
    ring(text)?;
    time_page(text)?;
    state_page(text)
}

fn structure(text: &mut String, name: &str, about: &str, fields: &[Field]) -> fmt::Result {
    writeln!(text, "\n/* {about} */\nstruct nuncio_{name} {{")?;
    for field in fields {
        let own = field.name;
        match field.form {
            Form::Word => writeln!(text, "    uint64_t {own};")?,
            Form::Text(bytes) => writeln!(text, "    char {own}[{bytes}];")?,
            Form::Modules(count) => writeln!(text, "    struct nuncio_module {own}[{count}];")?,
            Form::Words(count) => writeln!(text, "    uint64_t {own}[{count}];")?,
            Form::Handles(count) => {
                writeln!(text, "    struct nuncio_named_handle {own}[{count}];")?;
            }
        }
    }
    writeln!(text, "}};")?;
    for field in fields {
        offset(text, name, field.name, field.offset)?;
    }
    let bytes = fields.last().map_or(0, |field| field.offset + field.bytes);
    size(text, name, bytes)
}

/// The parts of a handle's description, tried on one that the crate has made.
fn description(text: &mut String) -> fmt::Result {
    let (kind, rights, slot) = (ObjectKind::Port, Rights::RECEIVE, 9);
    let handle = NamedHandle::new(Name::EMPTY, Handle::new(1, 1), kind, rights, slot);
    let word = handle.description;
    writeln!(
        text,
        "\n/* The parts of a handle's description. The slot is that of a port with `receive` or an event with\n\
         \x20* `wait`. */\n\
         #define NUNCIO_DESCRIPTION_KIND(description) ((description) & 0xff)\n\
         #define NUNCIO_DESCRIPTION_SLOT(description) ((description) >> 8 & 0xff)\n\
         #define NUNCIO_DESCRIPTION_RIGHTS(description) ((description) >> 32)"
    )?;
    for (part, value) in [
        ("KIND", kind.number()),
        ("SLOT", u64::from(slot)),
        ("RIGHTS", rights.bits()),
    ] {
        let name = format!("NUNCIO_DESCRIPTION_{part}");
        writeln!(
            text,
            "_Static_assert({name}(UINT64_C({word:#x})) == {value}, \"{part}\");"
        )?;
    }
    Ok(())
}

fn vcpu_page(text: &mut String) -> fmt::Result {
    let between = VcpuPage::FIRST_SLOT - VcpuPage::READY_SINCE - 1;
    let words = VcpuPage::WORDS_PER_SLOT * EVENT_SLOTS;
    // The header has no words between the slots and their counts.
    const {
        assert!(
            VcpuPage::FIRST_SLOT + VcpuPage::WORDS_PER_SLOT * EVENT_SLOTS == VcpuPage::FIRST_COUNT
        )
    }
    let behind = WORDS - VcpuPage::FIRST_COUNT - words;
    writeln!(
        text,
        "\n/* A slot of the vcpu page. */\n\
         struct nuncio_slot {{\n\
         \x20   _Atomic(uint64_t) pending; /* written by both */\n\
         \x20   _Atomic(uint64_t) enabled; /* written by the guest */\n\
         }};\n\n\
         /* The postings of a slot. */\n\
         struct nuncio_slot_count {{\n\
         \x20   _Atomic(uint64_t) count;   /* written by the hypervisor */\n\
         \x20   _Atomic(uint64_t) wake_at; /* written by the guest */\n\
         }};\n\n\
         /* The vcpu page, shared with the hypervisor. */\n\
         struct nuncio_vcpu_page {{\n\
         \x20   _Atomic(uint64_t) ready;         /* written by both */\n\
         \x20   _Atomic(uint64_t) upcall_vector; /* written by the guest */\n\
         \x20   _Atomic(uint64_t) threshold;     /* written by the guest */\n\
         \x20   _Atomic(uint64_t) ring;          /* written by the guest */\n\
         \x20   _Atomic(uint64_t) run_state;     /* written by the hypervisor */\n\
         \x20   _Atomic(uint64_t) stolen_ns;     /* written by the hypervisor */\n\
         \x20   _Atomic(uint64_t) ready_since;   /* written by the hypervisor */\n\
         \x20   uint64_t reserved[{between}];\n\
         \x20   struct nuncio_slot slots[{EVENT_SLOTS}];\n\
         \x20   struct nuncio_slot_count counts[{EVENT_SLOTS}];\n\
         \x20   uint64_t reserved_behind[{behind}];\n\
         }};"
    )?;
    size(text, "slot", VcpuPage::WORDS_PER_SLOT * 8)?;
    size(text, "slot_count", VcpuPage::WORDS_PER_SLOT * 8)?;
    offset(text, "vcpu_page", "ready", VcpuPage::READY * 8)?;
    offset(
        text,
        "vcpu_page",
        "upcall_vector",
        VcpuPage::UPCALL_VECTOR * 8,
    )?;
    offset(text, "vcpu_page", "threshold", VcpuPage::THRESHOLD * 8)?;
    offset(text, "vcpu_page", "ring", VcpuPage::RING * 8)?;
    offset(text, "vcpu_page", "run_state", VcpuPage::RUN_STATE * 8)?;
    offset(text, "vcpu_page", "stolen_ns", VcpuPage::STOLEN * 8)?;
    offset(text, "vcpu_page", "ready_since", VcpuPage::READY_SINCE * 8)?;
    offset(text, "vcpu_page", "slots", VcpuPage::FIRST_SLOT * 8)?;
    offset(text, "vcpu_page", "counts", VcpuPage::FIRST_COUNT * 8)?;
    size(text, "vcpu_page", PAGE_BYTES as usize)
}

fn ring(text: &mut String) -> fmt::Result {
    let behind_entry = RingPage::WORDS_PER_ENTRY - RingPage::STATUS - 1 - MAX_VALUES;
    let before_entries = RingPage::FIRST_ENTRY - RingPage::FLAGS - 1;
    let attended = RingPage::ATTENDED;
    writeln!(
        text,
        "\n/* A call in a ring. */\n\
         struct nuncio_ring_entry {{\n\
         \x20   _Atomic(uint64_t) verb;              /* written by the guest */\n\
         \x20   _Atomic(uint64_t) arguments[{MAX_ARGUMENTS}];      /* written by the guest */\n\
         \x20   uint64_t tag;                        /* the guest's own */\n\
         \x20   _Atomic(uint64_t) zero;              /* written by the guest */\n\
         \x20   _Atomic(uint64_t) status;            /* written by the hypervisor */\n\
         \x20   _Atomic(uint64_t) values[{MAX_VALUES}];         /* written by the hypervisor */\n\
         \x20   uint64_t reserved[{behind_entry}];\n\
         }};\n\n\
         /* The ring: how calls are added stands in the specification. */\n\
         struct nuncio_ring {{\n\
         \x20   _Atomic(uint64_t) submitted; /* written by the guest */\n\
         \x20   _Atomic(uint64_t) taken;     /* written by the hypervisor */\n\
         \x20   _Atomic(uint64_t) flags;     /* written by the hypervisor */\n\
         \x20   uint64_t reserved[{before_entries}];\n\
         \x20   struct nuncio_ring_entry entries[{RING_ENTRIES}];\n\
         }};\n\
         #define NUNCIO_RING_ATTENDED UINT64_C({attended:#x})"
    )?;
    for (field, word) in [
        ("tag", RingPage::TAG),
        ("zero", RingPage::RESERVED),
        ("status", RingPage::STATUS),
    ] {
        offset(text, "ring_entry", field, word * 8)?;
    }
    size(text, "ring_entry", RingPage::WORDS_PER_ENTRY * 8)?;
    for (field, word) in [
        ("submitted", RingPage::SUBMITTED),
        ("taken", RingPage::TAKEN),
        ("flags", RingPage::FLAGS),
        ("entries", RingPage::FIRST_ENTRY),
    ] {
        offset(text, "ring", field, word * 8)?;
    }
    size(text, "ring", PAGE_BYTES as usize)
}

fn time_page(text: &mut String) -> fmt::Result {
    let name = |word: &TimeWord| word.name().replace('-', "_");
    writeln!(
        text,
        "\n/* The time page, read-only: how to read it stands in the specification. */\n\
         struct nuncio_time_page {{"
    )?;
    for word in TimeWord::ALL {
        writeln!(text, "    /* {} */", word.text())?;
        writeln!(text, "    _Atomic(uint64_t) {};", name(word))?;
    }
    let behind = WORDS - TimeWord::ALL.len();
    writeln!(text, "    uint64_t reserved[{behind}];\n}};")?;
    for word in TimeWord::ALL {
        offset(text, "time_page", &name(word), word.number() as usize * 8)?;
    }
    size(text, "time_page", PAGE_BYTES as usize)?;
    writeln!(
        text,
        "\n/* The entry of the text page that reads it. */\n\
         #define NUNCIO_CLOCK_ENTRY {CLOCK_ENTRY_OFFSET}"
    )
}

fn state_page(text: &mut String) -> fmt::Result {
    writeln!(
        text,
        "\n/* The words of the state page, and the bits of its groups of registers. */"
    )?;
    let name = |name: &str| name.replace('-', "_").to_uppercase();
    for word in StateWord::ALL {
        let (name, number) = (name(word.name()), word.number());
        writeln!(
            text,
            "#define NUNCIO_STATE_{name} {number} /* {} */",
            word.text()
        )?;
    }
    let general = StatePage::FIRST_GENERAL;
    let (segment, words) = (StatePage::FIRST_SEGMENT, StatePage::WORDS_PER_SEGMENT);
    writeln!(
        text,
        "#define NUNCIO_STATE_GENERAL(number) ({general} + (number))\n\
         #define NUNCIO_STATE_SEGMENT(number) ({segment} + {words} * (number))"
    )?;
    for (group, group_name, ..) in StateGroups::ROWS {
        let (name, bits) = (name(group_name), group.bits());
        writeln!(
            text,
            "#define NUNCIO_STATE_GROUP_{name} UINT64_C({bits:#x})"
        )?;
    }
    Ok(())
}

fn offset(text: &mut String, structure: &str, field: &str, bytes: usize) -> fmt::Result {
    writeln!(
        text,
        "_Static_assert(offsetof(struct nuncio_{structure}, {field}) == {bytes}, \"{field}\");"
    )
}

fn size(text: &mut String, structure: &str, bytes: usize) -> fmt::Result {
    writeln!(
        text,
        "_Static_assert(sizeof(struct nuncio_{structure}) == {bytes}, \"{structure}\");"
    )
}
