//! `program=partner`: the other side of `program=conformance`. Takes orders from a port and does
//! what they say, as an honest domain would. Ends well when nobody is left to give orders.
//!
//! Wants `receive` of the port that `orders=NAME` names (`orders` without it) and `send` of
//! `answers`.

use nuncio_abi::{
    Call, CallToken, Create, Deadline, Error, Handle, Message, Outgoing, Rights, Transfer,
    PAGE_BYTES,
};

use super::orders;
use crate::hv::{rest_until, Machine, Object, Port};
use crate::programs::{Context, ExitCode, FAILED, GOOD};

/// Before an order is carried out, so that whoever gave it usually waits already.
const PAUSE_NS: u64 = 1_000_000;

/// The slot of what it makes.
const SLOT: u64 = 50;

/// Runs the program.
pub fn run<M: Machine>(context: &mut Context<'_, M>) -> ExitCode {
    let client = context.client();
    let name = context.words.value("orders").unwrap_or("orders");
    let ends = client
        .port(name, Rights::RECEIVE)
        .and_then(|orders| Ok((orders, client.port("answers", Rights::SEND)?)));
    let error = match ends {
        Ok((orders, answers)) => Partner {
            machine: context.machine,
            boot: context.boot,
            orders,
            answers,
        }
        .obey(),
        Err(error) => error,
    };
    if error == Error::PeerGone {
        return GOOD;
    }
    // The console cannot fail; what it loses it counts itself.
    let _ = writeln!(context.out, "partner: {error}");
    FAILED
}

struct Partner<'m, M> {
    machine: &'m M,
    boot: &'m nuncio_abi::BootInfo,
    orders: Port<'m, M>,
    answers: Port<'m, M>,
}

impl<M: Machine> Partner<'_, M> {
    /// Takes orders until one cannot be carried out, or nobody is left to give one.
    fn obey(&self) -> Error {
        loop {
            if let Err(error) = self.obey_one() {
                return error;
            }
        }
    }

    fn obey_one(&self) -> Result<(), Error> {
        let received = self.orders.receive(Deadline::NEVER)?;
        let [what, number, ..] = received.message.words;
        let handle = received.handles.iter().next();
        rest_until(self.machine, self.machine.now_ns() + PAUSE_NS);
        let Some(handle) = handle.filter(|_| what != orders::SERVE) else {
            return match what {
                orders::PING => self.answers.send_words([orders::PING, 0, 0]),
                orders::SERVE => self.serve(number),
                orders::CLOSE_OWN => self.close_own(),
                _ => Ok(()),
            };
        };
        match what {
            orders::SEND => self.send_numbers(handle, number)?,
            orders::SEND_WAITING => self.send_numbers_waiting(handle, number)?,
            orders::NOTIFY => {
                let event = handle;
                self.machine.invoke(Call::Notify { event, bits: 1 })?;
            }
            orders::CALL | orders::CALL_FROM_MEMORY => {
                return self.call(handle, number, what == orders::CALL_FROM_MEMORY);
            }
            _ => {}
        }
        self.close(handle)
    }

    fn close(&self, handle: Handle) -> Result<(), Error> {
        self.machine.invoke(Call::Close { handle }).map(drop)
    }

    fn send_numbers(&self, port: Handle, messages: u64) -> Result<(), Error> {
        for number in 0..messages {
            let message = Outgoing::registers(8, [number, 0, 0]);
            self.machine.invoke(Call::Send { port, message })?;
        }
        Ok(())
    }

    fn send_numbers_waiting(&self, port: Handle, messages: u64) -> Result<(), Error> {
        let deadline = Deadline::NEVER;
        for number in 0..messages {
            let message = Outgoing::registers(8, [number, 0, 0]);
            let call = Call::SendWaiting {
                port,
                message,
                deadline,
            };
            match self.machine.invoke(call) {
                // The receiver may have seen enough.
                Ok(_) | Err(Error::PeerGone) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Calls, gives the handle back, and reports.
    fn call(&self, port: Handle, patience_ns: u64, in_memory: bool) -> Result<(), Error> {
        let deadline = Deadline(self.machine.now_ns().saturating_add(patience_ns));
        let buffer = &self.machine.buffers().outgoing;
        let [first, second, _] = orders::WORDS;
        let message = if in_memory {
            buffer.store(&[first, second, 0, 0, 0, 0, 0, 0]);
            Outgoing::memory(16, buffer.address())
        } else {
            Outgoing::registers(16, orders::WORDS)
        };
        let outcome = self.machine.invoke(Call::Call {
            port,
            message,
            deadline,
        });
        self.close(port)?;
        let (status, values) = match outcome {
            Ok(values) => (0, values),
            Err(error) => (error.number(), [0; 5]),
        };
        let [header, badge, third, fourth, fifth] = values;
        let words = [status, header, badge, third, fourth, fifth];
        let message = Message::from_words(48, words.into_iter()).ok_or(Error::BadArgument)?;
        self.answers.send(&message)
    }

    fn serve(&self, how: u64) -> Result<(), Error> {
        let (port, sender) = self.create(Create::Port {
            capacity: 4,
            slot: SLOT,
        })?;
        let (event, notifier) = self.create(Create::Event {
            slot: SLOT,
            interval_ns: 0,
        })?;
        let transfers = [(sender, Rights::SEND), (notifier, Rights::NOTIFY)]
            .map(|(handle, rights)| Transfer { handle, rights });
        let nothing = Message::from_bytes(&[]).ok_or(Error::BadArgument)?;
        self.answers.send_with(&nothing, &transfers)?;
        for handle in [sender, notifier] {
            self.close(handle)?;
        }
        self.serve_one(port, how)?;
        self.close(event)
    }

    fn create(&self, what: Create) -> Result<(Handle, Handle), Error> {
        let [first, second, ..] = self.machine.invoke(Call::Create(what))?;
        let handle = |raw| Handle::from_raw(raw).ok_or(Error::BadHandle);
        Ok((handle(first)?, handle(second)?))
    }

    /// Receives a call and does with it what the order says; the port is closed after that.
    fn serve_one(&self, handle: Handle, how: u64) -> Result<(), Error> {
        let port = Port::new(Object::new(self.machine, handle), SLOT as usize);
        if how == orders::Serves::CloseBefore as u64 {
            rest_until(self.machine, self.machine.now_ns() + PAUSE_NS);
            return self.close(handle);
        }
        let call = port.receive(Deadline::NEVER)?;
        let token = call.token.ok_or(Error::BadArgument)?;
        if how == orders::Serves::Echo as u64 {
            port.reply(token, &call.message)?;
        } else if how == orders::Serves::Handles as u64 {
            self.reply_with_handles(handle, token)?;
        } else if how == orders::Serves::Leave as u64 {
            self.orders.receive(Deadline::NEVER)?;
        } else if how == orders::Serves::End as u64 {
            let domain = self.boot.handle("domain").and_then(|entry| entry.handle());
            let domain = domain.ok_or(Error::BadHandle)?;
            self.machine.invoke(Call::Stop {
                object: domain,
                code: GOOD,
            })?;
        }
        self.close(handle)
    }

    /// Answers with four handles of a memory, through the incoming buffer.
    fn reply_with_handles(&self, port: Handle, token: CallToken) -> Result<(), Error> {
        let [memory, ..] = self
            .machine
            .invoke(Call::Create(Create::Memory { bytes: PAGE_BYTES }))?;
        let handle = Handle::from_raw(memory).ok_or(Error::BadHandle)?;
        let buffer = &self.machine.buffers().incoming;
        let rights = Rights::READ;
        buffer.store_handles(&[Transfer { handle, rights }; 4]);
        let message = Outgoing::Memory {
            length: 0,
            handles: 4,
            address: buffer.address(),
        };
        self.machine.invoke(Call::Reply {
            port,
            token,
            message,
            then_receive: false,
        })?;
        self.close(handle)
    }

    fn close_own(&self) -> Result<(), Error> {
        for name in ["vcpu", "space", "console"] {
            let handle = self.boot.handle(name).and_then(|entry| entry.handle());
            self.close(handle.ok_or(Error::BadHandle)?)?;
        }
        Ok(())
    }
}
