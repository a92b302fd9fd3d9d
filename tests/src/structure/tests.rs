//! Tests of the checker itself: each rule is broken once and must be noticed.

use super::table::Kind;
use super::*;

const TABLE: &[Module] = &[
    Module {
        name: "mem",
        uses: &[],
        kind: Kind::Pure,
    },
    Module {
        name: "call",
        uses: &["mem"],
        kind: Kind::Pure,
    },
    Module {
        name: "vt",
        uses: &["mem"],
        kind: Kind::Hardware,
    },
];

fn file(path: &str, text: &str) -> SourceFile {
    SourceFile {
        path: path.to_owned(),
        text: text.to_owned(),
    }
}

fn check(path: &str, text: &str) -> Vec<String> {
    violations(&[file(path, text)], TABLE)
}

#[track_caller]
fn assert_violation(path: &str, text: &str, expected: &str) {
    let found = check(path, text);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with(expected), "{found:?}");
}

#[test]
fn loops_that_wait_pause_and_say_why_they_end() {
    let loops = [
        "while !a.load(SeqCst) {\n    spin_loop();\n}",
        "loop {\n    core::hint::spin_loop();\n}",
    ];
    for text in loops {
        let expected = "mem/a.rs:2: a loop that waits, with neither";
        assert_violation("mem/a.rs", text, expected);
        let told = format!("// ENDS: it will.\n{text}");
        assert_eq!(check("mem/a.rs", &told), [""; 0]);
    }
    let busy = "while !a.load(SeqCst) {}";
    let expected = "mem/a.rs:1: a loop that waits for an atomic without";
    assert_violation("mem/a.rs", busy, expected);
    let bounded = "for _ in 0..MOST {\n    spin_loop();\n}";
    assert_eq!(check("mem/a.rs", bounded), [""; 0]);
}

#[test]
fn what_the_table_allows_is_fine() {
    let good = [
        (
            "call/send.rs",
            "use crate::mem::{Frame, PAGE};\nuse super::Action;",
        ),
        (
            "call/send.rs",
            "use core::fmt; fn f() -> crate::mem::Frame { self::g() }",
        ),
        (
            "vt/svm/exit.rs",
            "use super::super::Exit; use super::vmcb; use crate::vt::Exit;",
        ),
        ("main.rs", "use hypervisor::call::dispatch;"),
        (
            "call/send.rs",
            "// use crate::vt::Exit;\nconst S: &str = \"crate::vt\";",
        ),
        (
            "call/send.rs",
            "#[cfg(test)]\nmod tests { use crate::vt::Fake; }",
        ),
        ("call/tests.rs", "use crate::vt::Fake;"),
    ];
    for (path, text) in good {
        assert_eq!(check(path, text), Vec::<String>::new(), "{path}: {text}");
    }
}

#[test]
fn every_way_to_write_a_forbidden_use_is_found() {
    let expected = "vt/svm/exit.rs:2: vt must not use call";
    for text in [
        "\nuse crate::call::Action;",
        "\nuse crate::call;",
        "\nuse crate::{mem::Frame, call::{self, Action}};",
        "\nuse super::super::super::call::Action;",
        "\nuse hypervisor::call::Action;",
        "\nfn f() { crate::call::dispatch() }",
        "\nmacro_rules! m { () => { $crate::call::x() } }",
        "\npub(in crate::call) fn f() {}",
        "mod inner {\nuse super::super::super::super::call::Action; }",
        "#[cfg(test)] mod tests { }\nuse crate::call::Action;",
        "#[cfg(test)] use crate::mem::x;\nuse crate::call::Action;",
    ] {
        assert_violation("vt/svm/exit.rs", text, expected);
    }
}

#[test]
fn unknown_modules_and_files_that_are_no_rust() {
    assert_violation(
        "what/mod.rs",
        "",
        "what/mod.rs:1: module what is not in the table",
    );
    assert_violation(
        "vt/mod.rs",
        "use crate::what::X;",
        "vt/mod.rs:1: vt must not use what",
    );
    assert_violation(
        "vt/mod.rs",
        "fn f( {",
        "vt/mod.rs:1: cannot be read as Rust",
    );
}

#[test]
fn vendors_do_not_know_each_other() {
    let expected = "vt/vmx/exit.rs:1: vt/vmx must not use vt/svm";
    assert_violation("vt/vmx/exit.rs", "use crate::vt::svm::Vmcb;", expected);
    assert_violation("vt/vmx/exit.rs", "use crate::vt::{svm, Exit};", expected);
    assert_violation("vt/vmx/exit.rs", "use super::super::svm::Vmcb;", expected);
    assert_eq!(
        check("vt/mod.rs", "use self::svm::Svm; use crate::vt::svm;"),
        Vec::<String>::new()
    );
}

#[test]
fn tables_with_cycles_and_impure_purity_are_refused() {
    let mut table = TABLE.to_vec();
    table[0].uses = &["call"];
    assert_eq!(table::flaws(&table).len(), 1);
    let mut table = TABLE.to_vec();
    table.swap(1, 2);
    table[2].uses = &["mem", "vt"];
    assert!(table::flaws(&table)[0].contains("call is pure and must not use vt"));
    assert_eq!(table::flaws(table::MODULES), Vec::<String>::new());
}

#[test]
fn pure_modules_forbid_unsafe_code() {
    assert_violation("mem/mod.rs", "//! Memory.", "mem/mod.rs:1: mem is pure");
    assert_eq!(
        check("mem/mod.rs", "//! Memory.\n#![forbid(unsafe_code)]\n"),
        Vec::<String>::new()
    );
    assert_violation(
        "mem/mod.rs",
        "// #![forbid(unsafe_code)]",
        "mem/mod.rs:1: mem is pure",
    );
}

#[test]
fn unsafe_code_has_its_reason_above() {
    let good = [
        "// SAFETY: it holds.\nunsafe { f() }",
        "// SAFETY: it holds\n// for this long reason.\n#[inline]\nunsafe impl Sync for X {}",
        "// SAFETY: it holds.\nlet x =\n    unsafe { f() };",
        "/// # Safety\npub unsafe fn f() {}",
        "#[unsafe(no_mangle)]\nextern \"C\" fn f() {}",
        "let not_unsafe = 1; // unsafe { }",
    ];
    for text in good {
        assert_eq!(check("vt/mod.rs", text), Vec::<String>::new(), "{text}");
    }
    for text in [
        "\nunsafe { f() }",
        "// SAFETY: of another one.\nlet x = unsafe { f() }; unsafe { g() }\n\nunsafe { h() }",
        "\nlet x = unsafe {",
        "\nunsafe impl Sync for X {}",
        "// SAFETY: old\nf();\nunsafe { g() }",
    ] {
        let found = unsafety::violations(&file("vt/mod.rs", text));
        assert_eq!(found.len(), 1, "{text}: {found:?}");
    }
    assert_violation(
        "vt/mod.rs",
        "#![allow(unsafe_code)]",
        "vt/mod.rs:1: unsafe code is allowed",
    );
    let reason = "// UNSAFETY: it runs instructions.\n#![allow(unsafe_code)]";
    assert_eq!(check("vt/mod.rs", reason), Vec::<String>::new());
}

#[test]
fn dependencies_are_exactly_the_allowed_ones() {
    let list = dependencies::ALLOWED
        .map(|name| format!("{name} = \"1\"\n"))
        .concat();
    let good = format!("[dependencies]\n{list}[dev-dependencies]\nproptest = \"1\"\n");
    assert_eq!(dependencies::violations(&good), Vec::<String>::new());
    let extra = format!("[dependencies]\nlibc = \"1\"\n{list}");
    assert!(dependencies::violations(&extra)[0].contains("must not depend on libc"));
    let missing = good.replace("spin = \"1\"\n", "");
    assert!(dependencies::violations(&missing)[0].contains("should depend on spin"));
    let hidden = format!("{good}[target.'cfg(unix)'.dependencies]\nlibc = \"1\"\n");
    assert_eq!(dependencies::violations(&hidden).len(), 1);
    let build = format!("{good}[build-dependencies]\ncc = \"1\"\n");
    assert_eq!(dependencies::violations(&build).len(), 1);
}
