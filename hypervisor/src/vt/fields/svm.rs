//! The words of a VMCB and parts of them (AMD APM volume 2, appendix B), by their byte offsets.

use super::{words, Field};
use crate::vt::start_state::{Segment, SegmentRegister};
use crate::vt::SystemRegister;

words! {
    // Control registers in the lower half, debug registers in the upper half; of each, reads in the
    // lower 16 bits, writes in the others.
    INTERCEPT_REGISTERS = 0x000 "intercept_registers",
    // Exceptions, and vector 3 of the intercepts of instructions in the upper half.
    INTERCEPT_EXCEPTIONS_AND_3 = 0x008 "intercept_exceptions_and_3",
    INTERCEPT_4_AND_5 = 0x010 "intercept_4_and_5",
    IOPM_BASE = 0x040 "iopm_base", MSRPM_BASE = 0x048 "msrpm_base",
    ASID_AND_TLB_CONTROL = 0x058 "asid_and_tlb_control",
    VIRTUAL_INTERRUPT = 0x060 "virtual_interrupt",
    // Bit 0: the guest is in an interrupt shadow.
    INTERRUPT_SHADOW = 0x068 "interrupt_shadow",
    EXIT_CODE = 0x070 "exit_code", EXIT_INFO_1 = 0x078 "exit_info_1",
    EXIT_INFO_2 = 0x080 "exit_info_2",
    // The event that was being delivered when the exit came.
    EXIT_INTERRUPT_INFO = 0x088 "exit_interrupt_info",
    NESTED_CONTROL = 0x090 "nested_control",
    EVENT_INJECTION = 0x0A8 "event_injection", NESTED_CR3 = 0x0B0 "nested_cr3",
    // The address of the next instruction, on CPUs that say so.
    NEXT_RIP = 0x0C8 "next_rip",

    ES = 0x400 "es", CS = 0x410 "cs", SS = 0x420 "ss", DS = 0x430 "ds", FS = 0x440 "fs",
    GS = 0x450 "gs", GDTR = 0x460 "gdtr", LDTR = 0x470 "ldtr", IDTR = 0x480 "idtr",
    TR = 0x490 "tr",
    ES_BASE = 0x408 "es_base", CS_BASE = 0x418 "cs_base", SS_BASE = 0x428 "ss_base",
    DS_BASE = 0x438 "ds_base", FS_BASE = 0x448 "fs_base", GS_BASE = 0x458 "gs_base",
    GDTR_BASE = 0x468 "gdtr_base", LDTR_BASE = 0x478 "ldtr_base", IDTR_BASE = 0x488 "idtr_base",
    TR_BASE = 0x498 "tr_base",
    // The privilege level, in bits 24 to 31.
    PRIVILEGE = 0x4C8 "privilege",
    EFER = 0x4D0 "efer", CR4 = 0x548 "cr4", CR3 = 0x550 "cr3", CR0 = 0x558 "cr0",
    DR7 = 0x560 "dr7", DR6 = 0x568 "dr6", RFLAGS = 0x570 "rflags", RIP = 0x578 "rip",
    RSP = 0x5D8 "rsp", RAX = 0x5F8 "rax",
    STAR = 0x600 "star", LSTAR = 0x608 "lstar", CSTAR = 0x610 "cstar", FMASK = 0x618 "fmask",
    KERNEL_GS_BASE = 0x620 "kernel_gs_base", SYSENTER_CS = 0x628 "sysenter_cs",
    SYSENTER_ESP = 0x630 "sysenter_esp", SYSENTER_EIP = 0x638 "sysenter_eip", CR2 = 0x640 "cr2",
    G_PAT = 0x668 "g_pat",
}

/// Vector 4 of the intercepts of instructions.
pub const INTERCEPTS_4: Field = INTERCEPT_4_AND_5.part("intercepts_4", 0, 32);
/// The identifier of the guest's translations.
pub const ASID: Field = ASID_AND_TLB_CONTROL.part("asid", 0, 32);
/// What an entry flushes.
pub const TLB_CONTROL: Field = ASID_AND_TLB_CONTROL.part("tlb_control", 32, 8);
/// Nested paging is on.
pub const NESTED: Field = NESTED_CONTROL.part("nested_control", 0, 1);
/// The attributes of CS, as in a descriptor without the four bits of the limit.
pub const CS_ATTRIBUTES: Field = CS.part("cs_attributes", 16, 16);
/// The last byte of the interrupt table.
pub const IDTR_LIMIT: Field = IDTR.part("idtr_limit", 32, 32);

/// The guest's CR8.
const TASK_PRIORITY: Field = VIRTUAL_INTERRUPT.part("cr8", 0, 4);
const GDTR_LIMIT: Field = GDTR.part("gdtr_limit", 32, 32);

/// Where a system register is. VMLOAD and VMSAVE move those of SYSCALL and SYSENTER between block and
/// CPU at every entry and exit.
pub const fn place(register: SystemRegister) -> Field {
    match register {
        SystemRegister::Rip => RIP,
        SystemRegister::Rflags => RFLAGS,
        SystemRegister::Cr0 => CR0,
        SystemRegister::Cr2 => CR2,
        SystemRegister::Cr3 => CR3,
        SystemRegister::Cr4 => CR4,
        SystemRegister::Efer => EFER,
        SystemRegister::PageAttributes => G_PAT,
        SystemRegister::Cr8 => TASK_PRIORITY,
        SystemRegister::GdtrBase => GDTR_BASE,
        SystemRegister::GdtrLimit => GDTR_LIMIT,
        SystemRegister::IdtrBase => IDTR_BASE,
        SystemRegister::IdtrLimit => IDTR_LIMIT,
        SystemRegister::Star => STAR,
        SystemRegister::Lstar => LSTAR,
        SystemRegister::Cstar => CSTAR,
        SystemRegister::Fmask => FMASK,
        SystemRegister::KernelGsBase => KERNEL_GS_BASE,
        SystemRegister::SysenterCs => SYSENTER_CS,
        SystemRegister::SysenterEsp => SYSENTER_ESP,
        SystemRegister::SysenterEip => SYSENTER_EIP,
    }
}

impl Segment {
    /// The words that hold it, with their values. The attributes are those of APM volume 2, section
    /// 15.5.1, without the four bits between the two halves of a descriptor's.
    pub fn to_vmcb(self) -> [(Field, u64); 2] {
        let [word, base] = segment(self.register);
        let attributes = self.access & 0xFF | self.access >> 4 & 0xF00;
        let value =
            u64::from(self.selector) | u64::from(attributes) << 16 | u64::from(self.limit) << 32;
        [(word, value), (base, self.base)]
    }

    /// What the words hold.
    pub fn from_vmcb(register: SegmentRegister, get: impl Fn(Field) -> u64) -> Self {
        let [word, base] = segment(register).map(get);
        let attributes = (word >> 16) as u16;
        Segment {
            register,
            selector: word as u16,
            access: attributes & 0xFF | (attributes & 0xF00) << 4,
            limit: (word >> 32) as u32,
            base,
        }
    }
}

/// A segment register: the word with selector, attributes and limit, and the base.
pub const fn segment(register: SegmentRegister) -> [Field; 2] {
    match register {
        SegmentRegister::Es => [ES, ES_BASE],
        SegmentRegister::Cs => [CS, CS_BASE],
        SegmentRegister::Ss => [SS, SS_BASE],
        SegmentRegister::Ds => [DS, DS_BASE],
        SegmentRegister::Fs => [FS, FS_BASE],
        SegmentRegister::Gs => [GS, GS_BASE],
        SegmentRegister::Ldtr => [LDTR, LDTR_BASE],
        SegmentRegister::Tr => [TR, TR_BASE],
    }
}

/// The exit codes (appendix C).
#[allow(missing_docs)]
pub mod exit_code {
    use super::super::exit_codes;

    // VMMCALL is the guest's call.
    exit_codes! { u32:
        WRITE_DR5 = 0x35, WRITE_DR7 = 0x37, EXCEPTION_FIRST = 0x40, EXCEPTION_LAST = 0x5F, INTR = 0x60,
        NMI = 0x61, RDPMC = 0x6F, CPUID = 0x72, RSM = 0x73, INVD = 0x76, HLT = 0x78, INVLPGA = 0x7A,
        IOIO = 0x7B, MSR = 0x7C, SHUTDOWN = 0x7F, VMRUN = 0x80, VMMCALL = 0x81, VMLOAD = 0x82,
        VMSAVE = 0x83, STGI = 0x84, CLGI = 0x85, SKINIT = 0x86, WBINVD = 0x89, MONITOR = 0x8A,
        MWAIT = 0x8B, MWAIT_ARMED = 0x8C, RDPRU = 0x8E, NESTED_PAGE_FAULT = 0x400,
        INVALID = 0xFFFF_FFFF,
    }
}
