//! The verbs on the model.

use std::sync::MutexGuard;

use nuncio_abi::{
    Call, Deadline, Error, Handle, Header, Message, Outgoing, QueryItem, Reply, Rights, VcpuPage,
    VERSION,
};

use super::machine::FakeMachine;
use super::world::{Object, State};

type Outcome = Result<Reply, Error>;

impl FakeMachine {
    pub(super) fn perform(&self, call: Call) -> Outcome {
        let mut state = self.world.lock();
        if !state.domains[self.domain].is_alive() {
            return Err(Error::BadHandle);
        }
        state.now_ns += 100;
        match call {
            Call::Hello { version } if version == VERSION.to_raw() => {
                Ok(Reply::Pair(VERSION.to_raw().into(), 0))
            }
            Call::Hello { .. } => Err(Error::WrongVersion),
            Call::Send { port, message } => self.send(&mut state, port, message),
            Call::Receive {
                port,
                deadline,
                buffer,
            } => self.receive(state, port, deadline, buffer),
            Call::Notify { event, bits } => self.notify(&mut state, event, bits),
            Call::Wait { deadline } => self.wait(state, deadline),
            Call::Map {
                memory,
                address,
                offset,
                length,
                ..
            } => self.map(&mut state, memory, address, offset, length),
            Call::Unmap {
                address, length, ..
            } => {
                let mapped = &mut state.domains[self.domain].mapped;
                let place = mapped.iter().position(|range| *range == (address, length));
                mapped.remove(place.ok_or(Error::NotMapped)?);
                Ok(Reply::Done)
            }
            Call::Close { handle } => {
                self.object(&state, handle, Rights::NONE)?;
                state.domains[self.domain].handles[usize::from(handle.index())] = None;
                Ok(Reply::Done)
            }
            // No kernel code that is tested with the model makes these calls yet.
            Call::SendWaiting { .. }
            | Call::Create(_)
            | Call::Grant { .. }
            | Call::Arm { .. }
            | Call::Call { .. }
            | Call::Reply { .. }
            | Call::Start { .. }
            | Call::Run { .. }
            | Call::Schedule { .. }
            | Call::Submit { .. } => Err(Error::UnknownVerb),
            Call::Query { handle, item } => self.query(&state, handle, item),
            Call::Stop {
                object: domain,
                code,
            } => {
                let object = self.object(&state, domain, Rights::STOP)?;
                let Object::Domain(number) = state.objects[object] else {
                    return Err(Error::WrongKind);
                };
                state.end(number, code);
                Ok(Reply::Done)
            }
        }
    }

    fn object(&self, state: &State, handle: Handle, right: Rights) -> Result<usize, Error> {
        let handles = &state.domains[self.domain].handles;
        let entry = handles.get(usize::from(handle.index())).copied().flatten();
        let (object, rights) = entry
            .filter(|_| handle.generation() == 1)
            .ok_or(Error::BadHandle)?;
        if rights.contains(right) {
            Ok(object)
        } else {
            Err(Error::MissingRight)
        }
    }

    fn send(&self, state: &mut State, port: Handle, outgoing: Outgoing) -> Outcome {
        let number = self.object(state, port, Rights::SEND)?;
        let message = self.message(outgoing)?;
        let is_console = state.domains[self.domain].names[2].handle() == Some(port);
        if is_console {
            let bytes = message.to_bytes();
            let text = std::str::from_utf8(&bytes[..usize::from(message.length)]);
            state.domains[self.domain]
                .console
                .push_str(text.unwrap_or("?"));
            return Ok(Reply::Done);
        }
        if !state.is_held(number, Rights::RECEIVE) {
            return Err(Error::PeerGone);
        }
        let Object::Port(port) = &mut state.objects[number] else {
            return Err(Error::WrongKind);
        };
        if port.queue.len() >= port.capacity {
            return Err(Error::QueueFull);
        }
        port.queue.push_back((message, self.domain as u64));
        if let Some((domain, slot)) = port.receiver {
            state.domains[domain].post(slot, 1);
        }
        self.announce(state);
        Ok(Reply::Done)
    }

    fn message(&self, outgoing: Outgoing) -> Result<Message, Error> {
        match outgoing {
            Outgoing::Registers {
                length,
                words: [first, second, third],
                ..
            } => Ok(Message {
                length,
                words: [first, second, third, 0, 0, 0, 0, 0],
            }),
            Outgoing::Memory {
                length, address, ..
            } if address == self.buffers.outgoing.address() => {
                Ok(self.buffers.outgoing.load(length))
            }
            Outgoing::Memory { .. } => Err(Error::BadAddress),
        }
    }

    fn receive(
        &self,
        state: MutexGuard<'_, State>,
        port: Handle,
        deadline: Deadline,
        buffer: u64,
    ) -> Outcome {
        let number = self.object(&state, port, Rights::RECEIVE)?;
        let take = |state: &mut State| {
            let Object::Port(port) = &mut state.objects[number] else {
                return Some(Err(Error::WrongKind));
            };
            match port.queue.pop_front() {
                Some(message) => Some(Ok(message)),
                None if !state.is_held(number, Rights::SEND) => Some(Err(Error::PeerGone)),
                None => None,
            }
        };
        let (message, badge) = self.world.block(state, self.domain, deadline, take)??;
        let in_memory = message.length > 24;
        if in_memory && buffer == self.buffers.incoming.address() {
            self.buffers.incoming.store(&message.words);
        }
        let header = Header::new(message.length, in_memory);
        let [first, second, third, ..] = message.words;
        Ok(Reply::Full([header.to_raw(), badge, first, second, third]))
    }

    fn notify(&self, state: &mut State, event: Handle, bits: u64) -> Outcome {
        let number = self.object(state, event, Rights::NOTIFY)?;
        let Object::Event { waiter } = state.objects[number] else {
            return Err(Error::WrongKind);
        };
        if !state.is_held(number, Rights::WAIT) {
            return Err(Error::PeerGone);
        }
        if let Some((domain, slot)) = waiter {
            state.domains[domain].post(slot, bits);
        }
        self.announce(state);
        Ok(Reply::Done)
    }

    fn announce(&self, state: &mut State) {
        state.wake_all();
        self.world.changed.notify_all();
    }

    fn wait(&self, state: MutexGuard<'_, State>, deadline: Deadline) -> Outcome {
        let page = self.page.clone();
        let ready = |_: &mut State| (VcpuPage::new(&page).ready() != 0).then_some(Reply::Done);
        self.world.block(state, self.domain, deadline, ready)
    }

    fn map(
        &self,
        state: &mut State,
        memory: Handle,
        address: u64,
        offset: u64,
        length: u64,
    ) -> Outcome {
        let number = self.object(state, memory, Rights::READ)?;
        let Object::Memory(bytes) = &state.objects[number] else {
            return Err(Error::WrongKind);
        };
        if length == 0 || offset + length > bytes.lock().expect("unpoisoned").len() as u64 {
            return Err(Error::BadAddress);
        }
        state.domains[self.domain].mapped.push((address, length));
        Ok(Reply::Done)
    }

    fn query(&self, state: &State, handle: Handle, item: QueryItem) -> Outcome {
        let number = self.object(state, handle, Rights::NONE)?;
        let (_, rights) = state.domains[self.domain].handles[usize::from(handle.index())]
            .ok_or(Error::BadHandle)?;
        match (item, &state.objects[number]) {
            (QueryItem::Kind, object) => Ok(Reply::Pair(object.kind().number(), rights.bits())),
            (QueryItem::Usage, Object::Memory(bytes)) => Ok(Reply::Pair(
                bytes.lock().expect("unpoisoned").len() as u64,
                0,
            )),
            (QueryItem::Usage, Object::Port(port)) => {
                Ok(Reply::Pair(port.queue.len() as u64, port.capacity as u64))
            }
            _ => Err(Error::BadArgument),
        }
    }
}
