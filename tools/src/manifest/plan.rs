//! Compiles a manifest into the plan: the records that the hypervisor reads, one a line, and the
//! files that go with them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use super::{limits, Domain, File, Manifest, WireKind, BUNDLED_IMAGE};

/// The version of the plan's grammar.
const PLAN_VERSION: u32 = 1;
/// The boot module that carries the plan itself.
pub const PLAN_NAME: &str = "nuncio-plan";
/// Names that the machine's own files take, in the run directory and as boot modules.
const TAKEN_NAMES: [&str; 4] = [PLAN_NAME, "hypervisor", BUNDLED_IMAGE, "input"];

/// A compiled manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The records.
    pub text: String,
    /// The boot modules that the records name, each once.
    pub files: Vec<PlanFile>,
}

/// A boot module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanFile {
    /// Its name for the hypervisor and in the run directory.
    pub name: String,
    /// Where it comes from.
    pub file: File,
}

/// Compiles `manifest`; the hypervisor ends the run by itself after `limit_ms`, if there is one.
pub fn compile(manifest: &Manifest, limit_ms: Option<u64>) -> Plan {
    let names = name_files(manifest);
    let mut text = format!("nuncio-plan {PLAN_VERSION}\n");
    if let Some(limit_ms) = limit_ms {
        line(&mut text, format_args!("limit-ms {limit_ms}"));
    }
    for domain in &manifest.domains {
        write_domain(&mut text, domain, &names);
    }
    for port in &manifest.ports {
        line(
            &mut text,
            format_args!("port {} capacity={}", port.name, port.capacity),
        );
    }
    for memory in &manifest.memories {
        line(
            &mut text,
            format_args!("memory {} bytes={}", memory.name, memory.bytes),
        );
    }
    for event in &manifest.events {
        line(&mut text, format_args!("event {event}"));
    }
    for domain in &manifest.domains {
        write_wires(&mut text, domain);
    }
    let files = names
        .into_iter()
        .map(|(file, name)| PlanFile { name, file });
    Plan {
        text,
        files: files.collect(),
    }
}

fn write_domain(text: &mut String, domain: &Domain, names: &BTreeMap<File, String>) {
    let name = &domain.name;
    let image = names.get(&domain.image).map_or("", String::as_str);
    let background = if domain.background { "yes" } else { "no" };
    line(
        text,
        format_args!(
            "domain {name} image={image} memory={} vcpus={} background={background}",
            domain.memory_bytes, domain.vcpus
        ),
    );
    for cpu in &domain.cpus {
        line(text, format_args!("cpu {name} {cpu}"));
    }
    if let Some(schedule) = domain.schedule {
        line(
            text,
            format_args!(
                "schedule {name} priority={} budget-us={} period-us={}",
                schedule.priority, schedule.budget_us, schedule.period_us
            ),
        );
    }
    if let Some(bytes) = domain.kernel_bytes {
        line(text, format_args!("kernel-memory {name} {bytes}"));
    }
    if !domain.command_line.is_empty() {
        line(
            text,
            format_args!("command-line {name} {}", domain.command_line),
        );
    }
    for module in &domain.modules {
        let boot = names.get(&module.file).map_or("", String::as_str);
        line(
            text,
            format_args!("module {name} {} boot={boot}", module.name),
        );
    }
}

fn write_wires(text: &mut String, domain: &Domain) {
    for wire in &domain.wires {
        let kind = match wire.kind {
            WireKind::Port => "port",
            WireKind::Memory => "memory",
            WireKind::Event => "event",
        };
        for right in &wire.rights {
            let (domain, object) = (&domain.name, &wire.object);
            line(text, format_args!("give {domain} {kind} {object} {right}"));
        }
    }
}

fn line(text: &mut String, record: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{record}");
}

/// Gives every file of the manifest a name that is short, safe and used once.
fn name_files(manifest: &Manifest) -> BTreeMap<File, String> {
    let mut names: BTreeMap<File, String> = BTreeMap::new();
    let images = manifest.domains.iter().map(|domain| &domain.image);
    let modules = manifest.domains.iter().flat_map(|domain| &domain.modules);
    for file in images.chain(modules.map(|module| &module.file)) {
        if names.contains_key(file) {
            continue;
        }
        let name = match file {
            File::BundledImage => BUNDLED_IMAGE.to_owned(),
            File::Input => "input".to_owned(),
            File::Built(name) => free_name(Path::new(name), &names),
            File::Path(path) => free_name(path, &names),
        };
        names.insert(file.clone(), name);
    }
    names
}

fn free_name(path: &Path, names: &BTreeMap<File, String>) -> String {
    let wanted = safe_name(path);
    let is_taken = |name: &str| {
        TAKEN_NAMES.contains(&name) || names.values().any(|other| other.as_str() == name)
    };
    if !is_taken(&wanted) {
        return wanted;
    }
    let numbered = (2u64..).map(|number| format!("{wanted}-{number}"));
    numbered
        .into_iter()
        .find(|name| !is_taken(name))
        .unwrap_or(wanted)
}

/// The file's own name with everything that a boot loader could trip over replaced.
fn safe_name(path: &Path) -> String {
    /// Room for a number behind the name.
    const ROOM: usize = 6;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let safe = name
        .chars()
        .map(|character| match character.to_ascii_lowercase() {
            letter @ ('a'..='z' | '0'..='9' | '.' | '_') => letter,
            _ => '-',
        });
    let safe: String = safe
        .skip_while(|character| !character.is_ascii_alphanumeric())
        .take(limits::NAME - ROOM)
        .collect();
    if safe.is_empty() {
        "file".to_owned()
    } else {
        safe
    }
}
