//! A timer: bits of an event that are set at a point in time.

use nuncio_abi::{Call, Deadline, Error};

use super::object::typed_object;
use super::{Machine, Object};

typed_object! {
    /// A point in time.
    Timer
}

impl<M: Machine> Timer<'_, M> {
    /// Sets when it is due: [`Deadline::NEVER`] disarms it.
    ///
    /// # Errors
    /// `BadHandle` after it was closed.
    pub fn arm(&self, deadline: Deadline) -> Result<(), Error> {
        let timer = self.object.handle();
        self.object
            .invoke(Call::Arm { timer, deadline })
            .map(|_| ())
    }
}
