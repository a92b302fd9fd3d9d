//! The list of differences that are expected: `tools/expected-differences.toml`.
//!
//! An entry of the file is split into rules as small as can be needed or not needed: one for each
//! line of a console and each kind of call.

use std::fs;
use std::path::{Path, PathBuf};

use nuncio_abi::{Error, Verb};
use serde::Deserialize;

use crate::report::{Answer, Call};
use crate::verdict::{Kind, Verdict};

/// Stands for calls of every verb.
const ANY: &str = "any";

/// What stands for digits in a line of a console.
const NUMBER: &str = "{number}";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    expected: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    manifest: PathBuf,
    domain: String,
    bed: Option<String>,
    #[serde(default)]
    console: Vec<String>,
    #[serde(default)]
    calls: Vec<String>,
    #[serde(default)]
    messages: bool,
    #[serde(default)]
    notifications: bool,
    #[serde(default)]
    end: bool,
    why: String,
}

/// A difference that is expected in one domain of the manifest that is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The domain.
    pub domain: String,
    /// One of the beds that are compared; any if missing.
    pub bed: Option<String>,
    /// What may differ.
    pub what: What,
    /// Why it may.
    pub why: String,
}

/// What may differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// The numbers in a line of the console.
    Console(String),
    /// How often there is a call, and where.
    Calls {
        /// Of this verb.
        verb: Verb,
        /// With this status; any if missing.
        status: Option<u64>,
    },
    /// All calls, for a program whose output says what they come to.
    AnyCalls,
    /// The number of messages.
    Messages,
    /// The number of notifications.
    Notifications,
    /// How the domain ends.
    End,
}

impl Rule {
    /// Whether it speaks of this domain and these beds.
    pub fn applies(&self, domain: &str, beds: [&str; 2]) -> bool {
        let bed = self.bed.as_deref();
        self.domain == domain && bed.is_none_or(|bed| beds.contains(&bed))
    }

    /// Whether it covers a line of the console.
    pub fn covers_line(&self, line: &str) -> bool {
        matches!(&self.what, What::Console(pattern) if matches_line(pattern, line))
    }

    /// Whether it covers a call.
    pub fn covers_call(&self, call: &Call) -> bool {
        match self.what {
            What::Calls { verb, status } => {
                let has_status = status.is_none_or(|status| call.answer == Answer::Status(status));
                call.verb == Some(verb) && has_status
            }
            What::AnyCalls => true,
            _ => false,
        }
    }

    /// Whether it covers how many calls of a verb there are.
    pub fn covers_number(&self, verb: &str) -> bool {
        match self.what {
            What::Calls { verb: covered, .. } => covered.name() == verb,
            What::AnyCalls => true,
            _ => false,
        }
    }
}

/// What may differ, in the words of the list.
impl std::fmt::Display for What {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            What::Console(pattern) => write!(formatter, "console {pattern:?}"),
            What::Calls { verb, status } => {
                let status = status.map(|status| Call {
                    verb: Some(*verb),
                    answer: Answer::Status(status),
                });
                match status.and_then(|call| call.status_name()) {
                    Some(status) => write!(formatter, "calls \"{}: {status}\"", verb.name()),
                    None => write!(formatter, "calls {:?}", verb.name()),
                }
            }
            What::AnyCalls => write!(formatter, "calls {ANY:?}"),
            What::Messages => formatter.write_str("messages"),
            What::Notifications => formatter.write_str("notifications"),
            What::End => formatter.write_str("end"),
        }
    }
}

/// The rules of the list in `file` for a manifest.
pub fn load(file: &Path, manifest: &Path) -> Result<Vec<Rule>, Verdict> {
    let text = fs::read_to_string(file).map_err(|error| {
        invalid(
            file,
            &format!("cannot read the list of expected differences: {error}"),
        )
    })?;
    parse(file, &text, manifest)
}

fn parse(file: &Path, text: &str, manifest: &Path) -> Result<Vec<Rule>, Verdict> {
    let document: Document =
        toml::from_str(text).map_err(|error| invalid(file, error.to_string().trim_end()))?;
    let mut rules = Vec::new();
    for entry in &document.expected {
        let parts = parts(entry).map_err(|problem| invalid(file, &problem))?;
        if is_same(&beside(file, &entry.manifest), manifest) {
            rules.extend(parts.into_iter().map(|what| Rule {
                domain: entry.domain.clone(),
                bed: entry.bed.clone(),
                what,
                why: entry.why.clone(),
            }));
        }
    }
    Ok(rules)
}

fn parts(entry: &Entry) -> Result<Vec<What>, String> {
    let domain = &entry.domain;
    if entry.why.trim().is_empty() {
        return Err(format!("an entry for {domain} does not say why; add it"));
    }
    let mut parts: Vec<What> = entry.console.iter().cloned().map(What::Console).collect();
    for call in &entry.calls {
        parts.push(parse_call(call)?);
    }
    parts.extend(entry.messages.then_some(What::Messages));
    parts.extend(entry.notifications.then_some(What::Notifications));
    parts.extend(entry.end.then_some(What::End));
    if parts.is_empty() {
        return Err(format!(
            "an entry for {domain} covers nothing; name console, calls, messages, notifications or end"
        ));
    }
    Ok(parts)
}

fn parse_call(text: &str) -> Result<What, String> {
    if text == ANY {
        return Ok(What::AnyCalls);
    }
    let (verb, status) = match text.split_once(": ") {
        Some((verb, status)) => (verb, Some(status)),
        None => (text, None),
    };
    let found = Verb::ALL.iter().find(|known| known.name() == verb);
    let verb = *found.ok_or_else(|| format!("there is no verb {verb:?}"))?;
    let status = match status {
        None => None,
        Some("ok") => Some(0),
        Some(name) => {
            let error = Error::ALL.iter().find(|known| known.name() == name);
            Some(
                error
                    .ok_or_else(|| format!("there is no status {name:?}"))?
                    .number(),
            )
        }
    };
    Ok(What::Calls { verb, status })
}

fn matches_line(pattern: &str, line: &str) -> bool {
    let Some((before, after)) = pattern.split_once(NUMBER) else {
        return pattern == line;
    };
    let Some(rest) = line.strip_prefix(before) else {
        return false;
    };
    let behind = rest.trim_start_matches(|character: char| character.is_ascii_digit());
    behind.len() < rest.len() && matches_line(after, behind)
}

fn beside(file: &Path, path: &Path) -> PathBuf {
    file.parent().unwrap_or(Path::new("")).join(path)
}

fn is_same(one: &Path, other: &Path) -> bool {
    match (fs::canonicalize(one), fs::canonicalize(other)) {
        (Ok(one), Ok(other)) => one == other,
        _ => one == other,
    }
}

fn invalid(file: &Path, problem: &str) -> Verdict {
    Verdict::new(Kind::Invalid, format!("{}: {problem}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str) -> Result<Vec<Rule>, Verdict> {
        parse(Path::new("dir/list.toml"), text, Path::new("dir/m.toml"))
    }

    #[test]
    fn a_number_stands_for_digits_and_nothing_else() {
        for (pattern, line, matches) in [
            ("bench hello {number}", "bench hello 129", true),
            ("bench hello {number}", "bench hello ", false),
            ("bench hello {number}", "bench hello 129 x", false),
            ("bench hello {number}", "bench query 129", false),
            ("{number} of {number}", "1 of 22", true),
            ("{number} of {number}", "1 of x", false),
            ("plain", "plain", true),
            ("plain", "plain ", false),
        ] {
            assert_eq!(matches_line(pattern, line), matches, "{pattern} {line}");
        }
    }

    #[test]
    fn an_entry_is_for_one_manifest_and_is_split() {
        let rules = rules(
            "[[expected]]\nmanifest = 'm.toml'\ndomain = 'd'\nbed = 'b'\nwhy = 'because'\n\
             console = ['a {number}', 'b']\ncalls = ['wait', 'send: queue-full', 'hello: ok']\n\
             end = true\n\
             [[expected]]\nmanifest = 'm.toml'\ndomain = 'e'\nwhy = 'x'\ncalls = ['any']\n\
             [[expected]]\nmanifest = 'other.toml'\ndomain = 'd'\nwhy = 'x'\nmessages = true\n",
        )
        .unwrap();
        let whats: Vec<_> = rules.iter().map(|rule| rule.what.to_string()).collect();
        assert_eq!(
            whats,
            [
                "console \"a {number}\"",
                "console \"b\"",
                "calls \"wait\"",
                "calls \"send: queue-full\"",
                "calls \"hello: ok\"",
                "end",
                "calls \"any\""
            ]
        );
        assert!(rules[0].applies("d", ["a", "b"]) && rules[0].applies("d", ["b", "a"]));
        assert!(!rules[0].applies("d", ["a", "c"]) && !rules[0].applies("e", ["a", "b"]));
    }

    #[test]
    fn an_entry_must_be_sound() {
        for (entry, problem) in [
            ("end = true\nwhy = ' '", "does not say why"),
            ("why = 'x'", "covers nothing"),
            ("why = 'x'\ncalls = ['leave']", "no verb \"leave\""),
            ("why = 'x'\ncalls = ['wait: bad']", "no status \"bad\""),
            ("why = 'x'\nends = true", "unknown field"),
        ] {
            let text = format!("[[expected]]\nmanifest = 'm.toml'\ndomain = 'd'\n{entry}\n");
            let verdict = rules(&text).unwrap_err();
            assert!(verdict.text.contains(problem), "{verdict}");
        }
    }

    #[test]
    fn the_list_of_the_project_names_manifests_that_exist() {
        let list = crate::project::expected_differences();
        let text = fs::read_to_string(&list).unwrap();
        let document: Document = toml::from_str(&text).unwrap();
        assert!(!document.expected.is_empty());
        for entry in &document.expected {
            let manifest = beside(&list, &entry.manifest);
            let loaded = crate::manifest::load(&manifest).unwrap();
            assert!(loaded
                .domains
                .iter()
                .any(|domain| domain.name == entry.domain));
            assert!(!load(&list, &manifest).unwrap().is_empty());
        }
    }
}
