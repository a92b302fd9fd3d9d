//! `run`: let a vcpu run until it needs its runner.
//!
//! The caller sleeps; the vcpu's exit is left for it as the values of the call.

use alloc::sync::Arc;

use nuncio_abi::{Deadline, Error, Handle, Resume, Rights};

use crate::object::{Domain, Order, Runner, VcpuId, Wake};

use super::{Caller, Effects, Outcome};

#[inline(never)]
pub(super) fn run(
    caller: Caller<'_>,
    vcpu: Handle,
    space: Option<Handle>,
    resume: Resume,
    effects: &mut impl Effects,
) -> Outcome {
    begin(caller, vcpu, space, resume, effects).unwrap_or_else(Outcome::Error)
}

fn begin(
    caller: Caller<'_>,
    vcpu: Handle,
    space: Option<Handle>,
    resume: Resume,
    effects: &mut impl Effects,
) -> Result<Outcome, Error> {
    let (domain, order) = find(caller, vcpu, space, resume)?;
    if domain.ending().is_some() {
        return Err(Error::PeerGone);
    }
    let monitor = domain.monitor().ok_or(Error::WrongState)?;
    let runner = Runner {
        vcpu: caller.vcpu.id(),
        sleeper: caller.vcpu.sleeper().clone(),
    };
    let is_interrupted = caller.vcpu.page().ready() != 0;
    let vcpu = monitor.run(runner, order, is_interrupted)?;
    effects.hand_over(Wake::Blocked(vcpu));
    Ok(Outcome::Block(Deadline::NEVER))
}

fn find(
    caller: Caller<'_>,
    vcpu: Handle,
    space: Option<Handle>,
    resume: Resume,
) -> Result<(Arc<Domain>, Order), Error> {
    let table = caller.domain.handles.lock();
    let domain = table.vcpu(vcpu, Rights::START)?;
    let space = match space {
        Some(space) => Some(table.space(space, Rights::MAP)?.clone()),
        None => None,
    };
    let domain = domain.upgrade().ok_or(Error::PeerGone)?;
    Ok((domain, Order { resume, space }))
}

/// The caller was woken and the vcpu runs on: an event would not wake the caller out of this call, so
/// it ends the vcpu's run instead.
pub(super) fn wait(caller: Caller<'_>, vcpu: Option<VcpuId>) -> Outcome {
    match vcpu {
        Some(vcpu) if caller.vcpu.page().ready() != 0 => Outcome::Recall(vcpu),
        _ => Outcome::Block(Deadline::NEVER),
    }
}
