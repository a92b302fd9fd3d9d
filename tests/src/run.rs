//! A run of the `nuncio` binary in a directory of its own, and checks of what came of it.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;

use libtest_mimic::Failed;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::scenarios::Bed;

/// Seconds that a scenario may take on a loaded machine.
pub const TIMEOUT_SECONDS: &str = "100";

/// The exit code of a run whose bed has failed.
const BED_FAILED: i32 = 3;

/// What a check says.
pub type Checked<'a> = Result<&'a Outcome, Failed>;

/// A run that is being prepared.
pub struct Run {
    dir: TempDir,
    arguments: Vec<String>,
    environment: Vec<(String, OsString)>,
    input: Option<Vec<u8>>,
}

/// What came of a run.
pub struct Outcome {
    /// The exit code.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// The report, or null if there is none.
    pub json: Value,
    input_sha256: Option<String>,
}

impl Run {
    /// A run of the default manifest on `bed`.
    pub fn new(bed: &Bed) -> Result<Self, Failed> {
        let run = Run {
            dir: tempfile::tempdir()?,
            arguments: Vec::new(),
            environment: Vec::new(),
            input: None,
        };
        let run = run
            .option("--bed", bed.name)
            .option("--json", "report.json");
        Ok(run.option("--timeout", TIMEOUT_SECONDS))
    }

    /// A comparison of the default manifest on these beds.
    pub fn comparing(beds: impl Iterator<Item = &'static Bed>) -> Result<Self, Failed> {
        let mut arguments = vec!["compare".to_owned()];
        for bed in beds {
            arguments.extend(["--bed".to_owned(), bed.name.to_owned()]);
        }
        let run = Run {
            dir: tempfile::tempdir()?,
            arguments,
            environment: Vec::new(),
            input: None,
        };
        let run = run.option("--json", "report.json");
        Ok(run.option("--timeout", TIMEOUT_SECONDS))
    }

    /// A soak of so many seconds, always with the same seed.
    pub fn soak(bed: &Bed, cpus: u64, seconds: u64) -> Result<Self, Failed> {
        let run = Run {
            dir: tempfile::tempdir()?,
            arguments: vec!["soak".to_owned()],
            environment: Vec::new(),
            input: None,
        };
        let run = run
            .option("--bed", bed.name)
            .option("--json", "report.json")
            .option("--seed", "1");
        let run = run.option("--cpus", &cpus.to_string());
        Ok(run.option("--seconds", &seconds.to_string()))
    }

    /// The guest kernel without Nuncio, with these words on its command line.
    pub fn kernel(host: &str, words: &[&str]) -> Result<Self, Failed> {
        let mut arguments = vec!["kernel".to_owned()];
        arguments.extend(words.iter().map(|word| (*word).to_owned()));
        let run = Run {
            dir: tempfile::tempdir()?,
            arguments,
            environment: Vec::new(),
            input: None,
        };
        let run = run.option("--host", host).option("--json", "report.json");
        Ok(run.option("--timeout", TIMEOUT_SECONDS))
    }

    /// Adds an option with a value; a later one replaces an earlier one.
    pub fn option(mut self, name: &str, value: &str) -> Self {
        if let Some(index) = self.arguments.iter().position(|known| known == name) {
            self.arguments.drain(index..index + 2);
        }
        self.arguments.extend([name.to_owned(), value.to_owned()]);
        self
    }

    /// Counts instructions.
    pub fn count(mut self) -> Self {
        self.arguments.push("--count".to_owned());
        self
    }

    /// Has the hypervisor's log and records on standard error, too.
    pub fn verbose(mut self) -> Self {
        self.arguments.push("--verbose".to_owned());
        self
    }

    /// Sets a variable of the environment.
    pub fn environment(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        let value = value.as_ref().to_owned();
        self.environment.push((name.to_owned(), value));
        self
    }

    /// Hands these bytes over as the input.
    pub fn input(mut self, bytes: &[u8]) -> Result<Self, Failed> {
        self.input = Some(bytes.to_owned());
        Ok(self
            .file("input.bin", bytes)?
            .option("--input", "input.bin"))
    }

    /// Runs this manifest.
    pub fn manifest(self, text: &str) -> Result<Self, Failed> {
        let run = self.file("manifest.toml", text.as_bytes())?;
        Ok(run.option("--manifest", "manifest.toml"))
    }

    /// Puts a file into the directory of the run.
    pub fn file(self, name: &str, bytes: &[u8]) -> Result<Self, Failed> {
        fs::write(self.path(name), bytes)?;
        Ok(self)
    }

    /// Where a file of that name lies in the directory of the run.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs and waits for the end.
    ///
    /// An emulator that has crashed gets a second chance, and no more: Bochs 2.7 has been seen to die of
    /// a bad address of its own in one run of some hundreds, and not again with the same machine.
    pub fn go(&self) -> Result<Outcome, Failed> {
        let first = self.outcome(&self.command()?.output()?);
        if !first.bed_has_crashed() {
            return Ok(first);
        }
        eprintln!("run again: {}", first.stderr.trim_end());
        Ok(self.outcome(&self.command()?.output()?))
    }

    /// Runs, and does `work` beside it from the first line on standard error that begins with
    /// `sign`.
    pub fn go_beside<T: Send>(
        &self,
        sign: &str,
        work: impl FnOnce() -> Result<T, Failed> + Send,
    ) -> Result<(Outcome, T), Failed> {
        let mut command = self.command()?;
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.stdin(Stdio::null()).spawn()?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (stdout, stderr, done) = thread::scope(|scope| {
            let stdout = scope.spawn(move || read_all(stdout));
            let (mut work, mut working, mut text) = (Some(work), None, Vec::new());
            for line in stderr.map(BufReader::new).into_iter().flat_map(lines) {
                if line.starts_with(sign.as_bytes()) {
                    working = working.or(work.take().map(|work| scope.spawn(work)));
                }
                text.extend(line);
            }
            let done = working.map(|working| working.join());
            (stdout.join(), text, done)
        });
        let output = Output {
            status: child.wait()?,
            stdout: stdout.map_err(|_| "standard output could not be read")?,
            stderr,
        };
        let outcome = self.outcome(&output);
        outcome.check(done.is_some(), &format!("there should be a line {sign}"))?;
        let done = done.and_then(Result::ok).ok_or("the work panicked")?;
        Ok((outcome, done?))
    }

    fn command(&self) -> Result<Command, Failed> {
        let mut command = Command::new(binaries()?.join("nuncio"));
        command.args(&self.arguments).current_dir(self.dir.path());
        command.envs(self.environment.iter().cloned());
        Ok(command)
    }

    fn outcome(&self, output: &Output) -> Outcome {
        let json = fs::read_to_string(self.path("report.json")).unwrap_or_default();
        Outcome {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            json: serde_json::from_str(&json).unwrap_or(Value::Null),
            input_sha256: self.input.as_deref().map(sha256),
        }
    }
}

impl Outcome {
    /// Whether the emulator itself has crashed; this is no verdict on the hypervisor.
    fn bed_has_crashed(&self) -> bool {
        self.code == Some(BED_FAILED) && self.stderr.contains("was killed by signal")
    }

    /// Fails with the whole output unless `holds`.
    pub fn check(&self, holds: bool, what: &str) -> Checked<'_> {
        if holds {
            return Ok(self);
        }
        let code = self.code;
        let (stdout, stderr) = (&self.stdout, &self.stderr);
        Err(
            format!("{what}\nexit code: {code:?}\n--- stdout\n{stdout}\n--- stderr\n{stderr}")
                .into(),
        )
    }

    /// The exit code and the kind of the verdict.
    pub fn ends(&self, code: i32, kind: &str) -> Checked<'_> {
        let found = &self.json["verdict"]["kind"];
        self.check(
            self.code == Some(code),
            &format!("the exit code should be {code}"),
        )?;
        self.check(
            found == kind,
            &format!("the verdict should be {kind}, not {found}"),
        )
    }

    /// One line on standard error, with this in it.
    pub fn complains(&self, text: &str) -> Checked<'_> {
        let mut lines = self.stderr.lines();
        let is_clear =
            lines.next().is_some_and(|line| line.contains(text)) && lines.next().is_none();
        self.check(
            is_clear,
            &format!("standard error should be one line with {text:?}"),
        )
    }

    /// These words on standard error, one after the other.
    pub fn shows_in_order(&self, words: &[&str]) -> Checked<'_> {
        let mut rest = self.stderr.as_str();
        for word in words {
            let Some((_, behind)) = rest.split_once(word) else {
                let what = format!("standard error should show {words:?}, but {word:?} is missing");
                return self.check(false, &what);
            };
            rest = behind;
        }
        Ok(self)
    }

    /// The consumer computed the digest of the very input.
    pub fn delivers(&self) -> Checked<'_> {
        let digest = &self.json["digest"];
        let sha256 = self.input_sha256.as_deref().unwrap_or("no input");
        self.check(
            digest["sha256"] == sha256,
            &format!("the digest should be {sha256}"),
        )?;
        self.check(
            digest["equals_input"] == true,
            "the digest should equal the input's",
        )
    }

    /// Every frame came back.
    pub fn returns_frames(&self) -> Checked<'_> {
        let frames = &self.json["frames"];
        self.check(
            frames["before"].is_u64(),
            "the free frames should be reported",
        )?;
        self.check(
            frames["before"] == frames["after"],
            "every frame should come back",
        )
    }

    /// The domain stopped for this reason.
    pub fn stops(&self, domain: &str, reason: &str) -> Checked<'_> {
        let found = &self.domain(domain)["stop"]["reason"];
        self.check(
            found == reason,
            &format!("{domain} should stop with {reason}, not {found}"),
        )
    }

    /// The domain asked to stop with this exit code.
    pub fn exits(&self, domain: &str, code: u64) -> Checked<'_> {
        self.stops(domain, "exited")?;
        let found = &self.domain(domain)["stop"]["detail"];
        self.check(
            *found == code,
            &format!("{domain} should exit with {code}, not {found}"),
        )
    }

    /// The report on one domain.
    pub fn domain(&self, name: &str) -> &Value {
        let mut domains = self.json["domains"].as_array().into_iter().flatten();
        domains
            .find(|domain| domain["name"] == name)
            .unwrap_or(&Value::Null)
    }
}

/// The directory of the binaries that were built with this one.
pub fn binaries() -> Result<PathBuf, Failed> {
    let own = std::env::current_exe()?;
    let folder = own.parent().ok_or("the test binary lies in no directory")?;
    Ok(folder.to_owned())
}

/// The bundled image as it was built.
pub fn guest_image() -> Result<Vec<u8>, Failed> {
    let target = binaries()?.join("../x86_64-unknown-none/release/nuncio-guest-kernel");
    let bytes = fs::read(&target);
    bytes.map_err(|error| format!("cannot read {}: {error}", target.display()).into())
}

/// The directory of the project's sources.
pub fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Bytes that look random and are the same in every run.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let bytes = std::iter::repeat_with(|| {
        // Marsaglia's xorshift, shifts 13, 7, 17.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    });
    bytes.take(length).collect()
}

fn read_all(stream: Option<impl Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    // What could not be read is missed by the checks.
    let _ = stream.map(|mut stream| stream.read_to_end(&mut bytes));
    bytes
}

/// The lines of a stream with their ends, up to its end or an error.
fn lines(mut stream: impl BufRead) -> impl Iterator<Item = Vec<u8>> {
    std::iter::from_fn(move || {
        let mut line = Vec::new();
        let length = stream.read_until(b'\n', &mut line).ok()?;
        (length > 0).then_some(line)
    })
}

/// The digest as 64 hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
