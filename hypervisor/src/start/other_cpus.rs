//! What the CPUs do that the machine was not booted on: they turn virtualization on, wait for their
//! domains, and run them.

use alloc::sync::Arc;
use core::convert::Infallible;
use core::hint::spin_loop;

use spin::Once;

use crate::cpu::{self, DirectMap};
use crate::mem::{Account, OutOfFrames};
use crate::policy::msr;
use crate::run::{CpuIndex, Cpus, Runner};
use crate::vt::svm::Svm;
use crate::vt::vmx::Vmx;
use crate::vt::Vendor;

use super::platform::HardwarePlatform;
use super::traces::Traces;
use super::{find_virtualization, gigabyte_pages, Virtualization};

/// What they are told, once there is something to do.
static SHARED: Once<Shared> = Once::new();

/// What all CPUs share.
pub(super) struct Shared {
    pub(super) cpus: Arc<Cpus>,
    pub(super) memory: &'static DirectMap,
    /// Pays for what virtualization takes on each.
    pub(super) account: Arc<Account>,
    pub(super) limit_ns: Option<u64>,
    pub(super) traces: Traces,
}

/// Lets the other CPUs begin. Returns when virtualization is on on all of them.
pub(super) fn join(shared: Shared) {
    let cpus = shared.cpus.clone();
    SHARED.call_once(|| shared);
    // ENDS: all have been let in, and each joins or panics, which ends the machine.
    while !cpus.have_joined() {
        spin_loop();
    }
}

/// What another CPU does until the machine ends.
pub(super) fn work(platform: cpu::Platform) -> ! {
    // ENDS: the boot CPU lets the others begin, or ends the machine.
    let shared = loop {
        match SHARED.get() {
            Some(shared) => break shared,
            None => spin_loop(),
        }
    };
    let Err(_) = serve(shared, platform);
    panic!("the machine has too little memory for virtualization on all its CPUs")
}

fn serve(shared: &Shared, platform: cpu::Platform) -> Result<Infallible, OutOfFrames> {
    let Shared {
        memory, account, ..
    } = shared;
    // It has what the boot CPU has: CPUs that lack something of it are left out.
    match find_virtualization() {
        Ok(Virtualization::Vmx(features)) => {
            let vmx = Vmx::enable(features, *memory, account, &msr::PASSED)?;
            serve_on(shared, vmx, platform)
        }
        Ok(Virtualization::Svm(features)) => {
            let gigabyte_pages = gigabyte_pages();
            let svm = Svm::enable(features, gigabyte_pages, *memory, account, &msr::PASSED)?;
            serve_on(shared, svm, platform)
        }
        Err(refusal) => panic!("CPU {}: {}", platform.index(), refusal.text),
    }
}

/// The vendor is never dropped: the CPU goes on using its frames, and they do not count as free.
fn serve_on<V: Vendor>(shared: &Shared, vendor: V, platform: cpu::Platform) -> ! {
    let cpus = shared.cpus.clone();
    let index = CpuIndex(platform.index() as u8);
    let platform = HardwarePlatform::new::<V>(platform);
    let mut runner = Runner::new(cpus, index, vendor, platform, shared.limit_ns);
    shared.traces.begin(&mut runner);
    runner.serve();
    runner.platform().halt()
}
