//! What the loops of all CPUs share, and how one tells another something.
//!
//! Each CPU's loop is alone with its vcpus. What concerns another's goes through a mailbox
//! ([`Mailboxes`]), a queue of requests, or the other's timers; then its [`Attention`] is called, and it is
//! interrupted if it is in a guest or asleep.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use nuncio_abi::{Name, StopReason};
use spin::Once;

use crate::lock::{rank, Mutex};
use crate::mem::OutOfFrames;
use crate::object::DomainId;
use crate::sched::{Attention, CpuIndex, Mailboxes, Numbers, Offers, VcpuId, MAX_VCPUS};

use super::domains::Domains;
use super::launching::{Launched, Planned};
use super::moving::Traveller;
use super::requests::Request;
use super::timers::Timers;
use super::DomainReport;

/// What all loops share.
pub struct Cpus {
    cpus: Box<[Arc<Cpu>]>,
    mailboxes: Mailboxes,
    offers: Arc<Offers>,
    vcpu_numbers: Mutex<Numbers, rank::VcpuNumbers>,
    domains: Mutex<Domains, rank::Domains>,
    /// Foreground domains that still live; the run is over when there are none.
    foreground: AtomicUsize,
    over: Once<StopReason>,
    reports: Mutex<Vec<DomainReport>, rank::Reports>,
    /// CPUs that have nothing to run and nothing to wait for.
    idle: Mutex<usize, rank::Idle>,
    /// CPUs other than the boot CPU that have a loop.
    joined: AtomicUsize,
    /// Those of them that have made the vcpus they were given.
    settled: AtomicUsize,
    launch_failure: Once<(Name, OutOfFrames)>,
    /// Everything that the CPUs will be given before the run has been given.
    is_launched: AtomicBool,
    has_begun: AtomicBool,
    /// CPUs whose vcpus have all ended, after the run.
    finished: AtomicUsize,
    /// Those of them that have granted the last request.
    drained: AtomicUsize,
}

/// What others see of one CPU, and leave for it.
pub(super) struct Cpu {
    attention: Arc<Attention>,
    timers: Mutex<Timers, rank::Timers>,
    requests: Mutex<Vec<Request>, rank::Requests>,
    /// Vcpus that have been moved here.
    arrivals: Mutex<Vec<Traveller>, rank::Requests>,
    orphans: Mutex<Vec<DomainId>, rank::Orphans>,
    launched: Mutex<Vec<Launched>, rank::Launched>,
    planned: Mutex<Vec<Planned>, rank::Launched>,
}

impl Cpus {
    /// Of so many CPUs, at most 256.
    pub fn new(count: usize) -> Arc<Self> {
        Arc::new(Cpus {
            cpus: (0..=u8::MAX)
                .take(count)
                .map(|index| Arc::new(Cpu::new(CpuIndex(index))))
                .collect(),
            mailboxes: Mailboxes::new(count),
            offers: Arc::default(),
            vcpu_numbers: Mutex::new(Numbers::new(MAX_VCPUS as u32)),
            domains: Mutex::default(),
            foreground: AtomicUsize::new(0),
            over: Once::new(),
            reports: Mutex::default(),
            idle: Mutex::default(),
            joined: AtomicUsize::new(0),
            settled: AtomicUsize::new(0),
            launch_failure: Once::new(),
            is_launched: AtomicBool::new(false),
            has_begun: AtomicBool::new(false),
            finished: AtomicUsize::new(0),
            drained: AtomicUsize::new(0),
        })
    }

    /// How many CPUs there are.
    pub fn count(&self) -> usize {
        self.cpus.len()
    }

    /// All CPUs.
    pub(super) fn indices(&self) -> impl Iterator<Item = CpuIndex> {
        (0..=u8::MAX).map(CpuIndex).take(self.cpus.len())
    }

    /// All CPUs but one.
    pub(super) fn others(&self, than: CpuIndex) -> impl Iterator<Item = (CpuIndex, &Cpu)> {
        let all = self.indices().zip(&self.cpus);
        let others = all.filter(move |(cpu, _)| *cpu != than);
        others.map(|(index, cpu)| (index, &**cpu))
    }

    /// One CPU.
    pub(super) fn cpu(&self, cpu: CpuIndex) -> &Arc<Cpu> {
        &self.cpus[cpu.index()]
    }

    pub(super) fn mailboxes(&self) -> &Mailboxes {
        &self.mailboxes
    }

    /// What vcpus of different CPUs lend each other.
    pub(super) fn offers(&self) -> &Arc<Offers> {
        &self.offers
    }

    pub(super) fn domains(&self) -> &Mutex<Domains, rank::Domains> {
        &self.domains
    }

    pub(super) fn timers(&self, cpu: CpuIndex) -> &Mutex<Timers, rank::Timers> {
        &self.cpu(cpu).timers
    }

    /// A number for a vcpu of that CPU; `None` if there are too many.
    pub fn new_vcpu_id(&self, cpu: CpuIndex) -> Option<VcpuId> {
        let id = VcpuId(self.vcpu_numbers.lock().take()?);
        (self.offers.reserve(id) && self.mailboxes.open(id, cpu)).then_some(id)
    }

    /// Nobody has the vcpu's number any more.
    pub(super) fn release_vcpu_id(&self, id: VcpuId) {
        self.mailboxes.close(id);
        self.vcpu_numbers.lock().give_back(id.0);
    }

    /// Leaves a request to a CPU, which has to be told.
    pub(super) fn ask(&self, cpu: CpuIndex, request: Request) {
        self.cpu(cpu).requests.lock().push(request);
    }

    /// A CPU other than the boot CPU has its loop.
    pub(super) fn join(&self) {
        self.joined.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether all CPUs have theirs but for the boot CPU.
    pub fn have_joined(&self) -> bool {
        self.joined.load(Ordering::SeqCst).saturating_add(1) >= self.cpus.len()
    }

    /// Gives a CPU a domain before the run.
    pub(super) fn leave_launched(&self, cpu: CpuIndex, launched: Launched) {
        self.cpu(cpu).launched.lock().push(launched);
    }

    /// Says how a CPU's vcpu is scheduled, before the run.
    pub(super) fn leave_planned(&self, cpu: CpuIndex, planned: Planned) {
        self.cpu(cpu).planned.lock().push(planned);
    }

    /// Takes what has been said so.
    pub(super) fn take_planned(&self, cpu: CpuIndex) -> Vec<Planned> {
        core::mem::take(&mut *self.cpu(cpu).planned.lock())
    }

    /// Takes what the CPU has been given.
    pub(super) fn take_launched(&self, cpu: CpuIndex) -> Vec<Launched> {
        core::mem::take(&mut *self.cpu(cpu).launched.lock())
    }

    /// Every CPU has been given all that it will be given before the run.
    pub(super) fn all_launched(&self) {
        self.is_launched.store(true, Ordering::SeqCst);
    }

    /// Whether that is so.
    pub(super) fn is_launched(&self) -> bool {
        self.is_launched.load(Ordering::SeqCst)
    }

    /// A vcpu could not be made.
    pub(super) fn launch_failed(&self, domain: Name, error: OutOfFrames) {
        self.launch_failure.call_once(|| (domain, error));
    }

    /// The first vcpu that could not be made.
    pub(super) fn launch_failure(&self) -> Option<(Name, OutOfFrames)> {
        self.launch_failure.get().copied()
    }

    /// A CPU other than the boot CPU has made all its vcpus that could be made.
    pub(super) fn has_settled(&self) {
        self.settled.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether that is so of all of them.
    pub(super) fn are_settled(&self) -> bool {
        self.settled.load(Ordering::SeqCst).saturating_add(1) >= self.cpus.len()
    }

    /// The run begins.
    pub(super) fn begin(&self) {
        self.has_begun.store(true, Ordering::SeqCst);
    }

    /// Whether it has begun.
    pub(super) fn has_begun(&self) -> bool {
        self.has_begun.load(Ordering::SeqCst)
    }

    /// Another foreground domain.
    pub(super) fn add_foreground(&self) {
        self.foreground.fetch_add(1, Ordering::SeqCst);
    }

    /// A foreground domain has ended. Whether it was the last.
    pub(super) fn foreground_ended(&self) -> bool {
        self.foreground.fetch_sub(1, Ordering::SeqCst) == 1
    }

    /// Whether there is a foreground domain.
    pub(super) fn has_foreground(&self) -> bool {
        self.foreground.load(Ordering::SeqCst) > 0
    }

    /// The run is over, unless it was already; all that live end for this reason.
    pub(super) fn end(&self, reason: StopReason) {
        self.over.call_once(|| reason);
    }

    /// Why the run is over, if it is.
    pub(super) fn over(&self) -> Option<StopReason> {
        self.over.get().copied()
    }

    /// How a domain ended.
    pub(super) fn report(&self, report: DomainReport) {
        self.reports.lock().push(report);
    }

    /// The reports so far, by the numbers of the domains.
    pub(super) fn take_reports(&self) -> Vec<DomainReport> {
        let mut reports = core::mem::take(&mut *self.reports.lock());
        reports.sort_by_key(|report| report.id);
        reports
    }

    /// A CPU has nothing to run and nothing to wait for. Whether that is so of all of them: then
    /// nothing can ever happen again, since only a CPU that runs something tells another anything.
    pub(super) fn fall_idle(&self) -> bool {
        let mut idle = self.idle.lock();
        *idle += 1;
        let nobody_is_told = || {
            self.cpus
                .iter()
                .all(|cpu| !cpu.attention.is_told_by_others())
        };
        *idle == self.cpus.len() && nobody_is_told()
    }

    /// It looks at what it has been told.
    pub(super) fn stir(&self) {
        *self.idle.lock() -= 1;
    }

    /// All vcpus of a CPU have ended.
    pub(super) fn finish(&self) {
        self.finished.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether all vcpus of all CPUs have ended.
    pub(super) fn are_finished(&self) -> bool {
        self.finished.load(Ordering::SeqCst) == self.cpus.len()
    }

    /// A CPU has granted what it was asked for until all were finished; nobody asks for more.
    pub(super) fn drain(&self) {
        self.drained.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether that is so of all CPUs.
    pub(super) fn are_drained(&self) -> bool {
        self.drained.load(Ordering::SeqCst) == self.cpus.len()
    }
}

impl Cpu {
    fn new(index: CpuIndex) -> Self {
        Cpu {
            attention: Arc::default(),
            timers: Mutex::new(Timers::new(index)),
            requests: Mutex::default(),
            arrivals: Mutex::default(),
            orphans: Mutex::default(),
            launched: Mutex::default(),
            planned: Mutex::default(),
        }
    }

    /// Where it is, and what it has been told.
    pub(super) fn attention(&self) -> &Arc<Attention> {
        &self.attention
    }

    /// Takes what has been asked of the CPU.
    pub(super) fn take_requests(&self) -> Vec<Request> {
        core::mem::take(&mut *self.requests.lock())
    }

    /// A vcpu belongs to this CPU from now on.
    pub(super) fn add_arrival(&self, traveller: Traveller) {
        self.arrivals.lock().push(traveller);
    }

    /// Takes those that have come.
    pub(super) fn take_arrivals(&self) -> Vec<Traveller> {
        core::mem::take(&mut *self.arrivals.lock())
    }

    /// On this CPU a domain was given up by its maker.
    pub(super) fn add_orphan(&self, id: DomainId) {
        self.orphans.lock().push(id);
    }

    /// A domain that was given up there and lives on.
    pub(super) fn next_orphan(&self) -> Option<DomainId> {
        self.orphans.lock().pop()
    }

    /// The CPU's timers.
    pub(super) fn timers(&self) -> &Mutex<Timers, rank::Timers> {
        &self.timers
    }
}
