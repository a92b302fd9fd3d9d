//! Tests of manifests: every mistake is named with its line, and a good one compiles to the plan.

use std::path::Path;

use super::*;

const GOOD: &str = r#"digest = "a"

[[domain]]
name = "a"
image = "guest-kernel"
memory = "16 MiB"
command_line = "program=producer"
modules = { input = "{input}" }
ports = { line = "send" }
shared = { pool = "rw" }
events = { free = "wait" }

[[domain]]
name = "b"
image = "guest-kernel"
memory = "8 MiB"
background = true
ports = { line = "receive" }
shared = { pool = "r" }
events = { free = "notify" }

[[port]]
name = "line"

[[memory]]
name = "pool"
size = "64 KiB"

[[event]]
name = "free"
"#;

fn parse_text(text: &str) -> Result<Manifest, Problems> {
    parse(Path::new("m.toml"), text)
}

/// The one problem of [`GOOD`] with `from` replaced by `to`.
fn problem(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    let problems = parse_text(&GOOD.replacen(from, to, 1)).unwrap_err();
    assert_eq!(problems.0.len(), 1, "{problems}");
    problems.to_string()
}

#[track_caller]
fn assert_problem(from: &str, to: &str, line: usize, text: &str) {
    let problem = problem(from, to);
    assert!(
        problem.starts_with(&format!("m.toml:{line}: ")),
        "{problem}"
    );
    assert!(problem.contains(text), "{problem}");
}

/// For a mistake that brings others with it, such as a wire to the name that was misspelt.
#[track_caller]
fn assert_among(from: &str, to: &str, line: usize, text: &str) {
    let problems = parse_text(&GOOD.replacen(from, to, 1)).unwrap_err();
    let mut found = problems.0.iter();
    assert!(
        found.any(|problem| problem.line == Some(line) && problem.text.contains(text)),
        "{problems}"
    );
}

#[test]
fn a_good_manifest_compiles_to_the_plan() {
    let manifest = parse_text(GOOD).unwrap();
    let plan = compile(&manifest, Some(60_000));
    assert_eq!(
        plan.text,
        "nuncio-plan 1\n\
         limit-ms 60000\n\
         domain a image=guest-kernel memory=16777216 vcpus=1 background=no\n\
         command-line a program=producer\n\
         module a input boot=input\n\
         domain b image=guest-kernel memory=8388608 vcpus=1 background=yes\n\
         port line capacity=16\n\
         memory pool bytes=65536\n\
         event free\n\
         give a port line send\n\
         give a memory pool rw\n\
         give a event free wait\n\
         give b port line receive\n\
         give b memory pool r\n\
         give b event free notify\n"
    );
    let names: Vec<_> = plan.files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(names, ["guest-kernel", "input"]);
    assert!(manifest.uses_input());
}

#[test]
fn the_default_manifest_is_good() {
    let path = crate::project::default_manifest();
    let manifest = load(&path).unwrap();
    assert_eq!(manifest.digest.as_deref(), Some("consumer"));
    assert!(compile(&manifest, Some(1))
        .text
        .contains("port descriptors capacity=32\n"));
}

#[test]
fn unknown_and_missing_keys() {
    assert_problem(
        "background = true",
        "backgrund = true",
        17,
        "unknown key `backgrund`",
    );
    assert_problem("[[port]]\n", "[[prot]]\n", 22, "unknown key `prot`");
    assert_problem("size = \"64 KiB\"\n", "", 25, "missing key `size`");
}

#[test]
fn text_that_is_no_toml() {
    let problem = parse_text("digest = \"b\"\n[[domain\n")
        .unwrap_err()
        .to_string();
    assert!(problem.starts_with("m.toml:2: "), "{problem}");
    assert_eq!(problem.lines().count(), 1);
}

#[test]
fn names() {
    assert_problem(
        "name = \"b\"",
        "name = \"a\"",
        14,
        "another domain named \"a\" (line 4)",
    );
    assert_among(
        "name = \"free\"",
        "name = \"line\"",
        30,
        "another object named \"line\"",
    );
    assert_among(
        "name = \"free\"",
        "name = \"console\"",
        30,
        "every domain has",
    );
    assert_problem("name = \"b\"", "name = \"B\"", 14, "is not a name");
    assert_problem("name = \"b\"", "name = \"\"", 14, "is not a name");
    let long = format!("name = \"{}\"", "a".repeat(32));
    assert_problem("name = \"b\"", &long, 14, "is not a name");
    assert_problem("{ input =", "{ \"in put\" =", 8, "is not a name");
}

#[test]
fn sizes_and_numbers() {
    assert_problem("\"16 MiB\"", "\"16 MB\"", 6, "is not a size");
    assert_problem("\"64 KiB\"", "\"63\"", 27, "whole number of pages");
    assert_problem(
        "name = \"line\"",
        "name = \"line\"\ncapacity = 0",
        24,
        "1 to 256 messages",
    );
    assert_problem("background = true", "vcpus = 65", 17, "1 to 64 vcpus");
    let too_many = "vcpus = 2\ncpu = [0, 1, 0]";
    assert_problem("background = true", too_many, 18, "1 to 2, not 3");
    assert_problem("background = true", "cpu = []", 17, "1 to 1, not 0");
    assert_problem("background = true", "cpu = [256]", 17, "0 to 255");
    assert_problem("background = true", "cpu = 256", 17, "0 to 255");
    assert_problem("\"16 MiB\"", "16", 6, "invalid type");
}

#[test]
fn a_machine_has_cpus() {
    assert_eq!(parse_text(GOOD).unwrap().cpus, 1);
    let four = format!("cpus = 4\n{GOOD}");
    assert_eq!(parse_text(&four).unwrap().cpus, 4);
    for wrong in ["0", "257", "-1"] {
        let text = format!("cpus = {wrong}\n{GOOD}");
        let problems = parse_text(&text).unwrap_err();
        assert_eq!(problems.0[0].line, Some(1));
        assert!(problems.to_string().contains("1 to 256 CPUs"), "{problems}");
    }
}

#[test]
fn a_run_waits_for_somebody() {
    let from = "memory = \"16 MiB\"";
    let to = "memory = \"16 MiB\"\nbackground = true";
    assert_problem(from, to, 4, "every domain is in the background");
}

#[test]
fn command_lines() {
    assert_problem("program=producer", "a\\nb", 7, "printable ASCII");
    assert_problem("program=producer", &"x".repeat(512), 7, "at most 511");
}

#[test]
fn wires_to_nothing_and_wires_too_many() {
    assert_problem("{ line = \"send\"", "{ lane = \"send\"", 9, "no such port");
    assert_problem("{ pool = \"r\"", "{ pol = \"r\"", 19, "no such memory");
    assert_problem(
        "{ line = \"send\"",
        "{ line = \"receive\"",
        18,
        "two domains with \"receive\", a and b",
    );
    assert_problem(
        "{ line = \"receive\"",
        "{ line = \"send\"",
        23,
        "no domain has \"receive\"",
    );
    assert_problem(
        "{ free = \"wait\"",
        "{ free = \"notify\"",
        30,
        "no domain has \"wait\"",
    );
    assert_problem(
        "{ pool = \"rw\"",
        "{ pool = \"w\"",
        10,
        "use one of r, rw, rx, rwx",
    );
    assert_problem(
        "[[event]]",
        "[[memory]]\nname = \"x\"\nsize = \"4 KiB\"\n[[event]]",
        30,
        "no domain uses memory",
    );
}

#[test]
fn rights_can_be_joined() {
    let text = GOOD
        .replace("{ line = \"receive\" }", "{ line = \"send+receive\" }")
        .replace("{ free = \"wait\" }", "{ free = \"notify + wait\" }");
    let plan = compile(&parse_text(&text).unwrap(), Some(1)).text;
    assert!(
        plan.contains("give b port line send\ngive b port line receive\n"),
        "{plan}"
    );
    assert!(
        plan.contains("give a event free notify\ngive a event free wait\n"),
        "{plan}"
    );
    for (from, to) in [
        ("\"send\"", "\"send+send\""),
        ("\"rw\"", "\"r+rw\""),
        ("\"wait\"", "\"wait+\""),
    ] {
        assert!(problem(from, to).contains("is not a right"), "{to}");
    }
}

#[test]
fn the_digest_needs_a_domain_and_an_input() {
    assert_problem("digest = \"a\"", "digest = \"c\"", 1, "no such domain");
    assert_problem(
        "modules = { input = \"{input}\" }\n",
        "",
        1,
        "no domain is handed it",
    );
}

#[test]
fn files_must_exist() {
    assert_problem(
        "\"{input}\" }",
        "\"{input}\", x = \"none.bin\" }",
        8,
        "cannot read none.bin",
    );
    assert_problem(
        "image = \"guest-kernel\"",
        "image = \"/\"",
        5,
        "is not a file",
    );
}

#[test]
fn images_can_be_those_that_are_built() {
    let text = GOOD.replacen("\"guest-kernel\"", "\"{images}/nuncio-hello\"", 1);
    let manifest = parse_text(&text).unwrap();
    let image = &manifest.domains[0].image;
    assert_eq!(*image, File::Built("nuncio-hello".to_owned()));
    let plan = compile(&manifest, None);
    let mut files = plan.files.iter();
    assert!(files.any(|file| file.file == *image && file.name == "nuncio-hello"));
    for name in ["", "..", "a/b", ".hidden"] {
        let image = format!("image = \"{{images}}/{name}\"");
        assert_problem(
            "image = \"guest-kernel\"",
            &image,
            5,
            "is no name of a file in the directory of the images",
        );
    }
}

#[test]
fn limits_are_enforced() {
    assert!(parse_text("")
        .unwrap_err()
        .to_string()
        .contains("no domain"));
    let mut text = String::new();
    for index in 0..65 {
        text += &format!(
            "[[domain]]\nname = \"d{index}\"\nimage = \"guest-kernel\"\nmemory = \"4 MiB\"\n"
        );
    }
    assert!(parse_text(&text)
        .unwrap_err()
        .to_string()
        .contains("65 domains"));

    let ports: String = (0..36).map(|i| format!("p{i} = \"receive\", ")).collect();
    let mut text = format!(
        "[[domain]]\nname = \"d\"\nimage = \"guest-kernel\"\nmemory = \"4 MiB\"\nports = {{ {} }}\n",
        ports.trim_end_matches(", ")
    );
    for index in 0..36 {
        text += &format!("[[port]]\nname = \"p{index}\"\n");
    }
    assert!(parse_text(&text)
        .unwrap_err()
        .to_string()
        .contains("36 wires"));
}

#[test]
fn several_mistakes_are_all_named_in_the_order_of_lines() {
    let text = GOOD
        .replace("\"64 KiB\"", "\"?\"")
        .replace("\"16 MiB\"", "\"!\"");
    let problems = parse_text(&text).unwrap_err();
    let lines: Vec<_> = problems.0.iter().map(|problem| problem.line).collect();
    assert_eq!(lines, [Some(6), Some(27)]);
}

#[test]
fn files_get_safe_names_that_differ() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["Guest, One.elf", "guest--one.elf", "INPUT", "--", "input-2"] {
        std::fs::write(folder.path().join(name), "x").unwrap();
    }
    let text = GOOD.replace(
        "{ input = \"{input}\" }",
        "{ i = \"{input}\", a = \"Guest, One.elf\", b = \"guest--one.elf\", c = \"INPUT\", d = \"--\", e = \"input-2\" }",
    );
    let manifest = parse(&folder.path().join("m.toml"), &text).unwrap();
    let plan = compile(&manifest, Some(1));
    let mut names: Vec<_> = plan.files.iter().map(|file| file.name.clone()).collect();
    assert!(names.contains(&"guest--one.elf".to_owned()), "{names:?}");
    names.sort();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count, "{names:?}");
    let is_safe = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
    assert!(
        names.iter().all(|name| name.chars().all(is_safe)),
        "{names:?}"
    );
}
