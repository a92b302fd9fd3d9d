//! Bochs, in which GRUB loads the kernel from a disc by its multiboot2 header.

use super::Host;
use crate::beds::{self, Board, Meaning, TestBed};

/// Bochs with one of its CPU models.
pub struct Bochs(beds::Bochs);

impl Bochs {
    /// The Bochs of the test beds, with the model of the first of them.
    pub fn new() -> Self {
        Bochs(beds::Bochs::FIRST)
    }
}

impl Host for Bochs {
    fn name(&self) -> &'static str {
        "bochs"
    }

    fn bed(&self) -> &dyn TestBed {
        &self.0
    }

    fn boards(&self) -> &'static [Board] {
        &[Board::Pc]
    }

    fn agrees(&self, code: u64, status: i32, said: &str) -> bool {
        let expected = match code {
            0 => Meaning::Ok,
            _ => Meaning::Ended,
        };
        self.0.meaning(status, said) == expected
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_tells_good_from_bad() {
        let host = Bochs::new();
        let shutdown = "[UNMAP ] Shutdown port: shutdown requested";
        assert!(host.agrees(0, 0, "") && host.agrees(142, 1, shutdown));
        assert!(!host.agrees(0, 1, shutdown) && !host.agrees(142, 0, ""));
        assert!(!host.agrees(142, 1, "[BIOS  ] No bootable device."));
    }
}
