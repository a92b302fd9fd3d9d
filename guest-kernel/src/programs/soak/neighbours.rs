//! The domains of this program among themselves: a port each, the next one's port, and rounds that all go
//! together.

use nuncio_abi::{Deadline, Error, Message, Rights, Transfer};

use super::round::Miss;
use crate::hv::{Client, Event, Machine, Object, Port, Received};
use crate::machine::Native;
use crate::programs::Context;

// Slots of the vcpu page that manifests do not use.
const EVENT_SLOT: usize = 50;
const PORT_SLOT: usize = 51;

/// As many children of this domain's and of the next one's may wait for an answer, and then some.
const CAPACITY: u64 = 32;

/// Longer than anything that is due takes, on an emulated machine that has less of a CPU than it thinks.
pub const PATIENCE_NS: u64 = 40_000_000_000;

/// The badge of the domain before this one; those of children are larger.
const PREVIOUS: u64 = 1;

/// What has come.
pub enum News {
    /// Bits of the event.
    Bits(u64),
    /// A message, or a call.
    Message(Received),
    /// Nothing until the deadline.
    Nothing,
}

/// What this domain has.
pub struct Neighbours<'m> {
    /// For what children and timers set.
    pub event: Event<'m, Native>,
    /// The end of it that children get.
    pub bell: Event<'m, Native>,
    port: Port<'m, Native>,
    /// The end of this domain's port that its children get.
    pub own: Port<'m, Native>,
    /// The next domain's port, which children get, too.
    pub next: Port<'m, Native>,
    /// The same for the rounds.
    to_next: Port<'m, Native>,
    machine: &'m Native,
    /// 0 is the one that says when it is over.
    pub number: u64,
    /// How many there are: as many as CPUs.
    pub count: u64,
    /// The round that the domain before this one has reached.
    reached: u64,
    /// The last round, as soon as it is known.
    last: u64,
}

impl<'m> Neighbours<'m> {
    /// Hands a port to the one before, and gets one from the one behind.
    pub fn meet(context: &Context<'m, Native>, number: u64, count: u64) -> Result<Self, Miss> {
        let client: Client<'m, Native> = context.client();
        let name = |word| context.words.value(word).unwrap_or("");
        // The wires of the manifest lead to the domain before, which is to have this one's port.
        let given = client.port(name("in"), Rights::RECEIVE)?;
        let giving = client.port(name("out"), Rights::SEND)?;
        let ends = client.create_port(CAPACITY, PORT_SLOT)?;
        let event = client.create_event(EVENT_SLOT)?;
        let machine = client.machine();
        let hello = one_word(number);
        let transfer = Transfer {
            handle: ends.far.object().handle(),
            rights: Rights::SEND | Rights::GRANT,
        };
        giving.send_with(&hello, &[transfer])?;
        let received = given.receive(Deadline(machine.now_ns() + PATIENCE_NS))?;
        let next = received.handles.iter().next().ok_or(Error::BadHandle)?;
        let next = Object::new(machine, next);
        // With the badge by which the next domain knows this one.
        let to_next = next.grant(Rights::SEND, PREVIOUS)?;
        event.near.word()?.enable(u64::MAX);
        Ok(Neighbours {
            event: event.near,
            bell: event.far,
            port: ends.near,
            own: ends.far,
            next: Port::new(next, 0),
            to_next: Port::new(to_next, 0),
            machine,
            number,
            count,
            reached: 0,
            last: u64::MAX,
        })
    }

    /// Waits for bits or a message.
    pub fn news(&self, deadline: Deadline) -> Result<News, Error> {
        loop {
            let bits = self.bits()?;
            if bits != 0 {
                return Ok(News::Bits(bits));
            }
            match self.port.receive(deadline) {
                Ok(received) => return Ok(News::Message(received)),
                Err(Error::TimedOut) => {
                    return Ok(match self.bits()? {
                        0 => News::Nothing,
                        bits => News::Bits(bits),
                    });
                }
                Err(Error::Interrupted) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes the bits. What announces bits that have been taken already is withdrawn with it.
    fn bits(&self) -> Result<u64, Error> {
        let word = self.event.word()?;
        let mut bits = word.take();
        if bits == 0 && self.machine.vcpu_page().ready() != 0 {
            word.enable(0);
            bits = word.take();
            word.enable(u64::MAX);
        }
        Ok(bits)
    }

    /// Takes bits that mean nothing any more.
    pub fn forget_bits(&self) -> Result<(), Error> {
        while self.bits()? != 0 {}
        Ok(())
    }

    /// Answers a call with the first word of what was asked and one.
    pub fn answer(&self, received: &Received) {
        if let Some(token) = received.token {
            let [word, ..] = received.message.words;
            // Who asked may have gone.
            let _ = self.port.reply(token, &one_word(word.wrapping_add(1)));
        }
    }

    /// Whether this came from the domain before; then it is noted.
    pub fn is_from_previous(&mut self, received: &Received) -> bool {
        if received.badge != PREVIOUS {
            return false;
        }
        let [round, last, ..] = received.message.words;
        self.reached = self.reached.max(round);
        self.last = self.last.min(last);
        true
    }

    /// Tells the next domain that this round is done. With `is_over`, domain 0 decides that there are only
    /// as many more rounds as it takes to tell everybody.
    pub fn round_is_done(&mut self, round: u64, is_over: bool) -> Result<(), Error> {
        if is_over && self.number == 0 {
            self.last = self.last.min(round + self.count);
        }
        let message = Message {
            length: 16,
            words: [round, self.last, 0, 0, 0, 0, 0, 0],
        };
        let deadline = Deadline(self.machine.now_ns() + PATIENCE_NS);
        self.to_next.send_waiting(&message, deadline)
    }

    /// Whether the domain before has done that round, too.
    pub const fn have_all_done(&self, round: u64) -> bool {
        self.reached >= round
    }

    /// Whether there is no other round behind it.
    pub const fn is_last(&self, round: u64) -> bool {
        round >= self.last
    }

    /// A deadline that only something lost lets pass.
    pub fn patience(&self) -> Deadline {
        Deadline(self.machine.now_ns() + PATIENCE_NS)
    }

    /// A deadline in so many nanoseconds.
    pub fn soon(&self, ns: u64) -> Deadline {
        Deadline(self.machine.now_ns() + ns)
    }
}

/// A message of one word.
pub const fn one_word(word: u64) -> Message {
    Message {
        length: 8,
        words: [word, 0, 0, 0, 0, 0, 0, 0],
    }
}
