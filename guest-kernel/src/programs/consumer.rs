//! `program=consumer`: receives the producer's stream and prints its SHA-256.
//!
//! Needs port `descriptors` (receive), memory `stream` (read), event `free` (notify).
//! Command line: `peer=NAME` names the producer in messages;
//! `port=`, `memory=` and `event=` name other wires than these.
//! Prints `sha256 <64 hex digits> <total> bytes`.

use alloc::vec;
use alloc::vec::Vec;

use nuncio_abi::{Deadline, Error, Message, Rights};
use sha2::{Digest, Sha256};

use super::stream::{slots_in, Content, Flaw, Progress, SLOT_BYTES, STALL_NS};
use super::{Context, ExitCode, FAILED, GOOD};
use crate::hv::{Event, Machine, SharedView};

/// Bytes that are copied out of shared memory at a time. They are hashed from the copy, so that
/// the producer cannot change them while they are being read; the copy fits into the L1 cache.
const COPY_BYTES: usize = 4096;

/// Why there is no sum.
#[derive(Debug)]
enum Failure {
    Missing(&'static str, Error),
    Gone,
    Stalled,
    Flaw(Flaw),
    Refused(Error),
}

/// Runs the program.
pub fn run<M: Machine>(context: &mut Context<'_, M>) -> ExitCode {
    let peer = context.words.value("peer").unwrap_or("the producer");
    let outcome = receive_all(context);
    let out = &mut *context.out;
    // The console cannot fail; what it loses it counts itself.
    let _ = match outcome {
        Ok((sum, total_bytes)) => {
            let _ = write!(out, "sha256 ");
            for byte in sum {
                let _ = write!(out, "{byte:02x}");
            }
            let _ = writeln!(out, " {total_bytes} bytes");
            return GOOD;
        }
        Err(Failure::Missing(name, error)) => writeln!(out, "consumer: cannot use {name}: {error}"),
        Err(Failure::Gone) => writeln!(out, "consumer: {peer} has gone before the end"),
        Err(Failure::Stalled) => writeln!(out, "consumer: {peer} sent nothing for 10 s"),
        Err(Failure::Flaw(flaw)) => {
            writeln!(out, "consumer: {peer} sent a bad descriptor: {flaw:?}")
        }
        Err(Failure::Refused(error)) => writeln!(out, "consumer: the hypervisor answers {error}"),
    };
    FAILED
}

fn receive_all<M: Machine>(context: &Context<'_, M>) -> Result<([u8; 32], u64), Failure> {
    let client = context.client();
    let missing = |name| move |error| Failure::Missing(name, error);
    let view = client
        .memory(
            context.words.value("memory").unwrap_or("stream"),
            Rights::READ,
        )
        .and_then(|memory| memory.attach(&client.space()?, Rights::READ))
        .map_err(missing("memory stream"))?;
    let port = client
        .port(
            context.words.value("port").unwrap_or("descriptors"),
            Rights::RECEIVE,
        )
        .map_err(missing("port descriptors"))?;
    let free = client
        .event(
            context.words.value("event").unwrap_or("free"),
            Rights::NOTIFY,
        )
        .map_err(missing("event free"))?;
    let mut stream = Stream::new(&view, free);
    let mut last_progress_ns = context.machine.now_ns();
    loop {
        let deadline = Deadline(last_progress_ns.saturating_add(STALL_NS));
        match port.receive(deadline) {
            Ok(received) => match stream.take(&received.message)? {
                Step::End => return Ok(stream.finish()),
                // A probe is no progress: a producer that only asks is stuck as well.
                Step::Probe => {}
                Step::Data => last_progress_ns = context.machine.now_ns(),
            },
            Err(Error::Interrupted) => {}
            Err(Error::TimedOut | Error::QueueEmpty) => return Err(Failure::Stalled),
            Err(Error::PeerGone) => return Err(Failure::Gone),
            Err(error) => return Err(Failure::Refused(error)),
        }
    }
}

enum Step {
    Data,
    Probe,
    End,
}

struct Stream<'m, 'v, M: Machine> {
    view: &'v M::View,
    free: Event<'m, M>,
    slots: u64,
    progress: Progress,
    hash: Sha256,
    copy: Vec<u8>,
}

impl<'m, 'v, M: Machine> Stream<'m, 'v, M> {
    fn new(view: &'v M::View, free: Event<'m, M>) -> Self {
        Stream {
            view,
            free,
            slots: slots_in(view.length()),
            progress: Progress::default(),
            hash: Sha256::new(),
            copy: vec![0; COPY_BYTES],
        }
    }

    fn take(&mut self, message: &Message) -> Result<Step, Failure> {
        let accepted = self.progress.accept(message, self.slots);
        match accepted.map_err(Failure::Flaw)? {
            Content::Data { slot, length } => {
                self.hash_slot(slot, length)?;
                match self.free.notify(1 << slot) {
                    // A producer that has sent its last message need not wait for its slots.
                    Ok(()) | Err(Error::PeerGone) => Ok(Step::Data),
                    Err(error) => Err(Failure::Refused(error)),
                }
            }
            Content::Probe => Ok(Step::Probe),
            Content::End { .. } => Ok(Step::End),
        }
    }

    fn hash_slot(&mut self, slot: u64, length: u64) -> Result<(), Failure> {
        let mut offset = slot * SLOT_BYTES;
        let end = offset + length;
        while offset < end {
            let step = (end - offset).min(COPY_BYTES as u64);
            let copy = self.copy.get_mut(..step as usize);
            let copy = copy.ok_or(Failure::Flaw(Flaw::Length))?;
            if !self.view.read(offset, copy) {
                return Err(Failure::Flaw(Flaw::Slot));
            }
            self.hash.update(&*copy);
            offset += step;
        }
        Ok(())
    }

    fn finish(self) -> ([u8; 32], u64) {
        (self.hash.finalize().into(), self.progress.received_bytes())
    }
}
