//! The machine when the kernel really runs: calls through the text page, shared pages in place.
//!
//! Each vcpu has a [`Native`] of its own, with its vcpu page and its message buffers, which is handed to what
//! runs on it. [`Secondary`] is a vcpu beside the first.

mod secondary;
mod text_page;
mod view;

use core::sync::atomic::{AtomicU64, Ordering};

use nuncio_abi::{BootInfo, Error, Module, RawCall, Reply, Rights, VcpuPage, PAGE_BYTES};
use spin::Once;

use crate::hv::{Gate, Machine, Memory, MessageBuffers, Space};
use crate::mm::{active, Access};
use crate::time;
use crate::trap::upcall::Collected;
use crate::trap::{current_vcpu, VCPUS};

pub use secondary::Secondary;
pub use text_page::{boot_info, Clock, TextPage};
pub use view::WindowView;

/// Windows begin on a boundary of 2 MiB, with a gap of that size between them.
const WINDOW_ALIGN_BYTES: u64 = 2 << 20;

/// The machine of each vcpu that has begun, or is about to.
static MACHINES: [Once<Native>; VCPUS] = [const { Once::new() }; VCPUS];
/// From where on all vcpus find room for windows.
static NEXT_WINDOW: AtomicU64 = AtomicU64::new(0);

/// The hypervisor below a vcpu.
pub struct Native {
    text: TextPage,
    clock: Clock,
    vcpu_page: &'static [AtomicU64; 512],
    time_page: &'static [AtomicU64; 512],
    buffers: MessageBuffers,
    collected: Collected,
    number: usize,
    boot: &'static BootInfo,
}

impl Native {
    /// Takes the pages that a checked boot info names, on the first vcpu.
    pub fn install(boot: &'static BootInfo) -> &'static Native {
        NEXT_WINDOW.store(boot.mapped_end, Ordering::Relaxed);
        MACHINES[0].call_once(|| Native::new(boot, 0, boot.vcpu_page))
    }

    /// Takes the page of another vcpu, before that begins.
    ///
    /// # Errors
    /// `BadArgument` if there is no such vcpu.
    pub fn install_other(&self, number: usize) -> Result<&'static Native, Error> {
        let page = self.boot.vcpu_page_of(number).ok_or(Error::BadArgument)?;
        let place = MACHINES.get(number).ok_or(Error::BadArgument)?;
        Ok(place.call_once(|| Native::new(self.boot, number, page)))
    }

    fn new(boot: &'static BootInfo, number: usize, vcpu_page: u64) -> Native {
        Native {
            text: TextPage::at(boot),
            clock: Clock::at(boot),
            vcpu_page: text_page::words(vcpu_page),
            time_page: text_page::words(boot.time_page),
            buffers: MessageBuffers::new(),
            collected: Collected::new(),
            number,
            boot,
        }
    }

    /// The machine of the vcpu that asks, once it is installed.
    pub fn current() -> Option<&'static Native> {
        MACHINES.get(current_vcpu())?.get()
    }

    /// The number of its vcpu, counted from 0.
    pub const fn vcpu_number(&self) -> usize {
        self.number
    }

    /// What upcalls on its vcpu have collected.
    pub const fn collected(&self) -> &Collected {
        &self.collected
    }

    /// What the domain was given.
    pub const fn boot_info(&self) -> &'static BootInfo {
        self.boot
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
        let window_at = |next: u64| {
            let start = next.checked_next_multiple_of(WINDOW_ALIGN_BYTES)?;
            let start = start.checked_add(WINDOW_ALIGN_BYTES)?;
            let end = start.checked_add(bytes)?;
            (end <= self.boot.address_limit).then_some((start, end))
        };
        let relaxed = Ordering::Relaxed;
        let taken = NEXT_WINDOW.fetch_update(relaxed, relaxed, |next| Some(window_at(next)?.1));
        let window = taken.ok().and_then(window_at);
        window.map(|(start, _)| start).ok_or(Error::QuotaExhausted)
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
        self.collected.take(slot, mask)
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
        let is_mapped = module.address >= PAGE_BYTES && end <= self.boot.mapped_end;
        is_mapped.then(|| view::module_bytes(module))
    }
}
