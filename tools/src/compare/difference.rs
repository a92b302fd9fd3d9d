//! What two beds showed of one domain, side by side.

use super::expected::{Rule, What};
use crate::fold;
use crate::report::{CallRun, CallTrace, Console, DomainReport};

/// Runs of calls that are shown before a difference, and from it on.
const CONTEXT: usize = 3;

/// What may differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aspect {
    /// How the domain ended.
    End,
    /// The lines that it wrote.
    Console,
    /// How many messages it has sent and received.
    Messages,
    /// How many notifications it has made.
    Notifications,
    /// Its calls, in their order, and their statuses.
    Calls,
}

impl Aspect {
    /// Its name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Aspect::End => "end",
            Aspect::Console => "console",
            Aspect::Messages => "messages",
            Aspect::Notifications => "notifications",
            Aspect::Calls => "calls",
        }
    }
}

/// A difference between two beds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The domain.
    pub domain: String,
    /// The beds.
    pub beds: [String; 2],
    /// In what they differ.
    pub aspect: Aspect,
    /// The first place where they do, in lines for people.
    pub account: String,
    /// The rules that explain all of it; none if not all is explained.
    pub rules: Vec<usize>,
}

/// One domain on two beds.
pub struct Pair<'a> {
    /// The names of the beds.
    pub beds: [&'a str; 2],
    /// What each reported of the domain.
    pub domains: [&'a DomainReport; 2],
    /// The rules of the manifest.
    pub rules: &'a [Rule],
}

impl Pair<'_> {
    /// Every aspect in which they differ.
    pub fn differences(&self) -> Vec<Difference> {
        let found = [
            self.end(),
            self.console(),
            self.messages(),
            self.notifications(),
            self.calls(),
        ];
        found.into_iter().flatten().collect()
    }

    fn end(&self) -> Option<Difference> {
        let end = |domain: &DomainReport| {
            let stop = domain.stop?;
            Some((stop.reason, stop.detail, stop.short()))
        };
        let ends = self.domains.map(end);
        let shown = |index: usize| match &ends[index] {
            Some((_, detail, short)) => format!("{short} (detail {detail})"),
            None => "not reported".to_owned(),
        };
        let differs = ends[0] != ends[1];
        differs.then(|| self.whole(Aspect::End, &What::End, [shown(0), shown(1)]))
    }

    fn messages(&self) -> Option<Difference> {
        let counts = self.domains.map(|domain| {
            let (sent, received) = (domain.traffic.sent, domain.traffic.received);
            format!("{sent} sent, {received} received")
        });
        (counts[0] != counts[1]).then(|| self.whole(Aspect::Messages, &What::Messages, counts))
    }

    /// Whether a notification finds its bits still pending is nothing that a guest is told.
    fn notifications(&self) -> Option<Difference> {
        let counts = self
            .domains
            .map(|domain| domain.traffic.notified.to_string());
        let differs = counts[0] != counts[1];
        differs.then(|| self.whole(Aspect::Notifications, &What::Notifications, counts))
    }

    /// A difference that one rule covers as a whole, or none.
    fn whole(&self, aspect: Aspect, what: &What, shown: [String; 2]) -> Difference {
        let rules = self.applying().filter(|(_, rule)| rule.what == *what);
        let rules = rules.map(|(index, _)| index).collect();
        self.difference(aspect, format!("in all\n{}", self.sides(&shown)), rules)
    }

    fn console(&self) -> Option<Difference> {
        let consoles = self.domains.map(|domain| &domain.console);
        let [one, other] = consoles;
        let length = one.lines.len().max(other.lines.len());
        let (mut first, mut rules) = (None, Vec::new());
        for place in 0..length {
            let lines = consoles.map(|console| console.lines.get(place));
            let [Some(line), Some(other_line)] = lines else {
                return Some(self.lines_from(place, Vec::new()));
            };
            if line == other_line {
                continue;
            }
            match self.rule_of_lines([line, other_line]) {
                None => return Some(self.lines_from(place, Vec::new())),
                Some(rule) => {
                    first.get_or_insert(place);
                    rules.push(rule);
                }
            }
        }
        if one.dropped != other.dropped {
            return Some(self.lines_from(length, Vec::new()));
        }
        rules.sort_unstable();
        rules.dedup();
        Some(self.lines_from(first?, rules))
    }

    /// The rule that says that two lines may differ.
    fn rule_of_lines(&self, lines: [&str; 2]) -> Option<usize> {
        let mut rules = self.applying();
        let covers = |rule: &Rule| lines.into_iter().all(|line| rule.covers_line(line));
        rules.find_map(|(index, rule)| covers(rule).then_some(index))
    }

    fn lines_from(&self, place: usize, rules: Vec<usize>) -> Difference {
        let show = |console: &Console| match console.lines.get(place) {
            Some(line) => line.clone(),
            None if console.dropped > 0 => format!("({} lines more)", console.dropped),
            None => "(no more lines)".to_owned(),
        };
        let shown = self.domains.map(|domain| show(&domain.console));
        let before = place.checked_sub(1);
        let before = before.and_then(|place| self.domains[0].console.lines.get(place));
        let number = place + 1;
        let mut account = format!("from line {number} of the console on\n");
        if let Some(before) = before.filter(|_| rules.is_empty()) {
            account += &side("both, before", before);
        }
        account += &self.sides(&shown);
        self.difference(Aspect::Console, account, rules)
    }

    fn calls(&self) -> Option<Difference> {
        let [Some(one), Some(other)] = self.domains.map(DomainReport::trace) else {
            let shown = self.domains.map(|domain| match domain.trace() {
                Some(_) => "recorded".to_owned(),
                None => "not recorded".to_owned(),
            });
            let account = format!("in all\n{}", self.sides(&shown));
            return Some(self.difference(Aspect::Calls, account, Vec::new()));
        };
        let rules = self.covering([one, other]);
        let left = |rules: &[usize]| [one, other].map(|trace| self.without(trace, rules));
        if let Some(account) = self.split(&left(&rules)) {
            return Some(self.difference(Aspect::Calls, account, Vec::new()));
        }
        if let Some(account) = self.tail(&rules) {
            return Some(self.difference(Aspect::Calls, account, Vec::new()));
        }
        let account = self.split(&left(&[]))?;
        let is_needed = |rule: &usize| {
            let others: Vec<_> = rules
                .iter()
                .copied()
                .filter(|other| other != rule)
                .collect();
            self.split(&left(&others)).is_some()
        };
        let needed: Vec<_> = rules.iter().copied().filter(is_needed).collect();
        let rules = if needed.is_empty() { rules } else { needed };
        Some(self.difference(Aspect::Calls, account, rules))
    }

    /// The rules that cover a call of one of these.
    fn covering(&self, traces: [&CallTrace; 2]) -> Vec<usize> {
        let runs = || traces.into_iter().flat_map(|trace| &trace.runs);
        let rules = self.applying();
        let rules = rules.filter(|(_, rule)| runs().any(|run| rule.covers_call(&run.call)));
        rules.map(|(index, _)| index).collect()
    }

    /// The calls that none of these rules covers.
    fn without(&self, trace: &CallTrace, rules: &[usize]) -> CallTrace {
        let mut left = CallTrace {
            runs: Vec::new(),
            unrecorded: trace.unrecorded,
        };
        for run in &trace.runs {
            let mut rules = rules.iter().filter_map(|rule| self.rules.get(*rule));
            if rules.any(|rule| rule.covers_call(&run.call)) {
                continue;
            }
            match left.runs.last_mut() {
                Some(last) if last.call == run.call => last.times += run.times,
                _ => left.runs.push(*run),
            }
        }
        left
    }

    /// Where two sequences part, if they do; one that was cut says nothing beyond its end.
    fn split(&self, traces: &[CallTrace; 2]) -> Option<String> {
        let [one, other] = traces.each_ref().map(|trace| trace.runs.as_slice());
        let same = one
            .iter()
            .zip(other)
            .take_while(|(one, other)| one == other);
        let same = same.count();
        let mut rests = [one, other].map(|runs| runs[same..].to_vec());
        let mut before: Vec<CallRun> = one[..same].to_vec();
        if let [[first, ..], [second, ..]] = rests.each_mut().map(Vec::as_mut_slice) {
            if first.call == second.call {
                let times = first.times.min(second.times);
                before.push(CallRun { times, ..*first });
                first.times -= times;
                second.times -= times;
            }
        }
        for rest in &mut rests {
            rest.retain(|run| run.times > 0);
        }
        let is_cut = |index: usize| rests[index].is_empty() && traces[index].unrecorded > 0;
        let is_over = rests.iter().all(Vec::is_empty);
        if is_over || is_cut(0) || is_cut(1) {
            return None;
        }
        Some(self.parting(&before, &rests))
    }

    fn parting(&self, before: &[CallRun], rests: &[Vec<CallRun>; 2]) -> String {
        let number = 1 + before.iter().map(|run| run.times).sum::<u64>();
        let mut account = format!("from call {number} on\n");
        let (hidden, shown) = before.split_at(before.len().saturating_sub(CONTEXT));
        if !before.is_empty() {
            let dots = if hidden.is_empty() { "" } else { "..., " };
            account += &side("both, before", &format!("{dots}{}", fold::plain(shown)));
        }
        let shown = rests.each_ref().map(|rest| {
            let (shown, hidden) = rest.split_at(CONTEXT.min(rest.len()));
            let dots = if hidden.is_empty() { "" } else { ", ..." };
            match shown {
                [] => "(no more calls)".to_owned(),
                _ => format!("{}{dots}", fold::plain(shown)),
            }
        });
        account + &self.sides(&shown)
    }

    /// What the counters say of calls that were not recorded, but for verbs that a rule covers.
    fn tail(&self, rules: &[usize]) -> Option<String> {
        let is_covered = |verb: &str| {
            let mut rules = rules.iter().filter_map(|rule| self.rules.get(*rule));
            rules.any(|rule| rule.covers_number(verb))
        };
        let counts = self.domains.map(|domain| {
            let counts = domain.calls.iter().filter(|(verb, _)| !is_covered(verb));
            let counts = counts.filter(|(_, count)| *count > 0);
            let texts = counts.map(|(verb, count)| format!("{verb} x{count}"));
            texts.collect::<Vec<_>>().join(", ")
        });
        (counts[0] != counts[1]).then(|| format!("in their number\n{}", self.sides(&counts)))
    }

    fn applying(&self) -> impl Iterator<Item = (usize, &Rule)> {
        let name = &self.domains[0].name;
        let rules = self.rules.iter().enumerate();
        rules.filter(|(_, rule)| rule.applies(name, self.beds))
    }

    fn sides(&self, shown: &[String; 2]) -> String {
        let [one, other] = self.beds;
        side(one, &shown[0]) + &side(other, &shown[1])
    }

    fn difference(&self, aspect: Aspect, account: String, rules: Vec<usize>) -> Difference {
        Difference {
            domain: self.domains[0].name.clone(),
            beds: self.beds.map(str::to_owned),
            aspect,
            account: account.trim_end().to_owned(),
            rules,
        }
    }
}

/// A line of an account.
fn side(name: &str, text: &str) -> String {
    format!("    {name:<14} {text}\n")
}
