//! The domains by number.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::object::{Domain, DomainId};

/// Every domain that lives, and every one that another has made and not given up.
#[derive(Default)]
pub(super) struct Domains {
    kept: Vec<Option<Arc<Domain>>>,
    free: Vec<DomainId>,
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

    /// Keeps a domain.
    pub(super) fn keep(&mut self, domain: Arc<Domain>) {
        let index = domain.id.0 as usize;
        if self.kept.len() <= index {
            self.kept.resize_with(index + 1, || None);
        }
        self.kept[index] = Some(domain);
    }

    /// The domain with that number.
    pub(super) fn get(&self, id: DomainId) -> Option<Arc<Domain>> {
        self.kept.get(id.0 as usize)?.clone()
    }

    /// Lets go of a domain; its number is free.
    pub(super) fn remove(&mut self, id: DomainId) -> Option<Arc<Domain>> {
        let domain = self.kept.get_mut(id.0 as usize)?.take()?;
        self.free.push(id);
        Some(domain)
    }
}
