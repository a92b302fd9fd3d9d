//! What `run.sh` leaves behind of each thing that it did, and the reading of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The list of finished stages: a line each, with kind, exit code, time in microseconds, log and name
/// between tabs.
const STAGES: &str = "stages";
/// Kind and name, with a tab between them, of the stage that has begun and not ended.
const RUNNING: &str = "running";
/// The log of that stage.
const RUNNING_LOG: &str = "log";

/// What a stage is, and so what its failure means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Formatting, lints: it passes or fails.
    Check,
    /// A build, without which nothing else can be tested.
    Build,
    /// `cargo test`, whose output has the tests.
    HostTests,
    /// The boot tests, which leave a record.
    BootTests,
}

impl Kind {
    fn named(word: &str) -> Option<Kind> {
        match word {
            "check" => Some(Kind::Check),
            "build" => Some(Kind::Build),
            "host" => Some(Kind::HostTests),
            "boot" => Some(Kind::BootTests),
            _ => None,
        }
    }
}

/// A stage of the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// What it is.
    pub kind: Kind,
    /// What `run.sh` calls it.
    pub name: String,
    /// Its exit code; `None` if it did not end.
    pub status: Option<i32>,
    /// How long it took.
    pub time: Duration,
    /// What it printed.
    pub log: String,
}

/// The stages in their order.
///
/// # Errors
/// The list cannot be read or understood.
pub fn read(directory: &Path) -> Result<Vec<Stage>, String> {
    let list = directory.join(STAGES);
    let text = match fs::read_to_string(&list) {
        Ok(text) => text,
        // Nothing has been done yet.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(format!("cannot read {}: {error}", list.display())),
    };
    let understood = |line: &str| {
        stage(line).ok_or_else(|| format!("{}: cannot understand {line:?}", list.display()))
    };
    let mut stages = text
        .lines()
        .map(understood)
        .collect::<Result<Vec<_>, _>>()?;
    let running = fs::read_to_string(directory.join(RUNNING)).unwrap_or_default();
    if let Some((kind, name)) = running.trim_end().split_once('\t') {
        stages.push(Stage {
            kind: Kind::named(kind).unwrap_or(Kind::Build),
            name: name.to_owned(),
            status: None,
            time: Duration::ZERO,
            log: log(&directory.join(RUNNING_LOG)),
        });
    }
    Ok(stages)
}

fn stage(line: &str) -> Option<Stage> {
    let fields: Vec<_> = line.split('\t').collect();
    let &[kind, status, micros, path, name] = fields.as_slice() else {
        return None;
    };
    Some(Stage {
        kind: Kind::named(kind)?,
        name: name.to_owned(),
        status: Some(status.parse().ok()?),
        time: Duration::from_micros(micros.parse().ok()?),
        log: log(&PathBuf::from(path)),
    })
}

fn log(path: &Path) -> String {
    match fs::read(path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => format!("its output cannot be read: {}: {error}", path.display()),
    }
}
