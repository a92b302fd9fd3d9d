//! The specification as a document: its sections and the tables in them.

use nuncio_abi::Verb;

/// All of it.
pub const SPECIFICATION: &str = include_str!("../../README.md");

/// A row of a table: its cells, with the marks of code and stress taken off.
pub type Row = Vec<String>;

/// The text below a heading, up to the next heading of any level.
pub fn section(heading: &str) -> &'static str {
    let is_heading =
        |line: &&str| line.starts_with('#') && line.trim_start_matches('#').trim() == heading;
    let Some(line) = SPECIFICATION.lines().find(is_heading) else {
        panic!("there is no section {heading:?}");
    };
    let start = line.as_ptr() as usize - SPECIFICATION.as_ptr() as usize + line.len();
    let text = &SPECIFICATION[start..];
    &text[..text.find("\n#").unwrap_or(text.len())]
}

/// The tables in a section whose first column is headed `first`, without their headers.
pub fn tables(heading: &str, first: &str) -> Vec<Vec<Row>> {
    let mut tables = Vec::new();
    let mut lines = section(heading).lines().peekable();
    while let Some(line) = lines.next() {
        if cells(line).is_none_or(|cells| cells[0] != first) {
            continue;
        }
        let rule = lines.next().unwrap_or_default();
        assert!(rule.starts_with("| ---"), "no table below {line:?}");
        let mut rows = Vec::new();
        while let Some(row) = lines.peek().and_then(|line| cells(line)) {
            rows.push(row);
            lines.next();
        }
        tables.push(rows);
    }
    tables
}

/// The one such table in a section.
pub fn table(heading: &str, first: &str) -> Vec<Row> {
    let mut found = tables(heading, first);
    assert_eq!(found.len(), 1, "tables of {first:?} in {heading:?}");
    found.remove(0)
}

fn cells(line: &str) -> Option<Row> {
    let inner = line.strip_prefix('|')?.strip_suffix('|')?;
    let plain = |cell: &str| cell.replace(['`', '*'], "").trim().to_string();
    Some(inner.split('|').map(plain).collect())
}

/// The lists in the first column, joined.
pub fn first_column(rows: &[Row]) -> Vec<&str> {
    rows.iter().flat_map(|row| row[0].split(", ")).collect()
}

/// The heading of a verb's section.
pub fn heading(verb: Verb) -> String {
    format!("`{}` (verb {})", verb.name(), verb.number())
}
