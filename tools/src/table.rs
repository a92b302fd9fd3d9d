//! The tables at the end of a run, for people.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, ContentLineStyle, LineStyle, Table, TableStyle};

use crate::report::{Counts, DomainReport, Report};

/// Columns with nothing between them and a line under the header.
pub const STYLE: TableStyle = TableStyle::new()
    .header_lines(ContentLineStyle::none())
    .header_separator(LineStyle::none().fill('-').junction('-'))
    .content_lines(ContentLineStyle::none());

/// The tables: one row a domain. `place` names the function of a domain's image at an address.
pub fn render(
    report: &Report,
    counted: bool,
    place: impl Fn(&DomainReport, u64) -> Option<String>,
) -> String {
    let mut text = overview(report, counted).trim_fmt();
    for (title, counts) in [
        ("calls", calls as fn(&DomainReport) -> &Counts),
        ("exits", exits),
    ] {
        if let Some(table) = by_name(report, title, counts) {
            // Writing to a String cannot fail.
            let _ = write!(text, "\n\n{}", table.trim_fmt());
        }
    }
    for domain in &report.domains {
        let failed = domain.stop.filter(|stop| !stop.is_success());
        if let Some((stop, why)) = failed.zip(domain.why()) {
            let (name, rip) = (&domain.name, stop.rip);
            let place = place(domain, rip).map_or(String::new(), |place| format!(", {place}"));
            let _ = write!(text, "\n\n{name}: {why} (at rip {rip:#x}{place})");
            let lines = domain
                .entry_failure
                .iter()
                .flat_map(|failure| failure.lines());
            for line in lines {
                let _ = write!(text, "\n  {line}");
            }
        }
    }
    let count = report.domains.len() as u64;
    if let (Some(built), 1..) = (report.built, count) {
        let heap_kib = built.heap_bytes.div_ceil(count).div_ceil(1024);
        let frames_kib = (built.frames * 4).div_ceil(count);
        let _ = write!(
            text,
            "\n\nthe hypervisor takes for each domain: {heap_kib} KiB of its heap and {frames_kib} KiB of pages"
        );
    }
    if let Some(frames) = report.frames {
        let _ = write!(
            text,
            "\nfree frames: {} before, {} after",
            frames.before, frames.after
        );
    }
    text
}

fn calls(domain: &DomainReport) -> &Counts {
    &domain.calls
}

fn exits(domain: &DomainReport) -> &Counts {
    &domain.exits
}

fn overview(report: &Report, counted: bool) -> Table {
    let mut header = vec![
        "domain",
        "ended",
        "sent",
        "received",
        "notified",
        "coalesced",
        "frames",
    ];
    let has_several_cpus = report.boot.as_ref().is_some_and(|boot| boot.cpus > Some(1));
    if has_several_cpus {
        header.push("cpu");
    }
    if counted {
        header.push("instructions");
    }
    let rows = report
        .domains
        .iter()
        .map(|domain| overview_row(domain, has_several_cpus, counted));
    table(header.into_iter().map(str::to_owned).collect(), rows)
}

fn overview_row(domain: &DomainReport, has_several_cpus: bool, counted: bool) -> Vec<String> {
    let traffic = domain.traffic;
    let ended = domain
        .stop
        .map_or("not reported".to_owned(), |stop| stop.short());
    let mut row = vec![domain.name.clone(), ended];
    row.extend(
        [
            traffic.sent,
            traffic.received,
            traffic.notified,
            traffic.coalesced,
        ]
        .map(grouped),
    );
    let stop = |value: u64| domain.stop.map_or("-".to_owned(), |_| grouped(value));
    row.push(stop(domain.stop.map_or(0, |stop| stop.frames)));
    if has_several_cpus {
        row.push(stop(domain.stop.map_or(0, |stop| stop.cpu)));
    }
    if counted {
        row.push(stop(domain.stop.map_or(0, |stop| stop.ticks)));
    }
    row
}

/// A table of named counts; names that nobody has above zero are left out, and so is a table
/// without names.
fn by_name(report: &Report, title: &str, counts: fn(&DomainReport) -> &Counts) -> Option<Table> {
    let mut names: Vec<&str> = Vec::new();
    for (name, count) in report.domains.iter().flat_map(counts) {
        if *count > 0 && !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    if names.is_empty() {
        return None;
    }
    let header = std::iter::once(title).chain(names.iter().copied());
    let rows = report.domains.iter().map(|domain| {
        let count = |name: &&str| {
            let found = counts(domain).iter().find(|(other, _)| other == name);
            grouped(found.map_or(0, |(_, count)| *count))
        };
        let values = names.iter().map(count);
        std::iter::once(domain.name.clone()).chain(values).collect()
    });
    Some(table(header.map(str::to_owned).collect(), rows))
}

fn table(header: Vec<String>, rows: impl Iterator<Item = Vec<String>>) -> Table {
    let mut table = Table::new();
    table.load_style(STYLE);
    table.set_header(header);
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// A number with its digits in groups of three.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Line;

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1000), "1 000");
        assert_eq!(grouped(12_345_678), "12 345 678");
    }

    #[test]
    fn a_failed_domain_has_its_reason_in_plain_words() {
        let mut report = Report::new(["good", "bad"].into_iter(), None);
        for line in [
            "@domain name=good reason=1 detail=0 ticks=1234 frames=16",
            "@domain name=bad reason=3 detail=4096 rip=0x200010 ticks=5 frames=16",
            "@calls name=good send=7 map=0",
            "@ready domains=2 heap_bytes=20481 frames=17",
            "@frames before=5 after=5",
        ] {
            report.take(&Line::parse(line));
        }
        let text = render(&report, true, |domain, rip| {
            Some(format!("{}::main+{:#x}", domain.name, rip - 0x20_0000))
        });
        assert!(
            text.contains("bad: It touched memory that it was not given"),
            "{text}"
        );
        assert!(
            text.contains("exited, code 0") && text.contains("bad-memory 0x1000"),
            "{text}"
        );
        let takes = "each domain: 11 KiB of its heap and 34 KiB of pages\nfree frames: 5 before";
        assert!(text.contains(takes), "{text}");
        assert!(
            text.contains("instructions") && text.contains("1 234"),
            "{text}"
        );
        assert!(text.contains("send") && !text.contains("map"), "{text}");
        assert!(text.contains("(at rip 0x200010, bad::main+0x10)"), "{text}");
        let plain = render(&report, false, |_, _| None);
        assert!(plain.contains("(at rip 0x200010)"), "{plain}");
        assert!(!plain.contains("instructions"), "{plain}");
    }
}
