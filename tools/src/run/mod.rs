//! One run from the command line to the verdict.
//!
//! `stage` prepares a directory, `watch` follows the bed's process, `serial` cuts its output into
//! lines and `input` copies files. Neighbours: `manifest` says what to run, `beds` how to start it,
//! `report` collects what comes back, `judge` decides.
//!
//! Invariant: whatever goes wrong, a run ends with a [`Verdict`] and leaves no process behind.

mod input;
mod serial;
mod stage;
pub mod watch;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub use input::Copied;
use stage::{Sources, Staged};
pub use watch::Ending;
use watch::{Followed, Limits};

use crate::beds::{self, Board, Counting, Machine, Need, TestBed};
use crate::iso;
use crate::judge::{judge, Case, Expected};
use crate::manifest::{self, Manifest};
use crate::report::{Line, Report};
use crate::screen::Screen;
use crate::verdict::{Kind, Verdict};

/// What to run.
#[derive(Clone, Debug)]
pub struct What {
    /// The manifest.
    pub manifest: PathBuf,
    /// The input, if the user named one.
    pub input: Option<PathBuf>,
    /// The directory of the built images.
    pub images: PathBuf,
    /// The command line of the hypervisor.
    pub hypervisor_arguments: Option<String>,
}

/// What to run and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// What to run.
    pub what: What,
    /// The name of the bed.
    pub bed: String,
    /// The time limit.
    pub limit_seconds: u64,
    /// After how many seconds without a word the machine counts as stuck, if it ever does.
    pub silence_seconds: Option<u64>,
    /// Whether to count instructions.
    pub count: bool,
    /// Whether the hypervisor is to record the calls of the domains.
    pub trace: bool,
    /// Memory of the machine, if the user wants another amount than needed.
    pub memory_mib: Option<u64>,
    /// How many CPUs the machine is to have, if the user wants another number than the manifest.
    pub cpus: Option<u64>,
    /// Another CPU than the bed's own choice.
    pub cpu: Option<String>,
}

impl Options {
    /// A run of that manifest in which nothing else is chosen.
    pub fn new(manifest: PathBuf, images: PathBuf, bed: &str, limit_seconds: u64) -> Self {
        Options {
            what: What {
                manifest,
                input: None,
                images,
                hypervisor_arguments: None,
            },
            bed: bed.to_owned(),
            limit_seconds,
            silence_seconds: None,
            count: false,
            trace: false,
            memory_mib: None,
            cpus: None,
            cpu: None,
        }
    }
}

/// A run that was started, and what became of it.
pub struct Run {
    /// The verdict.
    pub verdict: Verdict,
    /// What the hypervisor reported.
    pub report: Report,
    /// The input and its path, if the manifest uses it.
    pub input: Option<(PathBuf, Copied)>,
    /// Whether instructions were counted.
    pub counted: bool,
    /// The hypervisor with its symbols.
    pub hypervisor: PathBuf,
    /// The image of each domain with its symbols, by the domain's name.
    pub images: Vec<(String, PathBuf)>,
    /// How long it took.
    pub wall: Duration,
}

/// The time limit of a run that names none.
pub const DEFAULT_LIMIT_SECONDS: u64 = 120;
/// The word that makes the hypervisor record calls.
const TRACE_CALLS: &str = "trace=calls";
/// How long a machine may take to stop when the hypervisor has ended the run.
pub const STOP_LIMIT: Duration = Duration::from_secs(5);

/// Runs a manifest on a bed. An error is a run that could not be started.
pub fn run(options: &Options, screen: &Screen) -> Result<Run, Verdict> {
    let bed = beds::named(&options.bed).map_err(invalid)?;
    let manifest = load(&options.what)?;
    check_usable(bed.as_ref(), options.count)?;
    let sources = sources(&options.what);
    let limit_ms = options.limit_seconds.saturating_mul(1000);
    let plan = manifest::compile(&manifest, Some(limit_ms));
    let staged = stage::stage(&manifest, &plan, &sources)?;
    boot(options, screen, bed.as_ref(), &manifest, &sources, &staged)
}

/// Writes a bootable image of a manifest, without a time limit, and gives the number of its boot
/// modules.
pub fn image(target: &Path, what: &What) -> Result<usize, Verdict> {
    let manifest = load(what)?;
    check_installed("image", vec![iso::need()])?;
    let plan = manifest::compile(&manifest, None);
    let staged = stage::stage(&manifest, &plan, &sources(what))?;
    let target = std::path::absolute(target)
        .map_err(|error| invalid(format!("{}: {error}; name a file", target.display())))?;
    let arguments = what.hypervisor_arguments.as_deref();
    let dir = staged.dir.path();
    iso::write(dir, stage::IMAGE, &staged.modules, arguments, &target)?;
    Ok(staged.modules.len())
}

fn invalid(text: String) -> Verdict {
    Verdict::new(Kind::Invalid, text)
}

fn load(what: &What) -> Result<Manifest, Verdict> {
    let manifest =
        manifest::load(&what.manifest).map_err(|problems| invalid(problems.to_string()))?;
    if what.input.is_some() && !manifest.uses_input() {
        return Err(invalid(format!(
            "--input is given, but no domain of {} takes it; give one modules = {{ input = \"{}\" }}, or leave --input out",
            what.manifest.display(),
            manifest::INPUT_WORD
        )));
    }
    Ok(manifest)
}

fn sources(what: &What) -> Sources {
    let input = what.input.clone();
    Sources {
        images: what.images.clone(),
        input: input.unwrap_or_else(crate::project::default_input),
    }
}

fn check_usable(bed: &dyn TestBed, count: bool) -> Result<(), Verdict> {
    if count && bed.counting() == Counting::Never {
        return Err(invalid(format!(
            "{} cannot count instructions; leave --count out, or name a bed that can: {}",
            bed.name(),
            beds::counting_names().join(", ")
        )));
    }
    if let Some(obstacle) = bed.obstacle() {
        let text = format!("the test bed {} cannot be used: {obstacle}", bed.name());
        return Err(Verdict::new(Kind::Missing, text));
    }
    check_installed(bed.name(), bed.needs())
}

pub(crate) fn check_installed(what: &str, needs: Vec<Need>) -> Result<(), Verdict> {
    let Some(need) = beds::missing(needs) else {
        return Ok(());
    };
    Err(Verdict::new(
        Kind::Missing,
        format!(
            "{} is not installed, and {what} needs it; {}",
            need.program.display(),
            need.advice
        ),
    ))
}

fn boot(
    options: &Options,
    screen: &Screen,
    bed: &dyn TestBed,
    manifest: &Manifest,
    sources: &Sources,
    staged: &Staged,
) -> Result<Run, Verdict> {
    let names = manifest.domains.iter().map(|domain| domain.name.as_str());
    let mut report = Report::new(names, manifest.digest.as_deref());
    let machine = machine(options, manifest, staged);
    bed.prepare(&machine)?;

    screen.start(format!("running on {}", bed.name()));
    let start = Instant::now();
    let limits = Limits {
        run: bed.wall_limit(Duration::from_secs(options.limit_seconds)),
        silence: options.silence_seconds.map(Duration::from_secs),
        stop: STOP_LIMIT,
    };
    let followed = watch::follow_bed(bed, &machine, &limits, |text| {
        take_line(&mut report, screen, &text);
        report.end.is_some()
    });
    screen.finish();
    let Followed { ending, bed_error } = followed?;

    let verdict = judge(&Case {
        bed: bed.name(),
        ending: &ending,
        meaning: ending
            .status()
            .map(|status| bed.meaning(status, &bed_error)),
        bed_error: &bed_error,
        report: &report,
        foreground: &foreground(manifest),
        expected: expected(manifest, staged),
        limit_seconds: options.limit_seconds,
    });
    let input = staged.input.clone();
    Ok(Run {
        verdict,
        report,
        input: input.map(|copied| (sources.input.clone(), copied)),
        counted: bed.counting().counts(options.count),
        hypervisor: sources.hypervisor(),
        images: sources.images_of(manifest),
        wall: start.elapsed(),
    })
}

fn machine(options: &Options, manifest: &Manifest, staged: &Staged) -> Machine {
    let cpus = options.cpus.unwrap_or(manifest.cpus);
    // The hypervisor keeps 256 KiB for each CPU, and something for the way there.
    let memory_mib = staged.memory_mib.saturating_add(cpus / 2);
    Machine {
        run_dir: staged.dir.path().to_owned(),
        image: stage::IMAGE.to_owned(),
        board: Board::default(),
        memory_mib: options.memory_mib.unwrap_or(memory_mib),
        modules: staged.modules.clone(),
        count: options.count,
        cpus,
        cpu: options.cpu.clone(),
        arguments: hypervisor_arguments(options),
    }
}

fn hypervisor_arguments(options: &Options) -> Option<String> {
    let trace = options.trace.then(|| TRACE_CALLS.to_owned());
    let words = options.what.hypervisor_arguments.iter().cloned();
    let words: Vec<_> = words.chain(trace).collect();
    (!words.is_empty()).then(|| words.join(" "))
}

fn foreground(manifest: &Manifest) -> Vec<String> {
    let domains = manifest.domains.iter().filter(|domain| !domain.background);
    domains.map(|domain| domain.name.clone()).collect()
}

fn take_line(report: &mut Report, screen: &Screen, text: &str) {
    let line = Line::parse(text);
    screen.serial(&line, text);
    report.take(&line);
}

fn expected(manifest: &Manifest, staged: &Staged) -> Option<Expected> {
    let (domain, input) = (manifest.digest.clone()?, staged.input.as_ref()?);
    Some(Expected {
        domain,
        sha256: input.sha256.clone(),
        bytes: input.bytes,
    })
}
