//! What machine and model have, side by side, and what the model learns from the machine.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::SeqCst;

use nuncio_abi::{Handle, RawCall};

use crate::mem::{Frame, PhysicalMemory};
use crate::nested::{Entry, EntryFormat, Level, NPT};
use crate::object::{Domain, Object as RealObject};

use super::driver::{Driver, Real};
use super::state::*;

/// Steps between two comparisons of everything.
const DEEP: u64 = 16;

impl Driver {
    /// Compares the whole state.
    pub(super) fn compare(&mut self, call: Option<(usize, RawCall)>) {
        if let Some(complaint) = self.model.complaints.pop() {
            self.fail(complaint);
        }
        if self.failure.is_some() {
            return;
        }
        if let Some((who, raw)) = call {
            self.learn(who, &raw);
            self.compare_kernel_bytes(who, &raw);
        }
        self.learn_accounts();
        let is_deep = self.calls.is_multiple_of(DEEP) || self.steps.is_empty();
        for who in 0..self.real.len() {
            let found = self.compare_domain(who, is_deep);
            if let Err(what) = found {
                self.fail(format!("domain {who}: {what}"));
            }
        }
    }

    /// What the machine chooses and the specification leaves open.
    fn learn(&mut self, who: usize, raw: &RawCall) {
        if matches!(raw.verb, 5 | 6 | 10) {
            self.learn_tables(who, raw);
        }
        if raw.verb == 10 && self.model.domains[who].last_status == 0 {
            match raw.arguments[0] {
                1 if self.model.domains.len() > self.real.len() => self.learn_domain(who),
                2 => self.learn_page(),
                _ => {}
            }
        }
        let Some(Object::Memory(memory)) = self.model.objects.last_mut() else {
            return;
        };
        if raw.verb != 10 || !memory.frames.is_empty() || memory.handles == 0 {
            return;
        }
        let Some(domain) = self.real[who].domain.upgrade() else {
            return;
        };
        let id = self.model.objects.len() - 1;
        let own = self.model.domains[who].handles.iter();
        let handle = own
            .filter(|(_, held)| held.object == id)
            .map(|(handle, _)| *handle)
            .next();
        let handle = Handle::from_raw(handle.unwrap_or(0)).unwrap();
        let table = domain.handles.lock();
        let frames = match table.get(handle).map(|held| &held.object) {
            Ok(RealObject::Memory(memory)) => (0..memory.pages())
                .filter_map(|page| memory.frame(page))
                .collect(),
            _ => Vec::new(),
        };
        drop(table);
        let is_zero = frames.iter().all(|frame| self.arena.holds(*frame, 0));
        let memory = self.model.memory(id);
        memory.frames = frames.iter().map(|frame| frame.0).collect();
        if !is_zero || memory.frames.len() as u64 != memory.pages {
            self.fail(format!(
                "domain {who} was given memory that is not zero, or too little"
            ));
        }
    }

    /// What the caller's newest domain is in the machine.
    fn learn_domain(&mut self, who: usize) {
        let made = self.model.domains.len() - 1;
        let objects = &self.model.objects;
        let is_it = |held: &Held| matches!(objects[held.object], Object::Domain(it) if it == made);
        let mut own = self.model.domains[who].handles.iter();
        let handle = own.find(|(_, held)| is_it(held));
        let handle = handle.and_then(|(handle, _)| Handle::from_raw(*handle));
        let domain = self.real[who].domain.upgrade();
        let Some((handle, domain)) = handle.zip(domain) else {
            return;
        };
        let found = match domain.handles.lock().get(handle).map(|held| &held.object) {
            Ok(RealObject::Domain(made)) => made.clone(),
            _ => return,
        };
        let Some(real) = found.upgrade() else {
            return self.fail(format!("domain {made} is gone as soon as it is made"));
        };
        self.add(Real {
            domain: found,
            account: Arc::downgrade(&real.account),
            page: self.real[who].page,
        });
    }

    /// Where the page of the newest vcpu is.
    fn learn_page(&mut self) {
        let Some(Object::Vcpu(who)) = self.model.objects.last() else {
            return;
        };
        let who = *who;
        let Some(memory) = self.model.domains[who].page_memory else {
            return;
        };
        let frame = Frame(self.model.memory(memory).frames[0]);
        self.real[who].page = self.arena.words(frame).unwrap();
    }

    /// What a domain that was destroyed might use belongs to its maker again, at once if it has made
    /// nothing and nobody has its space.
    fn learn_accounts(&mut self) {
        for who in 0..self.real.len() {
            let domain = &self.model.domains[who];
            if !domain.is_destroyed || !domain.is_paid {
                continue;
            }
            let has_nothing = !domain.has_made && self.model.own_space(who).handles == 0;
            if self.real[who].account.strong_count() == 0 {
                self.model.domains[who].is_paid = false;
            } else if has_nothing {
                self.fail(format!("what domain {who} might use has not come back"));
            }
        }
    }

    /// How many page tables the space has that a call has named or made.
    fn learn_tables(&mut self, who: usize, raw: &RawCall) {
        let handles = &self.model.domains[who].handles;
        let held = match raw.verb {
            10 => handles.values().max_by_key(|held| held.object),
            _ => handles.get(&raw.arguments[0]),
        };
        let Some(Object::Space(space)) = held.map(|held| &self.model.objects[held.object]) else {
            return;
        };
        let space = *space;
        let root = match self.model.spaces[space].root {
            Some(root) => Some(Frame(root)),
            None => self.root_of_made(who, space),
        };
        if let Some(root) = root {
            self.model.spaces[space].root = Some(root.0);
            self.model.spaces[space].table_frames = self.count(root, 0).0;
        }
    }

    /// The first table of a space from `create`.
    fn root_of_made(&self, who: usize, space: usize) -> Option<Frame> {
        let is_it = |held: &Held| matches!(self.model.objects[held.object], Object::Space(it) if it == space);
        let mut own = self.model.domains[who].handles.iter();
        let (handle, _) = own.find(|(_, held)| is_it(held))?;
        let domain = self.real[who].domain.upgrade()?;
        let table = domain.handles.lock();
        match &table.get(Handle::from_raw(*handle)?).ok()?.object {
            RealObject::Space(space) => Some(space.root()),
            _ => None,
        }
    }

    fn compare_kernel_bytes(&mut self, who: usize, raw: &RawCall) {
        let domain = &self.model.domains[who];
        if !domain.is_alive() || domain.sleeps.is_some() {
            return;
        }
        let (before, now) = (domain.kernel_used, self.real[who].kernel_used());
        let status = domain.last_status;
        let is_right = match (raw.verb, status) {
            (10, 0) if raw.arguments[0] == 1 => now >= before + raw.arguments[2],
            // The domain pays whose vcpu it is.
            (10, 0) if raw.arguments[0] == 2 => now >= before,
            (10, 0) => now > before,
            (7, 0) | (9, 0) => now <= before,
            // The table grows for what may come, and does not shrink.
            (2 | 11 | 13 | 14, _) => true,
            (1 | 3 | 12, 0) => now <= before,
            // The list of what is mapped grows, and does not shrink.
            (5 | 6, 0) => now >= before,
            _ => now == before,
        };
        if !is_right {
            self.fail(format!(
                "domain {who} had {before} bytes of the hypervisor's memory and has {now} after verb {} with status {status}",
                raw.verb
            ));
        }
    }

    fn compare_domain(&mut self, who: usize, is_deep: bool) -> Result<(), String> {
        let domain = &self.model.domains[who];
        if domain.maker.is_some() && domain.is_destroyed && !domain.is_paid {
            return Ok(());
        }
        let used = self.model.frames_used(who);
        let real = &self.real[who];
        self.model.domains[who].kernel_used = real.kernel_used();
        expect("frames used", real.used(), used)?;
        let model = &self.model.domains[who];
        expect("exists", real.domain.strong_count() > 0, model.exists())?;
        if is_deep {
            let spaces = (0..self.model.spaces.len()).filter(|space| {
                let space = &self.model.spaces[*space];
                space.owner == who && space.table_frames > 0
            });
            for space in spaces {
                self.compare_mappings(space)?;
            }
        }
        let Some(domain) = real.domain.upgrade() else {
            return Ok(());
        };
        if is_deep {
            self.compare_handles(who, &domain)?;
        }
        if !model.is_alive() || model.vcpu == Vcpu::None {
            return Ok(());
        }
        let page = &model.page;
        let word = |number: usize| real.page[number].load(SeqCst);
        expect("ready", word(0), page.ready)?;
        expect("vector", word(1), page.vector)?;
        for slot in 0..64 {
            expect(
                "pending",
                (slot, word(64 + 2 * slot)),
                (slot, page.pending[slot]),
            )?;
            expect(
                "enabled",
                (slot, word(65 + 2 * slot)),
                (slot, page.enabled[slot]),
            )?;
            expect(
                "count",
                (slot, word(192 + 2 * slot), word(193 + 2 * slot)),
                (slot, page.count[slot], page.wake_at[slot]),
            )?;
        }
        Ok(())
    }

    fn compare_handles(&self, who: usize, domain: &Domain) -> Result<(), String> {
        let model = &self.model.domains[who];
        let table = domain.handles.lock();
        for number in &model.ever {
            let real = Handle::from_raw(*number).and_then(|handle| table.get(handle).ok());
            let expected = model.handles.get(number);
            let real =
                real.map(|held| (held.object.kind().number(), held.rights.bits(), held.badge));
            let expected =
                expected.map(|held| (self.model.kind(held.object), held.rights, held.badge));
            expect("handle", (number, real), (number, expected))?;
        }
        for (number, held) in &model.handles {
            let real = Handle::from_raw(*number).and_then(|handle| table.get(handle).ok());
            match (
                &self.model.objects[held.object],
                real.map(|held| &held.object),
            ) {
                (Object::Port(port), Some(RealObject::Port(real))) => {
                    expect("queue", real.usage(), (port.queue.len(), port.capacity))?;
                }
                (Object::Space(space), Some(RealObject::Space(real))) => {
                    let root = self.model.spaces[*space].root;
                    expect("root", Some(real.root().0), root)?;
                }
                (Object::Memory(memory), Some(RealObject::Memory(real))) => {
                    expect("pages", real.pages(), memory.pages)?;
                    let first = real.frame(0).map(|frame| frame.0);
                    expect("first frame", first, memory.frames.first().copied())?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn compare_mappings(&self, space: usize) -> Result<(), String> {
        let Space {
            mappings,
            table_frames,
            root,
            ..
        } = &self.model.spaces[space];
        let root = Frame(root.ok_or("a space without a table")?);
        let (tables, leaves) = self.count(root, 0);
        let pages = mappings.values().map(|mapping| mapping.pages).sum::<u64>();
        expect("pages mapped", leaves, pages)?;
        expect("tables", tables, *table_frames)?;
        for (start, mapping) in mappings {
            let Object::Memory(memory) = &self.model.objects[mapping.memory] else {
                continue;
            };
            for page in 0..mapping.pages {
                let real = self.translate(root, (start + page) * PAGE, 0);
                let frame = memory.frames[(mapping.offset + page) as usize];
                let expected = Some((Frame(frame), mapping.access));
                expect(
                    "translation",
                    (start + page, real),
                    (start + page, expected),
                )?;
            }
            // Space::words is not asked: it would fill the cache of translations that is under test.
            // What lies in its first words.
            for number in (0..16).chain([512 * memory.pages - 1]) {
                let frame = Frame(memory.frames[number as usize / 512]);
                let real = self.arena.words(frame).unwrap()[number as usize % 512].load(SeqCst);
                let expected = memory.words.get(&number).copied().unwrap_or(0);
                expect(
                    "content",
                    (mapping.memory, number, real),
                    (mapping.memory, number, expected),
                )?;
            }
        }
        Ok(())
    }

    /// Tables below and with this one, and pages mapped by them.
    fn count(&self, table: Frame, depth: usize) -> (u64, u64) {
        let level = Level::DOWNWARD[depth];
        let mut sum = (1, 0);
        for word in self.arena.words(table).unwrap() {
            match NPT.decode(word.load(SeqCst), level) {
                Entry::Absent => {}
                Entry::Leaf { .. } => sum.1 += level.pages(),
                Entry::Table(next) => {
                    let (tables, leaves) = self.count(next, depth + 1);
                    sum = (sum.0 + tables, sum.1 + leaves);
                }
            }
        }
        sum
    }

    /// Where a CPU would find an address, and with which access.
    pub fn translate(&self, root: Frame, address: u64, access: u64) -> Option<(Frame, u64)> {
        let mut table = root;
        let page = address / PAGE;
        for level in Level::DOWNWARD {
            let entry = self.arena.words(table)?[level.index(page)].load(SeqCst);
            match NPT.decode(entry, level) {
                Entry::Absent => return None,
                Entry::Table(next) => table = next,
                Entry::Leaf { frame, access: has } => {
                    let frame = Frame(frame.0 + level.offset(page));
                    return Some((frame, has.bits())).filter(|_| has.bits() & access == access);
                }
            }
        }
        None
    }
}

fn expect<T: PartialEq + core::fmt::Debug>(what: &str, real: T, model: T) -> Result<(), String> {
    if real == model {
        Ok(())
    } else {
        Err(format!(
            "{what}: the machine has {real:x?}, the model {model:x?}"
        ))
    }
}
