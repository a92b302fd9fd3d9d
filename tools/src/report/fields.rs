//! The fields of a record: `key=value` pairs, the last of which may be a `text=` with spaces.

/// The fields of one record.
pub struct Fields<'a> {
    /// Words before the first pair, such as the address of `@trace`.
    first: Option<&'a str>,
    pairs: Vec<(&'a str, &'a str)>,
}

/// Fields that are read from one record; the longest record has about fifteen.
const MAX_FIELDS: usize = 48;

impl<'a> Fields<'a> {
    /// Splits what follows the record's kind.
    pub fn parse(text: &'a str) -> Self {
        let (pairs_text, tail) = match split_text_field(text) {
            Some((head, tail)) => (head, Some(tail)),
            None => (text, None),
        };
        let words = pairs_text.split(' ').filter(|word| !word.is_empty());
        let pairs = words
            .filter_map(|word| word.split_once('='))
            .take(MAX_FIELDS);
        Fields {
            first: text.split(' ').find(|word| !word.is_empty()),
            pairs: pairs.chain(tail.map(|tail| ("text", tail))).collect(),
        }
    }

    /// The first word.
    pub fn first(&self) -> Option<&'a str> {
        self.first
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&'a str> {
        let pair = self.pairs.iter().find(|(name, _)| *name == key)?;
        Some(pair.1)
    }

    /// The value of a key as a number.
    pub fn number(&self, key: &str) -> Option<u64> {
        number(self.get(key)?)
    }

    /// Every key whose value is a number, in the order of the record.
    pub fn numbers(&self) -> impl Iterator<Item = (&'a str, u64)> + '_ {
        let numbered = |(key, value): &(&'a str, &'a str)| Some((*key, number(value)?));
        self.pairs.iter().filter_map(numbered)
    }
}

/// Reads a decimal number, or a hexadecimal one that begins with `0x`.
pub fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// Splits at the `text=` field, which takes the rest of the line.
fn split_text_field(text: &str) -> Option<(&str, &str)> {
    if let Some(tail) = text.strip_prefix("text=") {
        return Some(("", tail));
    }
    text.split_once(" text=")
}
