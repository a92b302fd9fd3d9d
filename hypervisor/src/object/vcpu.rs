//! What the objects know of a virtual CPU: its number and the page through which events reach it.

use alloc::sync::Arc;

use nuncio_abi::{Posted, VcpuPage};

use crate::mem::{KernelCharge, OutOfFrames, PhysicalMemory, Words};
use crate::sched::VcpuId;

use super::{Memory, Monitor, Sleeper, Wake};

/// A virtual CPU; its registers are the vcpu loop's.
pub struct Vcpu {
    id: VcpuId,
    page: &'static Words,
    memory: Arc<Memory>,
    sleeper: Arc<Sleeper>,
    monitor: Option<Arc<Monitor>>,
    _charge: Option<KernelCharge>,
}

/// Where a port or an event announces itself.
#[derive(Clone, Copy)]
pub struct Target {
    /// The vcpu to wake.
    pub vcpu: VcpuId,
    /// Its page, which the vcpu keeps alive. Whoever posts there holds the lock of the port or event,
    /// and a dying domain lets go of its vcpu only after it has closed its handles, each of which takes
    /// the target out under that lock: nobody can be in the page any more.
    pub page: &'static Words,
    /// The slot in that page.
    pub slot: u8,
}

impl Vcpu {
    /// A virtual CPU whose page is the first page of `memory`.
    ///
    /// # Errors
    /// If that is no guest memory.
    pub fn new(
        id: VcpuId,
        memory: Arc<Memory>,
        physical: &'static dyn PhysicalMemory,
    ) -> Result<Self, OutOfFrames> {
        let page = memory.first_page(physical)?;
        Ok(Vcpu {
            id,
            page,
            memory,
            sleeper: Arc::default(),
            monitor: None,
            _charge: None,
        })
    }

    /// A virtual CPU that a domain makes for another one; it gets its number when nothing can fail
    /// any more.
    ///
    /// # Errors
    /// As [`Vcpu::new`].
    pub fn made(
        memory: Arc<Memory>,
        monitor: Option<Monitor>,
        physical: &'static dyn PhysicalMemory,
        charge: KernelCharge,
    ) -> Result<Self, OutOfFrames> {
        let mut vcpu = Self::new(VcpuId(u32::MAX), memory, physical)?;
        vcpu.monitor = monitor.map(Arc::new);
        vcpu._charge = Some(charge);
        Ok(vcpu)
    }

    /// Who is told of its exits.
    pub const fn monitor(&self) -> Option<&Arc<Monitor>> {
        self.monitor.as_ref()
    }

    /// With that number.
    pub fn numbered(self, id: VcpuId) -> Self {
        Vcpu { id, ..self }
    }

    /// Its number.
    pub const fn id(&self) -> VcpuId {
        self.id
    }

    /// The page that it shares with the hypervisor.
    #[inline]
    pub const fn page(&self) -> VcpuPage<'static> {
        VcpuPage::new(self.page)
    }

    /// What it sleeps for.
    #[inline]
    pub const fn sleeper(&self) -> &Arc<Sleeper> {
        &self.sleeper
    }

    /// The memory object of that page, for mapping it.
    pub const fn page_memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// A slot of its page, for an object that announces itself there.
    pub const fn target(&self, slot: u8) -> Target {
        Target {
            vcpu: self.id,
            page: self.page,
            slot,
        }
    }
}

impl Target {
    /// Posts bits to the slot.
    #[inline]
    pub fn post(&self, bits: u64) -> Posted {
        let word = VcpuPage::new(self.page).slot(usize::from(self.slot));
        word.map_or(Posted::Masked, |word| word.post(bits))
    }

    /// Posts bits to the slot, and says whom to wake if that is news.
    pub fn announce(&self, bits: u64) -> Option<Wake> {
        let word = VcpuPage::new(self.page).slot(usize::from(self.slot))?;
        match word.post_uncounted(bits) {
            Some(posted) => Wake::after(posted, self.vcpu),
            None => self.announce_counted(bits),
        }
    }

    /// What is left of a posting that is counted, in a function of its own: the others need no place on
    /// the stack then.
    #[cold]
    #[inline(never)]
    fn announce_counted(&self, bits: u64) -> Option<Wake> {
        let word = VcpuPage::new(self.page).slot(usize::from(self.slot))?;
        Wake::after(word.post_counted(bits), self.vcpu)
    }
}
