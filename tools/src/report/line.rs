//! The three sorts of lines on the serial line.

/// One line of the serial output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// `@kind key=value ...`: a record of the hypervisor.
    Record {
        /// What follows the `@`.
        kind: &'a str,
        /// The rest.
        fields: &'a str,
    },
    /// `[domain] text`: a line that a domain wrote on its console.
    Console {
        /// The domain; the hypervisor puts it there.
        domain: &'a str,
        /// What the domain wrote.
        text: &'a str,
    },
    /// Anything else: the hypervisor's log.
    Log(&'a str),
}

impl<'a> Line<'a> {
    /// Tells which sort it is.
    pub fn parse(line: &'a str) -> Self {
        if let Some(record) = line.strip_prefix('@') {
            let (kind, fields) = record.split_once(' ').unwrap_or((record, ""));
            return Line::Record { kind, fields };
        }
        match line.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((domain, text)) if is_name(domain) => Line::Console {
                domain,
                text: text.strip_prefix(' ').unwrap_or(text),
            },
            _ => Line::Log(line),
        }
    }
}

fn is_name(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    text.bytes().next().is_some_and(is_inner)
        && text
            .bytes()
            .all(|byte| is_inner(byte) || b"._-".contains(&byte))
}
