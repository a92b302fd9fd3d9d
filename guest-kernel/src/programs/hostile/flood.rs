//! `program=flood`: sends without pause.
//!
//! Sends on `port=NAME`, or else on the first port with send that is not the console, until it is
//! full or its reader has gone; with `messages=N` goes on through full ones for N attempts. Without
//! it a million messages are enough: a reader that keeps up is no failure.

use nuncio_abi::{Error, ObjectKind, Rights};

use crate::machine::Native;
use crate::println;
use crate::programs::{Context, ExitCode, BAD_COMMAND_LINE, FAILED, GOOD};

/// Runs the program.
pub(super) fn run(context: &mut Context<'_, Native>) -> ExitCode {
    let attempts = match context.number("messages", 1_000_000) {
        Ok(attempts) => attempts,
        Err(code) => return code,
    };
    let stops_when_full = context.words.value("messages").is_none();
    let client = context.client();
    let mut ports = client.all(ObjectKind::Port, Rights::SEND);
    let other = ports.find(|entry| entry.name.as_str() != "console");
    let name = other.map_or("console", |entry| entry.name.as_str());
    let name = context.words.value("port").unwrap_or(name);
    let Ok(port) = client.port(name, Rights::SEND) else {
        println!("flood: there is no port {name} to send to");
        return BAD_COMMAND_LINE;
    };
    let (mut sent, mut full) = (0u64, 0u64);
    let end = loop {
        match port.send_words([sent, full, 0]) {
            Ok(()) => sent += 1,
            Err(Error::QueueFull) => full += 1,
            Err(error) => break Some(error),
        }
        let has_ended = sent + full >= attempts || (stops_when_full && full > 0);
        if has_ended {
            break None;
        }
    };
    match end {
        None => println!("flood: {sent} sent, {full} refused"),
        Some(Error::PeerGone) => println!("flood: {sent} sent, {full} refused, then peer-gone"),
        Some(error) => {
            println!("flood: FAILED, the hypervisor answers {error}");
            return FAILED;
        }
    }
    GOOD
}
