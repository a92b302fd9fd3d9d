//! The console is the port that the domain was given for it.

use super::{machine, Place, Refusal};
use crate::interface::Console;
use crate::kernel;

struct Port;

impl Console for Port {
    fn write(&self, text: &[u8]) {
        for chunk in text.utf8_chunks() {
            kernel::print_by_platform(format_args!("{}", chunk.valid()));
        }
    }
}

pub(super) fn open(place: &Place) -> Result<&'static dyn Console, Refusal> {
    machine(place)?;
    Ok(&Port)
}
