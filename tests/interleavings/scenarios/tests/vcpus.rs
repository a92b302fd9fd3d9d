//! The way of a vcpu from its making to its end, with the CPUs of its maker and of others in between.

use hypervisor::mem::OutOfFrames;
use hypervisor::object::{
    Domain, Ended, Ending, Monitor, Next, Order, Runner, Sleeper, Vcpu, VcpuId, VcpuNumber,
    Waiting, Wake,
};
use interleavings::{explore, Guest, Machine};
use nuncio_abi::{Error, Resume, StopReason, VcpuExit};
use shuttle::sync::atomic::{AtomicUsize, Ordering};
use shuttle::thread;
use std::sync::Arc;

const NUMBER: VcpuId = VcpuId(9);

fn vcpu(machine: &Machine, guest: &Guest) -> Result<Vcpu, OutOfFrames> {
    let physical = guest.domain.space.physical();
    let charge = machine.account().charge_kernel(&[])?;
    Vcpu::made(machine.memory(1), None, physical, charge)
}

const ENDING: Ending = Ending {
    reason: StopReason::Exited,
    detail: 0,
    instruction_pointer: 0,
};

/// Closes the domain if that is this one's part; how often it was.
fn close_if(domain: &Domain, closes: bool) -> usize {
    if closes {
        assert_eq!(domain.close(&mut |_| ()).len(), 2, "the numbers of both");
    }
    usize::from(closes)
}

/// Two CPUs start the vcpus of a domain and take them from their CPUs again, one of them twice, while it
/// ends: it is closed once, and only when none can run.
#[test]
fn a_domain_that_ends_while_its_vcpus_start_and_stop_is_closed_once() {
    explore(3000, || {
        let machine = Machine::new(1);
        let free_frames = machine.free_frames();
        let guest = machine.guest();
        let domain = guest.domain.clone();
        for number in [7, 8] {
            let made = vcpu(&machine, &guest).unwrap().numbered(VcpuId(number));
            domain.add_vcpu(|| Ok(made)).unwrap();
        }
        let running = Arc::new(AtomicUsize::new(0));
        let loops = [(0, 2), (1, 1)].map(|(number, times)| {
            let (domain, running) = (domain.clone(), running.clone());
            thread::spawn(move || {
                let mut closed = 0;
                for _ in 0..times {
                    match domain.take_vcpu(VcpuNumber(number)) {
                        Ok(vcpu) => {
                            running.fetch_add(1, Ordering::SeqCst);
                            thread::yield_now();
                            running.fetch_sub(1, Ordering::SeqCst);
                            closed += close_if(&domain, domain.give_vcpu_back(vcpu));
                        }
                        Err(error) => assert_eq!(error, Error::PeerGone),
                    }
                }
                closed
            })
        });
        let ender = {
            let domain = domain.clone();
            thread::spawn(move || match domain.end(ENDING) {
                Ended::Before => panic!("nobody else ends it"),
                Ended::Now => {
                    assert_eq!(running.load(Ordering::SeqCst), 0, "one runs");
                    close_if(&domain, true)
                }
                Ended::WhenVcpusStop => 0,
            })
        };
        let closed: usize = loops.map(|cpu| cpu.join().unwrap()).iter().sum();
        assert_eq!(closed + ender.join().unwrap(), 1);
        assert!(matches!(
            domain.take_vcpu(VcpuNumber::FIRST),
            Err(Error::PeerGone)
        ));
        drop((guest, domain));
        assert_eq!(machine.free_frames(), free_frames, "frames are missing");
    });
}

/// Whoever ends a domain first has it, and who waits for its end is woken once.
#[test]
fn who_waits_for_the_end_of_a_domain_is_woken() {
    explore(2000, || {
        let machine = Machine::new(1);
        let domain = machine.guest().domain.clone();
        let enders = [(); 2].map(|()| {
            let domain = domain.clone();
            thread::spawn(move || {
                let mut woken = 0;
                let ended = domain.end(ENDING);
                if ended == Ended::Now {
                    domain.close(&mut |wake| woken += usize::from(wake == Wake::Blocked(NUMBER)));
                }
                (ended, woken)
            })
        });
        let sleeper = Arc::new(Sleeper::default());
        sleeper.wait_for(Waiting::Elsewhere);
        let waits = domain.await_close(NUMBER, &sleeper);
        let ended = enders.map(|ender| ender.join().unwrap());
        let closers = ended.iter().filter(|(ended, _)| *ended == Ended::Now);
        assert_eq!(closers.count(), 1);
        let woken: usize = ended.iter().map(|(_, woken)| woken).sum();
        assert_eq!(woken, usize::from(waits));
        assert_eq!(matches!(sleeper.take(), Waiting::Settled(Ok(()))), waits);
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
