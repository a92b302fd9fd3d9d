//! The C header: numbers, bits and limits; the structures and functions are next door.

use std::fmt::{self, Write as _};

use nuncio_abi::{
    Deadline, Error, Header, ImageNote, ObjectKind, QueryItem, Rights, RunState, StopReason, Verb,
    BOOT_INFO_MAGIC, LIMITS, MESSAGE_ALIGNMENT, NOTE_NAME, NOTE_TYPE, PAGE_BYTES, VERSION,
};

use super::{functions, structures};

/// The header for this version of the ABI.
pub fn header() -> String {
    let mut text = String::new();
    // Writing into a string does not fail.
    let _ = write_all(&mut text);
    text
}

fn write_all(text: &mut String) -> fmt::Result {
    writeln!(
        text,
        "/* The guest ABI of the Nuncio hypervisor, version {VERSION}, for C11.\n\
         \x20*\n\
         \x20* Written by `nuncio abi header` from the tables of the crate nuncio-abi; change those instead.\n\
         \x20* The crate's README.md is the specification. All addresses are guest-physical.\n\
         \x20*\n\
         \x20* SPDX-License-Identifier: MIT OR Apache-2.0\n\
         \x20*/\n\
         #ifndef NUNCIO_H\n\
         #define NUNCIO_H\n\n\
         #include <stddef.h>\n\
         #include <stdint.h>\n"
    )?;
    define(text, "VERSION", &format!("0x{:08x}u", VERSION.to_raw()), "")?;
    define(text, "PAGE_BYTES", &PAGE_BYTES.to_string(), "")?;
    numbers(text)?;
    rights(text)?;
    messages(text)?;
    limits(text)?;
    note(text)?;
    structures::write(text)?;
    functions::write(text)?;
    writeln!(text, "\n#endif")
}

/// A numbered table as an enumeration.
macro_rules! enumeration {
    ($text:expr, $table:ty, $name:literal, $about:literal) => {{
        writeln!($text, "\n/* {} */\nenum nuncio_{} {{", $about, $name)?;
        for row in <$table>::ALL {
            let constant = constant(&format!("{}-{}", $name, row.name()));
            writeln!($text, "    /* {} */", row.text())?;
            writeln!($text, "    {constant} = {},", row.number())?;
        }
        writeln!($text, "}};")
    }};
}

fn numbers(text: &mut String) -> fmt::Result {
    enumeration!(text, Verb, "verb", "Verbs: what goes into RAX.")?;
    enumeration!(
        text,
        Error,
        "error",
        "Errors: what comes back in RAX; 0 is success."
    )?;
    enumeration!(text, ObjectKind, "kind", "Kinds of object.")?;
    enumeration!(text, QueryItem, "query", "Items of `query`.")?;
    enumeration!(text, StopReason, "stop", "Why a domain has stopped.")?;
    enumeration!(
        text,
        RunState,
        "run_state",
        "Run states: what a vcpu does at the moment."
    )
}

fn rights(text: &mut String) -> fmt::Result {
    writeln!(text, "\n/* Rights of a handle. */")?;
    for (right, name, of, allows) in Rights::ROWS {
        let bit = right.bits().trailing_zeros();
        let name = format!("right-{name}");
        define(
            text,
            &name,
            &format!("(UINT64_C(1) << {bit})"),
            &format!("{of}: {allows}"),
        )?;
    }
    Ok(())
}

fn messages(text: &mut String) -> fmt::Result {
    writeln!(text, "\n/* The header of a message. */")?;
    let hexadecimal = |word: u64| format!("UINT64_C({word:#x})");
    for (name, word, about) in [
        ("header-length", Header::LENGTH, "length in bytes"),
        (
            "header-in-memory",
            Header::IN_MEMORY,
            "the message lies in memory",
        ),
        (
            "header-wait",
            Header::WAIT,
            "of a `send`: wait for room until the deadline in the last of the words",
        ),
        (
            "header-then-receive",
            Header::THEN_RECEIVE,
            "of a `reply`: receive the next message, too",
        ),
    ] {
        define(text, name, &hexadecimal(word), about)?;
    }
    let (handles, token) = (Header::HANDLES_SHIFT, Header::TOKEN_SHIFT);
    define(text, "header-handles-shift", &handles.to_string(), "3 bits")?;
    define(text, "header-token-shift", &token.to_string(), "32 bits")?;
    let alignment = MESSAGE_ALIGNMENT.to_string();
    define(
        text,
        "message-alignment",
        &alignment,
        "of a message in memory, and the bytes that it may take",
    )?;
    writeln!(
        text,
        "\n/* A handle in a message, with the rights of the receiver's copy. */\n\
         #define NUNCIO_TRANSFER(handle, rights) ((handle) | (uint64_t)(rights) << 32)\n\n\
         /* Deadlines in nanoseconds on the system clock. */"
    )?;
    define(
        text,
        "deadline-now",
        &format!("UINT64_C({})", Deadline::NOW.0),
        "",
    )?;
    define(text, "deadline-never", "UINT64_MAX", "")
}

fn limits(text: &mut String) -> fmt::Result {
    writeln!(text, "\n/* Limits. */")?;
    for limit in LIMITS {
        let name = format!("max-{}", limit.name);
        define(text, &name, &limit.most.to_string(), limit.what)?;
    }
    Ok(())
}

/// The note of an image, at file scope.
fn note(text: &mut String) -> fmt::Result {
    let (name_bytes, version) = (NOTE_NAME.len(), VERSION.to_raw());
    let descriptor_bytes = ImageNote::BYTES;
    let name = String::from_utf8_lossy(NOTE_NAME);
    let name = name.trim_end_matches('\0');
    writeln!(
        text,
        "\n/* The note of an image, at file scope; `entry` is the symbol of its first instruction. The\n\
         \x20* linker script puts .note.nuncio into a PT_NOTE segment. */\n\
         #define NUNCIO_NOTE(entry) \\\n\
         \x20   __asm__(\".pushsection .note.nuncio, \\\"a\\\", @note\\n\" \\\n\
         \x20           \".balign 4\\n\" \\\n\
         \x20           \".long {name_bytes}, {descriptor_bytes}, {NOTE_TYPE}\\n\" \\\n\
         \x20           \".asciz \\\"{name}\\\"\\n\" \\\n\
         \x20           \".balign 4\\n\" \\\n\
         \x20           \".long 0x{version:08x}, 0\\n\" \\\n\
         \x20           \".quad \" #entry \"\\n\" \\\n\
         \x20           \".popsection\\n\")\n\n\
         /* The first word of a boot-info page. */\n\
         #define NUNCIO_BOOT_INFO_MAGIC UINT64_C({BOOT_INFO_MAGIC:#x})"
    )
}

fn define(text: &mut String, name: &str, value: &str, about: &str) -> fmt::Result {
    let name = constant(name);
    if about.is_empty() {
        writeln!(text, "#define {name} {value}")
    } else {
        writeln!(text, "#define {name} {value} /* {about} */")
    }
}

/// `bad-handle` becomes `NUNCIO_BAD_HANDLE`.
fn constant(name: &str) -> String {
    format!("NUNCIO_{}", name.replace('-', "_").to_uppercase())
}
