//! The actions of the command line, and what they print.

use std::fs;
use std::path::Path;

use crate::cli::{
    AbiAction, Action, BackendsArguments, Cli, CompareArguments, CostsArguments, ImageArguments,
    KernelArguments, ManifestAction, RunArguments, SoakArguments,
};
use crate::manifest::{self, Problems};
use crate::report::{DomainReport, Report};
use crate::run::{self, Run};
use crate::screen::{Detail, Screen};
use crate::symbols::Symbols;
use crate::verdict::{Kind, Verdict};
use crate::{abi, backends, backtrace, beds, compare, costs, fold, json, kernel, soak, table};

/// Does what the command line asks for and gives the exit code.
pub fn main(cli: &Cli) -> u8 {
    match &cli.action {
        None => run(&cli.run),
        Some(Action::Run(arguments)) => run(arguments),
        Some(Action::Manifest { action }) => manifest(action),
        Some(Action::Compare(arguments)) => compare(arguments),
        Some(Action::Costs(arguments)) => costs(arguments),
        Some(Action::Soak(arguments)) => soak(arguments),
        Some(Action::Image(arguments)) => image(arguments),
        Some(Action::Kernel(arguments)) => kernel(arguments),
        Some(Action::Backends(arguments)) => backends(arguments),
        Some(Action::Beds) => list_beds(),
        Some(Action::Abi { action }) => abi(action),
    }
}

fn run(arguments: &RunArguments) -> u8 {
    let options = arguments.options();
    let screen = Screen::new(arguments.detail());
    let json = arguments.json.as_deref();
    if let Err(verdict) = json.map_or(Ok(()), |path| write_json(path, "")) {
        return conclude(&screen, &verdict);
    }
    let outcome = run::run(&options, &screen);
    let (verdict, run) = match &outcome {
        Ok(run) => (&run.verdict, Some(run)),
        Err(verdict) => (verdict, None),
    };
    if let Some(run) = run {
        show(&screen, run);
    }
    let written = json.map_or(Ok(()), |path| {
        write_json(path, &json::render(&options, verdict, run))
    });
    match written {
        Err(error) if verdict.is_ok() => conclude(&screen, &error),
        _ => conclude(&screen, verdict),
    }
}

fn compare(arguments: &CompareArguments) -> u8 {
    let screen = Screen::new(Detail::Normal);
    let request = arguments.request();
    let json = arguments.json.as_deref();
    if let Err(verdict) = json.map_or(Ok(()), |path| write_json(path, "")) {
        return conclude(&screen, &verdict);
    }
    let outcome = compare::run(&request, &Screen::new(Detail::Quiet));
    let (verdict, comparison) = match &outcome {
        Ok(comparison) => (comparison.verdict(), Some(comparison)),
        Err(verdict) => (verdict.clone(), None),
    };
    if let Some(comparison) = comparison {
        screen.result(&format!("\n{}\n", compare::text(comparison)));
    }
    let written = json.map_or(Ok(()), |path| {
        write_json(
            path,
            &compare::render(&request.run.what, &verdict, comparison),
        )
    });
    match written {
        Err(error) if verdict.is_ok() => conclude(&screen, &error),
        _ => conclude(&screen, &verdict),
    }
}

fn costs(arguments: &CostsArguments) -> u8 {
    let screen = Screen::new(Detail::Normal);
    let json = arguments.json.as_deref();
    let written = json.map_or(Ok(()), |path| write_json(path, ""));
    let outcome =
        written.and_then(|()| costs::run(&arguments.request(), &Screen::new(Detail::Quiet)));
    let costs = match outcome {
        Ok(costs) => costs,
        Err(verdict) => return conclude(&screen, &verdict),
    };
    screen.result(&format!("\n{}\n", costs::text(&costs)));
    match json.map_or(Ok(()), |path| write_json(path, &costs.json())) {
        Ok(()) => conclude(&screen, &costs.verdict()),
        Err(error) => conclude(&screen, &error),
    }
}

fn backends(arguments: &BackendsArguments) -> u8 {
    let screen = Screen::new(Detail::Normal);
    let json = arguments.json.as_deref();
    let written = json.map_or(Ok(()), |path| write_json(path, ""));
    let outcome =
        written.and_then(|()| backends::run(&arguments.request(), &Screen::new(Detail::Quiet)));
    let backends = match outcome {
        Ok(backends) => backends,
        Err(verdict) => return conclude(&screen, &verdict),
    };
    screen.result(&backends::text(&backends));
    match json.map_or(Ok(()), |path| write_json(path, &backends.json())) {
        Ok(()) => conclude(&screen, &backends.verdict()),
        Err(error) => conclude(&screen, &error),
    }
}

fn soak(arguments: &SoakArguments) -> u8 {
    let screen = Screen::new(Detail::Progress);
    let request = arguments.request();
    let json = arguments.json.as_deref();
    if let Err(verdict) = json.map_or(Ok(()), |path| write_json(path, "")) {
        return conclude(&screen, &verdict);
    }
    screen.result(&format!("seed {}", request.seed));
    let outcome = soak::run(&request, &screen);
    let written = json.map_or(Ok(()), |path| {
        write_json(path, &soak::json(&request, &outcome))
    });
    let verdict = match &outcome {
        Ok(soaked) => &soaked.verdict,
        Err(verdict) => verdict,
    };
    match written {
        Err(error) if verdict.is_ok() => conclude(&screen, &error),
        _ => conclude(&screen, verdict),
    }
}

fn kernel(arguments: &KernelArguments) -> u8 {
    let screen = Screen::new(Detail::Normal);
    let request = arguments.request();
    let json = arguments.json.as_deref();
    if let Err(verdict) = json.map_or(Ok(()), |path| write_json(path, "")) {
        return conclude(&screen, &verdict);
    }
    let outcome = kernel::run(&request, &screen);
    let written = json.map_or(Ok(()), |path| {
        write_json(path, &kernel::json(&request, &outcome))
    });
    let verdict = match &outcome {
        Ok(ran) => &ran.verdict,
        Err(verdict) => verdict,
    };
    match written {
        Err(error) if verdict.is_ok() => conclude(&screen, &error),
        _ => conclude(&screen, verdict),
    }
}

fn image(arguments: &ImageArguments) -> u8 {
    let screen = Screen::new(Detail::Normal);
    let verdict = match run::image(&arguments.target, &arguments.what.options()) {
        Ok(modules) => Verdict::new(
            Kind::Ok,
            format!(
                "{}: a bootable image of the hypervisor and {modules} boot modules",
                arguments.target.display()
            ),
        ),
        Err(verdict) => verdict,
    };
    conclude(&screen, &verdict)
}

fn write_json(path: &Path, text: &str) -> Result<(), Verdict> {
    fs::write(path, text).map_err(|error| {
        Verdict::new(
            Kind::Invalid,
            format!(
                "cannot write {}: {error}; name a file that can be written after --json",
                path.display()
            ),
        )
    })
}

/// The last line: on standard output if all is well, else on standard error.
fn conclude(screen: &Screen, verdict: &Verdict) -> u8 {
    if verdict.is_ok() {
        screen.result(&verdict.text);
    } else {
        screen.error(&format!("nuncio: {}", verdict.text));
    }
    verdict.kind.exit_code()
}

fn show(screen: &Screen, run: &Run) {
    if has_domains(&run.report) {
        screen.detail(&format!(
            "\n{}\n",
            table::render(&run.report, run.counted, |domain, rip| place(
                run, domain, rip
            ))
        ));
    }
    for domain in &run.report.domains {
        if let Some(trace) = domain.trace() {
            let calls = fold::text(&trace.runs, trace.unrecorded);
            screen.detail(&format!("calls of {}: {calls}\n", domain.name));
        }
    }
    if let Some(panic) = &run.report.panic {
        screen.error(&backtrace::render(panic, &run.hypervisor));
    }
    if let (Some(digest), Some((_, input))) = (&run.report.digest, &run.input) {
        let domain = &digest.domain;
        if digest.sha256 == input.sha256 && digest.bytes == input.bytes {
            screen.result(&format!(
                "sha256 {} of {} bytes, as computed by {domain}; equal to the host's",
                digest.sha256, digest.bytes
            ));
        } else {
            screen.result(&format!(
                "sha256 {} of {} bytes, as computed by {domain}",
                digest.sha256, digest.bytes
            ));
            screen.result(&format!(
                "sha256 {} of {} bytes, the host's: they differ",
                input.sha256, input.bytes
            ));
        }
    }
}

/// The function of the domain's image at an address, which the image's own page tables are
/// expected to leave where the image says.
fn place(run: &Run, domain: &DomainReport, address: u64) -> Option<String> {
    let mut images = run.images.iter();
    let (_, image) = images.find(|(name, _)| *name == domain.name)?;
    // The last one is the function that has code of its own.
    let place = Symbols::load(image)?.places(address).pop()?;
    // A symbol alone may be a mark that has nothing to do with the address.
    place.source.is_some().then(|| place.to_string())
}

fn has_domains(report: &Report) -> bool {
    report.domains.iter().any(|domain| domain.stop.is_some())
}

fn manifest(action: &ManifestAction) -> u8 {
    let screen = Screen::new(Detail::Normal);
    let (ManifestAction::Check { file } | ManifestAction::Plan { file }) = action;
    let manifest = match manifest::load(file) {
        Ok(manifest) => manifest,
        Err(problems) => return mistakes(&screen, &problems),
    };
    match action {
        ManifestAction::Check { .. } => screen.result(&format!(
            "{}: ok, {} domains, {} ports, {} shared memories, {} events",
            file.display(),
            manifest.domains.len(),
            manifest.ports.len(),
            manifest.memories.len(),
            manifest.events.len()
        )),
        ManifestAction::Plan { .. } => {
            let plan = manifest::compile(&manifest, Some(run::DEFAULT_LIMIT_SECONDS * 1000));
            screen.result(plan.text.trim_end());
        }
    }
    0
}

fn mistakes(screen: &Screen, problems: &Problems) -> u8 {
    screen.error(&problems.to_string());
    Kind::Invalid.exit_code()
}

fn abi(action: &AbiAction) -> u8 {
    let screen = Screen::new(Detail::Normal);
    let text = match action {
        AbiAction::Header { target: None } => Ok(abi::header()),
        AbiAction::Header { target: Some(path) } => write_header(path),
        AbiAction::Dictionary => Ok(abi::words()),
        AbiAction::Outcomes => Ok(abi::outcomes()),
        AbiAction::Describe { verb, words } => abi::describe(verb, words),
    };
    match text {
        Ok(text) => {
            screen.result(text.trim_end());
            0
        }
        Err(error) => {
            screen.error(&format!("nuncio: {error}"));
            Kind::Invalid.exit_code()
        }
    }
}

fn write_header(path: &Path) -> Result<String, String> {
    match fs::write(path, abi::header()) {
        Ok(()) => Ok(format!(
            "{}: the C header of ABI version {}",
            path.display(),
            nuncio_abi::VERSION
        )),
        Err(error) => Err(format!(
            "cannot write {}: {error}; name a file that can be written",
            path.display()
        )),
    }
}

fn list_beds() -> u8 {
    let screen = Screen::new(Detail::Normal);
    let default = beds::default_name(false);
    for bed in beds::all() {
        let state = match (bed.obstacle(), beds::missing(bed.needs())) {
            (Some(obstacle), _) => format!("cannot be used: {obstacle}"),
            (None, Some(need)) => format!(
                "{} is not installed; {}",
                need.program.display(),
                need.advice
            ),
            (None, None) if bed.name() == default => "installed, the default".to_owned(),
            (None, None) => "installed".to_owned(),
        };
        screen.result(&format!("{:<13} {} [{state}]", bed.name(), bed.summary()));
    }
    0
}
