//! Vcpus that others run: each exit goes to the runner, which sleeps meanwhile, on a CPU of its own.

use std::sync::Arc;

use hypervisor::object::{Next, Object, VcpuNumber};
use interleavings::{explore, Guest, Machine};
use nuncio_abi::{Call, Error, Handle, Resume, Rights, VcpuExit, MAX_VALUES};
use shuttle::thread;

/// Exits of the vcpu before its domain ends.
const EXITS: usize = 2;

fn run(runner: &mut Guest, vcpu: Handle) -> Result<[u64; MAX_VALUES], Error> {
    let (space, resume) = (None, Resume::GO);
    runner.call(Call::Run {
        vcpu,
        space,
        resume,
    })
}

#[test]
fn every_exit_and_the_end_of_a_vcpu_reach_its_runner() {
    explore(1000, || {
        let machine = Machine::new(3);
        let mut runner = machine.guest();
        let mut made = machine.guest();
        let monitor = made.add_monitored_vcpu(&machine, None);
        let vcpu = Object::Vcpu(Arc::downgrade(&made.domain), VcpuNumber::FIRST);
        let vcpu = runner.hold(vcpu, Rights::START);
        let cpu = thread::spawn(move || {
            let mut exits = 0;
            while exits < EXITS {
                match monitor.next() {
                    Next::Stand => made.sleep(),
                    Next::Go(_) => {
                        exits += 1;
                        let runner = monitor.exited(VcpuExit::Recalled {
                            instruction: 0x1000,
                        });
                        made.wake(runner.expect("somebody runs it"));
                    }
                }
            }
            made.end();
            made
        });
        for _ in 0..EXITS {
            run(&mut runner, vcpu).unwrap();
        }
        assert_eq!(run(&mut runner, vcpu), Err(Error::PeerGone));
        cpu.join().unwrap();
    });
}
