//! What the tables of the guest ABI are turned into for people who write guests: a C header, the text
//! of a call, and lists for fuzzers and for tests that are to cover everything.
//!
//! Neighbours: the tables are those of the crate `nuncio-abi`; nothing is known here that is not
//! there.

mod functions;
mod header;
mod structures;

use std::fmt::Write as _;

use nuncio_abi::{dictionary, Call, RawCall, Verb, MAX_ARGUMENTS};

pub use header::header;

/// The words that are worth trying, as AFL and libFuzzer read them: eight bytes each, the lowest
/// first.
pub fn words() -> String {
    let mut text = String::new();
    let mut seen = std::collections::BTreeSet::new();
    let verbs = Verb::ALL
        .iter()
        .map(|verb| (verb.name(), "verb", verb.number()));
    let unknown = dictionary::UNKNOWN_VERBS.map(|number| ("unknown", "verb", number));
    let entries = dictionary::words().map(|entry| (entry.verb.name(), entry.argument, entry.word));
    for (of, what, word) in verbs.chain(unknown).chain(entries) {
        if seen.insert(word) {
            let bytes = word.to_le_bytes().map(|byte| format!("\\x{byte:02x}"));
            let name = format!("{of}_{what}_{word:x}").replace('-', "_");
            let _ = writeln!(text, "{name}=\"{}\"", bytes.concat());
        }
    }
    text
}

/// Every verb with each of its outcomes, a line each: what tests have to cover.
pub fn outcomes() -> String {
    let mut text = String::from("unknown unknown-verb\n");
    for verb in Verb::ALL {
        for outcome in verb.outcomes() {
            let outcome = outcome.map_or("ok", |error| error.name());
            let _ = writeln!(text, "{verb} {outcome}");
        }
    }
    text
}

/// The registers of a call as text, and the error that they alone lead to, if any.
///
/// # Errors
/// A sentence for people: a verb or a word that cannot be read, or too many words.
pub fn describe(verb: &str, words: &[String]) -> Result<String, String> {
    let verb = match Verb::named(verb) {
        Some(verb) => verb.number(),
        None => number(verb).map_err(|error| {
            let names: Vec<_> = Verb::ALL.iter().map(|verb| verb.name()).collect();
            format!("{error}, or the name of a verb: {}", names.join(", "))
        })?,
    };
    if words.len() > MAX_ARGUMENTS {
        return Err(format!(
            "a call has {MAX_ARGUMENTS} arguments at most, not {}",
            words.len()
        ));
    }
    let mut arguments = [0; MAX_ARGUMENTS];
    for (argument, word) in arguments.iter_mut().zip(words) {
        *argument = number(word)?;
    }
    let call = RawCall { verb, arguments };
    Ok(match Call::decode(&call) {
        Ok(_) => call.to_string(),
        Err(error) => format!("{call}: {error}"),
    })
}

fn number(text: &str) -> Result<u64, String> {
    let digits = text.replace('_', "");
    let parsed = match digits.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => digits.parse(),
    };
    parsed.map_err(|_| format!("{text:?} is no number; give 64 bits as 17 or 0x11"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(verb: &str, words: &[&str]) -> Result<String, String> {
        let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
        describe(verb, &words)
    }

    #[test]
    fn calls_are_described_by_name_or_number() {
        let wanted = "notify event=0x10005 bits=0x4".to_owned();
        assert_eq!(text("3", &["0x1_0005", "4"]), Ok(wanted.clone()));
        assert_eq!(text("notify", &["65541", "0x4"]), Ok(wanted));
        let refused = "close handle=0x0 rsi=0x1?: bad-argument".to_owned();
        assert_eq!(text("close", &["0", "1"]), Ok(refused));
        assert_eq!(text("99", &[]), Ok("verb 99?: unknown-verb".to_owned()));
        for (verb, words) in [("nod", [].as_slice()), ("close", &["x"]), ("3", &["0"; 6])] {
            assert!(text(verb, words).is_err(), "{verb} {words:?}");
        }
    }

    #[test]
    fn the_dictionary_has_each_word_once_in_a_form_that_fuzzers_read() {
        let text = words();
        let mut lines: Vec<_> = text.lines().collect();
        for line in &lines {
            let (name, value) = line.split_once('=').unwrap();
            assert!(name
                .bytes()
                .all(|byte| byte == b'_' || byte.is_ascii_alphanumeric()));
            assert_eq!(value.len(), 2 + 8 * 4, "{line}");
        }
        let count = lines.len();
        lines.sort_by_key(|line| line.split_once('=').unwrap().1);
        lines.dedup_by_key(|line| line.split_once('=').unwrap().1);
        assert!(lines.len() == count && count > 50, "{count}");
    }

    #[test]
    fn every_verb_can_succeed_and_fail() {
        let text = outcomes();
        for verb in Verb::ALL {
            assert!(text.contains(&format!("\n{verb} ok\n")), "{verb}");
            assert!(text.contains(&format!("\n{verb} bad-argument\n")), "{verb}");
        }
    }
}
