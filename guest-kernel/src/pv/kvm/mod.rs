//! Under KVM: its clock. Everything else is a PC's.
mod clock_source;

use super::{signature, Place};
use crate::instructions::cpuid;
use crate::interface::{Backend, Offer, Rating, Refusal};

/// What the backend offers.
pub const BACKEND: Backend<Place> = Backend {
    clock_sources: &[Offer {
        server: "kvmclock",
        rating: Rating(350),
        open: clock_source::open,
    }],
    ..Backend::new("kvm")
};

/// The bits of KVM's features (Linux, Documentation/virt/kvm/x86/cpuid.rst): EAX of the leaf behind its name.
fn features(place: &Place) -> Result<u32, Refusal> {
    place.devices()?;
    let leaf = signature::find(b"KVMKVMKVM\0\0\0", |leaf| cpuid(leaf, 0));
    let leaf = leaf.ok_or(Refusal("this is not KVM"))?;
    let [features, ..] = cpuid(leaf + 1, 0);
    Ok(features)
}
