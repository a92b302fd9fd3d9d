//! A vcpu with a CPU of its own: it makes calls, sleeps in them and is woken.

use std::sync::Arc;

use hypervisor::call::{self, Answer, Caller, Effects, Outcome, ScheduleTerms};
use hypervisor::mem::{Account, KernelCharge};
use hypervisor::object::{
    Domain, DomainId, Ended, Ending, Entry, Event, Held, Monitor, Object, Space, Target, Timer,
    Vcpu, VcpuId, VcpuNumber, Wake,
};
use hypervisor::sched::{CpuIndex, TimerId};
use nuncio_abi::{
    Call, CallToken, Create, Deadline, Error, Handle, Message, Name, Outgoing, Rights, StopReason,
    MAX_VALUES,
};

use crate::machine::{Bell, Machine};

/// A vcpu, and what stands in for the loop around it.
pub struct Guest {
    /// Its domain.
    pub domain: Arc<Domain>,
    /// What the objects know of it.
    pub vcpu: Vcpu,
    surroundings: Surroundings,
}

/// What calls of the vcpu have an effect on.
struct Surroundings {
    bells: Arc<[Bell]>,
    timers_made: usize,
    timers_gone: Vec<TimerId>,
}

struct Values([u64; MAX_VALUES]);

impl Answer for Values {
    fn pair(&mut self, first: u64, second: u64) {
        self.0 = [first, second, 0, 0, 0];
    }

    fn full(&mut self, values: &[u64; MAX_VALUES]) {
        self.0 = *values;
    }
}

impl Surroundings {
    fn apply(&mut self, wake: Wake) {
        match wake {
            Wake::Blocked(VcpuId(id)) | Wake::Event(VcpuId(id)) | Wake::Quiet(VcpuId(id)) => {
                self.bells[id as usize].ring();
            }
            Wake::TimerGone(id) => self.timers_gone.push(id),
            Wake::Orphaned(_) | Wake::TranslationsChanged(_) | Wake::Held(_) => {}
        }
    }
}

/// What no test here asks of the loop.
const NOT_MADE: &str = "no test makes domains";

impl Effects for Surroundings {
    fn now_ns(&self) -> u64 {
        1
    }

    fn wake(&mut self, wake: Wake) {
        self.apply(wake);
    }

    fn hand_over(&mut self, wake: Wake) {
        self.apply(wake);
    }

    fn hand_back(&mut self, wake: Wake) {
        self.apply(wake);
    }

    fn lend(&mut self, _: VcpuId, _: VcpuId) {}

    fn end_lending(&mut self, _: VcpuId) {}

    fn serve(&mut self, _: VcpuId, _: Option<VcpuId>) {}

    fn cpu(&self) -> CpuIndex {
        CpuIndex::BOOT
    }

    fn new_domain_id(&mut self) -> DomainId {
        unimplemented!("{NOT_MADE}")
    }

    fn keep_domain(&mut self, _domain: Arc<Domain>) {
        unimplemented!("{NOT_MADE}")
    }

    fn new_vcpu_id(&mut self) -> Option<VcpuId> {
        unimplemented!("{NOT_MADE}")
    }

    fn start(&mut self, _domain: Arc<Domain>, _vcpu: Vcpu, _entry: Entry) {
        unimplemented!("{NOT_MADE}")
    }

    fn stop_vcpu(&mut self, _domain: Arc<Domain>, _number: VcpuNumber) {
        unimplemented!("{NOT_MADE}")
    }

    fn has_cpu(&self, _: CpuIndex) -> bool {
        true
    }

    fn ceiling(&self, _: VcpuId) -> u8 {
        nuncio_abi::MAX_PRIORITY
    }

    fn schedule(&mut self, _: Arc<Domain>, _: VcpuNumber, _: ScheduleTerms) {
        unimplemented!("{NOT_MADE}")
    }

    fn add_timer(
        &mut self,
        event: Arc<Event>,
        bits: u64,
        charge: KernelCharge,
    ) -> Option<Arc<Timer>> {
        let id = TimerId::new(CpuIndex::BOOT, self.timers_made)?;
        self.timers_made += 1;
        Some(Arc::new(Timer::new(id, event, bits, charge)))
    }

    fn add_event(
        &mut self,
        _target: Target,
        _interval_ns: u64,
        _charge: KernelCharge,
    ) -> Option<Arc<Event>> {
        unimplemented!("no test makes events with an interval")
    }

    fn arm_timer(&mut self, _timer: &Timer, _deadline: Deadline) {}

    fn console(&mut self, _domain: &Domain, _message: &Message) {}
}

impl Guest {
    pub(crate) fn new(
        account: Arc<Account>,
        space: Arc<Space>,
        vcpu: Vcpu,
        bells: Arc<[Bell]>,
    ) -> Self {
        let id = DomainId(vcpu.id().0);
        Guest {
            domain: Arc::new(Domain::new(id, Name::EMPTY, CpuIndex::BOOT, account, space)),
            vcpu,
            surroundings: Surroundings {
                bells,
                timers_made: 0,
                timers_gone: Vec::new(),
            },
        }
    }

    /// Makes a call, and sleeps in it as often as it takes.
    ///
    /// # Errors
    /// Those of the call.
    pub fn call(&mut self, call: Call) -> Result<[u64; MAX_VALUES], Error> {
        let caller = Caller {
            domain: &self.domain,
            vcpu: &self.vcpu,
        };
        let surroundings = &mut self.surroundings;
        let mut values = Values([0; MAX_VALUES]);
        let mut outcome = call::dispatch(caller, &call.encode(), &mut values, surroundings);
        loop {
            match outcome {
                Outcome::Done => return Ok(values.0),
                Outcome::Error(error) => return Err(error),
                Outcome::Block(_) => {
                    surroundings.bells[self.vcpu.id().0 as usize].sleep();
                    let resumed = call::resume(caller, &mut values, surroundings);
                    outcome = resumed.expect("a vcpu that has slept in a call goes on with it");
                }
                other => unreachable!("{other:?}"),
            }
        }
    }

    /// Makes an object. Returns the two handles, the second one if there is one.
    pub fn create(&mut self, create: Create) -> (Handle, Option<Handle>) {
        let [first, second, ..] = self.call(Call::Create(create)).unwrap();
        let first = Handle::from_raw(first).expect("a handle");
        (first, Handle::from_raw(second))
    }

    /// Makes a port. Returns the handle that receives and the one that sends.
    pub fn create_port(&mut self, capacity: u64) -> (Handle, Handle) {
        let (receives, sends) = self.create(Create::Port { capacity, slot: 0 });
        (receives, sends.expect("two handles"))
    }

    /// Has another guest hold a copy of a handle.
    pub fn give(&self, handle: Handle, rights: Rights, to: &Guest) -> Handle {
        let copy = self.domain.handles.lock().copy(handle, rights).unwrap();
        to.domain.handles.lock().insert(copy).unwrap()
    }

    /// Copies a handle within its table.
    ///
    /// # Errors
    /// Those of `grant`.
    pub fn grant(&mut self, handle: Handle, rights: Rights) -> Result<Handle, Error> {
        let call = Call::Grant {
            handle,
            rights,
            badge: 0,
            to: None,
        };
        let [copy, ..] = self.call(call)?;
        Ok(Handle::from_raw(copy).expect("a handle"))
    }

    /// Closes a handle.
    ///
    /// # Errors
    /// `BadHandle`.
    pub fn close(&mut self, handle: Handle) -> Result<(), Error> {
        self.call(Call::Close { handle }).map(|_| ())
    }

    /// Sends a word.
    ///
    /// # Errors
    /// Those of `send`.
    pub fn send(&mut self, port: Handle, word: u64) -> Result<(), Error> {
        let message = word_alone(word);
        self.call(Call::Send { port, message }).map(|_| ())
    }

    /// Sends a word, waiting for room.
    ///
    /// # Errors
    /// Those of `send`.
    pub fn send_waiting(&mut self, port: Handle, word: u64) -> Result<(), Error> {
        let call = Call::SendWaiting {
            port,
            message: word_alone(word),
            deadline: Deadline::NEVER,
        };
        self.call(call).map(|_| ())
    }

    /// Receives a word; if it is a call's, with the token to answer it.
    ///
    /// # Errors
    /// Those of `receive`.
    pub fn receive(
        &mut self,
        port: Handle,
        deadline: Deadline,
    ) -> Result<(u64, Option<CallToken>), Error> {
        let call = Call::Receive {
            port,
            deadline,
            buffer: 0,
        };
        let [header, _badge, word, ..] = self.call(call)?;
        Ok((word, CallToken::from_header(header)))
    }

    /// Sends a word and waits for the word that answers it.
    ///
    /// # Errors
    /// Those of `call`.
    pub fn ask(&mut self, port: Handle, word: u64, deadline: Deadline) -> Result<u64, Error> {
        let call = Call::Call {
            port,
            message: word_alone(word),
            deadline,
        };
        let [_header, _, word, ..] = self.call(call)?;
        Ok(word)
    }

    /// Answers a call with a word.
    ///
    /// # Errors
    /// Those of `reply`.
    pub fn answer(&mut self, port: Handle, token: CallToken, word: u64) -> Result<(), Error> {
        let call = Call::Reply {
            port,
            token,
            message: word_alone(word),
            then_receive: false,
        };
        self.call(call).map(|_| ())
    }

    /// Timers whose last handle has been closed, as the loop is told.
    pub fn timers_gone(&self) -> &[TimerId] {
        &self.surroundings.timers_gone
    }

    /// Puts an object into the table.
    pub fn hold(&self, object: Object, rights: Rights) -> Handle {
        let held = Held {
            object,
            rights,
            badge: 0,
        };
        self.domain.handles.lock().insert(held).unwrap()
    }

    /// Gives its domain a vcpu whose exits go to a port, or to whoever runs it, and starts it under the
    /// number of this one.
    pub fn add_monitored_vcpu(&self, machine: &Machine, port: Option<Held>) -> Arc<Monitor> {
        let physical = self.domain.space.physical();
        let [page, state] = [(); 2].map(|()| machine.memory(1));
        let monitor = Monitor::new(state, port, physical).unwrap();
        let charge = machine.account().charge_kernel(&[]).unwrap();
        let vcpu = Vcpu::made(page, Some(monitor), physical, charge).unwrap();
        let made = self.domain.add_vcpu(|| Ok(vcpu.numbered(self.vcpu.id())));
        let monitor = self.domain.monitor(made.unwrap()).unwrap();
        monitor.started(self.vcpu.id());
        monitor
    }

    /// Ends its domain, as the loop does.
    pub fn end(&mut self) {
        let domain = self.domain.clone();
        self.end_domain(&domain);
        let surroundings = &mut self.surroundings;
        let mut wake = |wake| surroundings.apply(wake);
        self.vcpu.sleeper().abandon(&mut wake);
    }

    /// Ends a domain.
    pub fn end_domain(&mut self, domain: &Domain) {
        let ending = Ending {
            reason: StopReason::Exited,
            detail: 0,
            instruction_pointer: 0,
        };
        if domain.end(ending) == Ended::Now {
            domain.close(&mut |wake| self.surroundings.apply(wake));
        }
    }

    /// Sleeps until somebody wakes it.
    pub fn sleep(&self) {
        self.surroundings.bells[self.vcpu.id().0 as usize].sleep();
    }

    /// Does what the loop does for an object that names somebody to wake.
    pub fn wake(&mut self, wake: Wake) {
        self.surroundings.apply(wake);
    }
}

fn word_alone(word: u64) -> Outgoing {
    Outgoing::registers(8, [word, 0, 0])
}
