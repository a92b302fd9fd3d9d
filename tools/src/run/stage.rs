//! Prepares the run directory: the hypervisor, the plan and every file that the plan names, under
//! short relative names that no boot loader trips over.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::input::{self, Copied};
use crate::manifest::{File, Manifest, Plan, PlanFile, BUNDLED_IMAGE, PLAN_NAME};
use crate::verdict::{Kind, Verdict};

/// Memory for the hypervisor itself, its tables and what the firmware keeps.
const SLACK_MIB: u64 = 128;
/// No machine is smaller.
const LEAST_MIB: u64 = 256;
/// The name of the hypervisor's image, and of its file in the run directory.
const HYPERVISOR: (&str, &str) = ("nuncio-hypervisor", "hypervisor");
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
        self.images.join(HYPERVISOR.0)
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
    let copied = input::copy(
        "the hypervisor",
        &hypervisor,
        &dir.path().join(HYPERVISOR.1),
    )?;
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
    (bytes.div_ceil(1 << 20).saturating_add(SLACK_MIB)).max(LEAST_MIB)
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
