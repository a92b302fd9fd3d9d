//! The C header that is kept with the ABI: it is what the tables make, and a compiler agrees.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nuncio_tools::abi;

fn kept() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../guest-abi/include/nuncio.h")
}

#[test]
fn the_header_is_what_the_tables_make() {
    let kept = fs::read_to_string(kept()).unwrap();
    let differs = kept
        .lines()
        .zip(abi::header().lines().map(str::to_owned))
        .position(|(kept, made)| kept != made);
    assert!(
        kept == abi::header(),
        "guest-abi/include/nuncio.h differs from line {:?} on; \
         ./run.sh abi header guest-abi/include/nuncio.h writes it anew",
        differs.map(|line| line + 1)
    );
}

/// Its assertions about offsets and sizes hold, and it makes no compiler complain. There is one: Rust
/// links with it.
#[test]
fn a_c_compiler_takes_the_header() {
    let dir = tempfile::tempdir().unwrap();
    let compile = |text: &str| {
        let source = dir.path().join("it.c");
        fs::write(&source, text).unwrap();
        let mut command = Command::new("cc");
        command.args(["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]);
        command.args(["-ffreestanding", "-mno-red-zone", "-fsyntax-only", "-I"]);
        command.arg(kept().parent().unwrap()).arg(&source);
        command.output().unwrap()
    };
    let good = compile("#include \"nuncio.h\"\nextern char start[];\nNUNCIO_NOTE(start);\n");
    let said = String::from_utf8_lossy(&good.stderr);
    assert!(good.status.success(), "{said}");
    // An assertion that is wrong is seen.
    let moved = abi::header().replacen("free_start) == 56", "free_start) == 64", 1);
    assert!(!compile(&moved).status.success());
}

#[test]
fn the_command_prints_and_writes_what_the_library_makes() {
    let nuncio = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nuncio"));
        let output = command.arg("abi").args(arguments).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        )
    };
    assert_eq!(nuncio(&["header"]).1, abi::header());
    assert_eq!(nuncio(&["outcomes"]).1, abi::outcomes());
    assert_eq!(nuncio(&["dictionary"]).1, abi::words());
    let described = nuncio(&["describe", "wait", "0xffff_ffff_ffff_ffff"]);
    assert_eq!(
        (described.0, described.1.as_str()),
        (Some(0), "wait deadline=never\n")
    );

    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("nuncio.h");
    assert_eq!(nuncio(&["header", target.to_str().unwrap()]).0, Some(0));
    assert_eq!(fs::read_to_string(&target).unwrap(), abi::header());
    for wrong in [&["describe", "nod"][..], &["header", "/none/nuncio.h"]] {
        let (code, _, error) = nuncio(wrong);
        assert_eq!((code, error.lines().count()), (Some(2), 1), "{error}");
    }
}
