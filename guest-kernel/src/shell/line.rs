//! A line that is being typed.

use alloc::string::String;

/// Bytes in the longest line.
const MOST_BYTES: usize = 200;

const BACKSPACE: u8 = 8;
const DELETE: u8 = 127;

/// A line that is being typed.
#[derive(Default)]
pub struct LineEditor {
    line: String,
}

/// What a byte has done.
pub struct Typed {
    echo: [u8; 3],
    echo_bytes: usize,
    line: Option<String>,
}

impl Typed {
    /// What the terminal is to show.
    pub fn echo(&self) -> &[u8] {
        self.echo.get(..self.echo_bytes).unwrap_or(&self.echo)
    }

    /// The line, if that was its end.
    pub fn line(self) -> Option<String> {
        self.line
    }

    fn shows(bytes: &[u8]) -> Self {
        let mut echo = [0; 3];
        for (place, byte) in echo.iter_mut().zip(bytes) {
            *place = *byte;
        }
        Typed {
            echo,
            echo_bytes: bytes.len().min(3),
            line: None,
        }
    }
}

impl LineEditor {
    /// An empty line.
    pub const fn new() -> Self {
        LineEditor {
            line: String::new(),
        }
    }

    /// Takes a byte. Other bytes than ASCII's letters, signs and spaces are left out.
    pub fn take(&mut self, byte: u8) -> Typed {
        match byte {
            b'\r' | b'\n' => Typed {
                line: Some(core::mem::take(&mut self.line)),
                ..Typed::shows(b"\r\n")
            },
            BACKSPACE | DELETE => match self.line.pop() {
                Some(_) => Typed::shows(b"\x08 \x08"),
                None => Typed::shows(b""),
            },
            b' '..=b'~' if self.line.len() < MOST_BYTES => {
                self.line.push(char::from(byte));
                Typed::shows(&[byte])
            }
            _ => Typed::shows(b""),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn typed(bytes: &[u8]) -> (Vec<String>, Vec<u8>) {
        let (mut editor, mut lines, mut screen) = (LineEditor::new(), Vec::new(), Vec::new());
        for byte in bytes {
            let typed = editor.take(*byte);
            screen.extend_from_slice(typed.echo());
            lines.extend(typed.line());
        }
        (lines, screen)
    }

    #[test]
    fn a_line_ends_with_return_and_can_be_corrected() {
        let (lines, screen) = typed(b"pz\x7fs\r\x08why\n");
        assert_eq!(lines, ["ps", "why"]);
        assert_eq!(screen, b"pz\x08 \x08s\r\nwhy\r\n");
    }

    proptest! {
        #[test]
        fn no_line_is_too_long_or_has_anything_but_text(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            for line in typed(&bytes).0 {
                prop_assert!(line.len() <= MOST_BYTES);
                prop_assert!(line.bytes().all(|byte| matches!(byte, b' '..=b'~')));
            }
        }
    }
}
