//! What the user sees: console lines as they come, a spinner on a terminal, the result at the end.
//!
//! Output that cannot be written (a closed pipe) is dropped: the run and its exit code stand.

use std::io::{self, Write};
use std::time::Duration;

use indicatif::ProgressBar;

use crate::report::Line;

/// How much to show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Detail {
    /// The result only.
    Quiet,
    /// The last line of a console while it goes on, and what a domain says of a failure.
    Progress,
    /// The consoles of the domains, too.
    #[default]
    Normal,
    /// The hypervisor's log and records, too.
    Verbose,
}

/// The screen of one run.
pub struct Screen {
    detail: Detail,
    /// Invisible unless standard error is a terminal.
    spinner: ProgressBar,
}

impl Screen {
    /// A screen with nothing on it.
    pub fn new(detail: Detail) -> Self {
        Screen {
            detail,
            spinner: ProgressBar::new_spinner(),
        }
    }

    /// Shows that something goes on, until [`Screen::finish`].
    pub fn start(&self, what: String) {
        self.spinner.set_message(what);
        self.spinner.enable_steady_tick(Duration::from_millis(120));
    }

    /// Takes the spinner away.
    pub fn finish(&self) {
        self.spinner.finish_and_clear();
    }

    /// Shows a line of the serial output if the user wants to see its sort.
    pub fn serial(&self, line: &Line<'_>, text: &str) {
        match (line, self.detail) {
            (Line::Console { .. }, Detail::Normal | Detail::Verbose) => self.result(text),
            (Line::Console { text: said, .. }, Detail::Progress) if said.contains("FAILED") => {
                self.result(text);
            }
            (Line::Console { text: said, .. }, Detail::Progress) => {
                self.spinner.set_message((*said).to_owned());
            }
            (_, Detail::Verbose) => self.error(text),
            _ => {}
        }
    }

    /// A part of the result that a quiet run does not show.
    pub fn detail(&self, text: &str) {
        if self.detail != Detail::Quiet {
            self.result(text);
        }
    }

    /// Writes to standard output.
    pub fn result(&self, text: &str) {
        self.spinner.suspend(|| {
            let _ = writeln!(io::stdout().lock(), "{text}");
        });
    }

    /// Writes to standard error.
    pub fn error(&self, text: &str) {
        self.spinner.suspend(|| {
            let _ = writeln!(io::stderr().lock(), "{text}");
        });
    }
}
