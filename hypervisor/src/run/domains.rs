//! The domains by number, and what is left of those that have ended.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::object::{Domain, DomainId};
use crate::vt::EntryFailure;

use super::{CallTrace, Counters};

/// Every domain that lives, and every one that another has made and not given up.
#[derive(Default)]
pub(super) struct Domains {
    kept: Vec<Option<Kept>>,
    free: Vec<DomainId>,
}

struct Kept {
    domain: Arc<Domain>,
    /// Of a domain from the plan, which gets a report.
    record: Option<Record>,
}

/// What the report says of a domain beside its ending.
#[derive(Default)]
pub(super) struct Record {
    /// Whether the run goes on without it.
    pub(super) background: bool,
    /// What its vcpus have done that do not run any more.
    pub(super) counters: Counters,
    /// The calls of its first vcpu, if they were recorded.
    pub(super) trace: Option<Box<CallTrace>>,
    /// Frames that it had when it ended.
    pub(super) frames: u64,
    /// Why the CPU refused to enter it, if that was its end.
    pub(super) entry_failure: Option<EntryFailure>,
}

impl Domains {
    /// A number that no domain has. It is used again after it.
    pub(super) fn new_id(&mut self) -> DomainId {
        self.free.pop().unwrap_or_else(|| {
            let id = DomainId(self.kept.len() as u32);
            self.kept.push(None);
            self.free.reserve(self.kept.len());
            id
        })
    }

    /// Keeps a domain that another one has made.
    pub(super) fn keep(&mut self, domain: Arc<Domain>) {
        self.put(Kept {
            domain,
            record: None,
        });
    }

    /// Keeps a domain from the plan.
    pub(super) fn keep_planned(&mut self, domain: Arc<Domain>, background: bool) {
        let record = Record {
            background,
            ..Record::default()
        };
        self.put(Kept {
            domain,
            record: Some(record),
        });
    }

    fn put(&mut self, kept: Kept) {
        let index = kept.domain.id.0 as usize;
        if self.kept.len() <= index {
            self.kept.resize_with(index + 1, || None);
        }
        self.kept[index] = Some(kept);
    }

    /// The domain with that number.
    pub(super) fn get(&self, id: DomainId) -> Option<Arc<Domain>> {
        let kept = self.kept.get(id.0 as usize)?.as_ref()?;
        Some(kept.domain.clone())
    }

    /// The domains from the plan that live.
    pub(super) fn planned(&self) -> Vec<Arc<Domain>> {
        let kept = self.kept.iter().flatten();
        let planned = kept.filter(|kept| kept.record.is_some());
        planned.map(|kept| kept.domain.clone()).collect()
    }

    /// What is recorded of a domain from the plan.
    pub(super) fn record(&mut self, id: DomainId) -> Option<&mut Record> {
        self.kept.get_mut(id.0 as usize)?.as_mut()?.record.as_mut()
    }

    /// Lets go of a domain; its number is free.
    pub(super) fn remove(&mut self, id: DomainId) -> Option<(Arc<Domain>, Option<Record>)> {
        let Kept { domain, record } = self.kept.get_mut(id.0 as usize)?.take()?;
        self.free.push(id);
        Some((domain, record))
    }
}
