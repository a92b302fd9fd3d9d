//! The table, in Markdown.

use std::fmt::Write as _;

use super::{Backends, Row, INTERFACES};

/// A row a place, a column an interface; what the kernel has not been run on here has dashes.
pub fn text(backends: &Backends) -> String {
    let mut text = format!("| Place | {} |\n", INTERFACES.join(" | "));
    // Writing to a String cannot fail.
    let _ = writeln!(text, "| --- |{}", " --- |".repeat(INTERFACES.len()));
    for row in &backends.rows {
        let _ = writeln!(text, "{}", line(row));
    }
    text
}

pub(super) fn line(row: &Row) -> String {
    let mut line = format!("| {} |", row.place);
    for index in 0..INTERFACES.len() {
        let server = row.served.get(index).and_then(Option::as_deref);
        let _ = match server {
            Some(server) => write!(line, " `{server}` |"),
            None => write!(line, " - |"),
        };
    }
    line
}
