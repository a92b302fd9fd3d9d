//! `program=call-fuzz seed=N calls=M`: random verbs and arguments.
//!
//! Arguments are drawn from what is plausible: handles from the boot info and of what it has made,
//! addresses of RAM and of the shared pages, lengths, small numbers, and noise. Left out is only what the ABI lets a domain
//! do to itself and what would end the run: stopping itself, closing its console or itself, taking
//! its RAM away, waiting for long, a buffer in the middle of the kernel.
//! A status outside the table, or a status of 0 for no verb, is a failure.

use nuncio_abi::{BootInfo, Error, RawCall, Reply, Verb, PAGE_BYTES};

use crate::hv::{Gate, Machine};
use crate::machine::Native;
use crate::println;
use crate::programs::{Context, ExitCode, FAILED, GOOD};

/// A counter for success and one for each error, by number.
const STATUSES: usize = Error::ALL.len() + 1;

/// Runs the program.
pub(super) fn run(context: &mut Context<'_, Native>) -> ExitCode {
    let (seed, calls) = match (context.number("seed", 1), context.number("calls", 10_000)) {
        (Ok(seed), Ok(calls)) => (seed, calls),
        (Err(code), _) | (_, Err(code)) => return code,
    };
    let mut fuzz = Fuzz {
        machine: context.machine,
        boot: context.boot,
        state: seed.wrapping_mul(2).wrapping_add(1),
        made: [0; MADE],
    };
    let mut counts = [0u64; STATUSES];
    let mut strange = 0;
    for _ in 0..calls {
        let raw = fuzz.next_call();
        let reply = context.machine.call(raw);
        fuzz.remember(&raw, &reply);
        let is_known = Verb::from_number(raw.verb).is_some();
        if !is_known && !matches!(reply, Reply::Error(Error::UnknownVerb)) {
            println!("call-fuzz FAILED: {raw:x?} gives {reply:x?}");
            strange += 1;
        }
        if let Some(count) = counts.get_mut(reply.status() as usize) {
            *count += 1;
        }
    }
    for (number, count) in (0..).zip(counts).filter(|(_, count)| *count > 0) {
        let name = Error::from_number(number).map_or("done", Error::name);
        println!("call-fuzz {name} {count}");
    }
    println!("call-fuzz: {calls} calls, {strange} strange replies");
    if strange == 0 {
        GOOD
    } else {
        FAILED
    }
}

struct Fuzz<'a> {
    machine: &'a Native,
    boot: &'a BootInfo,
    state: u64,
    /// Some of the handles that it has made.
    made: [u64; MADE],
}

const MADE: usize = 32;

impl Fuzz<'_> {
    fn remember(&mut self, raw: &RawCall, reply: &Reply) {
        let verb = Verb::from_number(raw.verb);
        if !matches!(verb, Some(Verb::Create | Verb::Grant)) {
            return;
        }
        if let Ok([first, second, ..]) = reply.result() {
            for handle in [first, second].into_iter().filter(|handle| *handle != 0) {
                let place = self.random() as usize % MADE;
                if let Some(place) = self.made.get_mut(place) {
                    *place = handle;
                }
            }
        }
    }

    /// A call that does not end the run.
    fn next_call(&mut self) -> RawCall {
        loop {
            let verb = match self.random() % 16 {
                0 => self.random(),
                number => number.wrapping_mul(self.random()) % (Verb::ALL.len() as u64 + 1),
            };
            // A closed handle is worth less to the other verbs than an open one.
            if verb == Verb::Close.number() && !self.random().is_multiple_of(8) {
                continue;
            }
            let arguments = core::array::from_fn(|_| self.argument());
            let mut raw = RawCall { verb, arguments };
            self.make_plausible(&mut raw);
            self.bound_waiting(&mut raw);
            if self.is_harmless(&raw) {
                return raw;
            }
        }
    }

    /// Most registers that must be zero are, or few calls would get past the first check.
    fn make_plausible(&mut self, raw: &mut RawCall) {
        let [_, second, third, fourth, fifth] = &mut raw.arguments;
        if self.random().is_multiple_of(4) {
            return;
        }
        match Verb::from_number(raw.verb) {
            Some(Verb::Create) => {
                raw.arguments[0] = 4 + self.random() % 4;
                raw.arguments[3] = 0;
                raw.arguments[4] = 0;
                if !self.random().is_multiple_of(4) {
                    raw.arguments[2] = self.random() % 2;
                }
            }
            Some(Verb::Grant) => {
                *second &= 0x7FF;
                (*third, *fourth, *fifth) = (*third & 1, 0, 0);
            }
            Some(Verb::Arm | Verb::Notify | Verb::Query | Verb::Stop) => {
                (*third, *fourth, *fifth) = (0, 0, 0);
            }
            Some(Verb::Close | Verb::Wait) => {
                (*second, *third, *fourth, *fifth) = (0, 0, 0, 0);
            }
            Some(Verb::Receive | Verb::Unmap) => (*fourth, *fifth) = (0, 0),
            Some(Verb::Send | Verb::Call | Verb::Reply) => {
                *second = *second & 0x7FF | u64::from(raw.verb == Verb::Reply.number()) << 48;
                (*fourth, *fifth) = (0, *fifth & !0xFF);
            }
            _ => {}
        }
    }

    fn bound_waiting(&mut self, raw: &mut RawCall) {
        let soon = self.machine.now_ns() + self.random() % 50_000;
        match Verb::from_number(raw.verb) {
            Some(Verb::Wait) => raw.arguments[0] = raw.arguments[0].min(soon),
            Some(Verb::Call) => {
                raw.arguments[4] = raw.arguments[4].min(soon);
                if raw.arguments[2] < self.boot.mapped_end {
                    raw.arguments[2] = self.machine.buffers().outgoing.address();
                }
            }
            // The receive behind a reply waits for ever.
            Some(Verb::Send | Verb::Reply) => raw.arguments[1] &= !(1 << 11),
            Some(Verb::Receive) => {
                raw.arguments[1] = raw.arguments[1].min(soon);
                if raw.arguments[2] < self.boot.mapped_end {
                    raw.arguments[2] = self.machine.buffers().incoming.address();
                }
            }
            _ => {}
        }
    }

    fn is_harmless(&self, raw: &RawCall) -> bool {
        let [first, address, ..] = raw.arguments;
        match Verb::from_number(raw.verb) {
            Some(Verb::Stop) => self.name_of(first) != Some("domain"),
            Some(Verb::Close) => {
                !matches!(self.name_of(first), Some("domain" | "console" | "space"))
            }
            Some(Verb::Unmap) => address >= self.boot.mapped_end,
            Some(Verb::Send) => self.name_of(first) != Some("console"),
            _ => true,
        }
    }

    fn name_of(&self, handle: u64) -> Option<&str> {
        let mut entries = self.boot.handles().iter();
        let entry = entries.find(|entry| entry.handle == handle)?;
        Some(entry.name.as_str())
    }

    fn argument(&mut self) -> u64 {
        let boot = self.boot;
        let noise = self.random();
        match self.random() % 16 {
            0..3 => {
                let place = noise as usize % MADE;
                self.made.get(place).copied().unwrap_or(0)
            }
            3..5 => {
                let handles = boot.handles();
                let index = (noise as usize).checked_rem(handles.len());
                index
                    .and_then(|index| handles.get(index))
                    .map_or(0, |entry| entry.handle)
            }
            5 => 0,
            6 => noise % 70,
            7 => (noise % 64) * PAGE_BYTES,
            8 => (noise % 8) * PAGE_BYTES + (noise >> 32 & 7),
            9 => (noise % boot.ram_bytes.max(1)) & !63,
            10 => boot.mapped_end + (noise % 1024) * PAGE_BYTES,
            11 => [boot.vcpu_page, boot.time_page, boot.text_page][(noise % 3) as usize],
            12 => boot.address_limit.wrapping_sub(noise % 3 * PAGE_BYTES),
            13 => 1 << (noise % 64),
            14 => u64::MAX - noise % 5000,
            _ => noise,
        }
    }

    /// A multiplicative generator; its upper bits are the good ones.
    fn random(&mut self) -> u64 {
        self.state = self
            .state
            .wrapping_mul(0xD129_0D3A_9E37_79B5)
            .wrapping_add(0x2545_F491_4F6C_DD1D);
        self.state >> 29 ^ self.state.rotate_left(32)
    }
}
