//! Short ways to map and unmap.

use nuncio_abi::{Rights, Verb};

use super::subject::PAGE;
use super::{Subject, Verdict};

impl Subject<'_> {
    pub(super) fn space(&self) -> Result<u64, alloc::string::String> {
        self.given("space", Rights::MAP)
    }

    /// Maps pages of a memory.
    pub(super) fn map(
        &self,
        memory: u64,
        address: u64,
        offset: u64,
        bytes: u64,
        access: Rights,
    ) -> Verdict {
        let last = bytes | access.bits();
        let arguments = [self.space()?, memory, address, offset, last];
        self.works(Verb::Map, arguments).map(drop)
    }

    pub(super) fn unmap(&self, address: u64, bytes: u64) -> Verdict {
        let arguments = [self.space()?, address, bytes, 0, 0];
        self.works(Verb::Unmap, arguments).map(drop)
    }

    /// Does something while a page is mapped for reading only.
    pub(super) fn map_read_only_then(&self, action: impl FnOnce(u64) -> Verdict) -> Verdict {
        let memory = self.memory(1)?;
        let window = self.window(PAGE)?;
        self.map(memory, window, 0, PAGE, Rights::READ)?;
        action(window)?;
        self.unmap(window, PAGE)
    }
}
