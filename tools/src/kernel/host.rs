//! What the kernel can be run on.

use super::{bochs, qemu};
use crate::beds::{Accelerator, Board, TestBed};

/// Something that the kernel runs on.
pub trait Host {
    /// Its name for `--host`.
    fn name(&self) -> &'static str;

    /// How the kernel ends such a machine: the value of its word `exit=`.
    fn exit_word(&self) -> &'static str {
        self.name()
    }

    /// What of this computer keeps it from running here, and what to do about it.
    fn obstacle(&self) -> Option<String> {
        self.bed().obstacle()
    }

    /// The bed that starts such a machine.
    fn bed(&self) -> &dyn TestBed;

    /// The boards that there are; the first one is the default.
    fn boards(&self) -> &'static [Board];

    /// Whether a kernel that ends with `code` leaves this exit status; `said` is the last message on its
    /// standard error.
    fn agrees(&self, code: u64, status: i32, said: &str) -> bool;
}

fn all() -> [Box<dyn Host>; 3] {
    [
        Box::new(qemu::Qemu::from_environment(Accelerator::Tcg)),
        Box::new(bochs::Bochs::new()),
        Box::new(qemu::Qemu::from_environment(Accelerator::Kvm)),
    ]
}

/// The names of all.
pub fn names() -> Vec<&'static str> {
    all().iter().map(|host| host.name()).collect()
}

/// The host of that name; the error lists the names.
pub fn named(name: &str) -> Result<Box<dyn Host>, String> {
    let found = all().into_iter().find(|host| host.name() == name);
    found.ok_or_else(|| {
        format!(
            "there is no host {name:?}; the hosts are: {}",
            names().join(", ")
        )
    })
}
