//! The fields that Intel's rules speak of (Intel SDM vol. 3, appendix B).

use super::super::Field;

macro_rules! fields {
    ($( $name:ident = $number:literal $text:literal, )+) => { $(
        pub const $name: Field = Field::word($text, $number);
    )+ };
}

fields! {
    VPID = 0x0000 "vpid",
    PIN = 0x4000 "pin_controls", PRIMARY = 0x4002 "primary_controls",
    SECONDARY = 0x401E "secondary_controls", EXIT = 0x400C "exit_controls",
    ENTRY = 0x4012 "entry_controls",
    CR3_TARGETS = 0x400A "cr3_target_count",
    EXIT_STORE_COUNT = 0x400E "exit_msr_store_count",
    EXIT_STORE = 0x2006 "exit_msr_store_address",
    EXIT_LOAD_COUNT = 0x4010 "exit_msr_load_count", EXIT_LOAD = 0x2008 "exit_msr_load_address",
    ENTRY_LOAD_COUNT = 0x4014 "entry_msr_load_count",
    ENTRY_LOAD = 0x200A "entry_msr_load_address",
    EVENT = 0x4016 "entry_event", EVENT_CODE = 0x4018 "entry_error_code",
    EVENT_LENGTH = 0x401A "entry_instruction_length",
    TPR_THRESHOLD = 0x401C "tpr_threshold",
    IO_BITMAP_A = 0x2000 "io_bitmap_a", IO_BITMAP_B = 0x2002 "io_bitmap_b",
    MSR_BITMAP = 0x2004 "msr_bitmap", PML_ADDRESS = 0x200E "pml_address",
    VIRTUAL_APIC = 0x2012 "virtual_apic_address", APIC_ACCESS = 0x2014 "apic_access_address",
    EPT_POINTER = 0x201A "ept_pointer", TSC_MULTIPLIER = 0x2032 "tsc_multiplier",

    HOST_ES = 0x0C00 "host_es", HOST_CS = 0x0C02 "host_cs", HOST_SS = 0x0C04 "host_ss",
    HOST_DS = 0x0C06 "host_ds", HOST_FS = 0x0C08 "host_fs", HOST_GS = 0x0C0A "host_gs",
    HOST_TR = 0x0C0C "host_tr", HOST_PAT = 0x2C00 "host_pat", HOST_EFER = 0x2C02 "host_efer",
    HOST_CR0 = 0x6C00 "host_cr0", HOST_CR3 = 0x6C02 "host_cr3", HOST_CR4 = 0x6C04 "host_cr4",
    HOST_FS_BASE = 0x6C06 "host_fs_base", HOST_GS_BASE = 0x6C08 "host_gs_base",
    HOST_TR_BASE = 0x6C0A "host_tr_base", HOST_GDTR_BASE = 0x6C0C "host_gdtr_base",
    HOST_IDTR_BASE = 0x6C0E "host_idtr_base", HOST_SYSENTER_ESP = 0x6C10 "host_sysenter_esp",
    HOST_SYSENTER_EIP = 0x6C12 "host_sysenter_eip", HOST_RIP = 0x6C16 "host_rip",

    CR0 = 0x6800 "cr0", CR3 = 0x6802 "cr3", CR4 = 0x6804 "cr4", DR7 = 0x681A "dr7",
    DEBUGCTL = 0x2802 "debugctl", SYSENTER_ESP = 0x6824 "sysenter_esp",
    SYSENTER_EIP = 0x6826 "sysenter_eip", PAT = 0x2804 "pat", EFER = 0x2806 "efer",
    RIP = 0x681E "rip", RFLAGS = 0x6820 "rflags",
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
    CS_SELECTOR = 0x0802 "cs_selector", LDTR_SELECTOR = 0x080C "ldtr_selector",
    TR_SELECTOR = 0x080E "tr_selector",
    ACTIVITY = 0x4826 "activity", INTERRUPTIBILITY = 0x4824 "interruptibility",
    PENDING_DEBUG = 0x6822 "pending_debug", LINK_POINTER = 0x2800 "link_pointer",
    PDPTE0 = 0x280A "pdpte0", PDPTE1 = 0x280C "pdpte1", PDPTE2 = 0x280E "pdpte2",
    PDPTE3 = 0x2810 "pdpte3",
}
