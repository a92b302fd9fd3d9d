//! A run of the `nuncio` binary in a directory of its own, and checks of what came of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use libtest_mimic::Failed;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// Seconds that a scenario may take on a loaded machine.
const TIMEOUT_SECONDS: &str = "100";

/// What a check says.
pub type Checked<'a> = Result<&'a Outcome, Failed>;

/// A run that is being prepared.
pub struct Run {
    dir: TempDir,
    arguments: Vec<String>,
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
    pub fn new(bed: &str) -> Result<Self, Failed> {
        let run = Run {
            dir: tempfile::tempdir()?,
            arguments: Vec::new(),
            input: None,
        };
        let run = run.option("--bed", bed).option("--json", "report.json");
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
        fs::write(self.dir.path().join(name), bytes)?;
        Ok(self)
    }

    /// Runs and waits for the end.
    pub fn go(&self) -> Result<Outcome, Failed> {
        let mut command = Command::new(binaries()?.join("nuncio"));
        command.args(&self.arguments).current_dir(self.dir.path());
        let output = command.output()?;
        let json = fs::read_to_string(self.dir.path().join("report.json")).unwrap_or_default();
        Ok(Outcome {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            json: serde_json::from_str(&json).unwrap_or(Value::Null),
            input_sha256: self.input.as_deref().map(sha256),
        })
    }
}

impl Outcome {
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

fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
