//! `schedule`: set the priority and the budget of a vcpu.

use nuncio_abi::{BudgetChange, Error, Handle, Rights};

use super::{Caller, Effects, Outcome};

/// What is asked for.
pub(super) struct Terms {
    pub(super) priority: Option<u8>,
    pub(super) budget: BudgetChange,
    pub(super) cpu: Option<u8>,
}

#[inline(never)]
pub(super) fn schedule(
    caller: Caller<'_>,
    vcpu: Handle,
    terms: Terms,
    effects: &mut impl Effects,
) -> Outcome {
    begin(caller, vcpu, terms, effects).unwrap_or_else(Outcome::Error)
}

fn begin(
    caller: Caller<'_>,
    vcpu: Handle,
    terms: Terms,
    effects: &mut impl Effects,
) -> Result<Outcome, Error> {
    let table = caller.domain.handles.lock();
    let domain = table.vcpu(vcpu, Rights::SCHEDULE)?.upgrade();
    let domain = domain.ok_or(Error::PeerGone)?;
    if domain.ending().is_some() {
        return Err(Error::PeerGone);
    }
    let Terms {
        priority,
        budget,
        cpu,
    } = terms;
    let is_elsewhere = cpu.is_some_and(|cpu| cpu != domain.cpu.0);
    let ceiling = effects.ceiling(caller.vcpu.id());
    if is_elsewhere || priority.is_some_and(|priority| priority > ceiling) {
        return Err(Error::BadArgument);
    }
    effects.schedule(domain, priority, budget);
    Ok(Outcome::Schedule)
}
