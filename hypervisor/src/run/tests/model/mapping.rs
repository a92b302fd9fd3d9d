//! `map` and `unmap`.

use nuncio_abi::Error;

use super::state::*;
use super::verbs::{done, is, small, Next, Seen, Try};

impl Model {
    pub(super) fn map(&mut self, me: usize, arguments: [u64; 5], seen: Option<Seen>) -> Try<Next> {
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

    pub(super) fn find_space(&self, me: usize, handle: u64) -> Try<usize> {
        match self.objects[self.find(me, handle, 3, MAP)?.object] {
            Object::Space(space) => Ok(space),
            _ => Err(Error::WrongKind),
        }
    }

    pub(super) fn mapped(&self, space: usize, page: u64) -> Option<u64> {
        let (start, mapping) = self.spaces[space].mappings.range(..=page).next_back()?;
        (page - start < mapping.pages).then_some(*start)
    }

    pub(super) fn check_range(&self, address: u64, length: u64) -> Try<()> {
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
    pub(super) fn check_tables(&self, space: usize, seen: Option<Seen>) -> Try<()> {
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

    pub(super) fn frames_left(&self, who: usize) -> u64 {
        let limit = self.domains[who].frames_limit;
        limit.saturating_sub(self.frames_used(who))
    }

    pub(super) fn unmap(
        &mut self,
        me: usize,
        arguments: [u64; 3],
        seen: Option<Seen>,
    ) -> Try<Next> {
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
    pub(super) fn take_out(&mut self, space: usize, first: u64, start: u64, end: u64) -> u64 {
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
}
