//! Hands the linker script to the linker when the image is built for bare metal.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=linker.ld");
    println!("cargo::rerun-if-changed=build.rs");
    if env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("none") {
        return;
    }
    let directory = env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    for argument in [
        format!("-T{directory}/linker.ld"),
        "--no-pie".into(),
        "--build-id=none".into(),
        "-zmax-page-size=4096".into(),
    ] {
        println!("cargo::rustc-link-arg-bins={argument}");
    }
}
