//! MOV to control and debug registers, as far as it exits: a guest may write what it cannot have,
//! and has no hardware breakpoints, as on SVM, but DR0 to DR3 and DR6.

#![forbid(unsafe_code)]

use crate::cpu::system_registers::{read_debug_register, write_debug_register, DEBUG_STATUS};
use crate::vt::{Exit, Register, VirtualCpu};

use super::control_block as vmcs;
use super::vcpu::VmxVcpu;

/// Not write-through: needs the bit that disables the cache.
pub const CR0_NOT_WRITE_THROUGH: u64 = 1 << 29;
/// Disables the cache.
pub const CR0_CACHE_DISABLE: u64 = 1 << 30;

/// An access to a debug register (table 27-4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DebugAccess {
    /// The debug register, 4 and 5 already as what they stand for.
    pub number: u8,
    /// Whether the register is read.
    pub is_read: bool,
    /// The general register.
    pub general: Register,
}

impl DebugAccess {
    /// From the exit qualification.
    pub const fn new(qualification: u64) -> Self {
        let number = (qualification & 7) as u8;
        DebugAccess {
            // With CR4.DE they are #UD and do not exit.
            number: if matches!(number, 4 | 5) {
                number + 2
            } else {
                number
            },
            is_read: qualification & 1 << 4 != 0,
            general: general_register(qualification),
        }
    }
}

/// The other operand of a MOV to or from a special register.
const fn general_register(qualification: u64) -> Register {
    Register::numbered(qualification >> 8)
}

impl VmxVcpu {
    /// A guest writes CR0 with other values for bits that it cannot have. It gets its way in the
    /// shadow that it reads; then it tries again, and the CPU takes the rest of the value.
    pub(super) fn write_cr0(&self, qualification: u64) -> Exit {
        let value = self.register(general_register(qualification));
        if value & CR0_NOT_WRITE_THROUGH != 0 && value & CR0_CACHE_DISABLE == 0 {
            return Exit::RefusedInstruction;
        }
        self.vmcs.set(vmcs::CR0_SHADOW, value);
        Exit::Internal
    }

    /// MOV to and from the debug registers but DR7, whose values are in the CPU.
    pub(super) fn move_debug_register(&mut self, qualification: u64) -> Exit {
        let access = DebugAccess::new(qualification);
        if access.is_read {
            let value = match access.number {
                7 => self.vmcs.get(vmcs::DR7),
                number => read_debug_register(number),
            };
            self.set_register(access.general, value);
        } else {
            let value = self.register(access.general);
            if access.number == DEBUG_STATUS && value >> 32 != 0 {
                return Exit::RefusedInstruction;
            }
            write_debug_register(access.number, value);
        }
        self.skip_instruction();
        Exit::Internal
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_debug_access_names_both_registers() {
        let access = DebugAccess::new(0xB14);
        let expected = DebugAccess {
            number: 6,
            is_read: true,
            general: Register::numbered(11),
        };
        assert_eq!(access, expected);
    }
}
