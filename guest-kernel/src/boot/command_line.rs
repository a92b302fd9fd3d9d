//! The command line: words separated by spaces, most of them `name=value`.
#![forbid(unsafe_code)]

/// The words of a command line.
#[derive(Clone, Copy, Debug)]
pub struct CommandLine<'a>(&'a str);

impl<'a> CommandLine<'a> {
    /// Looks at a text as a command line.
    pub const fn new(text: &'a str) -> Self {
        CommandLine(text)
    }

    /// The value of the last word `name=value`, so that a word can be overridden by adding one.
    pub fn value(self, name: &str) -> Option<&'a str> {
        self.0
            .split_ascii_whitespace()
            .filter_map(|word| word.split_once('='))
            .filter_map(|(found, value)| (found == name).then_some(value))
            .next_back()
    }

    /// The number in `name=value`, decimal or with `0x` hexadecimal; `default` if there is no such
    /// word.
    ///
    /// # Errors
    /// The value, if it is no number.
    pub fn number(self, name: &str, default: u64) -> Result<u64, &'a str> {
        let Some(value) = self.value(name) else {
            return Ok(default);
        };
        let parsed = match value.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16),
            None => value.parse(),
        };
        parsed.map_err(|_| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_are_found_by_name() {
        let line = CommandLine::new("  program=bench n=1 plain n=0x20 empty= odd=a=b ");
        assert_eq!(line.value("program"), Some("bench"));
        assert_eq!(line.value("plain"), None);
        assert_eq!(line.value("empty"), Some(""));
        assert_eq!(line.value("odd"), Some("a=b"));
        assert_eq!(line.number("n", 7), Ok(32));
        assert_eq!(line.number("m", 7), Ok(7));
        assert_eq!(line.number("odd", 7), Err("a=b"));
        assert_eq!(line.number("empty", 7), Err(""));
    }

    proptest! {
        #[test]
        fn any_text_is_read(text: String, name in "[a-z]{1,3}", number: u64) {
            let line = CommandLine::new(&text);
            let _ = (line.value(&name), line.number(&name, 0));
            let longer = std::format!("{text} {name}={number}");
            prop_assert_eq!(CommandLine::new(&longer).number(&name, 0), Ok(number));
        }
    }

    use std::string::String;
}
