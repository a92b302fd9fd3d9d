//! The package of the ABI as it would be published: it has what somebody needs who has nothing else.

use std::path::Path;
use std::process::Command;

/// Beside sources and tests.
const NEEDED: [&str; 10] = [
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "examples/guest.ld",
    "examples/hello-c/build.sh",
    "examples/hello-c/hello.c",
    "examples/hello-c/manifest.toml",
    "include/nuncio.h",
    "src/lib.rs",
];

#[test]
fn the_package_of_the_abi_has_what_it_needs_and_no_more() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut command = Command::new(env!("CARGO"));
    command.args(["package", "--list", "--offline", "--allow-dirty"]);
    let output = command
        .args(["-p", "nuncio-abi"])
        .current_dir(root)
        .output();
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let listed = String::from_utf8(output.stdout).unwrap();
    let files: Vec<_> = listed.lines().collect();
    for needed in NEEDED {
        assert!(files.contains(&needed), "{needed} is missing in\n{listed}");
    }
    let made = ["Cargo.toml.orig", "Cargo.lock", ".cargo_vcs_info.json"];
    for file in files {
        let is_source = file.starts_with("src/") || file.starts_with("tests/");
        assert!(
            NEEDED.contains(&file) || made.contains(&file) || is_source && file.ends_with(".rs"),
            "{file} should not be in the package"
        );
    }
}
