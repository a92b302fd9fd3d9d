//! `run`: let a vcpu run until it needs its runner.
//!
//! The caller sleeps; the vcpu's exit is left for it as the values of the call.

use alloc::sync::Arc;

use nuncio_abi::{Deadline, Error, Handle, Resume, Rights};

use crate::object::{Domain, Order, Runner, VcpuId, VcpuNumber, Wake};

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
    let (domain, number, order) = find(caller, vcpu, space, resume)?;
    // It may end between the two looks: then the monitor is gone, or says so itself.
    let monitor = domain.monitor(number);
    if domain.ending().is_some() {
        return Err(Error::PeerGone);
    }
    let monitor = monitor.ok_or(Error::WrongState)?;
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
) -> Result<(Arc<Domain>, VcpuNumber, Order), Error> {
    let table = caller.domain.handles.lock();
    let (domain, number) = table.vcpu(vcpu, Rights::START)?;
    let space = match space {
        Some(space) => Some(table.space(space, Rights::MAP)?.clone()),
        None => None,
    };
    let domain = domain.upgrade().ok_or(Error::PeerGone)?;
    Ok((domain, number, Order { resume, space }))
}

/// The caller was woken and the vcpu runs on: an event would not wake the caller out of this call, so
/// it ends the vcpu's run instead.
pub(super) fn wait(caller: Caller<'_>, vcpu: Option<VcpuId>) -> Outcome {
    match vcpu {
        Some(vcpu) if caller.vcpu.page().ready() != 0 => Outcome::Recall(vcpu),
        _ => Outcome::Block(Deadline::NEVER),
    }
}
