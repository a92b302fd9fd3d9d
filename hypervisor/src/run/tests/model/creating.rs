//! `create` and `grant`.

use alloc::vec;
use alloc::vec::Vec;

use nuncio_abi::{Error, RawCall};

use super::state::*;
use super::verbs::{is, small, Next, Seen, Try};

impl Model {
    pub(super) fn create(&mut self, me: usize, raw: &RawCall, seen: Option<Seen>) -> Try<Next> {
        let [kind, first, second, rest @ ..] = raw.arguments;
        if kind == 1 {
            return self.create_domain(me, raw, seen);
        }
        if kind == 2 {
            return self.create_vcpu(me, raw, seen);
        }
        let is_used = matches!(kind, 5..=7) || second == 0;
        is(rest == [0, 0] && is_used, Error::BadArgument)?;
        let (object, rights, bytes) = match kind {
            3 => {
                is(first == 0, Error::BadArgument)?;
                let place = self.spaces.len();
                self.spaces.push(Space::new(me, None));
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
                    is_page: false,
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
        self.domains[me].has_made = true;
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

    /// How much its objects take of its own share is the machine's affair, but it is neither nothing nor
    /// more than some pages.
    fn create_domain(&mut self, me: usize, raw: &RawCall, seen: Option<Seen>) -> Try<Next> {
        let [_, frames, bytes, event, bits] = raw.arguments;
        is(event != 0 || bits == 0, Error::BadArgument)?;
        let watcher = match small(event)? {
            0 => None,
            event => Some((self.find(me, event, 6, NOTIFY)?.object, bits)),
        };
        let left = self.domains[me].kernel_limit - self.domains[me].kernel_used;
        let has_both = frames <= self.frames_left(me) && bytes <= left;
        is(has_both && frames > 0, Error::QuotaExhausted)?;
        self.room(me, 2, bytes..bytes, seen)?;
        let made = self.domains.len();
        let space = self.spaces.len();
        self.domains.push(Domain {
            maker: Some(me),
            watcher,
            is_paid: true,
            vcpu: Vcpu::None,
            ..Domain::new(frames, bytes, space)
        });
        if let Err(error) = self.child_pays(made, 256..8192, seen) {
            self.domains.pop();
            return Err(error);
        }
        self.domains[me].has_made = true;
        self.spaces.push(Space::new(made, Some(made)));
        let [domain, space] = [Object::Domain(made), Object::Space(space)].map(|it| self.add(it));
        let [first, second, ..] = seen.map_or([0; 5], |seen| seen.values);
        self.give(me, domain, STOP | BUILD | GRANT, 0, first);
        self.give(me, space, MAP | GRANT, 0, second);
        Ok(Next::Done(vec![first, second]))
    }

    /// The driver asks for none with a monitor.
    fn create_vcpu(&mut self, me: usize, raw: &RawCall, seen: Option<Seen>) -> Try<Next> {
        let [_, domain, page, port, state] = raw.arguments;
        is(port == 0 || state != 0, Error::BadArgument)?;
        for handle in [domain, page, port, state] {
            small(handle)?;
        }
        let domain = self.find(me, domain, 1, BUILD)?.object;
        let page = self.find(me, page, 4, READ | WRITE)?.object;
        if port != 0 {
            self.find(me, port, 5, SEND)?;
        }
        if state != 0 {
            self.find(me, state, 4, READ | WRITE)?;
        }
        let Object::Domain(who) = self.objects[domain] else {
            return Err(Error::WrongKind);
        };
        let lacks_one = self.domains[who].is_alive() && self.domains[who].vcpu == Vcpu::None;
        is(lacks_one, Error::WrongState)?;
        self.child_pays(who, 64..4096, seen)?;
        self.room(me, 2, 0..0, seen)?;
        self.domains[who].vcpu = Vcpu::Made;
        self.domains[who].page_memory = Some(page);
        let memory = self.memory(page);
        memory.is_page = true;
        memory.handles += 1;
        let vcpu = self.add(Object::Vcpu(who));
        let number = seen.map_or(0, |seen| seen.values[0]);
        self.give(me, vcpu, START | STOP | SCHEDULE | GRANT, 0, number);
        Ok(Next::Done(vec![number, 0]))
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
        let target = match to {
            0 => me,
            to => match self.objects[self.find(me, to, 1, BUILD)?.object] {
                Object::Domain(who) => who,
                _ => return Err(Error::WrongKind),
            },
        };
        let copy = self.copy(me, handle, rights)?;
        is(badge == 0 || copy.badge == 0, Error::MissingRight)?;
        is(self.domains[target].is_alive(), Error::PeerGone)?;
        self.room(target, 1, 0..0, seen)?;
        let number = seen.map_or(0, |seen| seen.values[0]);
        self.give(target, copy.object, rights, copy.badge | badge, number);
        Ok(Next::Done(vec![number, 0]))
    }
}
