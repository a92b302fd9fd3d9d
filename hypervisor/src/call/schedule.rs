//! `schedule`: set the priority and the budget of a vcpu.

use nuncio_abi::{BudgetChange, Error, Handle, Rights};

use crate::object::CpuIndex;

use super::{Caller, Effects, Outcome};

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScheduleTerms {
    /// Another priority.
    pub priority: Option<u8>,
    /// What becomes of the budget.
    pub budget: BudgetChange,
    /// The number of another CPU.
    pub cpu: Option<u8>,
}

impl ScheduleTerms {
    /// Whether a vcpu of that CPU goes to another one.
    pub fn moves_from(self, cpu: CpuIndex) -> bool {
        self.cpu.is_some_and(|other| CpuIndex(other) != cpu)
    }
}

#[inline(never)]
pub(super) fn schedule(
    caller: Caller<'_>,
    vcpu: Handle,
    terms: ScheduleTerms,
    effects: &mut impl Effects,
) -> Outcome {
    begin(caller, vcpu, terms, effects).unwrap_or_else(Outcome::Error)
}

fn begin(
    caller: Caller<'_>,
    vcpu: Handle,
    terms: ScheduleTerms,
    effects: &mut impl Effects,
) -> Result<Outcome, Error> {
    let table = caller.domain.handles.lock();
    let (domain, number) = table.vcpu(vcpu, Rights::SCHEDULE)?;
    let domain = domain.upgrade().ok_or(Error::PeerGone)?;
    if domain.ending().is_some() {
        return Err(Error::PeerGone);
    }
    let ceiling = effects.ceiling(caller.vcpu.id());
    let has_cpu = terms.cpu.is_none_or(|cpu| effects.has_cpu(CpuIndex(cpu)));
    if !has_cpu || terms.priority.is_some_and(|priority| priority > ceiling) {
        return Err(Error::BadArgument);
    }
    effects.schedule(domain, number, terms);
    Ok(Outcome::Schedule)
}
