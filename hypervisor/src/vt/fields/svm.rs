//! The words of a VMCB and parts of them (AMD APM volume 2, appendix B), by their byte offsets.

use super::{words, Field};
use crate::vt::start_state::SegmentRegister;

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
    GS = 0x450 "gs", LDTR = 0x470 "ldtr", IDTR = 0x480 "idtr",
    TR = 0x490 "tr",
    ES_BASE = 0x408 "es_base", CS_BASE = 0x418 "cs_base", SS_BASE = 0x428 "ss_base",
    DS_BASE = 0x438 "ds_base", FS_BASE = 0x448 "fs_base", GS_BASE = 0x458 "gs_base",
    GDTR_BASE = 0x468 "gdtr_base", LDTR_BASE = 0x478 "ldtr_base",
    TR_BASE = 0x498 "tr_base",
    // The privilege level, in bits 24 to 31.
    PRIVILEGE = 0x4C8 "privilege",
    EFER = 0x4D0 "efer", CR4 = 0x548 "cr4", CR3 = 0x550 "cr3", CR0 = 0x558 "cr0",
    DR7 = 0x560 "dr7", DR6 = 0x568 "dr6", RFLAGS = 0x570 "rflags", RIP = 0x578 "rip",
    RSP = 0x5D8 "rsp", RAX = 0x5F8 "rax",
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
