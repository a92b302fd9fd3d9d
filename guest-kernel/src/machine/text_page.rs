//! The call itself, and the pages that the hypervisor put into our memory.
// UNSAFETY: addresses from the boot info become references, and the text page is called.
#![allow(unsafe_code)]

use core::arch::asm;
use core::sync::atomic::AtomicU64;

use nuncio_abi::{
    BootInfo, RawCall, Reply, BOOT_INFO_MAGIC, CLOCK_ENTRY_OFFSET, MAX_VALUES, PAGE_BYTES,
};

/// The entry for calls: the first byte of the text page.
#[derive(Clone, Copy)]
pub struct TextPage {
    entry: u64,
}

impl TextPage {
    /// The text page of a checked boot info.
    pub const fn at(boot: &BootInfo) -> Self {
        TextPage {
            entry: boot.text_page,
        }
    }

    /// The address of the entry.
    pub const fn entry(self) -> u64 {
        self.entry
    }

    /// Makes a call. All registers but those of the reply come back as they were.
    #[inline]
    pub fn call(self, raw: RawCall) -> Reply {
        let (status, values) = self.call_registers(raw);
        Reply::from_registers(status, values)
    }

    /// Makes a call and gives RAX and the five value registers, whatever they mean.
    #[inline]
    pub fn call_registers(self, raw: RawCall) -> (u64, [u64; MAX_VALUES]) {
        let [rdi, rsi, rdx, r10, r8] = raw.arguments;
        let (status, first, second, third, fourth, fifth): (u64, u64, u64, u64, u64, u64);
        // SAFETY: the entry is code that makes the call and returns to the address on our stack.
        // What the hypervisor writes to memory on our behalf it writes to atomics.
        unsafe {
            asm!(
                "call {entry}",
                entry = in(reg) self.entry,
                inlateout("rax") raw.verb => status,
                inlateout("rdi") rdi => fourth,
                inlateout("rsi") rsi => fifth,
                inlateout("rdx") rdx => first,
                inlateout("r10") r10 => second,
                inlateout("r8") r8 => third,
            );
        }
        (status, [first, second, third, fourth, fifth])
    }
}

/// What a kernel needs to read the clock in the way that the hypervisor has written for it.
#[derive(Clone, Copy)]
pub struct Clock {
    entry: u64,
    time_page: u64,
}

impl Clock {
    /// The clock of a checked boot info.
    pub const fn at(boot: &BootInfo) -> Self {
        Clock {
            entry: boot.text_page + CLOCK_ENTRY_OFFSET,
            time_page: boot.time_page,
        }
    }

    /// The addresses of the entry and of the time page.
    pub const fn parts(self) -> (u64, u64) {
        (self.entry, self.time_page)
    }

    /// Nanoseconds since the hypervisor started.
    #[inline]
    pub fn now_ns(self) -> u64 {
        let now_ns;
        // SAFETY: the entry is code that reads the time page and returns to the address on our
        // stack; it changes the registers that are named here and no memory.
        unsafe {
            asm!(
                "call {entry}",
                entry = in(reg) self.entry,
                in("rdi") self.time_page,
                out("rax") now_ns,
                out("rcx") _,
                out("rdx") _,
                out("rsi") _,
                out("r8") _,
                out("r9") _,
                out("r10") _,
                options(readonly),
            );
        }
        now_ns
    }
}

/// The boot info at the address that the loader handed over; `None` if there is none.
pub fn boot_info(address: u64) -> Option<&'static BootInfo> {
    if address == 0 || !address.is_multiple_of(PAGE_BYTES) {
        return None;
    }
    // SAFETY: at entry RDI is the address of a mapped page, as the x86-64 binding says. Every bit
    // pattern is a valid BootInfo, and nobody writes to the page while the kernel runs.
    let boot: &'static BootInfo = unsafe { &*(address as *const BootInfo) };
    (boot.magic == BOOT_INFO_MAGIC).then_some(boot)
}

/// A page of the hypervisor, as words. Nothing here stores to the read-only ones.
pub(super) fn words(address: u64) -> &'static [AtomicU64; 512] {
    // SAFETY: the boot info was checked: the address is that of a whole page that is mapped and
    // stays so. Both sides use it as atomic words only.
    unsafe { &*(address as *const [AtomicU64; 512]) }
}
