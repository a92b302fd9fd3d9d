//! Other CPUs: started by INIT and two SIPIs (Intel SDM 3A, 8.4.4.1; AMD APM 2, 15.27.8), signalled by the local
//! APIC.
// UNSAFETY: code is copied to a page below 1 MiB, where other CPUs begin to run it.
#![allow(unsafe_code)]

use alloc::vec::Vec;
use core::arch::global_asm;
use core::mem::offset_of;

use nuncio_abi::PAGE_BYTES;
use spin::Once;

use super::irq_chip::{chosen, vector};
use super::local_apic::LocalApic;
use crate::boot::{Handover, MemoryKind};
use crate::interface::{CpuNumber, CpuStart, Refusal, Signal, Smp, StartError};
use crate::mm::{active, Access};
use crate::pv::Place;
use crate::system::now_ns;

/// Where pages may lie in which a CPU begins: real mode reaches no farther.
const LOW_PAGES: core::ops::Range<u64> = 0x8000..0xA_0000;

/// Commands of the local APIC: INIT and start-up, both as an edge that is asserted.
const INIT: u32 = 0x4500;
const START_UP: u32 = 0x4600;
const INIT_WAIT_NS: u64 = 10_000_000;
const START_UP_WAIT_NS: u64 = 200_000;

/// The CPUs of the machine.
struct Cpus {
    apic: LocalApic,
    /// The numbers of their local APICs; the first is that of the CPU on which the kernel began.
    ids: Vec<u32>,
    /// The page in which the others begin.
    page: u64,
}

static CPUS: Once<Cpus> = Once::new();

/// What a CPU finds at the end of the page, in the order in which `ap_entry` reads it.
#[repr(C)]
struct Parameters {
    page_table: u64,
    stack_top: u64,
    argument: u64,
    entry: u64,
}

const PARAMETERS_OFFSET: u64 = PAGE_BYTES - size_of::<Parameters>() as u64;

// The page's address is in EBX from the first instruction on, so that the code runs wherever it was copied.
global_asm!(
    ".pushsection .rodata.ap_entry, \"a\", @progbits",
    ".balign 16",
    ".code16",
    "ap_entry:",
    "cli",
    "cld",
    "mov ax, cs",
    "mov ds, ax",
    "movzx ebx, ax",
    "shl ebx, 4",
    // The table's address and the far jumps depend on where the page is.
    "lea eax, [ebx + ap_segments_at]",
    "mov [ap_segments_pointer_at + 2], eax",
    "lea eax, [ebx + ap_in_32_bits_at]",
    "mov [ap_to_32_bits_at], eax",
    "lea eax, [ebx + ap_in_64_bits_at]",
    "mov [ap_to_64_bits_at], eax",
    "lgdt [ap_segments_pointer_at]",
    "mov eax, cr0",
    "or eax, 1",
    "mov cr0, eax",
    "jmp fword ptr [ap_to_32_bits_at]",
    ".code32",
    "ap_in_32_bits:",
    "mov ax, 0x10",
    "mov ds, ax",
    "mov es, ax",
    "mov ss, ax",
    // CR4.PAE, CR3, EFER.LME and NXE, CR0.PG and WP (Intel SDM 3A, 9.8.5). After INIT CR0 has CD and NW: caches off.
    "mov eax, cr4",
    "or eax, 1 << 5",
    "mov cr4, eax",
    "mov eax, [ebx + {parameters} + {page_table}]",
    "mov cr3, eax",
    "mov ecx, 0xC0000080",
    "rdmsr",
    "or eax, 1 << 8 | 1 << 11",
    "wrmsr",
    "mov eax, cr0",
    "and eax, ~(1 << 30 | 1 << 29)",
    "or eax, 1 << 31 | 1 << 16",
    "mov cr0, eax",
    "jmp fword ptr [ebx + ap_to_64_bits_at]",
    ".code64",
    "ap_in_64_bits:",
    "mov ebx, ebx",
    "mov rsp, [rbx + {parameters} + {stack_top}]",
    "mov rdi, [rbx + {parameters} + {argument}]",
    "mov rax, [rbx + {parameters} + {entry}]",
    "xor ebp, ebp",
    "push 0",
    "jmp rax",
    ".balign 8",
    "ap_segments:",
    ".quad 0",
    // 32-bit code, data, 64-bit code (Intel SDM 3A, 3.4.5 and 5.2.1), accessed: the page is read-only when the last
    // is loaded, and the CPU would write that bit.
    ".quad 0x00CF9B000000FFFF",
    ".quad 0x00CF93000000FFFF",
    ".quad 0x00209B0000000000",
    "ap_segments_pointer:",
    ".short 31",
    ".long 0",
    "ap_to_32_bits:",
    ".long 0",
    ".short 0x08",
    "ap_to_64_bits:",
    ".long 0",
    ".short 0x18",
    "ap_entry_end:",
    ".set ap_segments_at, ap_segments - ap_entry",
    ".set ap_segments_pointer_at, ap_segments_pointer - ap_entry",
    ".set ap_in_32_bits_at, ap_in_32_bits - ap_entry",
    ".set ap_to_32_bits_at, ap_to_32_bits - ap_entry",
    ".set ap_in_64_bits_at, ap_in_64_bits - ap_entry",
    ".set ap_to_64_bits_at, ap_to_64_bits - ap_entry",
    ".popsection",
    parameters = const PARAMETERS_OFFSET,
    page_table = const offset_of!(Parameters, page_table),
    stack_top = const offset_of!(Parameters, stack_top),
    argument = const offset_of!(Parameters, argument),
    entry = const offset_of!(Parameters, entry),
);

extern "C" {
    static ap_entry: u8;
    static ap_entry_end: u8;
}

impl Smp for Cpus {
    fn count(&self) -> usize {
        self.ids.len()
    }

    fn start(&self, cpu: CpuNumber, start: &CpuStart) -> Result<(), StartError> {
        let id = *self
            .ids
            .get(cpu)
            .filter(|_| cpu != 0)
            .ok_or(StartError::NoSuchCpu)?;
        self.fill_page(start).map_err(|_| StartError::NoMemory)?;
        self.apic.send(id, INIT);
        wait(INIT_WAIT_NS);
        for _ in 0..2 {
            self.apic
                .send(id, START_UP | (self.page / PAGE_BYTES) as u32);
            wait(START_UP_WAIT_NS);
        }
        Ok(())
    }

    fn signal(&self, cpu: CpuNumber, signal: Signal) {
        if let Some(id) = self.ids.get(cpu) {
            self.apic.send(*id, vector(signal).into());
        }
    }
}

impl Cpus {
    /// Copies the code to the page. Only one CPU starts at a time.
    fn fill_page(&self, start: &CpuStart) -> Result<(), crate::mm::MapProblem> {
        active::map(self.page, self.page + PAGE_BYTES, Access::Write)?;
        let code = (&raw const ap_entry).addr();
        let bytes = (&raw const ap_entry_end).addr() - code;
        let parameters = Parameters {
            page_table: start.page_table,
            stack_top: start.stack_top,
            argument: start.argument,
            entry: start.entry as *const () as u64,
        };
        // SAFETY: the page is RAM that nobody else uses, and is mapped; the code ends before the parameters.
        unsafe {
            core::ptr::copy_nonoverlapping(code as *const u8, self.page as *mut u8, bytes);
            let place = (self.page + PARAMETERS_OFFSET) as *mut Parameters;
            place.write_volatile(parameters);
        }
        // The CPU runs from it in its last steps, with these tables.
        active::map(self.page, self.page + PAGE_BYTES, Access::Execute)
    }
}

fn wait(ns: u64) {
    let end_ns = now_ns() + ns;
    while now_ns() < end_ns {
        core::hint::spin_loop();
    }
}

/// A free page in which a CPU can begin.
fn low_page(handover: &Handover) -> Option<u64> {
    let pages = LOW_PAGES.step_by(PAGE_BYTES as usize);
    let is_free = |page: &u64| {
        let mut holding = handover
            .ranges()
            .iter()
            .filter(|range| range.start < page + PAGE_BYTES && *page < range.end)
            .peekable();
        holding
            .peek()
            .is_some_and(|range| range.start <= *page && page + PAGE_BYTES <= range.end)
            && holding.all(|range| range.kind == MemoryKind::Free)
    };
    pages.into_iter().find(is_free)
}

pub(super) fn open(place: &Place) -> Result<&'static dyn Smp, Refusal> {
    place.devices()?;
    let apic = chosen(place)?;
    let handover = place.handover.ok_or(Refusal("nobody says where RAM is"))?;
    let page = low_page(handover).ok_or(Refusal("no RAM is free below 640 KiB"))?;
    let interrupts = place
        .hardware
        .and_then(|hardware| hardware.interrupts.as_ref());
    let listed = interrupts
        .ok_or(Refusal("the firmware does not list the CPUs"))?
        .cpus();
    let own = apic.id();
    let others = listed.iter().copied().filter(|id| *id != own);
    let ids = core::iter::once(own).chain(others).collect();
    Ok(CPUS.call_once(|| Cpus { apic, ids, page }))
}
