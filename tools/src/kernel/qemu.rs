//! QEMU's interpreter, which loads the kernel by its PVH note.

use super::Host;
use crate::beds::{self, Accelerator, Board, TestBed};

/// QEMU without a hypervisor in it.
pub struct Qemu(beds::Qemu);

impl Qemu {
    /// The QEMU of the test beds.
    pub fn from_environment() -> Self {
        Qemu(beds::Qemu::from_environment(Accelerator::Tcg))
    }
}

impl Host for Qemu {
    fn name(&self) -> &'static str {
        "qemu"
    }

    fn bed(&self) -> &dyn TestBed {
        &self.0
    }

    fn boards(&self) -> &'static [Board] {
        &[Board::Q35, Board::Pc]
    }

    fn agrees(&self, code: u64, status: i32, _: &str) -> bool {
        status_agrees(code, status)
    }
}

/// Whether QEMU ends with that status if the kernel writes that code to isa-debug-exit.
pub(super) fn status_agrees(code: u64, status: i32) -> bool {
    // The device takes a byte; a process has 8 bits of what comes of it.
    let code = i32::from(code as u8);
    status == (code << 1 | 1) & 0xFF
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_is_twice_the_code_and_one() {
        let host = Qemu::from_environment();
        for (code, status) in [(0, 1), (2, 5), (101, 203), (142, 29), (205, 155)] {
            assert!(host.agrees(code, status, ""), "{code}");
        }
        assert!(!host.agrees(0, 0, ""));
        assert!(!host.agrees(142, 28, ""));
    }
}
