//! `program=bench`: what the calls cost, in ticks of the time-stamp counter.
//!
//! Where ticks are instructions the numbers are exact. Each is that of the best of some rounds of a
//! loop, less an empty loop. Prints `bench <name> <ticks per operation>`.
//! Command line: `n=ITERATIONS` per round.
//! Uses, if the domain has them: an event with notify (and wait), a port with send and receive
//! under the same name, a port `service` whose receiver answers calls, memory with read and write. It
//! makes a child for `run-exit`, a CPUID that comes back from `run` and is completed, and one for
//! `exit-to-domain`, what a CPUID takes the child if a port's receiver answers, with the four
//! instructions of the loop around it.

use core::hint::black_box;

use nuncio_abi::{
    BootInfo, Call, Deadline, ExitKind, Message, ObjectKind, Resume, Rights, StateGroups,
    MAX_INTERVAL_NS, PAGE_BYTES,
};
use sha2::{Digest, Sha256};

use super::monitor::code;
use super::monitor::stage::{Miss, Stage, Way};
use super::{Context, ExitCode, FAILED, GOOD};
use crate::hv::{Client, Event, Gate, Machine, Ring, RingMemory};
use crate::instructions::{cpuid, time_stamp_counter};
use crate::machine::Native;
use crate::println;

const ROUNDS: u32 = 8;

/// Calls in a ring.
const IN_RING: u64 = 16;

static RING: RingMemory = RingMemory::new();

struct Bench<'a> {
    machine: &'a Native,
    client: Client<'a, Native>,
    boot: &'a BootInfo,
    iterations: u64,
    empty_ticks: u64,
}

/// Runs the program.
pub fn run(context: &mut Context<'_, Native>) -> ExitCode {
    let iterations = match context.number("n", 200) {
        Ok(iterations) => iterations.clamp(1, 1 << 20),
        Err(code) => return code,
    };
    let mut bench = Bench {
        machine: context.machine,
        client: context.client(),
        boot: context.boot,
        iterations,
        empty_ticks: 0,
    };
    bench.empty_ticks = bench.best_round(|| {});
    bench.measure_cpu();
    bench.measure_data();
    bench.measure_events();
    bench.measure_ports();
    bench.measure_calls();
    bench.measure_memory();
    match bench.measure_exits() {
        Ok(()) => GOOD,
        Err(miss) => {
            println!("bench: {miss:?}");
            FAILED
        }
    }
}

impl Bench<'_> {
    fn measure_cpu(&self) {
        let machine = self.machine;
        self.report("clock", || machine.now_ns());
        self.report("clock-by-hand", || machine.now_ns_by_hand());
        self.report("cpuid", || cpuid(0, 0));
        let hello = Call::HELLO.encode();
        self.report("hello", || machine.call(hello));
        if let Ok(domain) = self.client.domain() {
            self.report("query", || domain.object().kind());
        }
    }

    /// What a page of the stream costs the consumer.
    fn measure_data(&self) {
        let page = [0x5A; PAGE_BYTES as usize];
        self.report("sha256-4096", || Sha256::digest(black_box(&page)));
    }

    fn measure_events(&self) {
        let mut events = self.client.all(ObjectKind::Event, Rights::NOTIFY);
        let Some(name) = events.next().map(|entry| entry.name) else {
            return;
        };
        let Ok(event) = self.client.event(name.as_str(), Rights::NOTIFY) else {
            return;
        };
        self.report("notify-coalesced", || event.notify(1));
        self.measure_ring(&event);
        let Ok(own) = self.client.event(name.as_str(), Rights::WAIT) else {
            return;
        };
        let Ok(word) = own.word() else {
            return;
        };
        word.enable(1);
        let take = self.ticks(|| word.take());
        let both = self.ticks(|| {
            let _ = black_box(event.notify(1));
            word.take()
        });
        word.enable(0);
        word.take();
        println!(
            "bench notify {}",
            self.per_operation(both.saturating_sub(take))
        );
        word.batch(1 << 60);
        self.report("notify-counted", || event.notify(1));
        word.wake_at(0);
        self.measure_interval();
    }

    /// What it costs a sender to set bits of an event that holds them back.
    fn measure_interval(&self) {
        // A slot that manifests are far from giving to anything.
        const SLOT: usize = 62;
        let Ok(event) = self.client.create_throttled_event(SLOT, MAX_INTERVAL_NS) else {
            return;
        };
        let _ = event.far.notify(1);
        self.report("notify-held", || event.far.notify(1));
        let _ = (event.near.object().close(), event.far.object().close());
    }

    /// What one of sixteen calls in a ring costs, with all that it takes to put them there.
    fn measure_ring(&self, event: &Event<'_, Native>) {
        let ring = Ring::new(self.machine, &RING);
        let call = Call::Notify {
            event: event.object().handle(),
            bits: 1,
        };
        let ticks = self.ticks(|| {
            for _ in 0..IN_RING {
                let _ = black_box(ring.push(call));
            }
            ring.submit()
        });
        let per_entry = self.per_operation(ticks / IN_RING);
        println!("bench submit-notify-{IN_RING} {per_entry}");
    }

    /// Sending to oneself: what a message costs without a switch, short and long.
    fn measure_ports(&self) {
        let own = self
            .client
            .all(ObjectKind::Port, Rights::RECEIVE)
            .find_map(|entry| {
                let name = entry.name.as_str();
                let receive = self.client.port(name, Rights::RECEIVE).ok()?;
                Some((self.client.port(name, Rights::SEND).ok()?, receive))
            });
        let Some((send, receive)) = own else {
            return;
        };
        for (name, length) in [("send-receive-24", 24), ("send-receive-64", 64)] {
            let message = Message {
                length,
                words: core::array::from_fn(|word| u64::from(word * 8 < length.into())),
            };
            self.report(name, || {
                let _ = black_box(send.send(&message));
                receive.receive(Deadline::NOW)
            });
        }
    }

    /// To another domain and back: two world switches.
    fn measure_calls(&self) {
        let Ok(service) = self.client.port("service", Rights::SEND) else {
            return;
        };
        for (name, length) in [("call-reply-8", 8), ("call-reply-64", 64)] {
            let message = Message {
                length,
                words: core::array::from_fn(|word| u64::from(word * 8 < length.into())),
            };
            self.report(name, || service.call(&message, Deadline::NEVER));
        }
    }

    fn measure_memory(&self) {
        let mut memories = self.client.all(ObjectKind::Memory, Rights::READ);
        let entry = memories.next();
        let memory =
            entry.and_then(|entry| self.client.memory(entry.name.as_str(), Rights::READ).ok());
        let (Some(memory), Ok(space)) = (memory, self.client.space()) else {
            return;
        };
        let Ok(window) = self.machine.reserve_window(PAGE_BYTES) else {
            return;
        };
        self.report("map-unmap", || {
            let _ = black_box(space.map(&memory, window, 0, PAGE_BYTES, Rights::READ));
            space.unmap(window, PAGE_BYTES)
        });
    }

    /// What a child's CPUID costs: a round of `run` for its runner, and the instruction for the child
    /// when a port's receiver answers.
    fn measure_exits(&self) -> Result<(), Miss> {
        const CPUIDS: u64 = 200;
        const R15: usize = 15;
        let stage = Stage::new(Client::new(self.machine, self.boot))?;
        let (none, exits) = (StateGroups::NONE, [ExitKind::Cpuid, ExitKind::Halt]);
        let guest = stage.child(Way::Run, code::asks_for_ever(), &exits, none)?;
        guest.go_until(Resume::GO, ExitKind::Cpuid)?;
        let vcpu = &guest.vcpu;
        self.report("run-exit", || vcpu.run(None, Resume::complete(0)));
        guest.go_until(Resume::complete(0), ExitKind::Cpuid)?;
        guest.destroy()?;
        let guest = stage.child(Way::Port, code::measures(), &exits, none)?;
        let mut resume = Resume::GO;
        while guest.go(resume)?.kind() == ExitKind::Cpuid {
            resume = Resume::complete(0);
        }
        stage.state()?.set_save(StateGroups::GENERAL);
        guest.go_until(Resume::GO, ExitKind::Halt)?;
        let ticks = stage.state()?.general(R15);
        println!("bench exit-to-domain {}", (ticks + CPUIDS / 2) / CPUIDS);
        guest.destroy()
    }

    fn report<T>(&self, name: &str, operation: impl FnMut() -> T) {
        let ticks = self.ticks(operation);
        println!("bench {name} {}", self.per_operation(ticks));
    }

    fn ticks<T>(&self, operation: impl FnMut() -> T) -> u64 {
        self.best_round(operation).saturating_sub(self.empty_ticks)
    }

    /// Rounded to the nearest tick.
    fn per_operation(&self, ticks: u64) -> u64 {
        (ticks + self.iterations / 2) / self.iterations
    }

    fn best_round<T>(&self, mut operation: impl FnMut() -> T) -> u64 {
        let mut best = u64::MAX;
        for _ in 0..ROUNDS {
            let start = time_stamp_counter();
            for iteration in 0..self.iterations {
                black_box(iteration);
                let _ = black_box(operation());
            }
            best = best.min(time_stamp_counter() - start);
        }
        best
    }
}
