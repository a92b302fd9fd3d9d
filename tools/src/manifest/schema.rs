//! The manifest as it is written: the TOML tables and their keys, with the place of each value.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

/// Names on the left, what they stand for on the right.
pub type Entries = BTreeMap<Spanned<String>, Spanned<String>>;

/// A whole manifest.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// The domain that states the digest of the input.
    pub digest: Option<Spanned<String>>,
    /// How many CPUs the machine has.
    pub cpus: Option<Spanned<i64>>,
    /// `[[domain]]`
    #[serde(default)]
    pub domain: Vec<DomainTable>,
    /// `[[port]]`
    #[serde(default)]
    pub port: Vec<PortTable>,
    /// `[[memory]]`
    #[serde(default)]
    pub memory: Vec<MemoryTable>,
    /// `[[event]]`
    #[serde(default)]
    pub event: Vec<EventTable>,
}

/// `[[domain]]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DomainTable {
    /// Its name.
    pub name: Spanned<String>,
    /// How many of them there are.
    pub count: Option<Spanned<i64>>,
    /// A path, or the name of the image that comes with the project.
    pub image: Spanned<String>,
    /// A size.
    pub memory: Spanned<String>,
    /// What it may take of the hypervisor's own memory: a size.
    pub kernel_memory: Option<Spanned<String>>,
    /// How many virtual CPUs.
    pub vcpus: Option<Spanned<i64>>,
    /// The CPU on which it runs, or those on which its vcpus do.
    pub cpu: Option<Spanned<NamedCpus>>,
    /// Its priority.
    pub priority: Option<Spanned<i64>>,
    /// Microseconds of a CPU in each period.
    pub budget_us: Option<Spanned<i64>>,
    /// The length of a period in microseconds.
    pub period_us: Option<Spanned<i64>>,
    /// What the guest is told.
    pub command_line: Option<Spanned<String>>,
    /// Whether the run ends without waiting for it.
    #[serde(default)]
    pub background: bool,
    /// Module name to file.
    #[serde(default)]
    pub modules: Entries,
    /// Port name to `send`, `receive` or `send+receive`.
    #[serde(default)]
    pub ports: Entries,
    /// Memory name to `r`, `rw`, `rx` or `rwx`.
    #[serde(default)]
    pub shared: Entries,
    /// Event name to `notify`, `wait` or `notify+wait`.
    #[serde(default)]
    pub events: Entries,
}

/// A CPU for all vcpus of a domain, or one for each, in turn.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum NamedCpus {
    /// A number.
    All(i64),
    /// Numbers in brackets.
    Each(Vec<i64>),
}

impl NamedCpus {
    /// The numbers.
    pub fn numbers(&self) -> &[i64] {
        match self {
            NamedCpus::All(cpu) => std::slice::from_ref(cpu),
            NamedCpus::Each(cpus) => cpus,
        }
    }
}

/// `[[port]]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortTable {
    /// Its name.
    pub name: Spanned<String>,
    /// How many of them there are.
    pub count: Option<Spanned<i64>>,
    /// Messages that it can hold.
    pub capacity: Option<Spanned<i64>>,
}

/// `[[memory]]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryTable {
    /// Its name.
    pub name: Spanned<String>,
    /// How many of them there are.
    pub count: Option<Spanned<i64>>,
    /// A size.
    pub size: Spanned<String>,
}

/// `[[event]]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventTable {
    /// Its name.
    pub name: Spanned<String>,
    /// How many of them there are.
    pub count: Option<Spanned<i64>>,
}
