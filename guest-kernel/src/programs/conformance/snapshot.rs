//! What a guest can see of its own state: a call that fails leaves all of it as it was.

use alloc::string::String;
use alloc::vec::Vec;

use nuncio_abi::{QueryItem, Rights};

use super::Subject;

/// What was used of every quota, what is mapped, how long queues are, and what pends.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Snapshot {
    frames: (u64, u64),
    kernel_bytes: (u64, u64),
    mapped: (u64, u64),
    queues: Vec<(u64, u64)>,
    ready: u64,
    /// Slots in which something pends or is enabled, with both words.
    slots: Vec<(usize, u64, u64)>,
}

impl Snapshot {
    pub(super) fn take(subject: &Subject<'_>) -> Result<Self, String> {
        let usage = QueryItem::Usage.number();
        let domain = subject.given("domain", Rights::NONE)?;
        let space = subject.given("space", Rights::NONE)?;
        let ports = subject.watched().into_iter();
        let page = subject.ground.page();
        let slots = (0..nuncio_abi::EVENT_SLOTS).filter_map(|slot| {
            let word = page.slot(slot)?;
            let (pending, enabled) = (word.pending(), word.enabled());
            (pending | enabled != 0).then_some((slot, pending, enabled))
        });
        Ok(Snapshot {
            frames: subject.query(domain, usage)?,
            kernel_bytes: subject.query(domain, QueryItem::KernelUsage.number())?,
            mapped: subject.query(space, usage)?,
            queues: ports
                .map(|port| subject.query(port, usage))
                .collect::<Result<_, _>>()?,
            ready: page.ready(),
            slots: slots.collect(),
        })
    }
}
