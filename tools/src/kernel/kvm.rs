//! The CPU of this computer, through its KVM.

use std::fs::File;

use super::qemu::status_agrees;
use super::Host;
use crate::beds::{self, Accelerator, Board, TestBed};

/// QEMU with the computer's own CPU. No guest of the kernel's needs virtualization, so any KVM will do.
pub struct Kvm(beds::Qemu);

impl Kvm {
    /// The QEMU of the test beds.
    pub fn from_environment() -> Self {
        Kvm(beds::Qemu::from_environment(Accelerator::Kvm))
    }
}

impl Host for Kvm {
    fn name(&self) -> &'static str {
        "kvm"
    }

    fn exit_word(&self) -> &'static str {
        "qemu"
    }

    fn obstacle(&self) -> Option<String> {
        let device = File::options().read(true).write(true).open("/dev/kvm");
        let error = device.err()?;
        Some(format!(
            "/dev/kvm cannot be opened: {error}; load kvm_intel or kvm_amd, and become a member of the group kvm"
        ))
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
