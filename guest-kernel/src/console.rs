//! Text for people: lines over the console port.
//!
//! Text is collected until a line ends or a message is full. A message in memory carries 64 bytes
//! for one call where registers carry 24; the `bench` program prints what both cost. A full port is
//! waited for. What cannot be sent at all is counted, and said as soon as a message gets through.
#![forbid(unsafe_code)]

use core::fmt;

use nuncio_abi::{Error, Message, MESSAGE_BYTES};

use crate::hv::{rest_until, Machine, Port};

/// How long a full port is waited for before its reader counts as stuck.
const PATIENCE_NS: u64 = 10_000_000_000;
const RETRY_AFTER_NS: u64 = 100_000;

const CAPACITY: usize = MESSAGE_BYTES as usize;

/// A console over a port; without one, text is counted as lost.
pub struct Console<'m, M> {
    port: Option<Port<'m, M>>,
    text: [u8; CAPACITY],
    used: usize,
    lost_bytes: u64,
}

impl<'m, M: Machine> Console<'m, M> {
    /// A console that sends to this port.
    pub const fn new(port: Option<Port<'m, M>>) -> Self {
        Console {
            port,
            text: [0; CAPACITY],
            used: 0,
            lost_bytes: 0,
        }
    }

    /// Sends from that machine from now on: who prints uses its own vcpu's buffers.
    pub fn move_to(&mut self, machine: &'m M) {
        if let Some(port) = &mut self.port {
            *port = port.on(machine);
        }
    }

    /// Bytes that could not be sent and about which the reader has not been told.
    pub const fn lost_bytes(&self) -> u64 {
        self.lost_bytes
    }

    /// Sends what has been collected, though the line has not ended.
    pub fn flush(&mut self) {
        let used = core::mem::take(&mut self.used);
        if used == 0 {
            return;
        }
        self.report_loss();
        let text = self.text;
        let bytes = text.get(..used).unwrap_or(&text);
        if self.send(bytes).is_err() {
            self.lost_bytes = self.lost_bytes.saturating_add(used as u64);
        }
    }

    fn put(&mut self, byte: u8) {
        if let Some(place) = self.text.get_mut(self.used) {
            *place = byte;
            self.used += 1;
        }
        if byte == b'\n' || self.used == CAPACITY {
            self.flush();
        }
    }

    fn report_loss(&mut self) {
        use fmt::Write;
        if self.lost_bytes == 0 {
            return;
        }
        let mut report = Report::default();
        let told = writeln!(report, "\n[{} bytes lost]", self.lost_bytes);
        if told.is_ok() && self.send(report.bytes()).is_ok() {
            self.lost_bytes = 0;
        }
    }

    fn send(&self, bytes: &[u8]) -> Result<(), Error> {
        let port = self.port.as_ref().ok_or(Error::PeerGone)?;
        let message = Message::from_bytes(bytes).ok_or(Error::BadArgument)?;
        let machine = port.object().machine();
        // A port that has once been stuck for the whole patience is only tried, not waited for:
        // a kernel that talks into a dead console must still come to its end.
        let patience_ns = if self.lost_bytes == 0 { PATIENCE_NS } else { 0 };
        let give_up_ns = machine.now_ns().saturating_add(patience_ns);
        loop {
            match port.send(&message) {
                Err(Error::QueueFull) if machine.now_ns() < give_up_ns => {
                    rest_until(machine, machine.now_ns().saturating_add(RETRY_AFTER_NS));
                }
                outcome => return outcome,
            }
        }
    }
}

impl<M: Machine> fmt::Write for Console<'_, M> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.bytes().for_each(|byte| self.put(byte));
        Ok(())
    }
}

/// A short text on the stack.
#[derive(Default)]
struct Report {
    text: [u8; 32],
    used: usize,
}

impl Report {
    fn bytes(&self) -> &[u8] {
        self.text.get(..self.used).unwrap_or(&self.text)
    }
}

impl fmt::Write for Report {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.used + text.len();
        let place = self.text.get_mut(self.used..end).ok_or(fmt::Error)?;
        place.copy_from_slice(text.as_bytes());
        self.used = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hv::fake::{Script, World};
    use crate::hv::{Client, Object};
    use core::fmt::Write;
    use nuncio_abi::{Call, Deadline, Handle, Outgoing, Reply, Rights};
    use proptest::prelude::*;
    use std::string::String;

    const PORT: Handle = Handle::new(3, 1);

    fn send(text: &str) -> Call {
        let Message {
            length,
            words: [first, second, third, ..],
        } = Message::from_bytes(text.as_bytes()).unwrap();
        let words = [first, second, third];
        Call::Send {
            port: PORT,
            message: Outgoing::registers(length, words),
        }
    }

    fn console(machine: &Script) -> Console<'_, Script> {
        Console::new(Some(Port::new(Object::new(machine, PORT), 0)))
    }

    #[test]
    fn a_line_is_one_message() {
        let machine = Script::new([(send("hello 7\n"), Reply::Done)]);
        let mut console = console(&machine);
        write!(console, "hello {}", 7).unwrap();
        console.write_str("\nrest").unwrap();
        machine.assert_finished();
        machine.expect(send("rest"), Reply::Done);
        console.flush();
        console.flush();
        machine.assert_finished();
    }

    #[test]
    fn text_goes_out_by_the_machine_of_who_prints() {
        let first = Script::new([]);
        let second = Script::new([(send("one two\n"), Reply::Done)]);
        let mut console = console(&first);
        console.write_str("one ").unwrap();
        console.move_to(&second);
        console.write_str("two\n").unwrap();
        second.assert_finished();
    }

    #[test]
    fn a_full_port_is_tried_again() {
        let full = Reply::Error(Error::QueueFull);
        let machine = Script::new([(send("x\n"), full)]);
        // The clock of the script counts its readings; the rest begins at the third.
        let deadline = Deadline(100_002);
        machine.expect(Call::Wait { deadline }, Reply::Error(Error::TimedOut));
        let mut console = console(&machine);
        machine.expect(send("x\n"), Reply::Done);
        console.write_str("x\n").unwrap();
        assert_eq!(console.lost_bytes(), 0);
        machine.assert_finished();
    }

    #[test]
    fn lost_bytes_are_counted_and_told() {
        let gone = Reply::Error(Error::PeerGone);
        let machine = Script::new([(send("one\n"), gone), (send("\n[4 bytes lost]\n"), gone)]);
        machine.expect(send("two\n"), gone);
        let mut console = console(&machine);
        console.write_str("one\ntwo\n").unwrap();
        assert_eq!(console.lost_bytes(), 8);
        machine.expect(send("\n[8 bytes lost]\n"), Reply::Done);
        machine.expect(send("three\n"), Reply::Done);
        console.write_str("three\n").unwrap();
        assert_eq!(console.lost_bytes(), 0);
        machine.assert_finished();
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn every_byte_arrives_in_order(parts in proptest::collection::vec("[ -~\n]{0,150}", 0..8)) {
            let world = World::new();
            let domain = world.domain();
            let machine = world.machine(domain, &[]);
            let client = Client::new(&machine, machine.boot_info());
            let mut console = Console::new(client.port("console", Rights::SEND).ok());
            for part in &parts {
                console.write_str(part).unwrap();
            }
            console.flush();
            prop_assert_eq!(world.console_text(domain), parts.iter().map(String::as_str).collect::<String>());
        }
    }
}
