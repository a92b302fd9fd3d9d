//! What became of each boot test, a line of JSON each, as it happens: a runner that is killed leaves
//! behind what it planned and what it did.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;

use libtest_mimic::Failed;
use serde::{Deserialize, Serialize};

/// A line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Line {
    /// A test was chosen.
    Planned {
        /// `bed::theme::scenario`, or a bed that is not run at all.
        name: String,
        /// Why it is not going to be run, if it is not.
        ignored: Option<String>,
    },
    /// It was run.
    Done {
        /// Its name.
        name: String,
        /// How long it took.
        seconds: f64,
        /// What was wrong, if something was.
        failure: Option<String>,
    },
    /// Every test was run.
    End,
}

/// Writes lines.
pub struct Recorder {
    file: Mutex<File>,
}

impl Recorder {
    /// Into a new file.
    ///
    /// # Errors
    /// The file cannot be written; the text says which and what to do.
    pub fn create(path: &Path) -> Result<Self, String> {
        let file = File::create(path).map_err(|error| {
            format!(
                "cannot write {}: {error}; name a file that can be written after --record",
                path.display()
            )
        })?;
        Ok(Recorder {
            file: Mutex::new(file),
        })
    }

    /// A test was chosen.
    pub fn planned(&self, name: &str, ignored: Option<&str>) {
        self.write(&Line::Planned {
            name: name.to_owned(),
            ignored: ignored.map(str::to_owned),
        });
    }

    /// Runs a test.
    ///
    /// # Errors
    /// Those of the test.
    pub fn record(
        &self,
        name: &str,
        run: impl FnOnce() -> Result<(), Failed>,
    ) -> Result<(), Failed> {
        let start = Instant::now();
        let result = run();
        let failure = result.as_ref().err();
        self.write(&Line::Done {
            name: name.to_owned(),
            seconds: start.elapsed().as_secs_f64(),
            failure: failure.map(|failed| failed.message().unwrap_or("it said nothing").to_owned()),
        });
        result
    }

    /// Every test was run.
    pub fn end(&self) {
        self.write(&Line::End);
    }

    /// A line that cannot be written is missed by whoever reads: a test without it counts as an error.
    fn write(&self, line: &Line) {
        let write = || -> io::Result<()> {
            let text = serde_json::to_string(line)?;
            let mut file = self.file.lock().map_err(|_| io::ErrorKind::Other)?;
            writeln!(file, "{text}")
        };
        if let Err(error) = write() {
            eprintln!("the record of the boot tests cannot be written: {error}");
        }
    }
}

/// The lines of a record; a line that was cut off is left out.
pub fn read(text: &str) -> Vec<Line> {
    let lines = text.lines().map(serde_json::from_str);
    lines.filter_map(Result::ok).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record");
        let recorder = Recorder::create(&path).unwrap();
        recorder.planned("a", None);
        recorder.planned("b", Some("cannot"));
        let result = recorder.record("a", || Err("two\nlines".into()));
        assert!(result.is_err());
        recorder.end();
        let text = std::fs::read_to_string(&path).unwrap();
        let lines = read(&text);
        assert_eq!(lines.len(), 4);
        let is_recorded = |line: &Line| {
            matches!(line, Line::Done { name, seconds, failure }
            if name == "a" && *seconds >= 0.0 && failure.as_deref() == Some("two\nlines"))
        };
        assert!(is_recorded(&lines[2]), "{lines:?}");
        assert_eq!(lines[3], Line::End);
        // A line that a kill has cut off.
        assert_eq!(read(&text[..text.len() - 3]).len(), 3);
    }
}
