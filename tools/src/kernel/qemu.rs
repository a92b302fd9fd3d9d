//! QEMU, which loads the kernel by its PVH note: its interpreter, or the CPU of this computer through KVM.

use std::fs::File;

use super::Host;
use crate::beds::{self, Accelerator, Board, TestBed};

/// QEMU without a hypervisor in it.
pub struct Qemu {
    bed: beds::Qemu,
    accelerator: Accelerator,
}

impl Qemu {
    /// The QEMU of the test beds.
    pub fn from_environment(accelerator: Accelerator) -> Self {
        Qemu {
            bed: beds::Qemu::from_environment(accelerator),
            accelerator,
        }
    }
}

impl Host for Qemu {
    fn name(&self) -> &'static str {
        match self.accelerator {
            Accelerator::Tcg => "qemu",
            Accelerator::Kvm => "kvm",
        }
    }

    fn exit_word(&self) -> &'static str {
        "qemu"
    }

    /// The kernel has no guests of its own, so it needs less of a KVM than a hypervisor does.
    fn obstacle(&self) -> Option<String> {
        if self.accelerator == Accelerator::Tcg {
            return None;
        }
        let device = File::options().read(true).write(true).open("/dev/kvm");
        let error = device.err()?;
        Some(format!(
            "/dev/kvm cannot be opened: {error}; load kvm_intel or kvm_amd, and become a member of the group kvm"
        ))
    }

    fn bed(&self) -> &dyn TestBed {
        &self.bed
    }

    fn boards(&self) -> &'static [Board] {
        &[Board::Q35, Board::Pc]
    }

    fn agrees(&self, code: u64, status: i32, _: &str) -> bool {
        // The device takes a byte; a process has 8 bits of what comes of it.
        let code = i32::from(code as u8);
        status == (code << 1 | 1) & 0xFF
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_is_twice_the_code_and_one() {
        let host = Qemu::from_environment(Accelerator::Tcg);
        for (code, status) in [(0, 1), (2, 5), (101, 203), (142, 29), (205, 155)] {
            assert!(host.agrees(code, status, ""), "{code}");
        }
        assert!(!host.agrees(0, 0, ""));
        assert!(!host.agrees(142, 28, ""));
    }
}
