//! The way of a vcpu from its making to its end, with the CPUs of its maker and of others in between.

use hypervisor::mem::OutOfFrames;
use hypervisor::object::{Monitor, Next, Order, Runner, Sleeper, Vcpu, VcpuId, Waiting};
use interleavings::{explore, Guest, Machine};
use nuncio_abi::{Error, Resume, VcpuExit};
use shuttle::thread;
use std::sync::Arc;

const NUMBER: VcpuId = VcpuId(9);

fn vcpu(machine: &Machine, guest: &Guest) -> Result<Vcpu, OutOfFrames> {
    let physical = guest.domain.space.physical();
    let charge = machine.account().charge_kernel(&[])?;
    Vcpu::made(machine.memory(1), None, physical, charge)
}

/// Two CPUs try to start it, one of which fails and puts it back, while its domain may end.
#[test]
fn one_cpu_starts_a_vcpu_and_none_is_left_in_a_domain_that_has_ended() {
    explore(2000, || {
        let machine = Machine::new(1);
        let free_frames = machine.free_frames();
        let mut guest = machine.guest();
        let made = vcpu(&machine, &guest).unwrap().numbered(NUMBER);
        let domain = guest.domain.clone();
        domain.add_vcpu(|| Ok(made)).unwrap();
        let starter = {
            let domain = domain.clone();
            thread::spawn(move || domain.take_vcpu())
        };
        let failer = {
            let domain = domain.clone();
            thread::spawn(move || {
                let taken = domain.take_vcpu();
                taken.map(|vcpu| domain.put_vcpu_back(vcpu))
            })
        };
        let ender = thread::spawn(move || {
            guest.end();
            guest
        });
        let started = starter.join().unwrap();
        let failed = failer.join().unwrap();
        let guest = ender.join().unwrap();
        let errors = [started.as_ref().err(), failed.as_ref().err()];
        for error in errors.into_iter().flatten() {
            assert!(matches!(error, Error::PeerGone | Error::WrongState));
        }
        assert_eq!(domain.vcpu_id(), None, "it has come back");
        assert!(matches!(domain.take_vcpu(), Err(Error::PeerGone)));
        assert_eq!(domain.add_vcpu(|| unreachable!()), Err(Error::WrongState));
        drop((started, guest, domain));
        assert_eq!(machine.free_frames(), free_frames, "frames are missing");
    });
}

/// Of those that give a domain its vcpu only one does, and none if it ends first.
#[test]
fn a_domain_gets_one_vcpu() {
    explore(1000, || {
        let machine = Machine::new(1);
        let mut guest = machine.guest();
        let domain = guest.domain.clone();
        let makers = [1, 2].map(|number| {
            let made = vcpu(&machine, &guest).unwrap().numbered(VcpuId(number));
            let domain = domain.clone();
            thread::spawn(move || domain.add_vcpu(|| Ok(made)))
        });
        let ender = thread::spawn(move || guest.end());
        let added = makers.map(|maker| maker.join().unwrap());
        ender.join().unwrap();
        assert!(added.iter().filter(|result| result.is_ok()).count() <= 1);
        let errors = added.iter().filter_map(|result| result.err());
        errors.for_each(|error| assert_eq!(error, Error::WrongState));
        assert_eq!(domain.vcpu_id(), None);
    });
}

fn run(monitor: &Arc<Monitor>, number: u32) -> Option<Arc<Sleeper>> {
    let sleeper = Arc::new(Sleeper::default());
    let runner = Runner {
        vcpu: VcpuId(number),
        sleeper: sleeper.clone(),
    };
    let order = Order {
        resume: Resume::GO,
        space: None,
    };
    monitor.run(runner, order, false).ok().map(|_| sleeper)
}

/// A runner gives up while the vcpu exits, and another one takes its place: the exit is left for whoever
/// is told of it, and who has come later loses nothing by the one before.
#[test]
fn who_runs_a_vcpu_is_not_disturbed_by_who_has_given_up() {
    explore(3000, || {
        let machine = Machine::new(1);
        let guest = machine.guest();
        let monitor = guest.add_monitored_vcpu(&machine, None);
        let first = run(&monitor, 1).unwrap();
        let giver_up = thread::spawn(move || first.abandon(&mut |_| ()));
        let exiting = monitor.clone();
        let exiter = thread::spawn(move || {
            let instruction = 0x1000;
            exiting.exited(VcpuExit::Recalled { instruction })
        });
        let next = monitor.clone();
        let second = thread::spawn(move || loop {
            match run(&next, 2) {
                Some(sleeper) => break sleeper,
                None => thread::yield_now(),
            }
        });
        giver_up.join().unwrap();
        let told = exiter.join().unwrap();
        let second = second.join().unwrap();
        let waiting = second.take();
        let is_for_second = told == Some(hypervisor::object::Wake::Blocked(VcpuId(2)));
        if is_for_second {
            assert!(matches!(waiting, Waiting::Exited(_)));
            assert!(matches!(monitor.next(), Next::Stand));
        } else {
            assert!(matches!(waiting, Waiting::Run(_)));
            assert!(
                matches!(monitor.next(), Next::Go(Some(_))),
                "it stands still"
            );
        }
    });
}

/// What another CPU was asked for is done, or who asked is stopped, or ends: one of them has it.
#[test]
fn a_wait_for_another_cpu_ends_once() {
    explore(2000, || {
        let sleeper = Arc::new(Sleeper::default());
        sleeper.wait_for(Waiting::Elsewhere);
        let settlers = [Ok(()), Err(Error::PeerGone)].map(|result| {
            let sleeper = sleeper.clone();
            thread::spawn(move || sleeper.settle(result))
        });
        let taker = sleeper.clone();
        let ender = thread::spawn(move || taker.take());
        let settled = settlers.map(|settler| settler.join().unwrap());
        let taken = ender.join().unwrap();
        let times = settled.iter().filter(|settled| **settled).count();
        match (&taken, sleeper.take()) {
            (Waiting::Elsewhere, Waiting::Nothing) => assert_eq!(times, 0, "for nobody"),
            (Waiting::Settled(_), Waiting::Nothing) => assert_eq!(times, 1),
            _ => panic!("it waits for something else"),
        }
    });
}
