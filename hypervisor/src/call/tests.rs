//! What another CPU can do in the middle of a call: here the clock and the wake-ups do it, which the
//! handlers use on their way.

use alloc::sync::Arc;
use alloc::vec::Vec;
use std::boxed::Box;

use nuncio_abi::{
    CallToken, ExitKind, Handle, Header, Message, Name, Outgoing, Resume, Rights, StopReason,
    VcpuExit,
};

use super::*;
use crate::mem::arena::Arena;
use crate::mem::{Account, PhysicalMemory};
use crate::nested::NPT;
use crate::object::{
    Delivery, Ended, Ending, Held, Memory, Monitor, Object, Order, Port, Queued, Runner, Sleeper,
    Space, VcpuNumber, Waiting,
};

/// A domain whose vcpu calls, and a port of somebody else's.
struct Fixture {
    arena: &'static Arena,
    account: Arc<Account>,
    domain: Arc<Domain>,
    vcpu: Vcpu,
    port: Arc<Port>,
    receiver: Vcpu,
    handle: Handle,
}

fn domain(account: &Arc<Account>, arena: &'static Arena, number: u32) -> Arc<Domain> {
    let space = Arc::new(Space::new(account, arena, &NPT, 1 << 39).unwrap());
    let name = Name::new("domain").unwrap();
    let id = DomainId(number);
    Arc::new(Domain::new(
        id,
        name,
        CpuIndex::BOOT,
        account.clone(),
        space,
    ))
}

fn vcpu(account: &Arc<Account>, arena: &'static dyn PhysicalMemory, number: u32) -> Vcpu {
    let page = Arc::new(Memory::allocate(account, 1).unwrap());
    Vcpu::new(VcpuId(number), page, arena).unwrap()
}

fn fixture() -> Fixture {
    let arena = Arena::leak(1, 32);
    let account = Account::new(arena.pool(), 32);
    let domain = domain(&account, arena, 0);
    let receiver = vcpu(&account, arena, 1);
    let port = Arc::new(Port::new(4, receiver.target(0), None));
    // So that every message wakes somebody.
    receiver.page().slot(0).unwrap().enable(u64::MAX);
    let sender = Held {
        object: Object::Port(port.clone()),
        rights: Rights::SEND | Rights::RECEIVE,
        badge: 0,
    };
    let handle = domain.handles.lock().insert(sender).unwrap();
    Fixture {
        vcpu: vcpu(&account, arena, 0),
        arena,
        account,
        domain,
        port,
        receiver,
        handle,
    }
}

impl Fixture {
    fn caller(&self) -> Caller<'_> {
        Caller {
            domain: &self.domain,
            vcpu: &self.vcpu,
        }
    }

    /// Goes on behind a sleep.
    fn resume(&self, world: &mut World<'_>) -> Option<(Outcome, [u64; MAX_VALUES])> {
        let mut values = Values::default();
        let outcome = resume(self.caller(), &mut values, world)?;
        Some((outcome, values.0))
    }
}

#[derive(Default)]
struct Values([u64; MAX_VALUES]);

impl Answer for Values {
    fn pair(&mut self, first: u64, second: u64) {
        self.0 = [first, second, 0, 0, 0];
    }

    fn full(&mut self, values: &[u64; MAX_VALUES]) {
        self.0 = *values;
    }
}

/// What happens on the other CPU when a handler looks at the clock or wakes somebody.
struct World<'a> {
    now_ns: u64,
    meanwhile: Box<dyn Fn() + 'a>,
}

fn quiet() -> World<'static> {
    World {
        now_ns: 0,
        meanwhile: Box::new(|| ()),
    }
}

impl Effects for World<'_> {
    fn now_ns(&self) -> u64 {
        (self.meanwhile)();
        self.now_ns
    }

    fn wake(&mut self, _: Wake) {
        (self.meanwhile)();
    }

    fn hand_over(&mut self, _: Wake) {
        (self.meanwhile)();
    }

    fn hand_back(&mut self, _: Wake) {
        (self.meanwhile)();
    }

    fn lend(&mut self, _: VcpuId, _: VcpuId) {}

    fn end_lending(&mut self, _: VcpuId) {}

    fn serve(&mut self, _: VcpuId, _: Option<VcpuId>) {}

    fn cpu(&self) -> CpuIndex {
        CpuIndex::BOOT
    }

    fn new_domain_id(&mut self) -> DomainId {
        unreachable!()
    }

    fn keep_domain(&mut self, _: Arc<Domain>) {
        unreachable!()
    }

    fn new_vcpu_id(&mut self) -> Option<VcpuId> {
        unreachable!()
    }

    fn start(&mut self, _: Arc<Domain>, _: Vcpu, _: Entry) {
        unreachable!()
    }

    fn stop_vcpu(&mut self, _: Arc<Domain>, _: VcpuNumber) {
        unreachable!()
    }

    fn has_cpu(&self, _: CpuIndex) -> bool {
        true
    }

    fn ceiling(&self, _: VcpuId) -> u8 {
        nuncio_abi::MAX_PRIORITY
    }

    fn schedule(&mut self, _: Arc<Domain>, _: VcpuNumber, _: ScheduleTerms) {
        unreachable!()
    }

    fn add_timer(&mut self, _: Arc<Event>, _: u64, _: KernelCharge) -> Option<Arc<Timer>> {
        unreachable!()
    }

    fn add_event(&mut self, _: Target, _: u64, _: KernelCharge) -> Option<Arc<Event>> {
        unreachable!()
    }

    fn arm_timer(&mut self, _: &Timer, _: Deadline) {
        unreachable!()
    }

    fn console(&mut self, _: &Domain, _: &Message) {
        unreachable!()
    }
}

const WORD: Outgoing = Outgoing::Registers {
    length: 8,
    handles: 0,
    words: [7, 0, 0],
};
const ANSWER: Message = Message {
    length: 8,
    words: [9, 0, 0, 0, 0, 0, 0, 0],
};

/// The values of the answer.
fn answered() -> Option<(Outcome, [u64; MAX_VALUES])> {
    let header = Header::new(8, false).to_raw();
    Some((Outcome::Done, [header, 0, 9, 0, 0]))
}

/// Takes the call out of the port and answers it, unless somebody has.
fn serve(port: &Port) {
    let mut token = None;
    let accept = |queued: &Queued| {
        token = queued.token;
        Ok(Delivery::Done)
    };
    if port
        .receive(VcpuId(1), accept, || Err(Error::QueueEmpty))
        .is_ok()
    {
        let answered = port.answer(token.unwrap(), &ANSWER, Vec::new());
        assert!(answered.is_ok(), "the caller sleeps already");
    }
}

#[test]
fn a_call_can_be_answered_before_its_caller_has_left_the_handler() {
    let fixture = fixture();
    let mut world = World {
        now_ns: 0,
        meanwhile: Box::new(|| serve(&fixture.port)),
    };
    for deadline in [Deadline::NEVER, Deadline(100)] {
        let outcome = call::call(fixture.caller(), fixture.handle, WORD, deadline, &mut world);
        assert_eq!(outcome, Outcome::Block(deadline));
        assert_eq!(fixture.resume(&mut quiet()), answered());
    }
}

#[test]
fn a_short_call_can_be_answered_before_its_caller_has_left_the_handler() {
    let fixture = fixture();
    let receiver = Arc::<Sleeper>::default();
    receiver.wait_for(Waiting::Message(crate::object::AwaitedMessage {
        port: fixture.handle,
        deadline: Deadline::NEVER,
        buffer: None,
    }));
    let blocked = fixture.port.receive(
        VcpuId(1),
        |_| Ok(Delivery::Refused),
        || Ok(receiver.clone()),
    );
    assert_eq!(blocked, Ok(Delivery::Awaited));
    let mut world = World {
        now_ns: 0,
        meanwhile: Box::new(|| {
            let Waiting::Received([header, ..]) = receiver.take() else {
                panic!("no call has come")
            };
            let token = CallToken::from_header(header).unwrap();
            let answer = [Header::new(8, false).to_raw(), 0, 9, 0, 0];
            assert!(fixture.port.answer_short(token, &answer).is_some());
        }),
    };
    let never = Deadline::NEVER;
    let outcome = call::call(fixture.caller(), fixture.handle, WORD, never, &mut world);
    assert_eq!(outcome, Outcome::Block(never));
    assert_eq!(fixture.resume(&mut quiet()), answered());
}

#[test]
fn an_answer_that_comes_while_the_caller_looks_at_the_clock_is_not_lost() {
    for now_ns in [50, 150] {
        let fixture = fixture();
        let deadline = Deadline(100);
        let begun = call::call(
            fixture.caller(),
            fixture.handle,
            WORD,
            deadline,
            &mut quiet(),
        );
        assert_eq!(begun, Outcome::Block(deadline));
        // Something else has woken it; or its time is over, and the answer comes just then.
        let mut world = World {
            now_ns,
            meanwhile: Box::new(|| serve(&fixture.port)),
        };
        let looked = fixture.resume(&mut world).map(|(outcome, _)| outcome);
        assert_eq!(looked, Some(Outcome::Block(deadline)));
        assert_eq!(fixture.resume(&mut quiet()), answered());
    }
}

#[test]
fn a_call_whose_time_is_over_cannot_be_answered() {
    let fixture = fixture();
    let mut late = World {
        now_ns: 150,
        ..quiet()
    };
    let deadline = Deadline(100);
    let outcome = call::call(fixture.caller(), fixture.handle, WORD, deadline, &mut late);
    assert_eq!(outcome, Outcome::Error(Error::TimedOut));
    assert!(matches!(fixture.vcpu.sleeper().take(), Waiting::Nothing));
    let refused = fixture
        .port
        .answer(CallToken::new(0, 1), &ANSWER, Vec::new());
    let error = refused.err().map(|(error, _)| error);
    assert_eq!(error, Some(Error::PeerGone));
}

#[test]
fn a_message_that_comes_while_the_receiver_looks_again_is_not_lost() {
    let mut fixture = fixture();
    core::mem::swap(&mut fixture.vcpu, &mut fixture.receiver);
    let (caller, never) = (fixture.caller(), Deadline::NEVER);
    let mut values = Values::default();
    let begun = receive::receive(caller, fixture.handle, never, 0, &mut values, &mut quiet());
    assert_eq!(begun, Outcome::Block(never));
    // An event has woken it: no message is there, and then one is.
    assert!(fixture.vcpu.sleeper().take_arrival().is_none());
    assert!(fixture.port.send(&ANSWER, Vec::new(), 0).is_ok());
    let outcome = resume::look_again(caller, &mut values, &mut quiet());
    assert_eq!(outcome.map(|outcome| (outcome, values.0)), answered());
}

const HALTED: VcpuExit = VcpuExit::Halt {
    interrupts_enabled: true,
    instruction: 0x1000,
};

#[test]
fn a_vcpu_can_exit_before_its_runner_has_left_the_handler() {
    let fixture = fixture();
    let Fixture { arena, account, .. } = &fixture;
    let made = domain(account, arena, 1);
    let state = Arc::new(Memory::allocate(account, 1).unwrap());
    let page = Arc::new(Memory::allocate(account, 1).unwrap());
    let monitor = Monitor::new(state, None, *arena).unwrap();
    let charge = account.charge_kernel(&[8]).unwrap();
    let vcpu = Vcpu::made(page, Some(monitor), *arena, charge).unwrap();
    made.add_vcpu(|| Ok(vcpu.numbered(VcpuId(2)))).unwrap();
    let monitor = made.monitor(VcpuNumber::FIRST).unwrap();
    monitor.started(VcpuId(2));
    let held = Held {
        object: Object::Vcpu(Arc::downgrade(&made), VcpuNumber::FIRST),
        rights: Rights::START,
        badge: 0,
    };
    let handle = fixture.domain.handles.lock().insert(held).unwrap();
    let mut world = World {
        now_ns: 0,
        meanwhile: Box::new(move || assert!(monitor.exited(HALTED).is_some())),
    };
    let outcome = run::run(fixture.caller(), handle, None, Resume::GO, &mut world);
    assert_eq!(outcome, Outcome::Block(Deadline::NEVER));
    let [first, second, third] = HALTED.to_words();
    let values = [first, second, third, 0, 0];
    assert_eq!(HALTED.kind(), ExitKind::Halt);
    assert_eq!(fixture.resume(&mut quiet()), Some((Outcome::Done, values)));
}

#[test]
fn an_exit_that_comes_while_the_runner_looks_again_is_not_lost() {
    let fixture = fixture();
    let state = Arc::new(Memory::allocate(&fixture.account, 1).unwrap());
    let monitor = Arc::new(Monitor::new(state, None, fixture.arena).unwrap());
    monitor.started(VcpuId(2));
    let runner = Runner {
        vcpu: fixture.vcpu.id(),
        sleeper: fixture.vcpu.sleeper().clone(),
    };
    let order = Order {
        resume: Resume::GO,
        space: None,
    };
    monitor.run(runner, order, false).unwrap();
    let looked = fixture.resume(&mut quiet()).map(|(outcome, _)| outcome);
    assert_eq!(looked, Some(Outcome::Block(Deadline::NEVER)));
    // Between the two looks of one `resume`.
    assert!(fixture.vcpu.sleeper().take_arrival().is_none());
    assert!(monitor.exited(HALTED).is_some());
    let mut values = Values::default();
    let outcome = resume::look_again(fixture.caller(), &mut values, &mut quiet());
    assert_eq!(outcome, Some(Outcome::Done));
    assert_eq!(values.0[..3], HALTED.to_words());
}

const ENDING: Ending = Ending {
    reason: StopReason::Destroyed,
    detail: 0,
    instruction_pointer: 0,
};

#[test]
fn an_ended_domain_gets_no_vcpu_and_keeps_none() {
    let fixture = fixture();
    let Fixture { arena, account, .. } = &fixture;
    let made = domain(account, arena, 1);
    made.add_vcpu(|| Ok(vcpu(account, *arena, 2))).unwrap();
    let second = made.add_vcpu(|| Ok(vcpu(account, *arena, 3)));
    assert_eq!(second, Ok(VcpuNumber(1)));
    let taken = made.take_vcpu(VcpuNumber::FIRST).unwrap();
    let again = made.take_vcpu(VcpuNumber::FIRST).err();
    assert_eq!(again, Some(Error::WrongState));
    let used = account.used();
    assert_eq!(made.end(ENDING), Ended::WhenVcpusStop);
    assert_eq!(made.end(ENDING), Ended::Before);
    let late = made.take_vcpu(VcpuNumber(1)).err();
    assert_eq!(late, Some(Error::PeerGone));
    // It could not be started, and meanwhile its domain has ended.
    assert!(made.give_vcpu_back(taken), "who gives it back closes it");
    assert_eq!(made.close(&mut |_| ()), [VcpuId(2), VcpuId(3)]);
    assert_eq!(account.used(), used - 2, "nobody keeps them");
    let late = made.add_vcpu(|| unreachable!("it has ended"));
    assert_eq!(late, Err(Error::WrongState));
}

#[test]
fn a_domain_that_ends_while_it_is_given_a_handle_keeps_none() {
    let fixture = fixture();
    let made = domain(&fixture.account, fixture.arena, 1);
    let held = Held {
        object: Object::Domain(Arc::downgrade(&made)),
        rights: Rights::BUILD,
        badge: 0,
    };
    let target = fixture.domain.handles.lock().insert(held).unwrap();
    let sender = Held {
        object: Object::Port(fixture.port.clone()),
        rights: Rights::SEND | Rights::GRANT,
        badge: 0,
    };
    let given = fixture.domain.handles.lock().insert(sender).unwrap();
    std::thread::scope(|scope| {
        let mut table = made.handles.lock();
        let granting = scope.spawn(|| {
            let (to, mut values) = (Some(target), Values::default());
            grant::grant(fixture.caller(), given, Rights::SEND, 0, to, &mut values)
        });
        // It has looked at everything, and waits for the table; then the domain ends.
        std::thread::sleep(std::time::Duration::from_millis(20));
        let ending = scope.spawn(|| {
            assert_eq!(made.end(ENDING), Ended::Now);
            made.close(&mut |_| ());
        });
        while made.ending().is_none() {
            std::thread::yield_now();
        }
        // Its handles are gone first.
        assert_eq!(table.drain().count(), 0);
        drop(table);
        assert_eq!(granting.join().unwrap(), Err(Error::PeerGone));
        ending.join().unwrap();
    });
    assert_eq!(made.handles.lock().drain().count(), 0);
}

/// Polls a vcpu that sleeps, which is as if something else woke it all the time.
fn settle(
    caller: Caller<'_>,
    mut outcome: Outcome,
    values: &mut Values,
    until: std::time::Instant,
) -> Outcome {
    while matches!(outcome, Outcome::Block(_)) {
        assert!(std::time::Instant::now() < until, "something was lost");
        std::thread::yield_now();
        outcome = resume(caller, values, &mut quiet()).expect("it sleeps");
    }
    outcome
}

#[test]
fn two_cpus_call_and_answer_without_losing_anything() {
    const CALLS: u64 = 2000;
    let fixture = fixture();
    let Fixture { arena, account, .. } = &fixture;
    let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let server = domain(account, arena, 1);
    let receiver = vcpu(account, *arena, 2);
    let port = Arc::new(Port::new(4, receiver.target(0), None));
    let [receiving, calling] =
        [(&server, Rights::RECEIVE), (&fixture.domain, Rights::SEND)].map(|(domain, rights)| {
            let object = Object::Port(port.clone());
            let held = Held {
                object,
                rights,
                badge: 0,
            };
            domain.handles.lock().insert(held).unwrap()
        });
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let caller = Caller {
                domain: &server,
                vcpu: &receiver,
            };
            let (mut values, never) = (Values::default(), Deadline::NEVER);
            let mut outcome =
                receive::receive(caller, receiving, never, 0, &mut values, &mut quiet());
            for number in 0..CALLS {
                let received = settle(caller, outcome, &mut values, until);
                assert_eq!(received, Outcome::Done);
                let [header, _, word, ..] = values.0;
                let token = CallToken::from_header(header).unwrap();
                let message = Outgoing::Registers {
                    length: 8,
                    handles: 0,
                    words: [word + 1, 0, 0],
                };
                let then_receive = number + 1 < CALLS;
                outcome = reply::reply(
                    caller,
                    receiving,
                    token,
                    message,
                    then_receive,
                    &mut values,
                    &mut quiet(),
                );
            }
            assert_eq!(outcome, Outcome::Done);
        });
        for number in 0..CALLS {
            let message = Outgoing::Registers {
                length: 8,
                handles: 0,
                words: [number, 0, 0],
            };
            let deadline = Deadline(1 + number % 2);
            let begun = call::call(fixture.caller(), calling, message, deadline, &mut quiet());
            let mut values = Values::default();
            let answered = settle(fixture.caller(), begun, &mut values, until);
            assert_eq!((answered, values.0[2]), (Outcome::Done, number + 1));
        }
    });
}
