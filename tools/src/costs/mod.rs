//! What the calls cost on both vendors, beside what the same work costs elsewhere.
//!
//! Runs `tools/manifests/bench.toml` on a bed of each vendor, counting instructions, and puts the lines
//! of its domain `bench` beside [`peers::ROWS`].

mod peers;
mod show;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use serde::Serialize;

pub use show::text;

use crate::report::Report;
use crate::run::{self, Options};
use crate::screen::Screen;
use crate::verdict::{Kind, Verdict};

/// A bed of each vendor; both count every instruction.
const BEDS: [&str; 2] = ["qemu-svm", "bochs-vmx-min"];

/// The domain that measures.
const DOMAIN: &str = "bench";

/// The version of the keys of the JSON document.
const SCHEMA: u32 = 1;

/// What is measured.
pub struct Request {
    /// The manifest.
    pub manifest: PathBuf,
    /// Where the images are.
    pub images: PathBuf,
    /// The limit of each run.
    pub limit_seconds: u64,
}

/// What an operation costs.
#[derive(Serialize)]
pub struct Cost {
    /// The name that the benchmark gives it.
    pub name: &'static str,
    /// The operation, for people.
    pub operation: &'static str,
    /// Instructions on SVM, as the guest sees them.
    pub svm: Option<u64>,
    /// Instructions on VT-x.
    pub vmx: Option<u64>,
    /// KVM's on SVM.
    pub kvm_svm: Option<u32>,
    /// NOVA's on SVM.
    pub nova_svm: Option<u32>,
    /// NOVA's on VT-x.
    pub nova_vmx: Option<u32>,
    /// What is compared with what.
    pub note: &'static str,
    /// Where Nuncio's instructions go.
    pub parts: &'static str,
}

/// All of them.
#[derive(Serialize)]
pub struct Costs {
    schema: u32,
    costs: Vec<Cost>,
}

/// Measures on both beds. An error is a run of which nothing can be said.
pub fn run(request: &Request, screen: &Screen) -> Result<Costs, Verdict> {
    let [svm, vmx] = BEDS.map(|bed| measure(request, bed, screen));
    let (svm, vmx) = (svm?, vmx?);
    let costs: Vec<_> = peers::ROWS
        .iter()
        .map(|row| Cost {
            name: row.bench,
            operation: row.operation,
            svm: cost(&svm, row.bench),
            vmx: cost(&vmx, row.bench),
            kvm_svm: row.kvm,
            nova_svm: row.nova.map(|(svm, _)| svm),
            nova_vmx: row.nova.map(|(_, vmx)| vmx),
            note: row.note,
            parts: row.parts,
        })
        .collect();
    Ok(Costs {
        schema: SCHEMA,
        costs,
    })
}

fn measure(request: &Request, bed: &str, screen: &Screen) -> Result<Report, Verdict> {
    let (manifest, images) = (request.manifest.clone(), request.images.clone());
    let options = Options {
        count: true,
        ..Options::new(manifest, images, bed, request.limit_seconds)
    };
    let run = run::run(&options, screen)?;
    if !run.verdict.is_ok() {
        let text = format!("{bed}: {}", run.verdict.text);
        return Err(Verdict::new(run.verdict.kind, text));
    }
    Ok(run.report)
}

/// The number behind `bench NAME`.
fn cost(report: &Report, name: &str) -> Option<u64> {
    let lines = &report.domain(DOMAIN)?.console.lines;
    lines.iter().find_map(|line| {
        let mut words = line.split_whitespace();
        let is_it = words.next() == Some("bench") && words.next() == Some(name);
        is_it.then(|| words.next()?.parse().ok()).flatten()
    })
}

impl Costs {
    /// Whether every operation was measured on both beds.
    pub fn verdict(&self) -> Verdict {
        let is_missing = |cost: &&Cost| cost.svm.is_none() || cost.vmx.is_none();
        match self.costs.iter().find(is_missing) {
            None => Verdict::new(
                Kind::Ok,
                format!("{} operations on {}", self.costs.len(), BEDS.join(" and ")),
            ),
            Some(cost) => Verdict::new(
                Kind::DomainFailed,
                format!(
                    "the benchmark has no line \"bench {}\"; build the images anew",
                    cost.name
                ),
            ),
        }
    }

    /// As JSON, whose keys are listed in `tools/README.md`.
    pub fn json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }
}
