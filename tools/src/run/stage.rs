//! Prepares the run directory: the hypervisor, the plan and every file that the plan names, under
//! short relative names that no boot loader trips over.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::input::{self, Copied};
use crate::manifest::{limits, File, Manifest, Plan, PlanFile, BUNDLED_IMAGE, PLAN_NAME};
use crate::verdict::{Kind, Verdict};

/// Memory for the hypervisor itself, its tables and what the firmware keeps.
const SLACK_MIB: u64 = 128;
/// For each domain beside its memory: its part of the hypervisor's heap, its page tables and pages.
const DOMAIN_BYTES: u64 = 320 << 10;
/// For each port: the hypervisor's heap has room for a full queue.
const PORT_BYTES: u64 = 64 << 10;
/// What of these has room in the slack.
const IN_SLACK_BYTES: u64 = 40 << 20;
/// No machine is smaller.
const LEAST_MIB: u64 = 256;
/// The name of the hypervisor's image as it is built.
const HYPERVISOR: &str = "nuncio-hypervisor";
/// The name of its file in the run directory.
pub const IMAGE: &str = "hypervisor";
/// The name of the guest kernel's image as it is built.
const GUEST_KERNEL: &str = "nuncio-guest-kernel";

/// Where the files of a run come from.
pub struct Sources {
    /// The directory of the built images.
    pub images: PathBuf,
    /// The `--input` file.
    pub input: PathBuf,
}

/// A run directory that is ready.
pub struct Staged {
    /// The directory; it goes away with this value.
    pub dir: TempDir,
    /// The names of the boot modules.
    pub modules: Vec<String>,
    /// The input, if the manifest uses it.
    pub input: Option<Copied>,
    /// How much memory the machine needs.
    pub memory_mib: u64,
}

impl Sources {
    /// The hypervisor as it was built, with its symbols.
    pub fn hypervisor(&self) -> PathBuf {
        self.images.join(HYPERVISOR)
    }

    /// The image of each domain, by the domain's name.
    pub fn images_of(&self, manifest: &Manifest) -> Vec<(String, PathBuf)> {
        let domains = manifest.domains.iter();
        domains
            .map(|domain| (domain.name.clone(), self.path(&domain.image)))
            .collect()
    }

    fn path(&self, file: &File) -> PathBuf {
        match file {
            File::BundledImage => self.images.join(GUEST_KERNEL),
            File::Built(name) => self.images.join(name),
            File::Input => self.input.clone(),
            File::Path(path) => path.clone(),
        }
    }
}

/// Fills a new run directory.
pub fn stage(manifest: &Manifest, plan: &Plan, sources: &Sources) -> Result<Staged, Verdict> {
    let dir = tempfile::Builder::new().prefix("nuncio-").tempdir();
    let dir = dir.map_err(|error| unwritable(&std::env::temp_dir(), &error))?;
    let hypervisor = sources.hypervisor();
    check_built(&hypervisor)?;
    let copied = input::copy("the hypervisor", &hypervisor, &dir.path().join(IMAGE))?;
    let plan_path = dir.path().join(PLAN_NAME);
    fs::write(&plan_path, &plan.text).map_err(|error| unwritable(&plan_path, &error))?;

    let mut staged = Staged {
        dir,
        modules: vec![PLAN_NAME.to_owned()],
        input: None,
        memory_mib: 0,
    };
    let mut bytes = copied.bytes + plan.text.len() as u64;
    for file in &plan.files {
        bytes += staged.add(file, sources)?;
    }
    staged.memory_mib = memory_mib(manifest, bytes);
    Ok(staged)
}

impl Staged {
    fn add(&mut self, file: &PlanFile, sources: &Sources) -> Result<u64, Verdict> {
        let from = sources.path(&file.file);
        let what = match &file.file {
            File::BundledImage => {
                check_built(&from)?;
                BUNDLED_IMAGE
            }
            File::Built(name) => {
                check_built(&from)?;
                name
            }
            File::Input => "the input",
            File::Path(_) => "the file",
        };
        let copied = input::copy(what, &from, &self.dir.path().join(&file.name))?;
        let bytes = copied.bytes;
        if file.file == File::Input {
            self.input = Some(copied);
        }
        self.modules.push(file.name.clone());
        Ok(bytes)
    }
}

fn memory_mib(manifest: &Manifest, file_bytes: u64) -> u64 {
    let domains = manifest.domains.iter().map(|domain| domain.memory_bytes);
    let shared = manifest.memories.iter().map(|memory| memory.bytes);
    let bytes = domains.chain(shared).fold(file_bytes, u64::saturating_add);
    let bytes = bytes.saturating_add(many_domains_bytes(manifest));
    (bytes.div_ceil(1 << 20).saturating_add(SLACK_MIB)).max(LEAST_MIB)
}

/// What the heap and the frames of many domains take beyond what the slack has room for.
fn many_domains_bytes(manifest: &Manifest) -> u64 {
    let kernel_bytes = manifest
        .domains
        .iter()
        .map(|domain| domain.kernel_bytes.unwrap_or(limits::DEFAULT_KERNEL_BYTES));
    let domains = manifest.domains.len() as u64 * DOMAIN_BYTES;
    let ports = manifest.ports.len() as u64 * PORT_BYTES;
    let bytes = kernel_bytes.fold(domains + ports, u64::saturating_add);
    bytes.saturating_sub(IN_SLACK_BYTES)
}

fn check_built(image: &Path) -> Result<(), Verdict> {
    if image.is_file() {
        return Ok(());
    }
    Err(Verdict::new(
        Kind::Missing,
        format!(
            "the image {} is not there; build it with ./run.sh, or name the directory with --images",
            image.display()
        ),
    ))
}

fn unwritable(path: &Path, error: &std::io::Error) -> Verdict {
    Verdict::new(
        Kind::Missing,
        format!(
            "cannot write {}: {error}; make room there, or name another directory for temporary files in TMPDIR",
            path.display()
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Memory;

    #[test]
    fn memory_is_what_is_needed_and_slack() {
        let mut manifest = Manifest::default();
        assert_eq!(memory_mib(&manifest, 0), LEAST_MIB);
        manifest.memories.push(Memory {
            name: "m".to_owned(),
            bytes: 200 << 20,
        });
        assert_eq!(memory_mib(&manifest, 1), 200 + 1 + SLACK_MIB);
        manifest.memories.push(Memory {
            name: "n".to_owned(),
            bytes: u64::MAX,
        });
        assert!(memory_mib(&manifest, 1) > 1 << 40);
    }
}
