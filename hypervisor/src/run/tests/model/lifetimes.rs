//! How handles come and go, and what goes with them: objects, mappings, domains.

use alloc::format;
use alloc::vec::Vec;

use nuncio_abi::StopReason;

use super::state::*;

impl Model {
    /// A handle with these rights has come into being.
    pub fn hold(&mut self, held: &Held) {
        match &mut self.objects[held.object] {
            Object::Port(port) if held.rights & SEND != 0 => port.senders += 1,
            Object::Memory(memory) => memory.handles += 1,
            Object::Timer(timer) => timer.handles += 1,
            Object::Space(space) => self.spaces[*space].handles += 1,
            _ => {}
        }
    }

    /// What was held is put into a table under the number that the machine has chosen.
    pub fn adopt(&mut self, me: usize, held: Held, number: u64) {
        let domain = &mut self.domains[me];
        let is_form_right = number >> 32 == 0 && number >> 16 != 0;
        let is_place_free = domain
            .handles
            .keys()
            .all(|other| other & 0xFFFF != number & 0xFFFF);
        let is_new = domain.ever.insert(number);
        domain.handles.insert(number, held);
        let fits = domain.handles.len() <= MOST_HANDLES;
        if !(is_form_right && is_new && is_place_free && fits) {
            self.complain(format!("domain {me} was given the handle {number:#x}"));
        }
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

    /// A handle is gone, from a table or from a message.
    pub fn give_up(&mut self, held: Held) {
        let Held { object, rights, .. } = held;
        match &mut self.objects[object] {
            Object::Port(port) => {
                let mut dropped = Vec::new();
                let mut callers = Vec::new();
                if rights & RECEIVE != 0 {
                    port.receiver = None;
                    port.is_waited_for = false;
                    dropped = port
                        .queue
                        .drain(..)
                        .flat_map(|message| message.handles)
                        .collect();
                    port.line.clear();
                    callers = core::mem::take(&mut port.calls).into_values().collect();
                }
                let mut is_last = false;
                if rights & SEND != 0 {
                    port.senders -= 1;
                    is_last = port.senders == 0;
                }
                for (caller, _) in callers {
                    self.domains[caller].answer = Some(Answer::Never);
                }
                for held in dropped {
                    self.give_up(held);
                }
                if is_last {
                    self.announce(object);
                }
            }
            Object::Event {
                waiter, throttle, ..
            } if rights & WAIT != 0 => {
                *waiter = None;
                throttle.held = 0;
            }
            Object::Timer(timer) => {
                timer.handles -= 1;
                if timer.handles == 0 {
                    timer.due = None;
                }
            }
            Object::Space(space) => {
                let space = *space;
                self.spaces[space].handles -= 1;
                self.drop_space(space);
            }
            Object::Domain(who) if rights & BUILD != 0 => {
                let who = *who;
                self.destroy(who);
            }
            Object::Memory(memory) => {
                memory.handles -= 1;
                if rights & REVOKE != 0 {
                    self.revoke(object);
                }
            }
            _ => {}
        }
    }

    /// Nobody has the memory any more.
    pub(super) fn revoke(&mut self, object: Id) {
        let mut taken = 0;
        for space in &mut self.spaces {
            let before = space.mappings.len();
            space.mappings.retain(|_, mapping| mapping.memory != object);
            taken += before - space.mappings.len();
        }
        let memory = self.memory(object);
        memory.is_revoked = true;
        memory.mappings -= taken;
    }

    /// Nothing is mapped in a space any more; the first table stays.
    fn clear(&mut self, space: usize) {
        self.spaces[space].table_frames = 1;
        let mappings = core::mem::take(&mut self.spaces[space].mappings);
        for mapping in mappings.into_values() {
            self.memory(mapping.memory).mappings -= 1;
        }
    }

    /// A space goes when nobody has a handle to it and no domain lives in it.
    fn drop_space(&mut self, space: usize) {
        let Space { of, handles, .. } = self.spaces[space];
        let is_home = of.is_some_and(|who| self.domains[who].exists());
        if handles == 0 && !is_home {
            self.clear(space);
            self.spaces[space].table_frames = 0;
        }
    }

    /// The maker of a domain has given it up.
    fn destroy(&mut self, who: usize) {
        self.domains[who].is_destroyed = true;
        self.end(who, StopReason::Destroyed, 0);
        self.drop_space(self.domains[who].space);
    }

    /// Pages of all mappings of a memory.
    pub fn lent_pages(&self, object: Id) -> u64 {
        let mappings = self.spaces.iter().flat_map(|space| space.mappings.values());
        let of_it = mappings.filter(|mapping| mapping.memory == object);
        of_it.map(|mapping| mapping.pages).sum()
    }

    /// Spaces in which it is mapped, and this one.
    pub fn lent_spaces(&self, object: Id, with: usize) -> usize {
        let has_it = |space: &Space| {
            let mut mappings = space.mappings.values();
            mappings.any(|mapping| mapping.memory == object)
        };
        let spaces = self.spaces.iter().enumerate();
        spaces
            .filter(|(place, space)| *place == with || has_it(space))
            .count()
    }

    /// A domain loses all that it has, and what it has made goes with it. Only the first end counts.
    pub fn end(&mut self, who: usize, reason: StopReason, detail: u64) {
        let domain = &mut self.domains[who];
        if !domain.is_alive() {
            return;
        }
        domain.ending = Some((reason, detail));
        let handles = core::mem::take(&mut domain.handles);
        let answer = domain.answer.take();
        let sleeps = domain.sleeps.take();
        domain.arrived = None;
        if let Some(Sleep::Send { port, .. }) = &sleeps {
            self.port(*port).line.retain(|other| *other != who);
        }
        match answer {
            Some(Answer::Here(message)) => {
                for held in message.handles {
                    self.give_up(held);
                }
            }
            Some(Answer::Awaited) => {
                if let Some(Sleep::Call { port, call, .. }) = sleeps {
                    self.port(port).calls.remove(&call);
                }
            }
            _ => {}
        }
        for held in handles.into_values() {
            self.give_up(held);
        }
        if let Some(page) = self.domains[who].page_memory.take() {
            self.memory(page).handles -= 1;
        }
        let space = self.domains[who].space;
        self.clear(space);
        self.drop_space(space);
        if let Some((event, bits)) = self.domains[who].watcher.take() {
            let _ = self.notify(event, bits);
        }
    }
}
