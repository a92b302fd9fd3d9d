//! How the machine ends: the word `exit=` on the command line names an emulator that has a port for that.
//!
//! QEMU's status is twice the code and 1, of which a process keeps 8 bits; Bochs's says no more than good or bad.
//! So the code is printed, too.
#![cfg_attr(feature = "bare-metal", allow(unsafe_code))]
// UNSAFETY: port I/O that ends the machine.

/// What ends the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Exit {
    /// Nothing: the CPU halts.
    #[default]
    Halt,
    /// QEMU's isa-debug-exit.
    Qemu,
    /// The shutdown port of Bochs.
    Bochs,
}

impl Exit {
    /// What the value of the word `exit=` means.
    pub fn named(name: &str) -> Option<Exit> {
        match name {
            "halt" => Some(Exit::Halt),
            "qemu" => Some(Exit::Qemu),
            "bochs" => Some(Exit::Bochs),
            _ => None,
        }
    }

    /// The port, and the bytes that end the machine there.
    pub fn bytes(self, code: u64) -> (u16, [Option<u8>; 8]) {
        let all = |word: &[u8; 8]| word.map(Some);
        let first = |byte| [Some(byte), None, None, None, None, None, None, None];
        match (self, code) {
            (Exit::Halt, _) => (0, [None; 8]),
            (Exit::Qemu, _) => (QEMU_PORT, first(code as u8)),
            // It stops in its debugger, which ends with status 0.
            (Exit::Bochs, 0) => (BOCHS_PORT, first(b'D')),
            (Exit::Bochs, _) => (BOCHS_PORT, all(b"Shutdown")),
        }
    }

    /// Ends the machine; comes back if it does not end by that.
    #[cfg(feature = "bare-metal")]
    pub fn end(self, code: u64) {
        let (port, bytes) = self.bytes(code);
        for byte in bytes.into_iter().flatten() {
            // SAFETY: nothing runs afterwards where the device is, and the command line says that it is there.
            unsafe { crate::instructions::write_port(port, byte) }
        }
    }
}

const QEMU_PORT: u16 = 0xF4;
const BOCHS_PORT: u16 = 0x8900;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_each_emulator_is_told() {
        let told = |name: &str, code| {
            let (port, bytes) = Exit::named(name).unwrap().bytes(code);
            let bytes: std::vec::Vec<u8> = bytes.into_iter().flatten().collect();
            (port, bytes)
        };
        assert_eq!(told("qemu", 142), (0xF4, std::vec![142]));
        assert_eq!(told("bochs", 0), (0x8900, b"D".to_vec()));
        assert_eq!(told("bochs", 101), (0x8900, b"Shutdown".to_vec()));
        assert_eq!(told("halt", 0).1, []);
        assert_eq!(Exit::named("vmware"), None);
    }
}
