//! Manifests: the readable text in which a person describes domains and the wires between them.
//!
//! `schema` is the text as written, `check` turns it into the [`Manifest`] below or into
//! [`Problems`] that name lines, and `plan` compiles that into the records that the hypervisor
//! reads. Neighbours: `run` loads a manifest and stages the files that its plan names.
//!
//! Invariant: a `Manifest` has passed every check; nothing that uses one checks it again.

mod check;
pub mod limits;
mod numbered;
mod plan;
mod problem;
mod schema;
mod size;
#[cfg(test)]
mod tests;
mod wires;

use std::fs;
use std::path::{Path, PathBuf};

pub use plan::{compile, Plan, PlanFile, PLAN_NAME};
use problem::Source;
pub use problem::{Problem, Problems};

/// The word that stands for the `--input` file in `modules`.
pub const INPUT_WORD: &str = "{input}";
/// What begins the name of an image that lies where the images are built, as in
/// `{images}/nuncio-hello`.
pub const IMAGES_WORD: &str = "{images}/";
/// The image that comes with the project.
pub const BUNDLED_IMAGE: &str = "guest-kernel";

/// A file that a domain needs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum File {
    /// The image that comes with the project.
    BundledImage,
    /// A file in the directory of the built images.
    Built(String),
    /// What `--input` names.
    Input,
    /// A path.
    Path(PathBuf),
}

/// A manifest that has passed every check.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// The domain that states the digest of the input.
    pub digest: Option<String>,
    /// How many CPUs the machine has, unless the command line says otherwise.
    pub cpus: u64,
    /// The domains, in the order of the file.
    pub domains: Vec<Domain>,
    /// The ports.
    pub ports: Vec<Port>,
    /// The shared memories.
    pub memories: Vec<Memory>,
    /// The names of the events.
    pub events: Vec<String>,
}

/// How a domain is scheduled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Its priority.
    pub priority: i64,
    /// Its budget in each period; 0 for none.
    pub budget_us: i64,
    /// The period; 0 for none.
    pub period_us: i64,
}

/// A domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain {
    /// Its name.
    pub name: String,
    /// What it runs.
    pub image: File,
    /// Its RAM.
    pub memory_bytes: u64,
    /// What it may take of the hypervisor's own memory, unless it is the usual amount.
    pub kernel_bytes: Option<u64>,
    /// Its virtual CPUs.
    pub vcpus: i64,
    /// The CPUs on which its vcpus run, in turn; the hypervisor chooses if there is none.
    pub cpus: Vec<i64>,
    /// How it is scheduled, if not like most.
    pub schedule: Option<Schedule>,
    /// What it is told; may be empty.
    pub command_line: String,
    /// Whether the run ends without waiting for it.
    pub background: bool,
    /// Its modules.
    pub modules: Vec<Module>,
    /// Its ends of the wires.
    pub wires: Vec<Wire>,
}

/// A file that a domain finds in its memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// The name under which it finds it.
    pub name: String,
    /// The file.
    pub file: File,
}

/// One end of a wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wire {
    /// `port`, `memory` or `event`.
    pub kind: WireKind,
    /// The object.
    pub object: String,
    /// What the domain may do with it, in the words of the plan.
    pub rights: Vec<String>,
}

/// What a wire is tied to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireKind {
    /// A queue of messages.
    Port,
    /// Memory that several domains can map.
    Memory,
    /// A set of bits to wait for.
    Event,
}

/// A queue of messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// Messages that it can hold.
    pub capacity: i64,
}

/// Memory that several domains can map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Its name.
    pub name: String,
    /// Its size.
    pub bytes: u64,
}

impl Manifest {
    /// Whether a domain is handed the `--input` file.
    pub fn uses_input(&self) -> bool {
        let mut modules = self.domains.iter().flat_map(|domain| &domain.modules);
        modules.any(|module| module.file == File::Input)
    }
}

/// Reads and checks the manifest at `path`.
pub fn load(path: &Path) -> Result<Manifest, Problems> {
    let text = fs::read_to_string(path).map_err(|error| {
        Problems(vec![Problem {
            file: path.to_owned(),
            line: None,
            text: format!("cannot read the manifest: {error}; check the path after --manifest"),
        }])
    })?;
    parse(path, &text)
}

/// Checks the text of a manifest; `file` is for messages and for paths relative to it.
pub fn parse(file: &Path, text: &str) -> Result<Manifest, Problems> {
    let source = Source { file, text };
    match toml::from_str(text) {
        Ok(document) => check::manifest(&source, document),
        Err(error) => Err(Problems(vec![
            source.problem(error.span(), describe(&error))
        ])),
    }
}

/// The parser's message in the words of the manifest reference, on one line.
fn describe(error: &toml::de::Error) -> String {
    let message = error.message().replace("unknown field", "unknown key");
    let message = message.replace("missing field", "missing key");
    message.lines().collect::<Vec<_>>().join("; ")
}
