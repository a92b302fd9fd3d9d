//! Where the project keeps what the tool needs: its manifests, its README and the built images.

use std::env;
use std::path::{Path, PathBuf};

/// The directory of the project's sources.
pub fn root() -> PathBuf {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR"));
    tools.parent().unwrap_or(tools).to_owned()
}

/// The manifest of a run that names none.
pub fn default_manifest() -> PathBuf {
    shown(root().join("tools/manifests/stream.toml"))
}

/// The manifest that measures what calls cost.
pub fn bench_manifest() -> PathBuf {
    shown(root().join("tools/manifests/bench.toml"))
}

/// The manifest of the guest kernel with its threads.
pub fn kernel_manifest() -> PathBuf {
    shown(root().join("tools/manifests/kernel.toml"))
}

/// The manifest that is soaked.
pub fn soak_manifest() -> PathBuf {
    shown(root().join("tools/manifests/soak.toml"))
}

/// The differences between test beds that are expected.
pub fn expected_differences() -> PathBuf {
    shown(root().join("tools/expected-differences.toml"))
}

/// The input of a run that names none.
pub fn default_input() -> PathBuf {
    shown(root().join("README.md"))
}

/// Where `run.sh` builds the images of the hypervisor and the guest kernel.
pub fn default_images() -> PathBuf {
    let target =
        env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    target.join("x86_64-unknown-none/release")
}

/// The path as a person in the current directory would write it.
fn shown(path: PathBuf) -> PathBuf {
    let here = env::current_dir().unwrap_or_default();
    match path.strip_prefix(here) {
        Ok(relative) => relative.to_owned(),
        Err(_) => path,
    }
}
