//! The vcpus with which a domain begins: each with its page, and on its CPU.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::mem::{Account, OutOfFrames};
use crate::object::{Domain, Memory, Vcpu};
use crate::plan::DomainPlan;
use crate::run::Cpus;
use crate::sched::CpuIndex;

use super::error::Fault;
use super::Machine;

/// The vcpus of one domain, and the pages that they share with the hypervisor.
pub(super) struct Vcpus {
    vcpus: Vec<Vcpu>,
    /// The CPU of the first.
    pub(super) cpu: CpuIndex,
    pub(super) pages: Vec<Arc<Memory>>,
}

impl Vcpus {
    /// Makes as many as the plan says. `before` counts those of the domains before this one.
    pub(super) fn make(
        cpus: &Cpus,
        machine: &Machine,
        plan: &DomainPlan,
        before: usize,
        account: &Arc<Account>,
    ) -> Result<Self, Fault> {
        let mut made = Vcpus {
            vcpus: Vec::new(),
            cpu: choose_cpu(plan, 0, before, cpus.count())?,
            pages: Vec::new(),
        };
        for number in 0..plan.vcpus as usize {
            let cpu = choose_cpu(plan, number, before, cpus.count())?;
            let page = Arc::new(Memory::allocate(account, 1)?);
            let id = cpus.new_vcpu_id(cpu).ok_or(OutOfFrames::Memory)?;
            made.vcpus
                .push(Vcpu::new(id, page.clone(), machine.physical)?);
            made.pages.push(page);
        }
        Ok(made)
    }

    /// Adds all to their domain.
    pub(super) fn add_to(self, domain: &Domain) -> Result<(), Fault> {
        for vcpu in self.vcpus {
            domain.add_vcpu(|| Ok(vcpu))?;
        }
        Ok(())
    }
}

/// The CPUs that the plan names in turn, or else one after the other.
fn choose_cpu(
    plan: &DomainPlan,
    number: usize,
    before: usize,
    count: usize,
) -> Result<CpuIndex, Fault> {
    let mut named = plan.cpus.iter().cycle();
    match named.nth(number) {
        Some(cpu) if usize::from(*cpu) < count => Ok(CpuIndex(*cpu)),
        Some(cpu) => Err(Fault::NoCpu { cpu: *cpu, count }),
        // There are at most 256.
        None => Ok(CpuIndex((before.saturating_add(number) % count) as u8)),
    }
}
