//! The machine when the kernel really runs: calls through the text page, shared pages in place.

mod text_page;
mod view;

use core::sync::atomic::{AtomicU64, Ordering};

use nuncio_abi::{BootInfo, Error, Module, RawCall, Reply, Rights, VcpuPage, PAGE_BYTES};
use spin::Once;

use crate::hv::{Gate, Machine, Memory, MessageBuffers, Space};
use crate::mm::{active, Access};
use crate::{time, trap};

pub use text_page::{boot_info, Clock, TextPage};
pub use view::WindowView;

/// Windows begin on a boundary of 2 MiB, with a gap of that size between them.
const WINDOW_ALIGN_BYTES: u64 = 2 << 20;

/// The one machine there is.
static MACHINE: Once<Native> = Once::new();

/// The hypervisor below us.
pub struct Native {
    text: TextPage,
    clock: Clock,
    vcpu_page: &'static [AtomicU64; 512],
    time_page: &'static [AtomicU64; 512],
    buffers: MessageBuffers,
    next_window: AtomicU64,
    address_limit: u64,
    mapped_end: u64,
}

impl Native {
    /// Takes the pages that a checked boot info names.
    pub fn install(boot: &'static BootInfo) -> &'static Native {
        MACHINE.call_once(|| Native {
            text: TextPage::at(boot),
            clock: Clock::at(boot),
            vcpu_page: text_page::vcpu_page(boot),
            time_page: text_page::time_page(boot),
            buffers: MessageBuffers::new(),
            next_window: AtomicU64::new(boot.mapped_end),
            address_limit: boot.address_limit,
            mapped_end: boot.mapped_end,
        })
    }

    /// The machine, once it is installed.
    pub fn get() -> Option<&'static Native> {
        MACHINE.get()
    }

    /// The entry for calls.
    pub const fn text(&self) -> &TextPage {
        &self.text
    }

    /// The clock.
    pub const fn clock(&self) -> Clock {
        self.clock
    }

    /// The clock by the protocol of the time page, without the code of the hypervisor.
    #[inline]
    pub fn now_ns_by_hand(&self) -> u64 {
        time::now_ns(self.time_page)
    }

    /// Finds guest-physical addresses at which nothing is mapped, and never gives them twice.
    ///
    /// # Errors
    /// `QuotaExhausted` if there is no room below the address limit.
    pub fn reserve_window(&self, bytes: u64) -> Result<u64, Error> {
        let next = self.next_window.load(Ordering::Relaxed);
        let start = next
            .checked_next_multiple_of(WINDOW_ALIGN_BYTES)
            .and_then(|start| start.checked_add(WINDOW_ALIGN_BYTES));
        let end = start.and_then(|start| start.checked_add(bytes));
        match (start, end) {
            (Some(start), Some(end)) if end <= self.address_limit => {
                self.next_window.store(end, Ordering::Relaxed);
                Ok(start)
            }
            _ => Err(Error::QuotaExhausted),
        }
    }
}

impl Gate for Native {
    #[inline]
    fn call(&self, raw: RawCall) -> Reply {
        self.text.call(raw)
    }
}

impl Machine for Native {
    type View = WindowView;

    #[inline]
    fn vcpu_page(&self) -> VcpuPage<'_> {
        VcpuPage::new(self.vcpu_page)
    }

    #[inline]
    fn now_ns(&self) -> u64 {
        self.clock.now_ns()
    }

    #[inline]
    fn buffers(&self) -> &MessageBuffers {
        &self.buffers
    }

    fn collected_by_upcall(&self, slot: usize, mask: u64) -> u64 {
        trap::upcall::take(slot, mask)
    }

    fn attach(
        &self,
        space: &Space<'_, Self>,
        memory: &Memory<'_, Self>,
        access: Rights,
    ) -> Result<WindowView, Error> {
        let bytes = memory.bytes()?;
        let start = self.reserve_window(bytes)?;
        space.map(memory, start, 0, bytes, access)?;
        let is_writable = access.contains(Rights::WRITE);
        let page_access = if is_writable {
            Access::Write
        } else {
            Access::Read
        };
        active::map(start, start + bytes, page_access).map_err(|_| Error::QuotaExhausted)?;
        Ok(WindowView::new(start, bytes, is_writable))
    }

    fn module_bytes(&self, module: &Module) -> Option<&[u8]> {
        let end = module.address.checked_add(module.length)?;
        if module.length == 0 {
            return Some(&[]);
        }
        let is_mapped = module.address >= PAGE_BYTES && end <= self.mapped_end;
        is_mapped.then(|| view::module_bytes(module))
    }
}
