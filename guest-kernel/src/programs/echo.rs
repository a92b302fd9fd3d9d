//! `program=echo`: answers every call on the port `service` with the words that came in it.
//!
//! Ends well when nobody is left who could call.

use nuncio_abi::{Deadline, Error, Rights};

use super::{Context, ExitCode, FAILED, GOOD};
use crate::hv::{Machine, Port, Received};

/// Runs the program.
pub fn run<M: Machine>(context: &mut Context<'_, M>) -> ExitCode {
    let port = match context.client().port("service", Rights::RECEIVE) {
        Ok(port) => port,
        Err(error) => {
            // The console cannot fail; what it loses it counts itself.
            let _ = writeln!(context.out, "echo: no port `service`: {error}");
            return FAILED;
        }
    };
    match serve(&port) {
        Error::PeerGone => GOOD,
        error => {
            let _ = writeln!(context.out, "echo: {error}");
            FAILED
        }
    }
}

/// Serves until an error that is not of one message.
fn serve<M: Machine>(port: &Port<'_, M>) -> Error {
    let mut next = port.receive(Deadline::NEVER);
    loop {
        next = match next {
            Ok(Received {
                token: Some(token),
                message,
                ..
            }) => port.reply_and_receive(token, &message),
            // The caller has given up, or the next message is too long for registers.
            Ok(_) | Err(Error::PeerGone | Error::BufferTooSmall) => {
                match port.receive(Deadline::NEVER) {
                    Err(error) => return error,
                    received => received,
                }
            }
            Err(error) => return error,
        };
    }
}
