//! Address spaces: which memory a guest finds at which guest-physical address.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use nuncio_abi::{Error, Rights, MAP_LIMIT_BYTES};

use crate::lock::{rank, Mutex};
use crate::mem::{
    Account, Frame, GuestPhysical, Interval, IntervalMap, KernelCharge, OutOfFrames,
    PhysicalMemory, Piece, Words, PAGE_BYTES, PAGE_SHIFT,
};
use crate::nested::{EntryFormat, NestedTable};

use super::{Memory, Wake};

/// Mappings that one space can hold; each costs the hypervisor some bookkeeping.
pub const MAX_REGIONS: usize = 1024;

/// The number of the next space.
static NEXT_ID: AtomicU64 = AtomicU64::new(0);

/// A guest-physical address space.
pub struct Space {
    id: u64,
    physical: &'static dyn PhysicalMemory,
    /// The first address that cannot be mapped.
    limit: u64,
    state: Mutex<State, rank::Space>,
    /// Grows with every change after which cached translations are wrong.
    flushes: AtomicU64,
    _charge: Option<KernelCharge>,
}

struct State {
    table: NestedTable,
    regions: IntervalMap<Region>,
    recent: Recent,
    /// Pays for the list of regions.
    room: Room,
}

/// How many regions are paid for.
struct Room {
    account: Arc<Account>,
    paid: Paid,
}

#[derive(Default)]
struct Paid {
    regions: usize,
    _charge: Option<KernelCharge>,
}

/// Regions that a space begins with; it pays for twice as many when there are more.
const FIRST_REGIONS: usize = 16;

impl Room {
    /// Pays for so many regions if that has not been done; what was paid before can be put back.
    fn grow(&mut self, regions: usize) -> Result<Option<Paid>, Error> {
        if regions <= self.paid.regions {
            return Ok(None);
        }
        let room = regions.next_power_of_two().max(FIRST_REGIONS);
        let bytes = room.saturating_mul(size_of::<Interval<Region>>());
        let charge = self.account.charge_kernel(&[bytes]);
        let paid = Paid {
            regions: room,
            _charge: Some(charge.map_err(|_| Error::QuotaExhausted)?),
        };
        Ok(Some(core::mem::replace(&mut self.paid, paid)))
    }

    /// A change that needed more has failed.
    fn put_back(&mut self, before: Option<Paid>) {
        if let Some(before) = before {
            self.paid = before;
        }
    }
}

/// Pages whose translation was looked up last, so that buffers used again and again are found
/// without a walk. Every change of the tables empties it.
#[derive(Default)]
struct Recent([Option<RecentPage>; RECENT_PAGES]);

#[derive(Clone, Copy)]
struct RecentPage {
    number: u64,
    access: Rights,
    words: &'static Words,
}

const RECENT_PAGES: usize = 4;

impl Recent {
    #[inline]
    fn place(&mut self, number: u64) -> Option<&mut Option<RecentPage>> {
        self.0.get_mut(number as usize % RECENT_PAGES)
    }
}

/// A mapping: it keeps its memory alive for as long as a guest can reach it.
#[derive(Clone)]
struct Region {
    memory: Arc<Memory>,
}

impl Piece for Region {
    fn skip(&self, _pages: u64) -> Self {
        self.clone()
    }
}

/// What to map where.
#[derive(Clone, Copy, Debug)]
pub struct Mapping {
    /// Guest-physical address of the first byte.
    pub address: GuestPhysical,
    /// First byte of the memory.
    pub offset: u64,
    /// Length in bytes.
    pub length: u64,
    /// Read, and any of write and execute.
    pub access: Rights,
}

impl Space {
    /// An empty space; its page tables are paid by `account`.
    ///
    /// # Errors
    /// When the account or the machine has no frame left.
    pub fn new(
        account: &Arc<Account>,
        physical: &'static dyn PhysicalMemory,
        format: &'static dyn EntryFormat,
        limit: u64,
    ) -> Result<Self, OutOfFrames> {
        Ok(Space {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            physical,
            limit,
            state: Mutex::new(State {
                table: NestedTable::new(account, physical, format)?,
                regions: IntervalMap::new(),
                recent: Recent::default(),
                room: Room {
                    account: account.clone(),
                    paid: Paid::default(),
                },
            }),
            flushes: AtomicU64::new(0),
            _charge: None,
        })
    }

    /// An empty space of the same kind, whose page tables are paid by `account`.
    ///
    /// # Errors
    /// As [`Space::new`].
    pub fn sibling(&self, account: &Arc<Account>) -> Result<Self, OutOfFrames> {
        let format = self.state.lock().table.format();
        Self::new(account, self.physical, format, self.limit)
    }

    /// Paid by that charge beside its page tables.
    pub fn paid_by(self, charge: KernelCharge) -> Self {
        let mut space = self;
        space._charge = Some(charge);
        space
    }

    /// The memory behind it.
    pub const fn physical(&self) -> &'static dyn PhysicalMemory {
        self.physical
    }

    /// A number that no other space has ever had.
    pub const fn id(&self) -> u64 {
        self.id
    }

    /// The root of the page tables.
    pub fn root(&self) -> Frame {
        self.state.lock().table.root()
    }

    /// The first address that cannot be mapped.
    pub const fn limit(&self) -> u64 {
        self.limit
    }

    /// A number that changes whenever a CPU must forget what it has cached of this space.
    #[inline]
    pub fn flushes(&self) -> u64 {
        self.flushes.load(Ordering::Acquire)
    }

    /// What a vcpu's cached translations agree with: which space this is, and [`Space::flushes`]. The
    /// number alone could be another space's, too.
    #[inline]
    pub fn version(&self) -> (u64, u64) {
        (self.id, self.flushes())
    }

    /// Bytes that are mapped.
    pub fn mapped_bytes(&self) -> u64 {
        let state = self.state.lock();
        let pages = state
            .regions
            .iter()
            .map(|region| region.end.saturating_sub(region.start));
        pages
            .fold(0u64, u64::saturating_add)
            .saturating_mul(PAGE_BYTES)
    }

    /// Maps for a guest: as [`Space::map`], with the limit on the length of one call.
    ///
    /// # Errors
    /// As [`Space::map`].
    pub fn map_for_guest(
        self: &Arc<Self>,
        memory: &Arc<Memory>,
        mapping: &Mapping,
        wake: &mut dyn FnMut(Wake),
    ) -> Result<(), Error> {
        if mapping.length > MAP_LIMIT_BYTES {
            return Err(Error::BadAddress);
        }
        self.map(memory, mapping, wake)
    }

    /// Puts memory into the space. Page tables may go for it: `wake` has CPUs forget them before their
    /// frames are used again.
    ///
    /// # Errors
    /// `BadAddress` for a range that is empty, misaligned, or leaves the space or the memory;
    /// `AlreadyMapped`; `QuotaExhausted` when page tables or bookkeeping cannot be paid;
    /// `PeerGone` if the memory was taken back. The space is then as it was.
    pub fn map(
        self: &Arc<Self>,
        memory: &Arc<Memory>,
        mapping: &Mapping,
        wake: &mut dyn FnMut(Wake),
    ) -> Result<(), Error> {
        let (start, pages) = self.page_range(mapping.address, mapping.length)?;
        if !mapping.offset.is_multiple_of(PAGE_BYTES) {
            return Err(Error::BadAddress);
        }
        let offset = mapping.offset >> PAGE_SHIFT;
        let runs = memory.runs(offset, pages).ok_or(Error::BadAddress)?;
        let mut state = self.state.lock();
        let State {
            table,
            regions,
            recent,
            room,
        } = &mut *state;
        let count = regions.len().saturating_add(1);
        if count > MAX_REGIONS {
            return Err(Error::QuotaExhausted);
        }
        let place = regions
            .free_range(start, pages)
            .map_err(|_| Error::AlreadyMapped)?;
        if let Some(lending) = &memory.lending {
            lending.add(self, pages)?;
        }
        let before = match room.grow(count) {
            Ok(before) => before,
            Err(error) => {
                self.not_mapped(memory, pages);
                return Err(error);
            }
        };
        *recent = Recent::default();
        let outcome = table.map(mapping.address, &runs, mapping.access);
        self.flush(table, wake);
        if outcome.is_err() {
            self.not_mapped(memory, pages);
            room.put_back(before);
            return Err(Error::QuotaExhausted);
        }
        place.fill(Region {
            memory: memory.clone(),
        });
        Ok(())
    }

    /// Takes memory out of the space. `wake` has CPUs forget it before anything of it can be freed.
    ///
    /// # Errors
    /// `BadAddress` for a range that is empty, misaligned, too long or outside the space;
    /// `NotMapped` if part of it has no memory; `QuotaExhausted` when splitting a large page
    /// cannot be paid. The space is then as it was.
    pub fn unmap(
        &self,
        address: GuestPhysical,
        length: u64,
        wake: &mut dyn FnMut(Wake),
    ) -> Result<(), Error> {
        let (start, pages) = self.page_range(address, length)?;
        if length > MAP_LIMIT_BYTES {
            return Err(Error::BadAddress);
        }
        let mut state = self.state.lock();
        let State {
            table,
            regions,
            recent,
            room,
        } = &mut *state;
        let taken = regions
            .taken_range(start, pages)
            .map_err(|_| Error::NotMapped)?;
        // Cutting a hole into a region leaves one region more.
        if taken.len_after_remove() > MAX_REGIONS {
            return Err(Error::QuotaExhausted);
        }
        let before = room.grow(taken.len_after_remove())?;
        *recent = Recent::default();
        let outcome = table.unmap(address, pages);
        // Flush first, free second.
        self.flush(table, wake);
        if outcome.is_err() {
            room.put_back(before);
            return Err(Error::QuotaExhausted);
        }
        for interval in taken.remove() {
            self.not_mapped(
                &interval.value.memory,
                interval.end.saturating_sub(interval.start),
            );
        }
        Ok(())
    }

    /// Takes a memory out wherever it is mapped.
    pub(super) fn take_out(&self, memory: &Arc<Memory>, wake: &mut dyn FnMut(Wake)) {
        let mut state = self.state.lock();
        let State {
            table,
            regions,
            recent,
            ..
        } = &mut *state;
        *recent = Recent::default();
        let is_of_it = |interval: &&Interval<Region>| Arc::ptr_eq(&interval.value.memory, memory);
        let ranges: Vec<_> = regions
            .iter()
            .filter(is_of_it)
            .map(|interval| (interval.start, interval.end.saturating_sub(interval.start)))
            .collect();
        for (start, pages) in ranges {
            // Whole regions end where entries of the tables end, so this takes no new table.
            let address = GuestPhysical(start << PAGE_SHIFT);
            let outcome = table.unmap(address, pages);
            debug_assert!(outcome.is_ok(), "a whole region takes no table to unmap");
            self.flush(table, wake);
            if let Ok(taken) = regions.taken_range(start, pages) {
                drop(taken.remove());
            }
        }
    }

    /// Does something with the page at an address, if the guest has it with that access. Meanwhile
    /// the space is locked, so nobody can take the page away, and its words must not be kept: behind
    /// the lock another CPU may have given the frame to somebody else.
    #[inline(always)]
    pub fn with_page<R>(
        &self,
        address: GuestPhysical,
        access: Rights,
        act: impl FnOnce(&Words) -> R,
    ) -> Option<R> {
        let mut state = self.state.lock();
        let number = address.0 >> PAGE_SHIFT;
        let page = match *state.recent.place(number)? {
            Some(page) if page.number == number => page,
            _ => self.look_up(&mut state, number)?,
        };
        page.access.contains(access).then(|| act(page.words))
    }

    #[inline(never)]
    fn look_up(&self, state: &mut State, number: u64) -> Option<RecentPage> {
        let address = GuestPhysical(number << PAGE_SHIFT);
        let translation = state.table.translate(address)?;
        let page = RecentPage {
            number,
            access: translation.access,
            words: self.physical.words(translation.frame)?,
        };
        *state.recent.place(number)? = Some(page);
        Some(page)
    }

    /// Takes everything out: its domain is dead. Whoever has a handle to the space may still run
    /// something in it, and must find nothing.
    pub fn clear(&self, wake: &mut dyn FnMut(Wake)) {
        let mut state = self.state.lock();
        let State {
            table,
            regions,
            recent,
            room,
        } = &mut *state;
        *recent = Recent::default();
        table.clear();
        self.flush(table, wake);
        for interval in regions.iter() {
            self.not_mapped(
                &interval.value.memory,
                interval.end.saturating_sub(interval.start),
            );
        }
        regions.clear();
        room.paid = Paid::default();
    }

    /// Has CPUs forget what they have cached if a change has made that wrong. Even a change that has
    /// failed can have: tables may have gone for it. Their frames are free afterwards.
    #[inline]
    fn flush(&self, table: &mut NestedTable, wake: &mut dyn FnMut(Wake)) {
        if let Some(stale) = table.take_stale() {
            self.flushes.fetch_add(1, Ordering::SeqCst);
            wake(Wake::TranslationsChanged(self.id));
            drop(stale);
        }
    }

    /// So many pages of a memory are not mapped here any more.
    fn not_mapped(&self, memory: &Memory, pages: u64) {
        if let Some(lending) = &memory.lending {
            lending.remove(self, pages);
        }
    }

    fn page_range(&self, address: GuestPhysical, length: u64) -> Result<(u64, u64), Error> {
        let end = address.0.checked_add(length).ok_or(Error::BadAddress)?;
        let aligned = address.is_page_aligned() && length.is_multiple_of(PAGE_BYTES);
        if !aligned || length == 0 || end > self.limit {
            return Err(Error::BadAddress);
        }
        Ok((address.0 >> PAGE_SHIFT, length >> PAGE_SHIFT))
    }
}

impl Drop for Space {
    /// What was mapped counts its mappings. Nothing runs in the space: what does has a reference to it.
    fn drop(&mut self) {
        self.clear(&mut |_| ());
    }
}

#[cfg(test)]
mod tests;
