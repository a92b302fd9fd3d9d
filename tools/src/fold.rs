//! Sequences of calls, folded so that a person can read them: `hello, [send, notify] x320, stop`.

use std::fmt::Write as _;

use crate::report::CallRun;

/// The longest pattern that is looked for, in runs.
const LONGEST_PATTERN: usize = 8;
/// Groups that are shown; a sequence that has more is cut.
const MOST_GROUPS: usize = 60;

/// Some runs that come that often in a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group<'a> {
    /// The pattern, never empty.
    pub runs: &'a [CallRun],
    /// How often it comes.
    pub times: usize,
}

/// Folds repeated patterns, from the front.
pub fn fold(runs: &[CallRun]) -> Vec<Group<'_>> {
    let (mut rest, mut groups) = (runs, Vec::new());
    while !rest.is_empty() {
        let (length, times) = best_pattern(rest);
        let (runs, _) = rest.split_at(length);
        groups.push(Group { runs, times });
        rest = &rest[length * times..];
    }
    groups
}

/// The pattern at the front that spares the most runs, and how often it comes.
fn best_pattern(runs: &[CallRun]) -> (usize, usize) {
    let longest = LONGEST_PATTERN.min(runs.len());
    let patterns = (1..=longest).map(|length| {
        let (pattern, rest) = runs.split_at(length);
        let again = rest.chunks(length).take_while(|chunk| *chunk == pattern);
        (length, 1 + again.count())
    });
    // Of equals the first, which is the shortest.
    let spared = |(length, times): &(usize, usize)| length * (times - 1);
    patterns
        .rev()
        .max_by_key(spared)
        .filter(|pattern| spared(pattern) > 0)
        .unwrap_or((1, 1))
}

/// The whole sequence in one line, cut if it is very long.
pub fn text(runs: &[CallRun], unrecorded: u64) -> String {
    let groups = fold(runs);
    let shown = groups.iter().take(MOST_GROUPS).map(group);
    let mut text = shown.collect::<Vec<_>>().join(", ");
    // Writing to a String cannot fail.
    if let Some(more @ 1..) = groups.len().checked_sub(MOST_GROUPS) {
        let _ = write!(text, ", and {more} groups more");
    }
    if unrecorded > 0 {
        let _ = write!(text, ", and {unrecorded} calls that were not recorded");
    }
    text
}

/// Runs as they are, without folding.
pub fn plain(runs: &[CallRun]) -> String {
    runs.iter().map(run).collect::<Vec<_>>().join(", ")
}

fn group(group: &Group<'_>) -> String {
    match group.times {
        1 => plain(group.runs),
        times => format!("[{}] x{times}", plain(group.runs)),
    }
}

fn run(run: &CallRun) -> String {
    match run.times {
        1 => run.call.to_string(),
        times => format!("{} x{times}", run.call),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Line, Report};

    fn folded(runs: &str, recorded: u64, unrecorded: u64) -> String {
        let mut report = Report::new(["d"].into_iter(), None);
        for line in [
            format!("@sequence name=d runs={runs}"),
            format!("@sequenced name=d recorded={recorded} unrecorded={unrecorded}"),
        ] {
            report.take(&Line::parse(&line));
        }
        assert_eq!(report.damaged, 0);
        let trace = report.domains[0].trace().unwrap();
        text(&trace.runs, trace.unrecorded)
    }

    #[test]
    fn patterns_are_folded_and_names_are_the_abi_s() {
        assert_eq!(
            folded("0,8x3,5,1,3,1,3,1,3,2.11,9.?", 13, 0),
            "hello, query x3, map, [send, notify] x3, receive: peer-gone, stop"
        );
        assert_eq!(
            folded("?.1,2.?,4.!,4.99", 4, 7),
            "unknown: unknown-verb, receive: unanswered, wait: status-out-of-range, \
             wait: status-99, and 7 calls that were not recorded"
        );
    }

    #[test]
    fn the_shortest_of_equal_patterns_is_taken_and_a_cut_one_stays() {
        assert_eq!(
            folded("1,2,1,2,1,2,1,2,1", 9, 0),
            "[send, receive] x4, send"
        );
        assert_eq!(folded("0,1,0x2,1", 5, 0), "hello, send, hello x2, send");
    }

    #[test]
    fn a_sequence_without_a_pattern_is_cut() {
        let runs: Vec<_> = (1..=70)
            .map(|times| format!("{}x{times}", times % 2))
            .collect();
        let text = folded(&runs.join(","), 70 * 71 / 2, 0);
        assert!(text.ends_with(", and 10 groups more"), "{text}");
    }
}
