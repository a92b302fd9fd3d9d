//! Which backend serves each interface of the guest kernel, on every host that there is here.
//!
//! The same image is run on each, with the command `why`, and the last line of each interface is taken.

mod show;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use serde::Serialize;

pub use show::text;

use crate::kernel;
use crate::run::{self, Options};
use crate::screen::Screen;
use crate::verdict::{Kind, Verdict};

/// The interfaces, in the order of the table.
pub const INTERFACES: [&str; 5] = ["console", "clock-source", "irq-chip", "clock-event", "smp"];

/// A place in which the kernel runs.
struct Place {
    /// For people.
    name: &'static str,
    host: Host,
}

enum Host {
    /// Without Nuncio, as `nuncio kernel --host`.
    Alone(&'static str),
    /// In a domain, on that bed.
    Domain(&'static str),
}

const PLACES: [Place; 5] = [
    Place {
        name: "bare metal, QEMU",
        host: Host::Alone("qemu"),
    },
    Place {
        name: "bare metal, Bochs",
        host: Host::Alone("bochs"),
    },
    Place {
        name: "Nuncio on SVM",
        host: Host::Domain("qemu-svm"),
    },
    Place {
        name: "Nuncio on VT-x",
        host: Host::Domain("bochs-vmx"),
    },
    Place {
        name: "KVM",
        host: Host::Alone("kvm"),
    },
];

/// The domain of the manifest.
const DOMAIN: &str = "kernel";
/// The version of the keys of the JSON document.
const SCHEMA: u32 = 1;

/// What is to be run.
pub struct Request {
    /// The manifest with the guest kernel.
    pub manifest: PathBuf,
    /// Where the images are.
    pub images: PathBuf,
    /// The limit of each run.
    pub limit_seconds: u64,
}

/// Who served in one place.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The place.
    pub place: &'static str,
    /// Who served each interface, as `backend:server`; nothing if nobody did.
    pub served: Vec<Option<String>>,
    /// Why the kernel was not run there; empty if it was.
    pub obstacle: String,
}

/// All places.
#[derive(Serialize)]
pub struct Backends {
    schema: u32,
    interfaces: [&'static str; 5],
    rows: Vec<Row>,
}

/// Runs the kernel everywhere. An error is a run that failed; a host that is not here has a row that says so.
pub fn run(request: &Request, screen: &Screen) -> Result<Backends, Verdict> {
    let rows = PLACES.iter().map(|place| {
        let (served, obstacle) = match lines(request, &place.host, screen) {
            Ok(lines) => (served(&lines), String::new()),
            Err(verdict) if verdict.kind == Kind::Missing => (Vec::new(), verdict.text),
            Err(verdict) => return Err(verdict),
        };
        Ok(Row {
            place: place.name,
            served,
            obstacle,
        })
    });
    Ok(Backends {
        schema: SCHEMA,
        interfaces: INTERFACES,
        rows: rows.collect::<Result<_, _>>()?,
    })
}

/// What the kernel says there.
fn lines(request: &Request, host: &Host, screen: &Screen) -> Result<Vec<String>, Verdict> {
    match *host {
        Host::Alone(host) => {
            let ran = kernel::run(
                &kernel::Request {
                    host: host.to_owned(),
                    board: None,
                    cpus: 2,
                    memory_mib: kernel::DEFAULT_MEMORY_MIB,
                    limit_seconds: request.limit_seconds,
                    images: request.images.clone(),
                    words: vec!["do=why".to_owned()],
                },
                screen,
            )?;
            failed(host, &ran.verdict).map_or(Ok(ran.lines), Err)
        }
        Host::Domain(bed) => {
            let (manifest, images) = (request.manifest.clone(), request.images.clone());
            let options = Options::new(manifest, images, bed, request.limit_seconds);
            let run = run::run(&options, screen)?;
            let console = run
                .report
                .domain(DOMAIN)
                .map(|domain| &domain.console.lines);
            let lines = console.into_iter().flatten().cloned().collect();
            failed(bed, &run.verdict).map_or(Ok(lines), Err)
        }
    }
}

fn failed(host: &str, verdict: &Verdict) -> Option<Verdict> {
    let text = format!("{host}: {}", verdict.text);
    (!verdict.is_ok()).then(|| Verdict::new(verdict.kind, text))
}

/// Who serves each interface by the last line `INTERFACE: BACKEND:SERVER, used ...`.
fn served(lines: &[String]) -> Vec<Option<String>> {
    let of = |interface: &&str| {
        let said = lines.iter().rev().find_map(|line| {
            let rest = line.strip_prefix(*interface)?.strip_prefix(": ")?;
            rest.split_once(", used ").map(|(server, _)| server)
        });
        said.map(str::to_owned)
    };
    INTERFACES.iter().map(of).collect()
}

impl Backends {
    /// What came of it.
    pub fn verdict(&self) -> Verdict {
        let ran = self.rows.iter().filter(|row| row.obstacle.is_empty());
        let text = format!(
            "the kernel ran in {} of {} places",
            ran.count(),
            self.rows.len()
        );
        Verdict::new(Kind::Ok, text)
    }

    /// As JSON, whose keys are listed in `tools/README.md`.
    pub fn json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }
}
