//! What is wrong with a manifest, and on which line.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// One mistake: where it is, what it is and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The manifest, as the user named it.
    pub file: PathBuf,
    /// The line, from 1; `None` if the file as a whole is meant.
    pub line: Option<usize>,
    /// What is wrong and what to do.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:", self.file.display())?;
        if let Some(line) = self.line {
            write!(formatter, "{line}:")?;
        }
        write!(formatter, " {}", self.text)
    }
}

/// Every mistake that was found; never empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", join(.0))]
pub struct Problems(pub Vec<Problem>);

fn join(problems: &[Problem]) -> String {
    let lines: Vec<String> = problems.iter().map(Problem::to_string).collect();
    lines.join("\n")
}

/// The text of a manifest, which turns the byte ranges of the TOML parser into lines.
pub struct Source<'a> {
    /// The manifest, as the user named it.
    pub file: &'a Path,
    /// Its text.
    pub text: &'a str,
}

impl Source<'_> {
    /// A mistake at these bytes of the text.
    pub fn problem(&self, at: Option<Range<usize>>, text: impl Into<String>) -> Problem {
        Problem {
            file: self.file.to_owned(),
            line: at.map(|range| self.line(range.start)),
            text: text.into(),
        }
    }

    fn line(&self, offset: usize) -> usize {
        let before = self.text.as_bytes().iter().take(offset);
        1 + before.filter(|byte| **byte == b'\n').count()
    }
}
