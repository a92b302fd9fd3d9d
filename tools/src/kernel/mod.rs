//! Runs of the guest kernel alone, without Nuncio: its serial line is shown, and its own exit code decides.
//!
//! [`Host`] says what the kernel runs on, one file each; `judge` decides. The kernel prints `exit code N` as its
//! last line, because what ends an emulator cannot carry every code; the emulator's status must agree.

mod bochs;
mod host;
mod judge;
mod qemu;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::beds::{Board, Machine};
use crate::json::VerdictKeys;
use crate::run::watch::{self, Limits};
use crate::run::{self, STOP_LIMIT};
use crate::screen::Screen;
use crate::verdict::{Kind, Verdict};

pub use host::{names, Host};

/// The time limit of a run that names none.
pub const DEFAULT_LIMIT_SECONDS: u64 = 60;
/// Memory of the machine if nobody says otherwise.
pub const DEFAULT_MEMORY_MIB: u64 = 256;
/// The name of the image as it is built, and in the run directory.
const IMAGE: &str = "nuncio-guest-kernel";
/// The kernel has room for a command line of this length.
const MOST_COMMAND_LINE_BYTES: usize = 2048;
/// Lines that are kept for the report; all are shown.
const MOST_LINES: usize = 100_000;
/// The version of the keys of the JSON document.
const SCHEMA: u32 = 1;

/// What is to be run.
#[derive(Clone, Debug)]
pub struct Request {
    /// The name of what it runs on.
    pub host: String,
    /// The board, if it is not the host's own choice.
    pub board: Option<Board>,
    /// CPUs of the machine.
    pub cpus: u64,
    /// Memory of the machine.
    pub memory_mib: u64,
    /// The time limit.
    pub limit_seconds: u64,
    /// The directory of the built images.
    pub images: PathBuf,
    /// The command line of the kernel.
    pub words: Vec<String>,
}

/// What came of it.
#[derive(Debug)]
pub struct Ran {
    /// Whether it worked.
    pub verdict: Verdict,
    /// The kernel's own exit code, if it came to that.
    pub exit_code: Option<u64>,
    /// What it said on its serial line.
    pub lines: Vec<String>,
    wall: Duration,
}

/// Runs the kernel. An error is a run that could not be started.
pub fn run(request: &Request, screen: &Screen) -> Result<Ran, Verdict> {
    let host = host::named(&request.host).map_err(invalid)?;
    let board = board(host.as_ref(), request.board)?;
    let arguments = command_line(host.as_ref(), &request.words)?;
    if let Some(obstacle) = host.obstacle() {
        let text = format!("the kernel cannot run on {}: {obstacle}", host.name());
        return Err(missing(text));
    }
    run::check_installed(host.name(), host.bed().needs())?;
    let dir = tempfile::Builder::new().prefix("nuncio-").tempdir();
    let dir = dir.map_err(|error| missing(format!("cannot make a directory: {error}")))?;
    let image = request.images.join(IMAGE);
    fs::copy(&image, dir.path().join(IMAGE)).map_err(|error| {
        missing(format!(
            "cannot copy the image {}: {error}; build it with ./run.sh, or name the directory with --images",
            image.display()
        ))
    })?;
    let machine = Machine {
        run_dir: dir.path().to_owned(),
        image: IMAGE.to_owned(),
        board,
        memory_mib: request.memory_mib,
        cpus: request.cpus,
        arguments: Some(arguments),
        ..Machine::default()
    };
    host.bed().prepare(&machine)?;
    follow(request, host.as_ref(), &machine, screen)
}

fn follow(
    request: &Request,
    host: &dyn Host,
    machine: &Machine,
    screen: &Screen,
) -> Result<Ran, Verdict> {
    screen.start(format!("the kernel runs on {}", host.name()));
    let start = Instant::now();
    let limit = Duration::from_secs(request.limit_seconds);
    let limits = Limits {
        run: host.bed().wall_limit(limit),
        silence: None,
        stop: STOP_LIMIT,
    };
    let mut lines = Vec::new();
    let followed = watch::follow_bed(host.bed(), machine, &limits, |line| {
        screen.detail(&line);
        let is_last = judge::exit_code(&line).is_some();
        if lines.len() < MOST_LINES {
            lines.push(line);
        }
        is_last
    });
    screen.finish();
    let followed = followed?;
    let exit_code = lines.iter().rev().find_map(|line| judge::exit_code(line));
    Ok(Ran {
        verdict: judge::judge(host, &followed, exit_code, request.limit_seconds),
        exit_code,
        lines,
        wall: start.elapsed(),
    })
}

fn board(host: &dyn Host, wanted: Option<Board>) -> Result<Board, Verdict> {
    let boards = host.boards();
    let default = boards.first().copied().unwrap_or_default();
    let wanted = wanted.unwrap_or(default);
    if boards.contains(&wanted) {
        return Ok(wanted);
    }
    Err(invalid(format!(
        "{} has no machine {}; leave --machine out, or name another host",
        host.name(),
        wanted.name()
    )))
}

/// The words, and behind them how the kernel is to end the machine.
fn command_line(host: &dyn Host, words: &[String]) -> Result<String, Verdict> {
    let end = format!("exit={}", host.exit_word());
    let mut all: Vec<&str> = words.iter().map(String::as_str).collect();
    all.push(&end);
    let line = all.join(" ");
    if line.len() >= MOST_COMMAND_LINE_BYTES {
        return Err(invalid(format!(
            "the command line has {} bytes, and the kernel has room for {}; use fewer words",
            line.len(),
            MOST_COMMAND_LINE_BYTES - 1
        )));
    }
    Ok(line)
}

fn invalid(text: String) -> Verdict {
    Verdict::new(Kind::Invalid, text)
}

fn missing(text: String) -> Verdict {
    Verdict::new(Kind::Missing, text)
}

#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    verdict: VerdictKeys<'a>,
    host: &'a str,
    machine: Option<&'static str>,
    cpus: u64,
    memory_mib: u64,
    words: &'a [String],
    exit_code: Option<u64>,
    lines: &'a [String],
    wall_ms: Option<u64>,
}

/// The result for machines.
pub fn json(request: &Request, outcome: &Result<Ran, Verdict>) -> String {
    let (verdict, ran) = match outcome {
        Ok(ran) => (&ran.verdict, Some(ran)),
        Err(verdict) => (verdict, None),
    };
    let host = host::named(&request.host).ok();
    let board = host.and_then(|host| board(host.as_ref(), request.board).ok());
    let document = Document {
        schema: SCHEMA,
        verdict: VerdictKeys::new(verdict),
        host: &request.host,
        machine: board.map(Board::name),
        cpus: request.cpus,
        memory_mib: request.memory_mib,
        words: &request.words,
        exit_code: ran.and_then(|ran| ran.exit_code),
        lines: ran.map_or(&[], |ran| &ran.lines),
        wall_ms: ran.map(|ran| ran.wall.as_millis() as u64),
    };
    // Serialising strings and numbers into memory cannot fail.
    serde_json::to_string_pretty(&document).unwrap_or_default() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_the_last_word_and_boards_are_checked() {
        let bochs = host::named("bochs").unwrap();
        let words = ["exit=halt".to_owned(), "log=info".to_owned()];
        let line = command_line(bochs.as_ref(), &words).unwrap();
        assert_eq!(line, "exit=halt log=info exit=bochs");
        let long = ["x".repeat(MOST_COMMAND_LINE_BYTES - " exit=bochs".len())];
        let verdict = command_line(bochs.as_ref(), &long).unwrap_err();
        assert_eq!(verdict.kind, Kind::Invalid);
        let refused = board(bochs.as_ref(), Some(Board::Q35)).unwrap_err();
        assert_eq!(refused.kind, Kind::Invalid);
        assert_eq!(board(bochs.as_ref(), None).unwrap(), Board::Pc);
        let qemu = host::named("qemu").unwrap();
        assert_eq!(board(qemu.as_ref(), Some(Board::Pc)).unwrap(), Board::Pc);
        assert!(host::named("none").is_err_and(|text| text.contains("qemu, bochs")));
    }
}
