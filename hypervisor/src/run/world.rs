//! Everything the loop keeps of one vcpu.

use alloc::boxed::Box;
use alloc::sync::Arc;

use nuncio_abi::Verb;

use crate::call::Submission;
use crate::mem::KernelCharge;
use crate::object::{Domain, Vcpu};
use crate::vt::{ExitKind, Register, Vendor, VirtualCpu, EXIT_KINDS};

use super::monitoring::Monitoring;
use super::{CallTrace, Platform};

/// A vcpu, its domain and its counts.
pub struct World<V: Vendor, P: Platform> {
    /// The domain that it belongs to.
    pub domain: Arc<Domain>,
    /// What the objects know of it.
    pub object: Vcpu,
    /// Its registers and control block.
    pub vcpu: V::Vcpu,
    /// Its vector and debug registers.
    pub extended: P::Extended,
    /// What goes with its monitor, if it has one.
    pub monitoring: Option<Box<Monitoring>>,
    /// How far it has come with a ring, in the middle of it.
    pub submission: Option<Submission>,
    /// What its cached translations agree with.
    pub seen_version: (u64, u64),
    /// The last of these that was written down, if flushes are.
    pub recorded_version: (u64, u64),
    /// What it has done.
    pub counters: Counters,
    /// Its calls, if they are to be recorded.
    pub trace: Option<Box<CallTrace>>,
    /// Pays for this, if another domain has made it.
    pub charge: Option<KernelCharge>,
}

/// What a vcpu has done, each counted in one place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Calls by number of the verb; the last counts verbs that do not exist. Entries of a ring count
    /// as part of the `submit` that makes them.
    pub calls: [u64; Verb::ALL.len() + 1],
    /// Exits by [`ExitKind`], without the calls of the guest's kernel.
    exits: [u64; EXIT_KINDS.len()],
    /// Ticks of the time-stamp counter spent in it and for it; where the test bed counts
    /// instructions, these are instructions.
    pub ticks: u64,
}

impl Counters {
    /// Counts a call.
    #[inline]
    pub fn count_call(&mut self, verb: u64) {
        let last = Verb::ALL.len();
        let index = usize::try_from(verb).map_or(last, |verb| verb.min(last));
        self.calls[index] += 1;
    }

    /// Adds what another vcpu has done.
    pub fn add(&mut self, other: &Counters) {
        let add = |sum: &mut u64, count: &u64| *sum = sum.wrapping_add(*count);
        for (sum, count) in self.calls.iter_mut().zip(&other.calls) {
            add(sum, count);
        }
        for (sum, count) in self.exits.iter_mut().zip(&other.exits) {
            add(sum, count);
        }
        add(&mut self.ticks, &other.ticks);
    }

    /// Exits by kind, calls included: each call that is not counted as an exit has caused one.
    pub fn exits_by_kind(&self) -> [u64; EXIT_KINDS.len()] {
        let mut exits = self.exits;
        exits[ExitKind::Call as usize] += self.calls.iter().sum::<u64>();
        exits
    }

    /// Counts an exit that is no call by a kernel; those are counted as calls.
    #[inline]
    pub fn count_exit(&mut self, kind: ExitKind) {
        self.exits[kind as usize] += 1;
    }
}

impl<V: Vendor, P: Platform> World<V, P> {
    /// Records the call that the vcpu has made since it was last looked at, if calls are recorded
    /// and it has its answer.
    pub fn record_call(&mut self) {
        let is_in_call = self.submission.is_some() || self.object.sleeper().is_in_call();
        if let (Some(trace), false) = (&mut self.trace, is_in_call) {
            trace.record(
                &self.counters.calls,
                Some(self.vcpu.register(Register::RAX)),
            );
        }
    }

    /// The trace of a vcpu that will never run again, with the call that has no answer.
    pub fn take_trace(&mut self) -> Option<Box<CallTrace>> {
        let mut trace = self.trace.take()?;
        trace.record(&self.counters.calls, None);
        Some(trace)
    }

    /// A vcpu that has not run yet.
    pub fn new(domain: Arc<Domain>, object: Vcpu, vcpu: V::Vcpu, extended: P::Extended) -> Self {
        let monitor = object.monitor();
        let version = domain.space.version();
        World {
            seen_version: version,
            recorded_version: version,
            monitoring: monitor.map(|monitor| Monitoring::new(monitor, &domain)),
            submission: None,
            domain,
            object,
            vcpu,
            extended,
            counters: Counters::default(),
            trace: None,
            charge: None,
        }
    }
}
