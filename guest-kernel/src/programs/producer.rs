//! `program=producer`: hands the boot module `input` to the consumer.
//!
//! Needs port `descriptors` (send), memory `stream` (read and write), event `free` (wait).
//! Command line: `peer=NAME` names the consumer in messages;
//! `port=`, `memory=` and `event=` name other wires than these.

use nuncio_abi::{Deadline, Error, Rights};

use super::stream::{slots_in, Content, Descriptor, SLOT_BYTES, STALL_NS};
use super::{Context, ExitCode, FAILED, GOOD};
use crate::hv::{Event, Machine, Port, SharedView};

/// After so long without a free slot the producer asks whether the consumer still exists.
const PROBE_AFTER_NS: u64 = 500_000_000;
/// A full port has room again soon: its reader needs no slot to be freed first.
const FULL_PORT_REST_NS: u64 = 1_000_000;

/// Why the stream was not handed over.
#[derive(Debug)]
enum Failure {
    Missing(&'static str, Error),
    TooSmall(u64),
    Gone,
    Stalled,
    Refused(Error),
}

/// Runs the program.
pub fn run<M: Machine>(context: &mut Context<'_, M>) -> ExitCode {
    let peer = context.words.value("peer").unwrap_or("the consumer");
    let failure = match hand_over(context) {
        Ok(()) => return GOOD,
        Err(failure) => failure,
    };
    let out = &mut *context.out;
    // The console cannot fail; what it loses it counts itself.
    let _ = match failure {
        Failure::Missing(name, error) => writeln!(out, "producer: cannot use {name}: {error}"),
        Failure::TooSmall(bytes) => writeln!(
            out,
            "producer: stream has {bytes} bytes, a slot takes {SLOT_BYTES}"
        ),
        Failure::Gone => writeln!(out, "producer: {peer} has gone"),
        Failure::Stalled => writeln!(out, "producer: {peer} made no progress for 10 s"),
        Failure::Refused(error) => writeln!(out, "producer: the hypervisor answers {error}"),
    };
    FAILED
}

fn hand_over<M: Machine>(context: &Context<'_, M>) -> Result<(), Failure> {
    let client = context.client();
    let missing = |name| move |error| Failure::Missing(name, error);
    let module = context.boot.module("input");
    let input = module
        .and_then(|module| context.machine.module_bytes(module))
        .ok_or(Failure::Missing("module input", Error::BadHandle))?;
    let access = Rights::READ | Rights::WRITE;
    let view = client
        .memory(context.words.value("memory").unwrap_or("stream"), access)
        .and_then(|memory| memory.attach(&client.space()?, access))
        .map_err(missing("memory stream"))?;
    let port = client
        .port(
            context.words.value("port").unwrap_or("descriptors"),
            Rights::SEND,
        )
        .map_err(missing("port descriptors"))?;
    let free = client
        .event(context.words.value("event").unwrap_or("free"), Rights::WAIT)
        .map_err(missing("event free"))?;
    if slots_in(view.length()) == 0 {
        return Err(Failure::TooSmall(view.length()));
    }
    let mut sender = Sender::new(context.machine, &view, port, free);
    for chunk in input.chunks(SLOT_BYTES as usize) {
        sender.send_chunk(chunk)?;
    }
    sender.send(Content::End {
        total_bytes: input.len() as u64,
    })
}

struct Sender<'m, 'v, M: Machine> {
    machine: &'m M,
    view: &'v M::View,
    port: Port<'m, M>,
    free: Event<'m, M>,
    free_slots: u64,
    all_slots: u64,
    sequence: u64,
    last_progress_ns: u64,
}

impl<'m, 'v, M: Machine> Sender<'m, 'v, M> {
    fn new(machine: &'m M, view: &'v M::View, port: Port<'m, M>, free: Event<'m, M>) -> Self {
        let slots = slots_in(view.length());
        let all_slots = u64::MAX.checked_shr(64 - slots as u32).unwrap_or(0);
        Sender {
            machine,
            view,
            port,
            free,
            free_slots: all_slots,
            all_slots,
            sequence: 0,
            last_progress_ns: machine.now_ns(),
        }
    }

    fn send_chunk(&mut self, chunk: &[u8]) -> Result<(), Failure> {
        while self.free_slots == 0 {
            self.wait_for_a_slot(PROBE_AFTER_NS)?;
            if self.free_slots == 0 {
                self.probe()?;
            }
        }
        let slot = u64::from(self.free_slots.trailing_zeros());
        if !self.view.write(slot * SLOT_BYTES, chunk) {
            return Err(Failure::TooSmall(self.view.length()));
        }
        self.free_slots &= !(1 << slot);
        self.send(Content::Data {
            slot,
            length: chunk.len() as u64,
        })
    }

    /// Sends a descriptor, waiting while the port is full.
    fn send(&mut self, content: Content) -> Result<(), Failure> {
        while !self.try_send(content)? {
            self.wait_for_a_slot(FULL_PORT_REST_NS)?;
        }
        self.last_progress_ns = self.machine.now_ns();
        Ok(())
    }

    /// Finds out whether the consumer still exists; a full port is answer enough.
    fn probe(&mut self) -> Result<(), Failure> {
        self.try_send(Content::Probe).map(|_| ())
    }

    fn try_send(&mut self, content: Content) -> Result<bool, Failure> {
        let descriptor = Descriptor {
            sequence: self.sequence,
            content,
        };
        match self.port.send_words(descriptor.to_words()) {
            Ok(()) => {
                self.sequence += 1;
                Ok(true)
            }
            Err(Error::QueueFull) => Ok(false),
            Err(Error::PeerGone) => Err(Failure::Gone),
            Err(error) => Err(Failure::Refused(error)),
        }
    }

    /// Collects freed slots, for at most that long.
    fn wait_for_a_slot(&mut self, limit_ns: u64) -> Result<(), Failure> {
        let now_ns = self.machine.now_ns();
        if now_ns.saturating_sub(self.last_progress_ns) >= STALL_NS {
            return Err(Failure::Stalled);
        }
        let deadline = Deadline(now_ns.saturating_add(limit_ns));
        match self.free.wait(self.all_slots, deadline) {
            // A bit of a slot that is not in use is a mistake of the consumer, and no progress.
            Ok(bits) => {
                let freed = bits & self.all_slots & !self.free_slots;
                if freed != 0 {
                    self.free_slots |= freed;
                    self.last_progress_ns = self.machine.now_ns();
                }
                Ok(())
            }
            Err(Error::TimedOut | Error::Interrupted) => Ok(()),
            Err(error) => Err(Failure::Refused(error)),
        }
    }
}
