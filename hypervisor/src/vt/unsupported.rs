//! Why a CPU cannot run guests.

#![forbid(unsafe_code)]

use core::fmt;

/// What a vendor calls its extension, and the words that stand in reports for what is wrong with it.
#[derive(Debug, PartialEq, Eq)]
pub struct Extension {
    /// Its name.
    pub name: &'static str,
    /// The CPU does not have it.
    pub absent: &'static str,
    /// The firmware has switched it off.
    pub disabled: &'static str,
    /// It has not all that is needed.
    pub too_old: &'static str,
}

/// Why this CPU cannot run guests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsupported {
    /// It does not have the extension.
    Absent(&'static Extension),
    /// The extension is there and the firmware has switched it off.
    Disabled(&'static Extension),
    /// The extension lacks a feature, which is named.
    Lacks(&'static Extension, &'static str),
}

impl Unsupported {
    /// The word that stands for it in reports.
    pub const fn code(self) -> &'static str {
        match self {
            Unsupported::Absent(extension) => extension.absent,
            Unsupported::Disabled(extension) => extension.disabled,
            Unsupported::Lacks(extension, _) => extension.too_old,
        }
    }
}

impl fmt::Display for Unsupported {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unsupported::Absent(extension) => write!(
                formatter,
                "this CPU has no {}; use a CPU or CPU model that has it",
                extension.name
            ),
            Unsupported::Disabled(extension) => write!(
                formatter,
                "the firmware has switched {} off; switch it on in the firmware's set-up",
                extension.name
            ),
            Unsupported::Lacks(extension, feature) => write!(
                formatter,
                "this CPU has {} without {feature}, which Nuncio needs; \
                 use a newer CPU or CPU model",
                extension.name
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    static MADE_UP: Extension = Extension {
        name: "Made-up Mode",
        absent: "no-mum",
        disabled: "mum-disabled",
        too_old: "mum-too-old",
    };

    #[test]
    fn each_reason_has_its_word_and_says_what_to_do() {
        for (reason, code, parts) in [
            (
                Unsupported::Absent(&MADE_UP),
                "no-mum",
                ["no Made-up Mode", "use a CPU"],
            ),
            (
                Unsupported::Disabled(&MADE_UP),
                "mum-disabled",
                ["switched Made-up Mode off", "switch it on"],
            ),
            (
                Unsupported::Lacks(&MADE_UP, "wings"),
                "mum-too-old",
                ["Made-up Mode without wings", "use a newer CPU"],
            ),
        ] {
            assert_eq!(reason.code(), code);
            let text = reason.to_string();
            assert!(parts.iter().all(|part| text.contains(part)), "{text}");
        }
    }
}
