//! What one CPU asks of another: to end, start or stop what is the other's.
//!
//! Everything that happens to a domain as a whole happens on the CPU of its vcpu, one thing after the
//! other. Whoever asks for it elsewhere sleeps until it is done.

use alloc::sync::Arc;

use nuncio_abi::{Deadline, Error, StopReason};

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

/// What is to be done.
pub(super) enum Wish {
    /// The domain ends with that exit code.
    End(Arc<Domain>, u64),
    /// The vcpu of a domain starts.
    Start(Starting),
    /// The vcpu exits where it is.
    Stop(VcpuId),
    /// The vcpu of a domain is scheduled otherwise, as that vcpu wants it.
    Schedule(Scheduling, VcpuId),
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
        let wish = Wish::Stop(id);
        self.send_request(cpu, Request { asker: None, wish });
    }

    fn send_request(&mut self, cpu: CpuIndex, request: Request) {
        self.context.cpus.ask(cpu, request);
        self.context.tell(cpu, Told::REQUEST);
    }

    /// Does what other CPUs have asked for. No vcpu runs meanwhile.
    #[cold]
    pub(super) fn grant_requests(&mut self) {
        for Request { asker, wish } in self.context.here.take_requests() {
            let result = self.grant(wish);
            if let Some(Asker { vcpu, sleeper }) = asker {
                if sleeper.settle(result) {
                    self.context.apply(Wake::Blocked(vcpu));
                }
            }
        }
    }

    fn grant(&mut self, wish: Wish) -> Result<(), Error> {
        match wish {
            Wish::End(domain, code) => {
                self.end_any(&domain, StopReason::Exited, code);
                self.end_orphans();
                Ok(())
            }
            Wish::Start(starting) => self.start(starting).map_err(|_| Error::QuotaExhausted),
            Wish::Stop(id) => self.recall(id),
            Wish::Schedule(scheduling, caller) => self.schedule(&scheduling, caller),
        }
    }
}
