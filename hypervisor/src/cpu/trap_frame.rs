//! The registers at an exception or interrupt, and the names of the exceptions.

#![forbid(unsafe_code)]

use core::fmt::{self, Write};
use core::mem::{offset_of, size_of};

/// What the entry stubs (`traps.rs`) push, lowest address first. The last five words are the
/// CPU's (Intel SDM vol. 3, 6.14.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct TrapFrame {
    pub rax: u64,
    pub rbx: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub rbp: u64,
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
    /// The vector, pushed by the stub.
    pub vector: u64,
    /// The CPU's error code; 0 where the exception has none.
    pub error_code: u64,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

const _: () = assert!(size_of::<TrapFrame>() == 22 * 8);
const _: () = assert!(offset_of!(TrapFrame, vector) == 15 * 8);
const _: () = assert!(offset_of!(TrapFrame, rip) == 17 * 8);

/// #PF.
pub(super) const PAGE_FAULT: u64 = 14;

const PROTECTION: u64 = 1 << 0;
const WRITE: u64 = 1 << 1;
const RESERVED_BIT: u64 = 1 << 3;
const FETCH: u64 = 1 << 4;

impl TrapFrame {
    /// The exception's name (Intel SDM vol. 3, table 6-1; AMD APM vol. 2, 8.2).
    pub const fn exception_name(&self) -> &'static str {
        match self.vector {
            0 => "divide error",
            1 => "debug exception",
            2 => "non-maskable interrupt",
            3 => "breakpoint",
            4 => "overflow",
            5 => "bound range exceeded",
            6 => "invalid opcode",
            7 => "device not available",
            8 => "double fault",
            10 => "invalid TSS",
            11 => "segment not present",
            12 => "stack fault",
            13 => "general protection fault",
            14 => "page fault",
            16 => "x87 floating-point error",
            17 => "alignment check",
            18 => "machine check",
            19 => "SIMD floating-point exception",
            20 => "virtualization exception",
            21 => "control protection exception",
            28 => "hypervisor injection exception",
            29 => "VMM communication exception",
            30 => "security exception",
            _ => "unknown exception",
        }
    }

    /// What a page fault was about, from its error code (Intel SDM vol. 3, 4.7).
    pub const fn page_fault_text(&self) -> &'static str {
        let code = self.error_code;
        match (code & FETCH != 0, code & WRITE != 0, code & PROTECTION != 0) {
            _ if code & RESERVED_BIT != 0 => "access through a page-table entry with reserved bits",
            (true, _, true) => "instruction fetch from a page that is not executable, at",
            (true, _, false) => "instruction fetch from an unmapped page, at",
            (_, true, true) => "write to a read-only page, at",
            (_, true, false) => "write to an unmapped page, at",
            (_, false, true) => "read of a protected page, at",
            (_, false, false) => "read of an unmapped page, at",
        }
    }

    /// Writes the registers as lines for people.
    pub fn write_registers(&self, out: &mut dyn Write) -> fmt::Result {
        let rows = [
            [("rax", self.rax), ("rbx", self.rbx), ("rcx", self.rcx)],
            [("rdx", self.rdx), ("rsi", self.rsi), ("rdi", self.rdi)],
            [("rbp", self.rbp), ("rsp", self.rsp), ("rip", self.rip)],
            [("r8", self.r8), ("r9", self.r9), ("r10", self.r10)],
            [("r11", self.r11), ("r12", self.r12), ("r13", self.r13)],
            [
                ("r14", self.r14),
                ("r15", self.r15),
                ("rflags", self.rflags),
            ],
            [("cs", self.cs), ("ss", self.ss), ("error", self.error_code)],
        ];
        for row in rows {
            for (name, value) in row {
                write!(out, "  {name:<6} {value:#018x}")?;
            }
            writeln!(out)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;

    fn fault(error_code: u64) -> TrapFrame {
        TrapFrame {
            vector: PAGE_FAULT,
            error_code,
            ..TrapFrame::default()
        }
    }

    #[test]
    fn page_faults_say_what_was_tried() {
        assert!(fault(0).page_fault_text().contains("read of an unmapped"));
        assert!(fault(3).page_fault_text().contains("write to a read-only"));
        assert!(fault(0x11).page_fault_text().contains("not executable"));
        assert!(fault(9).page_fault_text().contains("reserved"));
        assert_eq!(fault(0).exception_name(), "page fault");
    }

    #[test]
    fn every_register_is_shown() {
        let frame = TrapFrame {
            r13: 0x1234_5678_9abc_def0,
            error_code: 0x42,
            ..TrapFrame::default()
        };
        let mut text = String::new();
        frame.write_registers(&mut text).unwrap();
        assert!(text.contains("r13    0x123456789abcdef0"), "{text}");
        assert!(text.contains("error  0x0000000000000042"), "{text}");
        assert_eq!(text.lines().count(), 7);
    }
}
