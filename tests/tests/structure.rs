//! The structure of the hypervisor: the direction of dependencies, unsafe code, trusted crates.

use std::path::{Path, PathBuf};

use nuncio_tests::structure::{dependencies, read_sources, table, violations};

fn hypervisor() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../hypervisor")
}

#[track_caller]
fn assert_none(violations: &[String]) {
    assert!(
        violations.is_empty(),
        "in hypervisor/src:\n{}",
        violations.join("\n")
    );
}

#[test]
fn dependencies_point_one_way_and_unsafe_code_has_its_reasons() {
    let files = read_sources(&hypervisor().join("src"));
    assert!(
        files.len() > 3,
        "the sources of the hypervisor were not found"
    );
    assert_none(&violations(&files, table::MODULES));
}

#[test]
fn the_hypervisor_trusts_seven_crates_and_its_abi() {
    let text = std::fs::read_to_string(hypervisor().join("Cargo.toml")).unwrap();
    assert_none(&dependencies::violations(&text));
}

#[test]
fn the_copy_of_the_hypervisor_under_shuttle_depends_on_the_same_crates() {
    let root = hypervisor().join("..");
    let table = |path: &str| -> toml::Table {
        let text = std::fs::read_to_string(root.join(path)).unwrap();
        toml::from_str(&text).unwrap()
    };
    let workspace = table("Cargo.toml");
    let copy = table("tests/interleavings/hypervisor-on-shuttle/Cargo.toml");
    let replaced = ["nuncio-abi", "spin"];
    for name in dependencies::ALLOWED {
        let (own, its) = (
            &workspace["workspace"]["dependencies"][name],
            &copy["dependencies"][name],
        );
        assert!(
            replaced.contains(&name) || own == its,
            "{name}: {own} here, {its} in the copy"
        );
    }
}
