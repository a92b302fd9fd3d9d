//! `send`, `receive`, `call` and `reply`: messages, their handles, and where they wait.

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use nuncio_abi::{Error, RawCall};

use super::state::*;
use super::verbs::{done, is, small, Next, Seen, Try};

/// A message as its sender names it.
struct Outgoing {
    length: u64,
    place: From,
    handle_words: usize,
}

enum From {
    Registers(Vec<u64>),
    Memory(u64),
}

impl Outgoing {
    /// What the registers alone say; `most_words` fit into them.
    fn read(header: u64, words: &[u64], most_words: usize) -> Try<Self> {
        let length = header & 0x7F;
        let handles = (header >> 8 & 7) as usize;
        is(header >> 11 == 0, Error::BadArgument)?;
        if header >> 7 & 1 != 0 {
            is(length <= 64 && handles <= 4, Error::BadArgument)?;
            is(words[1..].iter().all(|word| *word == 0), Error::BadArgument)?;
            return Ok(Outgoing {
                length,
                place: From::Memory(words[0]),
                handle_words: handles,
            });
        }
        let byte_words = length.div_ceil(8) as usize;
        is(byte_words + handles <= most_words, Error::BadArgument)?;
        for (index, word) in words.iter().enumerate() {
            if index < byte_words {
                let bytes = (length - 8 * index as u64).min(8);
                is(bytes == 8 || word >> (8 * bytes) == 0, Error::BadArgument)?;
            } else if index < byte_words + handles {
                is(word >> 32 & !ALL_RIGHTS == 0, Error::BadArgument)?;
            } else {
                is(*word == 0, Error::BadArgument)?;
            }
        }
        Ok(Outgoing {
            length,
            place: From::Registers(words.to_vec()),
            handle_words: handles,
        })
    }

    /// Where an answer or the next message is written.
    fn buffer(&self) -> u64 {
        match self.place {
            From::Registers(_) => 0,
            From::Memory(address) => address,
        }
    }

    fn is_in_memory(&self) -> bool {
        matches!(self.place, From::Memory(_))
    }
}

/// Whether bytes and handles take up to three words.
fn is_short(message: &Message) -> bool {
    message.length.div_ceil(8) as usize + message.handles.len() <= 3
}

/// The values of a message, but for its handles.
pub(super) fn values(message: &Message) -> Vec<u64> {
    let in_memory = !is_short(message);
    let count = message.handles.len() as u64;
    let header = message.length | u64::from(in_memory) << 7 | count << 8;
    let byte_words = message.length.div_ceil(8) as usize;
    let mut values = vec![header, message.badge, 0, 0, 0];
    if !in_memory {
        values[2..2 + byte_words].copy_from_slice(&message.words[..byte_words]);
    }
    values
}

impl Model {
    pub(super) fn check_buffer(&self, me: usize, buffer: u64) -> Try<()> {
        is(buffer == 0 || self.is_usable(me, buffer), Error::BadAddress)
    }

    pub(super) fn is_usable(&self, me: usize, buffer: u64) -> bool {
        buffer.is_multiple_of(128) && self.at(me, buffer, READ | WRITE).is_some()
    }

    /// The bytes of a message, and copies of its handles.
    fn pack(&mut self, me: usize, out: &Outgoing, badge: u64) -> Try<Message> {
        let mut words = [0; 8];
        let byte_words = out.length.div_ceil(8) as usize;
        let behind: Vec<u64> = match &out.place {
            From::Registers(registers) => {
                words[..byte_words].copy_from_slice(&registers[..byte_words]);
                registers[byte_words..].to_vec()
            }
            From::Memory(address) => {
                is(address % 128 == 0, Error::BadAddress)?;
                let (memory, first) = self.at(me, *address, READ).ok_or(Error::BadAddress)?;
                for (word, number) in words.iter_mut().zip(first..) {
                    *word = self.load((memory, number));
                }
                (first + 8..first + 12)
                    .map(|word| self.load((memory, word)))
                    .collect()
            }
        };
        for (index, word) in words.iter_mut().enumerate() {
            let bytes = out.length.saturating_sub(8 * index as u64);
            if bytes < 8 {
                *word &= (1 << (8 * bytes)) - 1;
            }
        }
        let mut handles = Vec::new();
        for word in &behind[..out.handle_words] {
            let rights = word >> 32;
            is(rights & !ALL_RIGHTS == 0, Error::BadArgument)?;
            handles.push(self.copy(me, word & 0xFFFF_FFFF, rights)?);
        }
        Ok(Message {
            length: out.length,
            words,
            handles,
            badge,
            call: None,
        })
    }

    /// A copy that nobody holds yet.
    pub(super) fn copy(&self, me: usize, handle: u64, rights: u64) -> Try<Held> {
        let held = self.domains[me]
            .handles
            .get(&handle)
            .ok_or(Error::BadHandle)?;
        is(
            rights & (RECEIVE | WAIT | REVOKE | BUILD) == 0,
            Error::BadArgument,
        )?;
        let needed = rights | GRANT;
        is(held.rights & needed == needed, Error::MissingRight)?;
        Ok(Held {
            rights,
            ..held.clone()
        })
    }

    /// Writes a message without handles to a buffer, or keeps its words for registers; whether that
    /// can be done.
    pub(super) fn arrive(&mut self, me: usize, message: &Message, buffer: Option<u64>) -> bool {
        let is_there = buffer.is_none_or(|buffer| self.is_usable(me, buffer));
        let fits = is_short(message) || buffer.is_some();
        let is_possible = message.handles.is_empty() && fits && is_there;
        if let (true, false, Some(buffer)) = (is_possible, is_short(message), buffer) {
            self.store_message(me, message, buffer);
        }
        is_possible
    }

    pub(super) fn store_message(&mut self, me: usize, message: &Message, buffer: u64) {
        if let Some((memory, first)) = self.at(me, buffer, READ | WRITE) {
            for (word, number) in message.words.into_iter().zip(first..) {
                self.store((memory, number), word);
            }
        }
    }

    /// Queues a message, with which its handles count, or leaves it to a receiver that waits.
    pub(super) fn queue(&mut self, port: Id, message: Message) {
        let to = self.port(port);
        if let (Some((receiver, _)), true) = (to.receiver, to.is_waited_for) {
            let Some(Sleep::Receive { buffer, .. }) = self.domains[receiver].sleeps else {
                panic!("domain {receiver} does not wait for a message");
            };
            let buffer = Some(buffer).filter(|buffer| *buffer != 0);
            if self.arrive(receiver, &message, buffer) {
                self.port(port).is_waited_for = false;
                self.domains[receiver].arrived = Some(message);
                return;
            }
        }
        for held in &message.handles {
            self.hold(held);
        }
        self.port(port).queue.push_back(message);
        self.announce(port);
    }

    pub(super) fn send(&mut self, me: usize, raw: &RawCall) -> Try<Next> {
        let [port, header, words @ ..] = raw.arguments;
        let waits = header >> 11 & 1 != 0;
        let most_words = if waits { 2 } else { 3 };
        let deadline = if waits { words[2] } else { 0 };
        let out = Outgoing::read(header & !(1 << 11), &words[..most_words], most_words)?;
        let Held {
            object: port,
            badge,
            ..
        } = *self.find(me, small(port)?, 5, SEND)?;
        let message = self.pack(me, &out, badge)?;
        let to = self.port(port);
        if to.is_console {
            return done();
        }
        is(to.receiver.is_some(), Error::PeerGone)?;
        let place = to.line.iter().position(|other| *other == me);
        let is_turn = to.line.is_empty() || place == Some(0);
        if to.has_room() && is_turn {
            self.queue(port, message);
            return done();
        }
        let may_wait = place.is_some() || to.line.len() < to.capacity;
        is(deadline != 0 && may_wait, Error::QueueFull)?;
        is(self.domains[me].page.ready == 0, Error::Interrupted)?;
        is(!self.deadline_passed(deadline), Error::TimedOut)?;
        if place.is_none() {
            self.port(port).line.push_back(me);
        }
        Ok(Next::Sleeps(Sleep::Send {
            port,
            deadline,
            raw: *raw,
        }))
    }

    pub(super) fn receive(
        &mut self,
        me: usize,
        port: Id,
        deadline: u64,
        buffer: u64,
        seen: Option<Seen>,
    ) -> Try<Next> {
        let queue = self.port(port);
        if let Some(first) = queue.queue.front() {
            is(is_short(first) || buffer != 0, Error::BufferTooSmall)?;
            if !first.handles.is_empty() {
                self.room(me, 4, 0..0, seen)?;
            }
            let message = self.port(port).queue.pop_front().unwrap_or_default();
            let token = self.learn_token(port, &message, seen);
            let mut values = self.deliver(me, message, buffer, seen);
            values[0] |= token << 32;
            return Ok(Next::Done(values));
        }
        is(queue.senders > 0, Error::PeerGone)?;
        is(deadline != 0, Error::QueueEmpty)?;
        is(self.domains[me].page.ready == 0, Error::Interrupted)?;
        is(!self.deadline_passed(deadline), Error::TimedOut)?;
        self.port(port).is_waited_for = true;
        Ok(Next::Sleeps(Sleep::Receive {
            port,
            deadline,
            buffer,
        }))
    }

    /// The token that the machine has given a call: not 0, and good for this call alone.
    pub(super) fn learn_token(&mut self, port: Id, message: &Message, seen: Option<Seen>) -> u64 {
        let Some(call) = message.call else { return 0 };
        let token = seen.map_or(0, |seen| seen.values[0] >> 32);
        let before = self.port(port).tokens.insert(token, call);
        if token == 0 || before.is_some() {
            self.complain(format!(
                "call {call} has the token {token:#x}, as {before:?}"
            ));
        }
        token
    }

    /// The values of a received message, and what is written for it.
    pub(super) fn deliver(
        &mut self,
        me: usize,
        message: Message,
        buffer: u64,
        seen: Option<Seen>,
    ) -> Vec<u64> {
        let in_memory = !is_short(&message);
        let byte_words = message.length.div_ceil(8) as usize;
        let place = self.at(me, buffer, READ | WRITE);
        let mut values = values(&message);
        if in_memory {
            self.store_message(me, &message, buffer);
        }
        for (index, held) in message.handles.into_iter().enumerate() {
            let rights = held.rights << 32;
            let word = if in_memory {
                let place = place.map(|(memory, first)| (memory, first + 8 + index as u64));
                let word = place
                    .and_then(|place| self.machine_word(place))
                    .unwrap_or(0);
                if let Some(place) = place {
                    self.store(place, word & 0xFFFF_FFFF | rights);
                }
                word
            } else {
                let place = 2 + byte_words + index;
                let word = seen.map_or(0, |seen| seen.values[place]);
                values[place] = word & 0xFFFF_FFFF | rights;
                word
            };
            self.adopt(me, held, word & 0xFFFF_FFFF);
        }
        values
    }

    pub(super) fn call_and_wait(
        &mut self,
        me: usize,
        raw: &RawCall,
        seen: Option<Seen>,
    ) -> Try<Next> {
        let [port, header, first, second, deadline] = raw.arguments;
        let out = Outgoing::read(header, &[first, second], 2)?;
        let Held {
            object: port,
            badge,
            ..
        } = *self.find(me, small(port)?, 5, SEND)?;
        if out.is_in_memory() {
            is(self.is_usable(me, first), Error::BadAddress)?;
        }
        let mut message = self.pack(me, &out, badge)?;
        is(
            deadline != NEVER || !self.leads_to(port, me),
            Error::WrongState,
        )?;
        self.room(me, 4, 0..0, seen)?;
        let to = self.port(port);
        is(!to.is_console && to.receiver.is_some(), Error::PeerGone)?;
        let has_room = to.has_room() && to.line.is_empty();
        let is_full = !has_room || to.calls.len() >= to.capacity;
        is(!is_full, Error::QueueFull)?;
        let receiver = to.receiver.map(|(who, _)| who);
        let waits_here = self.port(port).is_waited_for;
        self.calls_made += 1;
        let call = self.calls_made;
        self.port(port).calls.insert(call, (me, out.is_in_memory()));
        message.call = Some(call);
        self.queue(port, message);
        self.domains[me].answer = Some(Answer::Awaited);
        let buffer = out.is_in_memory().then_some(out.buffer());
        let sleep = Sleep::Call {
            port,
            call,
            deadline,
            buffer,
        };
        if deadline == 0 || self.deadline_passed(deadline) {
            return self.finish_call(me, sleep, seen);
        }
        self.runs_next = receiver.filter(|_| waits_here);
        Ok(Next::Sleeps(sleep))
    }

    /// Whether whoever receives there waits for ever for an answer of that domain's.
    fn leads_to(&self, mut port: Id, caller: usize) -> bool {
        for _ in 0..16 {
            let Object::Port(Port {
                receiver: Some((receiver, _)),
                ..
            }) = &self.objects[port]
            else {
                return false;
            };
            if *receiver == caller {
                return true;
            }
            let domain = &self.domains[*receiver];
            match (&domain.sleeps, &domain.answer) {
                (
                    Some(Sleep::Call {
                        port: next,
                        deadline: NEVER,
                        ..
                    }),
                    Some(Answer::Awaited),
                ) => port = *next,
                _ => return false,
            }
        }
        false
    }

    pub(super) fn finish_call(&mut self, me: usize, sleep: Sleep, seen: Option<Seen>) -> Try<Next> {
        let Sleep::Call {
            port,
            call,
            deadline,
            buffer,
        } = sleep.clone()
        else {
            return done();
        };
        match self.domains[me].answer.take() {
            Some(Answer::Values(values)) => Ok(Next::Done(values)),
            Some(Answer::Here(message)) => {
                if !buffer.is_none_or(|buffer| self.is_usable(me, buffer)) {
                    let handles = message.handles.into_iter();
                    handles.for_each(|held| self.give_up(held));
                    return Err(Error::BadAddress);
                }
                let buffer = buffer.unwrap_or(0);
                let values = self.deliver(me, message, buffer, seen);
                Ok(Next::Done(values))
            }
            Some(Answer::Never) | None => Err(Error::PeerGone),
            Some(Answer::Awaited) if self.deadline_passed(deadline) => {
                self.port(port).calls.remove(&call);
                Err(Error::TimedOut)
            }
            Some(Answer::Awaited) => {
                self.domains[me].answer = Some(Answer::Awaited);
                Ok(Next::Sleeps(sleep))
            }
        }
    }

    pub(super) fn reply(&mut self, me: usize, raw: &RawCall, seen: Option<Seen>) -> Try<Next> {
        let [port, header, words @ ..] = raw.arguments;
        let then_receive = header >> 11 & 1 != 0;
        let token = header >> 32;
        let out = Outgoing::read(header & 0xFFFF_FFFF & !(1 << 11), &words, 3)?;
        is(token != 0, Error::BadArgument)?;
        let port = self.find(me, small(port)?, 5, RECEIVE)?.object;
        let message = self.pack(me, &out, 0)?;
        let to = self.port(port);
        let call = to.tokens.get(&token).copied().ok_or(Error::PeerGone)?;
        let (caller, has_memory) = *to.calls.get(&call).ok_or(Error::PeerGone)?;
        is(is_short(&message) || has_memory, Error::BadArgument)?;
        self.port(port).calls.remove(&call);
        for held in &message.handles {
            self.hold(held);
        }
        let Some(Sleep::Call { buffer, .. }) = self.domains[caller].sleeps else {
            panic!("domain {caller} does not wait for an answer");
        };
        self.domains[caller].answer = Some(if self.arrive(caller, &message, buffer) {
            Answer::Values(values(&message))
        } else {
            Answer::Here(message)
        });
        if !then_receive {
            return done();
        }
        let buffer = out.buffer();
        self.check_buffer(me, buffer)?;
        let next = self.receive(me, port, NEVER, buffer, seen)?;
        if matches!(next, Next::Sleeps(_)) {
            self.runs_next = Some(caller);
        }
        Ok(next)
    }
}
