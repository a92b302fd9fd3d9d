//! `create` and `grant`.

use alloc::vec;
use alloc::vec::Vec;

use nuncio_abi::{Error, RawCall};

use super::state::*;
use super::verbs::{is, small, Next, Seen, Try};

impl Model {
    pub(super) fn create(&mut self, me: usize, raw: &RawCall, seen: Option<Seen>) -> Try<Next> {
        let [kind, first, second, rest @ ..] = raw.arguments;
        if kind == 2 {
            return self.create_vcpu(me, raw);
        }
        let is_used = matches!(kind, 5 | 7) || second == 0;
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
                is(first < 64, Error::BadArgument)?;
                let (waiter, slot) = (Some((me, first)), first);
                (
                    Object::Event { waiter, slot },
                    [WAIT, NOTIFY | GRANT],
                    32..128,
                )
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
    pub(super) fn create_vcpu(&self, me: usize, raw: &RawCall) -> Try<Next> {
        let [_, domain, page, port, state] = raw.arguments;
        is(port == 0 || state != 0, Error::BadArgument)?;
        for handle in [domain, page, port, state] {
            small(handle)?;
        }
        self.find(me, domain, 1, BUILD)?;
        Err(Error::WrongState)
    }

    pub(super) fn grant(
        &mut self,
        me: usize,
        arguments: [u64; 4],
        seen: Option<Seen>,
    ) -> Try<Next> {
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
}
