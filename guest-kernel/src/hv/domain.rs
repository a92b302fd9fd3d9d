//! A domain: what it has used, how it is, and its end.

use nuncio_abi::{Call, Error, QueryItem};

use super::object::typed_object;
use super::{Machine, Object};

typed_object! {
    /// A domain that the holder may stop.
    Domain
}

impl<M: Machine> Domain<'_, M> {
    /// Ends the domain. Returns only if it could not be ended.
    ///
    /// # Errors
    /// `BadHandle` or `MissingRight`.
    pub fn stop(&self, code: u64) -> Result<(), Error> {
        let domain = self.object.handle();
        self.object
            .invoke(Call::Stop {
                object: domain,
                code,
            })
            .map(|_| ())
    }

    /// Frames used and frames allowed.
    ///
    /// # Errors
    /// `BadHandle`.
    pub fn usage_frames(&self) -> Result<(u64, u64), Error> {
        self.object.query(QueryItem::Usage)
    }
}
