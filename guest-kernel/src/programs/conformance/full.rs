//! Uses up what a domain may have, to its last unit.

use alloc::string::String;
use alloc::vec::Vec;

use nuncio_abi::{Error, QueryItem, Rights, Verb};

use super::subject::PAGE;
use super::{ensure, equal, Subject};

/// Handles in a table.
pub(super) const TABLE_HANDLES: u64 = 1024;

/// Mappings in a space.
pub(super) const SPACE_MAPPINGS: u64 = 1024;

impl Subject<'_> {
    /// Copies a handle until the table is full, and gives the copies.
    pub(super) fn fill_the_table(&self) -> Result<Vec<u64>, String> {
        let memory = match self.call(Verb::Create, [4, PAGE, 0, 0, 0]) {
            Ok([memory, ..]) => memory,
            // There is one place left, and none for two handles.
            Err(_) => return self.copy_until_full(self.given_memory()?),
        };
        let mut copies = self.copy_until_full(memory)?;
        copies.push(self.keep(memory));
        Ok(copies)
    }

    fn given_memory(&self) -> Result<u64, String> {
        // Its handle comes from the manifest and cannot be copied: only closed places count then.
        self.given("big", Rights::READ)
    }

    fn copy_until_full(&self, source: u64) -> Result<Vec<u64>, String> {
        let rights = Rights::ACCESS | Rights::GRANT;
        let mut copies = Vec::new();
        loop {
            ensure(copies.len() as u64 <= TABLE_HANDLES, || {
                "it is never full".into()
            })?;
            match self.call(Verb::Grant, [source, rights.bits(), 0, 0, 0]) {
                Ok([copy, ..]) => copies.push(self.keep(copy)),
                Err(Error::MissingRight | Error::QuotaExhausted) => return Ok(copies),
                Err(error) => return Err(alloc::format!("grant gives {error}")),
            }
        }
    }

    /// Frames of the domain's account that are still free.
    pub(super) fn free_frames(&self) -> Result<u64, String> {
        let domain = self.given("domain", Rights::NONE)?;
        let (used, allowed) = self.query(domain, QueryItem::Usage.number())?;
        ensure(used <= allowed, || {
            alloc::format!("{used} frames used of {allowed}")
        })?;
        Ok(allowed - used)
    }

    /// Takes every frame that the account still has, and gives the memories.
    pub(super) fn take_all_frames(&self) -> Result<Vec<u64>, String> {
        const MOST_PAGES: u64 = (16 << 20) / PAGE;
        let mut memories = Vec::new();
        while let pages @ 1.. = self.free_frames()? {
            memories.push(self.memory(pages.min(MOST_PAGES))?);
        }
        equal("free frames", self.free_frames()?, 0)?;
        Ok(memories)
    }

    /// Bytes of the hypervisor's memory that the domain uses, and may use.
    pub(super) fn kernel_bytes(&self) -> Result<(u64, u64), String> {
        let domain = self.given("domain", Rights::NONE)?;
        self.query(domain, QueryItem::KernelUsage.number())
    }
}
