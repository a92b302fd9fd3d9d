//! The fields of a VMCS (Intel SDM vol. 3, 24 and appendix B).

use super::{words, Field};
use crate::cpu::system_registers::SwitchedRegister;
use crate::vt::event::RFLAGS_INTERRUPT;
use crate::vt::start_state::{Segment, SegmentRegister};
use crate::vt::SystemRegister;

words! {
    VPID = 0x0000 "vpid",
    PIN_CONTROLS = 0x4000 "pin_controls", PRIMARY_CONTROLS = 0x4002 "primary_controls",
    SECONDARY_CONTROLS = 0x401E "secondary_controls", EXIT_CONTROLS = 0x400C "exit_controls",
    ENTRY_CONTROLS = 0x4012 "entry_controls", EXCEPTION_BITMAP = 0x4004 "exception_bitmap",
    PAGE_FAULT_MASK = 0x4006 "page_fault_mask", PAGE_FAULT_MATCH = 0x4008 "page_fault_match",
    CR3_TARGETS = 0x400A "cr3_target_count",
    EXIT_STORE_COUNT = 0x400E "exit_msr_store_count",
    EXIT_STORE = 0x2006 "exit_msr_store_address",
    EXIT_LOAD_COUNT = 0x4010 "exit_msr_load_count", EXIT_LOAD = 0x2008 "exit_msr_load_address",
    ENTRY_LOAD_COUNT = 0x4014 "entry_msr_load_count",
    ENTRY_LOAD = 0x200A "entry_msr_load_address",
    ENTRY_EVENT = 0x4016 "entry_event", ENTRY_ERROR_CODE = 0x4018 "entry_error_code",
    ENTRY_INSTRUCTION_LENGTH = 0x401A "entry_instruction_length",
    TPR_THRESHOLD = 0x401C "tpr_threshold",
    CR0_MASK = 0x6000 "cr0_mask", CR4_MASK = 0x6002 "cr4_mask",
    CR0_SHADOW = 0x6004 "cr0_shadow", CR4_SHADOW = 0x6006 "cr4_shadow",
    IO_BITMAP_A = 0x2000 "io_bitmap_a", IO_BITMAP_B = 0x2002 "io_bitmap_b",
    MSR_BITMAP = 0x2004 "msr_bitmap", PML_ADDRESS = 0x200E "pml_address",
    VIRTUAL_APIC = 0x2012 "virtual_apic_address", APIC_ACCESS = 0x2014 "apic_access_address",
    EPT_POINTER = 0x201A "ept_pointer", TSC_MULTIPLIER = 0x2032 "tsc_multiplier",

    INSTRUCTION_ERROR = 0x4400 "instruction_error", EXIT_REASON = 0x4402 "exit_reason",
    EXIT_EVENT = 0x4404 "exit_event", EXIT_ERROR_CODE = 0x4406 "exit_error_code",
    VECTORING_EVENT = 0x4408 "vectoring_event", VECTORING_ERROR_CODE = 0x440A "vectoring_error_code",
    EXIT_INSTRUCTION_LENGTH = 0x440C "exit_instruction_length",
    EXIT_QUALIFICATION = 0x6400 "exit_qualification",
    GUEST_PHYSICAL_ADDRESS = 0x2400 "guest_physical_address",

    HOST_ES = 0x0C00 "host_es", HOST_CS = 0x0C02 "host_cs", HOST_SS = 0x0C04 "host_ss",
    HOST_DS = 0x0C06 "host_ds", HOST_FS = 0x0C08 "host_fs", HOST_GS = 0x0C0A "host_gs",
    HOST_TR = 0x0C0C "host_tr", HOST_PAT = 0x2C00 "host_pat", HOST_EFER = 0x2C02 "host_efer",
    HOST_CR0 = 0x6C00 "host_cr0", HOST_CR3 = 0x6C02 "host_cr3", HOST_CR4 = 0x6C04 "host_cr4",
    HOST_FS_BASE = 0x6C06 "host_fs_base", HOST_GS_BASE = 0x6C08 "host_gs_base",
    HOST_TR_BASE = 0x6C0A "host_tr_base", HOST_GDTR_BASE = 0x6C0C "host_gdtr_base",
    HOST_IDTR_BASE = 0x6C0E "host_idtr_base", HOST_SYSENTER_CS = 0x4C00 "host_sysenter_cs",
    HOST_SYSENTER_ESP = 0x6C10 "host_sysenter_esp",
    HOST_SYSENTER_EIP = 0x6C12 "host_sysenter_eip", HOST_RSP = 0x6C14 "host_rsp",
    HOST_RIP = 0x6C16 "host_rip",

    CR0 = 0x6800 "cr0", CR3 = 0x6802 "cr3", CR4 = 0x6804 "cr4", DR7 = 0x681A "dr7",
    DEBUGCTL = 0x2802 "debugctl", SYSENTER_CS = 0x482A "sysenter_cs",
    SYSENTER_ESP = 0x6824 "sysenter_esp",
    SYSENTER_EIP = 0x6826 "sysenter_eip", PAT = 0x2804 "pat", EFER = 0x2806 "efer",
    RSP = 0x681C "rsp", RIP = 0x681E "rip", RFLAGS = 0x6820 "rflags",
    ES_BASE = 0x6806 "es_base", CS_BASE = 0x6808 "cs_base", SS_BASE = 0x680A "ss_base",
    DS_BASE = 0x680C "ds_base", FS_BASE = 0x680E "fs_base", GS_BASE = 0x6810 "gs_base",
    LDTR_BASE = 0x6812 "ldtr_base", TR_BASE = 0x6814 "tr_base",
    GDTR_BASE = 0x6816 "gdtr_base", IDTR_BASE = 0x6818 "idtr_base",
    ES_LIMIT = 0x4800 "es_limit", CS_LIMIT = 0x4802 "cs_limit", SS_LIMIT = 0x4804 "ss_limit",
    DS_LIMIT = 0x4806 "ds_limit", FS_LIMIT = 0x4808 "fs_limit", GS_LIMIT = 0x480A "gs_limit",
    LDTR_LIMIT = 0x480C "ldtr_limit", TR_LIMIT = 0x480E "tr_limit",
    GDTR_LIMIT = 0x4810 "gdtr_limit", IDTR_LIMIT = 0x4812 "idtr_limit",
    ES_ACCESS = 0x4814 "es_access", CS_ACCESS = 0x4816 "cs_access",
    SS_ACCESS = 0x4818 "ss_access", DS_ACCESS = 0x481A "ds_access",
    FS_ACCESS = 0x481C "fs_access", GS_ACCESS = 0x481E "gs_access",
    LDTR_ACCESS = 0x4820 "ldtr_access", TR_ACCESS = 0x4822 "tr_access",
    ES_SELECTOR = 0x0800 "es_selector", CS_SELECTOR = 0x0802 "cs_selector",
    SS_SELECTOR = 0x0804 "ss_selector", DS_SELECTOR = 0x0806 "ds_selector",
    FS_SELECTOR = 0x0808 "fs_selector", GS_SELECTOR = 0x080A "gs_selector",
    LDTR_SELECTOR = 0x080C "ldtr_selector", TR_SELECTOR = 0x080E "tr_selector",
    ACTIVITY = 0x4826 "activity", INTERRUPTIBILITY = 0x4824 "interruptibility",
    PREEMPTION_TIMER = 0x482E "preemption_timer",
    PENDING_DEBUG = 0x6822 "pending_debug", LINK_POINTER = 0x2800 "link_pointer",
    PDPTE0 = 0x280A "pdpte0", PDPTE1 = 0x280C "pdpte1", PDPTE2 = 0x280E "pdpte2",
    PDPTE3 = 0x2810 "pdpte3",
}

const BY_STI: u64 = 1 << 0;
const BY_MOV_SS: u64 = 1 << 1;
const RFLAGS_TRAP_BIT: u32 = 8;

/// What a guest with these flags has in an interrupt shadow: only with IF that of STI, and behind it the
/// single step that is due with TF (24.4.2, 26.3.1.5).
pub const fn shadow(rflags: u64) -> [(Field, u64); 2] {
    let blocking = match rflags & RFLAGS_INTERRUPT {
        0 => BY_MOV_SS,
        _ => BY_STI,
    };
    [
        (INTERRUPTIBILITY.part("shadow", 0, 2), blocking),
        (
            PENDING_DEBUG.part("single_step", 14, 1),
            rflags >> RFLAGS_TRAP_BIT,
        ),
    ]
}

/// Where a guest's register is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the structure.
    Field(Field),
    /// In the CPU; no entry or exit switches it.
    Cpu(SwitchedRegister),
    /// In the virtual-APIC page, as the task priority (29.1.1).
    VirtualApic,
}

/// Where a system register is.
pub const fn place(register: SystemRegister) -> Place {
    Place::Field(match register {
        SystemRegister::Rip => RIP,
        SystemRegister::Rflags => RFLAGS,
        SystemRegister::Cr0 => CR0,
        SystemRegister::Cr3 => CR3,
        SystemRegister::Cr4 => CR4,
        SystemRegister::Efer => EFER,
        SystemRegister::PageAttributes => PAT,
        SystemRegister::GdtrBase => GDTR_BASE,
        SystemRegister::GdtrLimit => GDTR_LIMIT,
        SystemRegister::IdtrBase => IDTR_BASE,
        SystemRegister::IdtrLimit => IDTR_LIMIT,
        SystemRegister::SysenterCs => SYSENTER_CS,
        SystemRegister::SysenterEsp => SYSENTER_ESP,
        SystemRegister::SysenterEip => SYSENTER_EIP,
        SystemRegister::Cr8 => return Place::VirtualApic,
        SystemRegister::Cr2 => return Place::Cpu(SwitchedRegister::Cr2),
        SystemRegister::Star => return Place::Cpu(SwitchedRegister::Star),
        SystemRegister::Lstar => return Place::Cpu(SwitchedRegister::Lstar),
        SystemRegister::Cstar => return Place::Cpu(SwitchedRegister::Cstar),
        SystemRegister::Fmask => return Place::Cpu(SwitchedRegister::Fmask),
        SystemRegister::KernelGsBase => return Place::Cpu(SwitchedRegister::KernelGsBase),
    })
}

/// The access rights of a segment register that cannot be used (table 24-2).
const UNUSABLE: u64 = 1 << 16;

impl Segment {
    /// The fields that hold it, with their values.
    pub fn to_vmcs(self) -> [(Field, u64); 4] {
        let [selector, limit, access, base] = segment(self.register);
        let unusable = match self.access & Segment::PRESENT {
            0 => UNUSABLE,
            _ => 0,
        };
        [
            (selector, u64::from(self.selector)),
            (limit, u64::from(self.limit)),
            (access, u64::from(self.access) | unusable),
            (base, self.base),
        ]
    }

    /// What the fields hold.
    pub fn from_vmcs(register: SegmentRegister, get: impl Fn(Field) -> u64) -> Self {
        let [selector, limit, access, base] = segment(register).map(get);
        let absent = match access & UNUSABLE {
            0 => 0,
            _ => Segment::PRESENT,
        };
        Segment {
            register,
            selector: selector as u16,
            access: access as u16 & !absent & Segment::ACCESS,
            limit: limit as u32,
            base,
        }
    }
}

/// A segment register: selector, limit, access rights and base.
pub const fn segment(register: SegmentRegister) -> [Field; 4] {
    match register {
        SegmentRegister::Es => [ES_SELECTOR, ES_LIMIT, ES_ACCESS, ES_BASE],
        SegmentRegister::Cs => [CS_SELECTOR, CS_LIMIT, CS_ACCESS, CS_BASE],
        SegmentRegister::Ss => [SS_SELECTOR, SS_LIMIT, SS_ACCESS, SS_BASE],
        SegmentRegister::Ds => [DS_SELECTOR, DS_LIMIT, DS_ACCESS, DS_BASE],
        SegmentRegister::Fs => [FS_SELECTOR, FS_LIMIT, FS_ACCESS, FS_BASE],
        SegmentRegister::Gs => [GS_SELECTOR, GS_LIMIT, GS_ACCESS, GS_BASE],
        SegmentRegister::Ldtr => [LDTR_SELECTOR, LDTR_LIMIT, LDTR_ACCESS, LDTR_BASE],
        SegmentRegister::Tr => [TR_SELECTOR, TR_LIMIT, TR_ACCESS, TR_BASE],
    }
}

/// Fields that are 0 at the start and have to be written all the same, since only the CPU knows
/// what VMCLEAR leaves in them (24.11.3).
pub const ZERO_AT_THE_START: [Field; 28] = [
    PAGE_FAULT_MASK,
    PAGE_FAULT_MATCH,
    CR3_TARGETS,
    EXIT_STORE_COUNT,
    EXIT_LOAD_COUNT,
    ENTRY_LOAD_COUNT,
    ENTRY_EVENT,
    ENTRY_ERROR_CODE,
    ENTRY_INSTRUCTION_LENGTH,
    TPR_THRESHOLD,
    DEBUGCTL,
    GDTR_LIMIT,
    IDTR_LIMIT,
    INTERRUPTIBILITY,
    ACTIVITY,
    SYSENTER_CS,
    GDTR_BASE,
    IDTR_BASE,
    PENDING_DEBUG,
    SYSENTER_ESP,
    SYSENTER_EIP,
    HOST_FS,
    HOST_GS,
    HOST_FS_BASE,
    HOST_GS_BASE,
    HOST_SYSENTER_CS,
    HOST_SYSENTER_ESP,
    HOST_SYSENTER_EIP,
];

/// The exit reasons (appendix C).
#[allow(missing_docs)]
pub mod exit_reason {
    use super::super::exit_codes;

    // VMCALL is the guest's call.
    exit_codes! { u16:
        EXCEPTION_OR_NMI = 0, EXTERNAL_INTERRUPT = 1, TRIPLE_FAULT = 2, INTERRUPT_WINDOW = 7,
        CPUID = 10, GETSEC = 11, HLT = 12, INVD = 13, RDPMC = 15, RSM = 17, VMCALL = 18,
        VMX_FIRST = 19, VMX_LAST = 27, CR_ACCESS = 28, MOV_DR = 29, IO = 30, RDMSR = 31, WRMSR = 32,
        BAD_GUEST_STATE = 33, BAD_MSR_LOAD = 34, MWAIT = 36, MONITOR = 39, MACHINE_CHECK_ON_ENTRY = 41,
        EPT_VIOLATION = 48, EPT_MISCONFIGURATION = 49, INVEPT = 50, PREEMPTION_TIMER = 52,
        INVVPID = 53, WBINVD = 54, XSETBV = 55, VMFUNC = 59,
    }
}
