//! What one CPU asks of another: to start, stop, move or retire a vcpu that is the other's.
//!
//! Everything that happens to a vcpu as a whole happens on its CPU, one thing after the other. Whoever asks
//! for it elsewhere sleeps until it is done.

use alloc::sync::Arc;
use alloc::vec::Vec;

use nuncio_abi::{Deadline, Error};

use crate::object::{Domain, Sleeper, Waiting, Wake};
use crate::sched::{CpuIndex, Told, VcpuId};
use crate::vt::Vendor;

use super::scheduling::Scheduling;
use super::starting::Starting;
use super::{Flow, Platform, Runner, World};

/// A wish, and who waits for it.
pub(super) struct Request {
    asker: Option<Asker>,
    wish: Wish,
}

struct Asker {
    vcpu: VcpuId,
    sleeper: Arc<Sleeper>,
}

/// What is to be done. With a vcpu comes its domain, since its number may be another one's by then.
pub(super) enum Wish {
    /// The vcpu of a domain starts.
    Start(Starting),
    /// The vcpu stops: it exits for its monitor, or else is taken from its CPU.
    Stop(Arc<Domain>, VcpuId),
    /// The vcpu that somebody runs exits where it is.
    Recall(VcpuId),
    /// The domain has ended, and the vcpu never runs again.
    Retire(Arc<Domain>, VcpuId),
    /// The vcpu of a domain is scheduled otherwise, as that vcpu wants it.
    Schedule(Scheduling, VcpuId),
    /// A domain is closed, and the number of its vcpu is free.
    Release(VcpuId),
}

impl Wish {
    /// The vcpu that it concerns, if there is one.
    fn vcpu(&self) -> Option<VcpuId> {
        match self {
            Wish::Start(starting) => Some(starting.vcpu.id()),
            Wish::Stop(_, id) | Wish::Recall(id) | Wish::Retire(_, id) | Wish::Release(id) => {
                Some(*id)
            }
            Wish::Schedule(scheduling, _) => scheduling.vcpu(),
        }
    }
}

impl<V: Vendor, P: Platform> Runner<V, P> {
    /// Asks a CPU for something; the vcpu that runs sleeps until it is done.
    #[cold]
    pub(super) fn ask(&mut self, world: &World<V, P>, cpu: CpuIndex, wish: Wish) -> Flow {
        let sleeper = world.object.sleeper();
        sleeper.wait_for(Waiting::Elsewhere);
        let asker = Some(Asker {
            vcpu: world.object.id(),
            sleeper: sleeper.clone(),
        });
        self.send_request(cpu, Request { asker, wish });
        Flow::Block(Deadline::NEVER)
    }

    /// Has a vcpu of another CPU exit for its runner, who sleeps for the exit already.
    #[cold]
    pub(super) fn recall_elsewhere(&mut self, cpu: CpuIndex, id: VcpuId) {
        self.wish(cpu, Wish::Recall(id));
    }

    /// Asks a CPU for something for whose end nobody waits.
    pub(super) fn wish(&mut self, cpu: CpuIndex, wish: Wish) {
        self.send_request(cpu, Request { asker: None, wish });
    }

    fn send_request(&mut self, cpu: CpuIndex, request: Request) {
        self.context.cpus.ask(cpu, request);
        self.context.tell(cpu, Told::REQUEST);
    }

    /// Does what other CPUs have asked for, and what this one has asked itself for. No vcpu runs meanwhile.
    ///
    /// What may move a vcpu comes last: however often one moves, who wants to stop it meets it where it
    /// has been looked for.
    #[cold]
    pub(super) fn grant_requests(&mut self) {
        self.receive_arrivals();
        let requests = self.context.here.take_requests();
        let may_move = |request: &Request| matches!(request.wish, Wish::Schedule(..));
        let (last, first): (Vec<_>, Vec<_>) = requests.into_iter().partition(may_move);
        first.into_iter().chain(last).for_each(|it| self.see_to(it));
    }

    /// Does what was asked for, or has the CPU do it to which the vcpu has gone meanwhile. That is one more
    /// move of the vcpu's each time.
    fn see_to(&mut self, request: Request) {
        let cpu = request.wish.vcpu().and_then(|id| self.locate(id));
        let Request { asker, wish } = match cpu {
            // Every CPU ends what it has, and those that have asked, too.
            Some(_) if self.context.cpus.over().is_some() => return,
            Some(cpu) => return self.send_request(cpu, request),
            None => request,
        };
        let result = self.grant(wish);
        if let Some(Asker { vcpu, sleeper }) = asker {
            if sleeper.settle(result) {
                self.context.apply(Wake::Blocked(vcpu));
            }
        }
    }

    fn grant(&mut self, wish: Wish) -> Result<(), Error> {
        match wish {
            Wish::Start(starting) => self.start(starting),
            Wish::Stop(domain, id) => self.stop_any(&domain, id),
            Wish::Recall(id) => self.recall(id),
            Wish::Retire(domain, id) => {
                self.retire_any(&domain, id);
                self.end_orphans();
                Ok(())
            }
            Wish::Schedule(scheduling, caller) => self.schedule(&scheduling, caller),
            Wish::Release(id) => {
                self.release_number(id);
                Ok(())
            }
        }
    }
}
