//! The verbs, each from its section of the specification: what is checked in which order,
//! and what happens then.
//!
//! The numbers of new handles and tokens are the machine's to choose, so they are taken from what
//! it has answered and only checked.

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use nuncio_abi::{Error, RawCall, Resume, StopReason, VERSION};

use super::state::*;

/// What the machine has answered.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    pub status: u64,
    /// RDX, R10, R8, RDI, RSI.
    pub values: [u64; 5],
}

/// What becomes of a call.
#[derive(Debug)]
pub enum Next {
    /// It succeeds with no, two or five values.
    Done(Vec<u64>),
    Sleeps(Sleep),
    /// The caller has come to its end.
    Gone,
}

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

type Try<T> = Result<T, Error>;

fn done() -> Try<Next> {
    Ok(Next::Done(Vec::new()))
}

fn is(condition: bool, error: Error) -> Try<()> {
    if condition {
        Ok(())
    } else {
        Err(error)
    }
}

/// The handle in a register.
fn small(handle: u64) -> Try<u64> {
    is(handle >> 32 == 0, Error::BadHandle).map(|()| handle)
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
fn values(message: &Message) -> Vec<u64> {
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
    /// A call, at the time when it is made.
    pub fn call(&mut self, me: usize, raw: &RawCall, seen: Option<Seen>) -> Try<Next> {
        if raw.verb == 17 {
            return self.submit(me, raw);
        }
        let used = [1, 5, 3, 2, 1, 5, 3, 1, 2, 2, 5, 4, 2, 5, 5, 5, 5];
        let used = usize::try_from(raw.verb)
            .ok()
            .and_then(|verb| used.get(verb));
        let used = *used.ok_or(Error::UnknownVerb)?;
        let rest = &raw.arguments[used..];
        is(rest.iter().all(|word| *word == 0), Error::BadArgument)?;
        let [first, second, third, fourth, fifth] = raw.arguments;
        match raw.verb {
            0 => {
                is(first >> 32 == 0, Error::BadArgument)?;
                // While the major number is 0, the version must be this one.
                let own = u64::from(VERSION.to_raw());
                is(first == own, Error::WrongVersion)?;
                Ok(Next::Done(vec![own, 0]))
            }
            1 => self.send(me, raw),
            2 => {
                let port = self.find(me, small(first)?, 5, RECEIVE)?.object;
                self.check_buffer(me, third)?;
                self.receive(me, port, second, third, seen)
            }
            3 => {
                let event = self.find(me, small(first)?, 6, NOTIFY)?.object;
                self.notify(event, second)?;
                done()
            }
            4 => self.wait(me, first),
            5 => self.map(me, [first, second, third, fourth, fifth], seen),
            6 => self.unmap(me, [first, second, third], seen),
            7 => {
                let handle = small(first)?;
                let held = self.domains[me].handles.remove(&handle);
                self.give_up(held.ok_or(Error::BadHandle)?);
                done()
            }
            8 => self.query(me, first, second),
            9 => self.stop(me, first, second),
            10 => self.create(me, raw, seen),
            11 => self.grant(me, [first, second, third, fourth], seen),
            12 => {
                let timer = self.find(me, small(first)?, 7, ARM)?.object;
                if let Object::Timer(timer) = &mut self.objects[timer] {
                    timer.due = Some(second).filter(|due| *due != NEVER);
                }
                self.fire_timers();
                done()
            }
            13 => self.call_and_wait(me, raw, seen),
            14 => self.reply(me, raw, seen),
            15 => {
                is(fifth % PAGE == 0, Error::BadArgument)?;
                let vcpu = self.find(me, small(first)?, 2, START)?.object;
                self.vcpu_without_monitor(vcpu)
            }
            _ => {
                Resume::from_words([third, fourth, fifth])?;
                let (vcpu, space) = (small(first)?, small(second)?);
                let vcpu = self.find(me, vcpu, 2, START)?.object;
                if space != 0 {
                    self.find(me, space, 3, MAP)?;
                }
                self.vcpu_without_monitor(vcpu)
            }
        }
    }

    fn stop(&mut self, me: usize, object: u64, code: u64) -> Try<Next> {
        let object = small(object)?;
        let held = self.domains[me].handles.get(&object);
        let kind = held.map(|held| self.kind(held.object));
        let kind = kind.filter(|kind| *kind == 2).unwrap_or(1);
        let object = self.find(me, object, kind, STOP)?.object;
        let Object::Domain(who) = self.objects[object] else {
            is(code == 0, Error::BadArgument)?;
            return self.vcpu_without_monitor(object);
        };
        is(self.domains[who].is_alive(), Error::PeerGone)?;
        self.end(who, StopReason::Exited, code);
        if who == me {
            Ok(Next::Gone)
        } else {
            done()
        }
    }

    /// All vcpus here are those of domains from a manifest: they have been started, and have no monitor.
    fn vcpu_without_monitor(&self, vcpu: Id) -> Try<Next> {
        match self.objects[vcpu] {
            Object::Vcpu(who) if self.domains[who].is_alive() => Err(Error::WrongState),
            _ => Err(Error::PeerGone),
        }
    }

    /// The same call after a sleep; the vcpu runs again, so it must have come to its end.
    pub fn go_on(&mut self, me: usize, seen: Option<Seen>) -> Try<Next> {
        match self.domains[me].sleeps.take() {
            None | Some(Sleep::Halt) => done(),
            Some(Sleep::Wait { deadline }) => self.wait(me, deadline),
            Some(Sleep::Send { port, raw, .. }) => {
                let next = self.send(me, &raw);
                // It keeps its place only while it sleeps.
                if !matches!(next, Ok(Next::Sleeps(_))) {
                    self.port(port).line.retain(|other| *other != me);
                }
                next
            }
            Some(Sleep::Receive {
                port,
                deadline,
                buffer,
            }) => {
                if let Some(message) = self.domains[me].arrived.take() {
                    let token = self.learn_token(port, &message, seen);
                    let mut values = values(&message);
                    values[0] |= token << 32;
                    return Ok(Next::Done(values));
                }
                self.port(port).is_waited_for = false;
                self.check_buffer(me, buffer)?;
                self.receive(me, port, deadline, buffer, seen)
            }
            Some(Sleep::Call {
                port,
                call,
                deadline,
                buffer,
            }) => self.finish_call(
                me,
                Sleep::Call {
                    port,
                    call,
                    deadline,
                    buffer,
                },
                seen,
            ),
        }
    }

    /// Whether the table has no room for so many handles; if the machine says so although it has,
    /// it may be right about what the account cannot pay.
    fn room(
        &self,
        me: usize,
        handles: usize,
        bytes: core::ops::Range<u64>,
        seen: Option<Seen>,
    ) -> Try<()> {
        let domain = &self.domains[me];
        let places = domain.handles.len() + handles;
        is(places <= MOST_HANDLES, Error::QuotaExhausted)?;
        let left = domain.kernel_limit - domain.kernel_used;
        // A table doubles when it grows, at 16 bytes or more for a place.
        let most = bytes.end + 2 * 64 * places.next_power_of_two() as u64 + 1024;
        let says_so = seen.is_some_and(|seen| seen.status == Error::QuotaExhausted.number());
        is(
            left >= bytes.start && !(says_so && left < most),
            Error::QuotaExhausted,
        )
    }

    fn deadline_passed(&self, deadline: u64) -> bool {
        deadline != NEVER && deadline <= self.now
    }

    fn wait(&mut self, me: usize, deadline: u64) -> Try<Next> {
        if self.domains[me].page.ready != 0 {
            return done();
        }
        is(!self.deadline_passed(deadline), Error::TimedOut)?;
        Ok(Next::Sleeps(Sleep::Wait { deadline }))
    }

    /// Only rings without entries come here: what entries do is compared with calls elsewhere.
    fn submit(&mut self, me: usize, raw: &RawCall) -> Try<Next> {
        let [ring, entries, rest @ ..] = raw.arguments;
        is(rest == [0; 3], Error::BadArgument)?;
        is((1..=31).contains(&entries), Error::BadArgument)?;
        is(ring % PAGE == 0, Error::BadAddress)?;
        let outstanding = self.outstanding(me, ring).ok_or(Error::BadAddress)?;
        is(outstanding <= 31, Error::BadArgument)?;
        Ok(Next::Done(vec![0, 0]))
    }

    /// Entries of a ring as its counts have it.
    pub fn outstanding(&self, me: usize, ring: u64) -> Option<u64> {
        let (memory, first) = self.at(me, ring, READ | WRITE)?;
        let [submitted, taken] = [0, 1].map(|word| self.machine_word((memory, first + word)));
        Some(submitted?.wrapping_sub(taken?))
    }

    fn check_buffer(&self, me: usize, buffer: u64) -> Try<()> {
        is(buffer == 0 || self.is_usable(me, buffer), Error::BadAddress)
    }

    fn is_usable(&self, me: usize, buffer: u64) -> bool {
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
    fn copy(&self, me: usize, handle: u64, rights: u64) -> Try<Held> {
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
    fn arrive(&mut self, me: usize, message: &Message, buffer: Option<u64>) -> bool {
        let is_there = buffer.is_none_or(|buffer| self.is_usable(me, buffer));
        let fits = is_short(message) || buffer.is_some();
        let is_possible = message.handles.is_empty() && fits && is_there;
        if let (true, false, Some(buffer)) = (is_possible, is_short(message), buffer) {
            self.store_message(me, message, buffer);
        }
        is_possible
    }

    fn store_message(&mut self, me: usize, message: &Message, buffer: u64) {
        if let Some((memory, first)) = self.at(me, buffer, READ | WRITE) {
            for (word, number) in message.words.into_iter().zip(first..) {
                self.store((memory, number), word);
            }
        }
    }

    /// Queues a message, with which its handles count, or leaves it to a receiver that waits.
    fn queue(&mut self, port: Id, message: Message) {
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

    fn send(&mut self, me: usize, raw: &RawCall) -> Try<Next> {
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

    fn receive(
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
    fn learn_token(&mut self, port: Id, message: &Message, seen: Option<Seen>) -> u64 {
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
    fn deliver(
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

    fn map(&mut self, me: usize, arguments: [u64; 5], seen: Option<Seen>) -> Try<Next> {
        let [space, memory, address, offset, last] = arguments;
        let (length, access) = (last & !0xFFF, last & 0xFFF);
        is(access <= 7 && access & READ != 0, Error::BadArgument)?;
        let (space, memory) = (small(space)?, small(memory)?);
        let space = self.find_space(me, space)?;
        let memory = self.find(me, memory, 4, access)?.object;
        self.check_range(address, length)?;
        let bytes = self.memory(memory).pages * PAGE;
        let is_inside = offset % PAGE == 0 && offset.saturating_add(length) <= bytes;
        is(is_inside, Error::BadAddress)?;
        is(
            self.spaces[space].mappings.len() < 1024,
            Error::QuotaExhausted,
        )?;
        let (start, pages) = (address / PAGE, length / PAGE);
        let is_free = (start..start + pages).all(|page| self.mapped(space, page).is_none());
        is(is_free, Error::AlreadyMapped)?;
        is(!self.memory(memory).is_revoked, Error::PeerGone)?;
        let is_lent = self.memory(memory).owner != usize::MAX;
        let lent = self.lent_pages(memory) + pages;
        let spaces = self.lent_spaces(memory, space);
        let may_lend = lent <= MOST_LENT_PAGES && spaces <= MOST_LENT_SPACES;
        is(!is_lent || may_lend, Error::QuotaExhausted)?;
        self.check_tables(space, seen)?;
        let mapping = Mapping {
            pages,
            memory,
            offset: offset / PAGE,
            access,
        };
        self.memory(memory).mappings += 1;
        self.spaces[space].mappings.insert(start, mapping);
        done()
    }

    fn find_space(&self, me: usize, handle: u64) -> Try<usize> {
        match self.objects[self.find(me, handle, 3, MAP)?.object] {
            Object::Space(space) => Ok(space),
            _ => Err(Error::WrongKind),
        }
    }

    fn mapped(&self, space: usize, page: u64) -> Option<u64> {
        let (start, mapping) = self.spaces[space].mappings.range(..=page).next_back()?;
        (page - start < mapping.pages).then_some(*start)
    }

    fn check_range(&self, address: u64, length: u64) -> Try<()> {
        let is_good = length != 0
            && length <= 16 << 20
            && length.is_multiple_of(PAGE)
            && address.is_multiple_of(PAGE);
        let end = address.checked_add(length);
        let ends = end.is_some_and(|end| end <= self.address_limit);
        is(is_good && ends, Error::BadAddress)
    }

    /// How many frames the tables need, and how many bytes the list of what is mapped, is the machine's
    /// affair: it may say that the account of the space cannot pay for them only if that can be so. 16
    /// MiB take up to nine last-level tables, and at most two at each of two levels above them.
    fn check_tables(&self, space: usize, seen: Option<Seen>) -> Try<()> {
        let says_so = seen.is_some_and(|seen| seen.status == Error::QuotaExhausted.number());
        let Space {
            owner, mappings, ..
        } = &self.spaces[space];
        let list_bytes = 64 * (mappings.len() + 2).next_power_of_two().max(16) as u64;
        let account = &self.domains[*owner];
        let bytes_left = account.kernel_limit - account.kernel_used;
        let is_scarce = self.frames_left(*owner) < 13 || bytes_left < list_bytes;
        is(!(says_so && is_scarce), Error::QuotaExhausted)
    }

    fn frames_left(&self, who: usize) -> u64 {
        let limit = self.domains[who].frames_limit;
        limit.saturating_sub(self.frames_used(who))
    }

    fn unmap(&mut self, me: usize, arguments: [u64; 3], seen: Option<Seen>) -> Try<Next> {
        let [space, address, length] = arguments;
        let space = self.find_space(me, small(space)?)?;
        self.check_range(address, length)?;
        let (start, end) = (address / PAGE, (address + length) / PAGE);
        let is_all = (start..end).all(|page| self.mapped(space, page).is_some());
        is(is_all, Error::NotMapped)?;
        let cuts = self.mapped(space, start).is_some_and(|first| {
            let mapping = &self.spaces[space].mappings[&first];
            first < start && first + mapping.pages > end
        });
        let has_room = !cuts || self.spaces[space].mappings.len() < 1024;
        is(has_room, Error::QuotaExhausted)?;
        self.check_tables(space, seen)?;
        let mut page = start;
        while let Some(first) = self.mapped(space, page).filter(|_| page < end) {
            page = self.take_out(space, first, start, end);
        }
        done()
    }

    /// Takes a range out of one mapping; returns the page behind what was there.
    fn take_out(&mut self, space: usize, first: u64, start: u64, end: u64) -> u64 {
        let Some(old) = self.spaces[space].mappings.remove(&first) else {
            return end;
        };
        let behind = first + old.pages;
        self.memory(old.memory).mappings -= 1;
        for (from, to) in [(first, start), (end, behind)] {
            if from < to && from >= first && to <= behind {
                let part = Mapping {
                    pages: to - from,
                    offset: old.offset + (from - first),
                    ..old.clone()
                };
                self.memory(old.memory).mappings += 1;
                self.spaces[space].mappings.insert(from, part);
            }
        }
        behind
    }

    fn query(&mut self, me: usize, handle: u64, item: u64) -> Try<Next> {
        is(item < 4, Error::BadArgument)?;
        let handle = small(handle)?;
        let held = self.domains[me]
            .handles
            .get(&handle)
            .ok_or(Error::BadHandle)?
            .clone();
        if item == 0 {
            return Ok(Next::Done(vec![self.kind(held.object), held.rights]));
        }
        if let Object::Domain(who) = self.objects[held.object] {
            is(self.domains[who].is_alive(), Error::PeerGone)?;
            let domain = &self.domains[who];
            return Ok(Next::Done(match item {
                1 => vec![self.frames_used(who), domain.frames_limit],
                2 => vec![0, 0],
                _ => vec![domain.kernel_used, domain.kernel_limit],
            }));
        }
        is(item == 1, Error::WrongKind)?;
        let first_past = self.address_limit;
        Ok(Next::Done(match &self.objects[held.object] {
            Object::Memory(memory) => vec![memory.pages * PAGE, 0],
            Object::Port(port) => vec![port.queue.len() as u64, port.capacity as u64],
            Object::Event { slot, .. } => vec![*slot, 0],
            Object::Space(space) => {
                let mappings = self.spaces[*space].mappings.values();
                let pages: u64 = mappings.map(|mapping| mapping.pages).sum();
                vec![pages * PAGE, first_past]
            }
            _ => vec![0, 0],
        }))
    }

    fn create(&mut self, me: usize, raw: &RawCall, seen: Option<Seen>) -> Try<Next> {
        let [kind, first, second, rest @ ..] = raw.arguments;
        if kind == 2 {
            return self.create_vcpu(me, raw);
        }
        let is_used = matches!(kind, 5..=7) || second == 0;
        is(rest == [0, 0] && is_used, Error::BadArgument)?;
        let (object, rights, bytes) = match kind {
            3 => {
                is(first == 0, Error::BadArgument)?;
                let place = self.spaces.len();
                self.spaces.push(Space::new(me));
                let is_paid = self.check_tables(place, seen);
                if let Err(error) = is_paid.and(self.room(me, 2, 64..1024, seen)) {
                    self.spaces.pop();
                    return Err(error);
                }
                (Object::Space(place), [MAP | GRANT, 0], 0..0)
            }
            4 => {
                let is_good = first != 0 && first % PAGE == 0 && first <= 16 << 20;
                is(is_good, Error::BadArgument)?;
                let left = self.frames_left(me);
                // One piece of bookkeeping for each run of frames, of which there is one at least.
                self.room(me, 2, 64..first / PAGE * 64 + 256, seen)?;
                is(first / PAGE <= left, Error::QuotaExhausted)?;
                let memory = Memory {
                    owner: me,
                    pages: first / PAGE,
                    frames: Vec::new(),
                    words: Default::default(),
                    handles: 0,
                    mappings: 0,
                    is_revoked: false,
                };
                (
                    Object::Memory(memory),
                    [READ | WRITE | EXECUTE | GRANT | REVOKE, 0],
                    0..0,
                )
            }
            5 => {
                is(
                    (1..=256).contains(&first) && second < 64,
                    Error::BadArgument,
                )?;
                let port = Port {
                    capacity: first as usize,
                    receiver: Some((me, second)),
                    ..Port::default()
                };
                (
                    Object::Port(port),
                    [RECEIVE, SEND | GRANT],
                    first * 200..first * 800,
                )
            }
            6 => {
                let hour = 3_600_000_000_000;
                is(first < 64 && second <= hour, Error::BadArgument)?;
                let throttle = Throttle {
                    interval: second,
                    ..Throttle::default()
                };
                let event = Object::Event {
                    waiter: Some((me, first)),
                    slot: first,
                    throttle,
                };
                let bytes = if second == 0 { 32..128 } else { 64..512 };
                (event, [WAIT, NOTIFY | GRANT], bytes)
            }
            7 => {
                let event = self.find(me, small(first)?, 6, NOTIFY)?.object;
                let timer = Timer {
                    event,
                    bits: second,
                    due: None,
                    handles: 0,
                };
                (Object::Timer(timer), [ARM | GRANT, 0], 64..512)
            }
            _ => return Err(Error::BadArgument),
        };
        self.room(me, 2, bytes, seen)?;
        let object = self.add(object);
        let mut values = seen.map_or([0; 5], |seen| seen.values);
        for (number, rights) in values.iter_mut().zip(rights) {
            if rights == 0 {
                *number = 0;
            } else {
                self.give(me, object, rights, 0, *number);
            }
        }
        Ok(Next::Done(values[..2].to_vec()))
    }

    /// Nobody here may build a domain.
    fn create_vcpu(&self, me: usize, raw: &RawCall) -> Try<Next> {
        let [_, domain, page, port, state] = raw.arguments;
        is(port == 0 || state != 0, Error::BadArgument)?;
        for handle in [domain, page, port, state] {
            small(handle)?;
        }
        self.find(me, domain, 1, BUILD)?;
        Err(Error::WrongState)
    }

    /// A new handle under the number that the machine has chosen.
    pub fn give(&mut self, me: usize, object: Id, rights: u64, badge: u64, number: u64) {
        let held = Held {
            object,
            rights,
            badge,
        };
        self.hold(&held);
        self.adopt(me, held, number);
    }

    fn grant(&mut self, me: usize, arguments: [u64; 4], seen: Option<Seen>) -> Try<Next> {
        let [handle, rights, badge, to] = arguments;
        is(rights & !ALL_RIGHTS == 0, Error::BadArgument)?;
        let (handle, to) = (small(handle)?, small(to)?);
        let is_held = self.domains[me].handles.contains_key(&handle);
        is(is_held, Error::BadHandle)?;
        if to != 0 {
            // Nobody here may build a domain.
            self.find(me, to, 1, BUILD)?;
        }
        let copy = self.copy(me, handle, rights)?;
        is(badge == 0 || copy.badge == 0, Error::MissingRight)?;
        self.room(me, 1, 0..0, seen)?;
        let number = seen.map_or(0, |seen| seen.values[0]);
        self.give(me, copy.object, rights, copy.badge | badge, number);
        Ok(Next::Done(vec![number, 0]))
    }

    fn call_and_wait(&mut self, me: usize, raw: &RawCall, seen: Option<Seen>) -> Try<Next> {
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

    fn finish_call(&mut self, me: usize, sleep: Sleep, seen: Option<Seen>) -> Try<Next> {
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

    fn reply(&mut self, me: usize, raw: &RawCall, seen: Option<Seen>) -> Try<Next> {
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
