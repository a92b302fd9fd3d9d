//! Hands the linker script to the linker, for the bootable image only.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=linker.ld");
    println!("cargo::rerun-if-changed=src/boot/entry.S");
    let bare_metal = env::var_os("CARGO_FEATURE_BARE_METAL").is_some();
    let no_system = env::var("CARGO_CFG_TARGET_OS").is_ok_and(|name| name == "none");
    if bare_metal && no_system {
        let directory = env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        println!("cargo::rustc-link-arg-bins=-T{directory}/linker.ld");
        // Without this the linker aligns segments to larger pages in the file, and the file
        // would no longer be an image of memory, which multiboot1's address fields require.
        println!("cargo::rustc-link-arg-bins=-zmax-page-size=4096");
        println!("cargo::rustc-link-arg-bins=--no-pie");
    }
}
