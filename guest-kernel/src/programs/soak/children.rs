//! The children: what they do, what is due from them, and how they end.

use nuncio_abi::{Call, Deadline, Error, Handle, Outgoing, Rights, StopReason, Verb, PAGE_BYTES};

use super::chance::Chance;
use super::neighbours::Neighbours;
use super::round::Miss;
use super::script::{LENT, WORDS};
use super::stage::{Calls, Part, Place};
use crate::hv::{Child, Client, Memory, Received, Vcpu};
use crate::machine::Native;

/// Set when child 0 ends; the other children's bits follow.
pub const ENDED: u64 = 1;
/// Set by child 0.
pub const NOTIFIED: u64 = 1 << 8;

/// Behind a child's number in the badges of its messages.
const FIRST_BADGE: u64 = 16;
/// In the badges of children that talk to another domain than their maker.
const FOREIGN: u64 = 1 << 63;
/// What a child ends with that has done all it was to do.
const CODE: u64 = 42;
/// The most that a child asks or sends.
const MOST_MESSAGES: u64 = 12;
/// A child sleeps for at most so many nanoseconds.
const NAP_NS: u64 = 3_000_000;

/// What its maker owes the sender of a message.
pub enum Due {
    /// An answer.
    Answer,
    /// Nothing: it was only sent.
    Nothing,
    /// What it likes.
    Whatever,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Asks its maker.
    Calls,
    /// Sends to its maker, and waits where there is no room.
    Sends,
    /// Sleeps for a while and notifies its maker.
    Notifies,
    /// Asks a neighbour of its maker's, on another CPU.
    CallsANeighbour,
    /// Counts in memory until that is taken back.
    Counts,
    /// Asks and gets no answer.
    WaitsForEver,
    /// Makes calls that mean nothing.
    Wild,
}

const KINDS: [Kind; 7] = [
    Kind::Calls,
    Kind::Sends,
    Kind::Notifies,
    Kind::CallsANeighbour,
    Kind::Counts,
    Kind::WaitsForEver,
    Kind::Wild,
];

/// A child that runs, or has.
pub struct Running<'m> {
    child: Child<'m, Native>,
    /// Its vcpu, as soon as it has one.
    vcpu: Option<Vcpu<'m, Native>>,
    kind: Kind,
    /// What its messages carry.
    pub badge: u64,
    /// Messages that have to come yet.
    messages: u64,
    is_to_notify: bool,
    /// The memory that will be taken back.
    pub lent: Option<Memory<'m, Native>>,
    /// It is killed before it has done what it is to do.
    pub dies: bool,
    /// It will not run any more.
    pub has_ended: bool,
}

/// Makes one at random, and lets it run.
pub fn make<'m>(
    client: &Client<'m, Native>,
    neighbours: &Neighbours<'m>,
    place: &Place<'m>,
    chance: &mut Chance,
    (round, number): (u64, usize),
) -> Result<Running<'m>, Error> {
    let kind = chance.one_of(&KINDS).unwrap_or(Kind::Calls);
    let never_ends = matches!(kind, Kind::WaitsForEver | Kind::Wild);
    let child = place.child(client, (&neighbours.bell, ENDED << number))?;
    let mut running = Running {
        child,
        vcpu: None,
        kind,
        badge: round << 8 | (FIRST_BADGE + number as u64),
        messages: 0,
        is_to_notify: kind == Kind::Notifies,
        lent: None,
        dies: never_ends || chance.below(4) == 0,
        has_ended: false,
    };
    let part = match kind {
        Kind::Counts => {
            running.lent = Some(place.lend(client, &running.child)?);
            Part::Count
        }
        _ => running.calls(neighbours, chance, number)?.part(),
    };
    running.vcpu = Some(place.start(&running.child, &part)?);
    Ok(running)
}

impl<'m> Running<'m> {
    fn calls(
        &mut self,
        neighbours: &Neighbours<'m>,
        chance: &mut Chance,
        number: usize,
    ) -> Result<Calls, Error> {
        let mut calls = Calls::default();
        let is_foreign = self.kind == Kind::CallsANeighbour;
        let (port, badge) = match is_foreign {
            true => (&neighbours.next, self.badge | FOREIGN),
            false => (&neighbours.own, self.badge),
        };
        let port = self.child.give(port.object(), Rights::SEND, badge)?;
        let count = 1 + chance.below(MOST_MESSAGES);
        let message = Outgoing::registers(8, [self.content(), 0, 0]);
        let deadline = Deadline::NEVER;
        let ask = Call::Call {
            port,
            message,
            deadline,
        };
        match self.kind {
            Kind::Calls | Kind::CallsANeighbour => {
                self.messages = if is_foreign { 0 } else { count };
                (0..count).for_each(|_| calls.push(&ask, true));
            }
            Kind::Sends => {
                self.messages = count;
                let send = Call::SendWaiting {
                    port,
                    message,
                    deadline,
                };
                (0..count).for_each(|_| calls.push(&send, true));
            }
            Kind::Notifies => {
                let bell = neighbours.bell.object();
                let event = self.child.give(bell, Rights::NOTIFY, 0)?;
                let deadline = neighbours.soon(chance.below(NAP_NS));
                calls.push(&Call::Wait { deadline }, false);
                let bits = NOTIFIED << number;
                calls.push(&Call::Notify { event, bits }, true);
            }
            Kind::WaitsForEver => calls.push(&ask, true),
            Kind::Wild => (0..40).for_each(|_| calls.push_words(noise(chance, port))),
            Kind::Counts => {}
        }
        if self.kind != Kind::Wild {
            let object = self.child.give_itself()?;
            calls.push(&Call::Stop { object, code: CODE }, true);
        }
        Ok(calls)
    }

    /// What its messages say.
    const fn content(&self) -> u64 {
        self.badge.wrapping_mul(3)
    }

    /// A message of its has come.
    pub fn takes(&mut self, received: &Received, round: u64) -> Result<Due, Miss> {
        if self.kind == Kind::Wild {
            return Ok(Due::Whatever);
        }
        let ([found, ..], expected) = (received.message.words, self.content());
        if found != expected || received.message.length != 8 {
            return Err(Miss::Content {
                round,
                found,
                expected,
            });
        }
        self.messages = self.messages.saturating_sub(1);
        Ok(match self.kind {
            Kind::Calls => Due::Answer,
            _ => Due::Nothing,
        })
    }

    /// Its bit has come; whether that was due.
    pub fn notified(&mut self) -> bool {
        core::mem::take(&mut self.is_to_notify)
    }

    /// Its end has come: it must be the right one, unless it was killed.
    pub fn ended(&mut self, round: u64) -> Result<(), Miss> {
        let is_free = self.has_ended || self.kind == Kind::Wild;
        self.has_ended = true;
        if is_free {
            return Ok(());
        }
        let (reason, detail) = self.child.status()?;
        let expected = match self.kind {
            Kind::Counts if self.lent.is_none() => (StopReason::BadMemory, LENT),
            _ => (StopReason::Exited, CODE),
        };
        if (reason, detail) != expected {
            return Err(Miss::Ended {
                round,
                reason,
                detail,
            });
        }
        Ok(())
    }

    /// Whether nothing is due from it: it has ended, and said before what it was to say.
    pub fn is_settled(&self) -> bool {
        self.has_ended && (self.dies || (self.messages == 0 && !self.is_to_notify))
    }

    /// Whether it waits for its maker.
    pub fn is_to_be_disturbed(&self) -> bool {
        !self.has_ended && (self.dies || self.lent.is_some())
    }

    /// What is due from it, in words.
    pub fn due(&self) -> Option<&'static str> {
        match self.kind {
            _ if self.is_settled() => None,
            _ if !self.has_ended => Some("the end of a child"),
            Kind::Notifies => Some("a notification"),
            _ => Some("a message"),
        }
    }

    /// Ends it in the middle of what it does.
    pub fn kill(&self) -> Result<(), Error> {
        self.unless_it_has_ended(self.child.stop())
    }

    /// Maps memory into its space, and takes it out again.
    pub fn map_for_a_moment(&self, memory: &Memory<'m, Native>, address: u64) -> Result<(), Error> {
        let space = &self.child.space;
        let mapped = space.map(memory, address, 0, PAGE_BYTES, Rights::READ);
        let unmapped = mapped.and_then(|()| space.unmap(address, PAGE_BYTES));
        self.unless_it_has_ended(unmapped)
    }

    /// Has it go on on that CPU, whatever it does.
    pub fn move_to(&self, cpu: u8) -> Result<(), Error> {
        let moved = self.vcpu.as_ref().map_or(Ok(()), |vcpu| vcpu.move_to(cpu));
        self.unless_it_has_ended(moved)
    }

    /// It may come to its end at any moment, and its space with it.
    fn unless_it_has_ended(&self, result: Result<(), Error>) -> Result<(), Error> {
        match (result, self.child.status()?) {
            (Err(error), (StopReason::Running, _)) => Err(error),
            _ => Ok(()),
        }
    }

    /// Gives up what is left of it, and what it was lent.
    pub fn destroy(self) -> Result<(), Error> {
        if let Some(vcpu) = self.vcpu {
            vcpu.object().close()?;
        }
        self.child.destroy()?;
        match self.lent {
            Some(lent) => lent.object().close(),
            None => Ok(()),
        }
    }
}

/// The registers of a call that mostly means nothing; now and then it means the port.
fn noise(chance: &mut Chance, port: Handle) -> [u64; WORDS] {
    let verb = chance.below(Verb::ALL.len() as u64 + 2);
    let words = [0; 5].map(|_| match chance.below(6) {
        0 => 0,
        1 => port.raw(),
        2 => chance.below(64),
        3 => chance.below(8) * PAGE_BYTES,
        4 => 0x1_0000 | chance.below(8),
        _ => chance.number(),
    });
    let [first, second, third, fourth, fifth] = words;
    [verb, first, second, third, fourth, fifth, 0]
}
