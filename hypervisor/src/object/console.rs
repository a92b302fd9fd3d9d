//! The console of a domain: bytes in messages, made into lines that nobody else can forge.

use nuncio_abi::Message;

/// Bytes in the longest line; a longer one is broken.
const LINE_BYTES: usize = 240;

/// The line that a domain has begun.
pub struct LineBuffer {
    bytes: [u8; LINE_BYTES],
    length: usize,
}

impl LineBuffer {
    /// An empty line.
    pub const fn new() -> Self {
        LineBuffer {
            bytes: [0; LINE_BYTES],
            length: 0,
        }
    }

    /// Adds a message; `emit` gets every line that it completes, without its line feed.
    ///
    /// Only printable ASCII and tabs get through, so that no guest can move the cursor, clear the
    /// screen or begin a line that is not its own.
    pub fn write(&mut self, message: &Message, mut emit: impl FnMut(&str)) {
        for byte in message.to_bytes().iter().take(usize::from(message.length)) {
            match byte {
                b'\n' => self.flush(&mut emit),
                b'\r' => {}
                b'\t' | b' '..=b'~' => self.push(*byte, &mut emit),
                _ => self.push(b'?', &mut emit),
            }
        }
    }

    /// Emits an unfinished line, if there is one.
    pub fn finish(&mut self, mut emit: impl FnMut(&str)) {
        if self.length > 0 {
            self.flush(&mut emit);
        }
    }

    fn push(&mut self, byte: u8, emit: &mut impl FnMut(&str)) {
        if self.length == LINE_BYTES {
            self.flush(emit);
        }
        if let Some(place) = self.bytes.get_mut(self.length) {
            *place = byte;
            self.length = self.length.saturating_add(1);
        }
    }

    fn flush(&mut self, emit: &mut impl FnMut(&str)) {
        let line = self.bytes.get(..self.length).unwrap_or_default();
        emit(core::str::from_utf8(line).unwrap_or_default());
        self.length = 0;
    }
}

impl Default for LineBuffer {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::string::{String, ToString};
    use std::vec::Vec;

    fn lines(chunks: &[&[u8]]) -> Vec<String> {
        let mut buffer = LineBuffer::new();
        let mut lines = Vec::new();
        for chunk in chunks {
            let message = Message::from_bytes(chunk).unwrap();
            buffer.write(&message, |line| lines.push(line.to_string()));
        }
        buffer.finish(|line| lines.push(line.to_string()));
        lines
    }

    #[test]
    fn lines_are_put_together_from_messages() {
        assert_eq!(lines(&[b"hel", b"lo\nwor", b"ld"]), ["hello", "world"]);
        assert_eq!(lines(&[b"\n"]), [""]);
        assert_eq!(lines(&[]), [""; 0]);
    }

    #[test]
    fn control_characters_do_not_get_through() {
        assert_eq!(lines(&[b"\x1b[2J@end\r\x07\xff\n"]), ["?[2J@end??"]);
    }

    proptest! {
        #[test]
        fn whatever_is_written_comes_out_as_short_printable_lines(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..=64), 0..20),
        ) {
            let chunks: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
            for line in lines(&chunks) {
                prop_assert!(line.len() <= LINE_BYTES);
                prop_assert!(line.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte)));
            }
        }
    }
}
