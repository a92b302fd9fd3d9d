//! Cuts the bytes of the serial line into lines of bounded length that are safe to show.

/// Longer lines are cut; what follows up to the end of the line is dropped.
pub const MAX_LINE_BYTES: usize = 4096;

/// Collects bytes until a line is complete.
#[derive(Default)]
pub struct Lines {
    line: Vec<u8>,
    is_cut: bool,
}

impl Lines {
    /// Takes in bytes and hands every line that they complete to `emit`.
    pub fn feed(&mut self, bytes: &[u8], mut emit: impl FnMut(String)) {
        for byte in bytes {
            match byte {
                b'\n' => emit(self.finish()),
                b'\r' => {}
                _ if self.line.len() == MAX_LINE_BYTES => self.is_cut = true,
                _ => self.line.push(*byte),
            }
        }
    }

    /// The last line, if the stream ended within one.
    pub fn rest(&mut self) -> Option<String> {
        if self.line.is_empty() {
            return None;
        }
        Some(self.finish())
    }

    fn finish(&mut self) -> String {
        let mut line = printable(&self.line);
        self.line.clear();
        if std::mem::take(&mut self.is_cut) {
            line.push_str(" [cut]");
        }
        line
    }
}

/// The text with everything replaced that could upset a terminal: a guest chooses these bytes.
fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let safe = text.chars().map(|character| match character {
        '\t' => ' ',
        control if control.is_control() => char::REPLACEMENT_CHARACTER,
        other => other,
    });
    safe.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines(chunks: &[&[u8]]) -> Vec<String> {
        let (mut splitter, mut lines) = (Lines::default(), Vec::new());
        for chunk in chunks {
            splitter.feed(chunk, |line| lines.push(line));
        }
        lines.extend(splitter.rest());
        lines
    }

    #[test]
    fn lines_are_joined_across_chunks() {
        assert_eq!(lines(&[b"a", b"b\r\nc", b"\n\nd"]), ["ab", "c", "", "d"]);
    }

    #[test]
    fn long_lines_are_cut() {
        let long = vec![b'x'; MAX_LINE_BYTES + 1];
        let cut = &lines(&[&long, b"yy\nshort\n"]);
        assert_eq!(cut[0].len(), MAX_LINE_BYTES + " [cut]".len());
        assert_eq!(cut[1], "short");
    }

    #[test]
    fn escapes_do_not_reach_the_terminal() {
        assert_eq!(lines(&[b"a\x1b[2J\xffb\n"]), ["a\u{fffd}[2J\u{fffd}b"]);
    }

    proptest! {
        #[test]
        fn any_bytes_become_short_clean_lines(chunks in proptest::collection::vec(any::<Vec<u8>>(), 0..20)) {
            let chunks: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
            for line in lines(&chunks) {
                prop_assert!(line.chars().all(|character| !character.is_control()));
            }
        }
    }
}
