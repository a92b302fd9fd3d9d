//! Address spaces: which memory a guest finds at which guest-physical address.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use nuncio_abi::{Error, Rights, MAP_LIMIT_BYTES};
use spin::Mutex;

use crate::mem::{
    Account, Frame, GuestPhysical, Interval, IntervalMap, KernelCharge, OutOfFrames,
    PhysicalMemory, Piece, Words, PAGE_BYTES, PAGE_SHIFT,
};
use crate::nested::{EntryFormat, NestedTable};

use super::Memory;

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
    state: Mutex<State>,
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
    ) -> Result<(), Error> {
        if mapping.length > MAP_LIMIT_BYTES {
            return Err(Error::BadAddress);
        }
        self.map(memory, mapping)
    }

    /// Puts memory into the space.
    ///
    /// # Errors
    /// `BadAddress` for a range that is empty, misaligned, or leaves the space or the memory;
    /// `AlreadyMapped`; `QuotaExhausted` when page tables or bookkeeping cannot be paid;
    /// `PeerGone` if the memory was taken back. The space is then as it was.
    pub fn map(self: &Arc<Self>, memory: &Arc<Memory>, mapping: &Mapping) -> Result<(), Error> {
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
        self.announce_stale(table);
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

    /// Takes memory out of the space.
    ///
    /// # Errors
    /// `BadAddress` for a range that is empty, misaligned, too long or outside the space;
    /// `NotMapped` if part of it has no memory; `QuotaExhausted` when splitting a large page
    /// cannot be paid. The space is then as it was.
    pub fn unmap(&self, address: GuestPhysical, length: u64) -> Result<(), Error> {
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
        // Flush first, free second: whoever sees the frames free also sees the new number.
        self.announce_stale(table);
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
    pub(super) fn take_out(&self, memory: &Arc<Memory>) {
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
            self.announce_stale(table);
            if let Ok(taken) = regions.taken_range(start, pages) {
                drop(taken.remove());
            }
        }
    }

    /// The words of the page at an address, if the guest has it with that access.
    #[inline]
    pub fn words(&self, address: GuestPhysical, access: Rights) -> Option<&'static Words> {
        let mut state = self.state.lock();
        let number = address.0 >> PAGE_SHIFT;
        let page = match *state.recent.place(number)? {
            Some(page) if page.number == number => page,
            _ => self.look_up(&mut state, number)?,
        };
        page.access.contains(access).then_some(page.words)
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

    /// Takes everything out: the domain is dead. Whoever holds a handle can map into the space again and
    /// run vcpus in it, so nothing of what was there may be left in its tables.
    pub fn clear(&self) {
        let mut state = self.state.lock();
        state.recent = Recent::default();
        let unlinked = state.table.clear();
        // Flush first, free second, as in `unmap`.
        self.announce_stale(&mut state.table);
        drop(unlinked);
        for interval in state.regions.iter() {
            self.not_mapped(
                &interval.value.memory,
                interval.end.saturating_sub(interval.start),
            );
        }
        state.regions.clear();
        state.room.paid = Paid::default();
    }

    /// Has the CPU forget what it has cached if a change has made that wrong. Even a change that
    /// has failed can have: tables may have been given back for it.
    fn announce_stale(&self, table: &mut NestedTable) {
        if table.take_stale() {
            self.flushes.fetch_add(1, Ordering::AcqRel);
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
    /// What was mapped counts its mappings.
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::arena::Arena;
    use crate::nested::NPT;

    struct Fixture {
        space: Arc<Space>,
        memory: Arc<Memory>,
        account: Arc<Account>,
    }

    fn fixture(quota: u64) -> Fixture {
        let arena = Arena::leak(64, 64);
        let account = Account::new(arena.pool(), quota);
        let memory = Arc::new(Memory::allocate(&account, 8).unwrap());
        let space = Arc::new(Space::new(&account, arena, &NPT, 1 << 39).unwrap());
        Fixture {
            space,
            memory,
            account,
        }
    }

    fn mapping(address: u64, offset: u64, length: u64) -> Mapping {
        Mapping {
            address: GuestPhysical(address),
            offset,
            length,
            access: Rights::READ,
        }
    }

    #[test]
    fn what_is_mapped_is_found_and_what_is_not_is_not() {
        let fixture = fixture(64);
        let Fixture { space, memory, .. } = &fixture;
        space
            .map(memory, &mapping(0x10_0000, 0x2000, 0x3000))
            .unwrap();
        assert!(space
            .words(GuestPhysical(0x10_2FFF), Rights::READ)
            .is_some());
        assert!(space
            .words(GuestPhysical(0x10_3000), Rights::READ)
            .is_none());
        assert!(space
            .words(GuestPhysical(0x10_0000), Rights::WRITE)
            .is_none());
        assert_eq!(space.mapped_bytes(), 0x3000);
    }

    #[test]
    fn a_page_that_was_found_before_is_looked_up_again_after_a_change() {
        let fixture = fixture(64);
        let Fixture { space, memory, .. } = &fixture;
        let address = GuestPhysical(0x10_0000);
        let first = |access| space.words(address, access).map(|words| words.as_ptr());
        space.map(memory, &mapping(address.0, 0, 0x1000)).unwrap();
        let before = first(Rights::READ).unwrap();
        assert_eq!(first(Rights::READ), Some(before));
        assert_eq!(first(Rights::WRITE), None);
        space.unmap(address, 0x1000).unwrap();
        assert_eq!(first(Rights::READ), None);
        space
            .map(memory, &mapping(address.0, 0x3000, 0x1000))
            .unwrap();
        assert!(first(Rights::READ).is_some_and(|words| words != before));
        space.clear();
        assert_eq!(first(Rights::READ), None);
    }

    #[test]
    fn nothing_is_left_in_a_space_that_was_cleared_and_it_can_be_mapped_again() {
        let fixture = fixture(64);
        let Fixture { space, memory, .. } = &fixture;
        let (used, flushes) = (fixture.account.used(), space.flushes());
        for address in [0, 1 << 30, 1 << 38] {
            space.map(memory, &mapping(address, 0, 0x8000)).unwrap();
        }
        space.clear();
        assert_eq!(fixture.account.used(), used, "its root alone");
        assert!(space.flushes() > flushes);
        let translation = |address| space.state.lock().table.translate(GuestPhysical(address));
        assert_eq!([0, 1 << 30, 1 << 38].map(translation), [None; 3]);
        space.map(memory, &mapping(0, 0x1000, 0x1000)).unwrap();
        let found = translation(0).map(|translation| translation.frame);
        assert_eq!(found, memory.frame(1));
        assert_eq!((space.mapped_bytes(), translation(0x1000)), (0x1000, None));
    }

    #[test]
    fn bad_ranges_are_refused() {
        let fixture = fixture(64);
        let Fixture { space, memory, .. } = &fixture;
        let bad = [
            mapping(0x10_0001, 0, 0x1000),
            mapping(0x10_0000, 1, 0x1000),
            mapping(0x10_0000, 0, 0),
            mapping(0x10_0000, 0, 0x1001),
            mapping(0x10_0000, 0x8000, 0x1000),
            mapping(0x10_0000, 0x7000, 0x2000),
            mapping(1 << 39, 0, 0x1000),
            mapping((1 << 39) - 0x1000, 0, 0x2000),
            mapping(u64::MAX - 0xFFF, 0, 0x1000),
        ];
        for mapping in bad {
            assert_eq!(
                space.map(memory, &mapping),
                Err(Error::BadAddress),
                "{mapping:?}"
            );
        }
        assert_eq!(space.mapped_bytes(), 0);
    }

    #[test]
    fn overlaps_and_holes_are_refused_without_effect() {
        let fixture = fixture(64);
        let Fixture { space, memory, .. } = &fixture;
        space.map(memory, &mapping(0x10_0000, 0, 0x2000)).unwrap();
        let overlap = space.map(memory, &mapping(0x10_1000, 0, 0x2000));
        assert_eq!(overlap, Err(Error::AlreadyMapped));
        let hole = space.unmap(GuestPhysical(0x10_1000), 0x2000);
        assert_eq!(hole, Err(Error::NotMapped));
        assert_eq!(space.mapped_bytes(), 0x2000);
        assert_eq!(space.flushes(), 0);
    }

    #[test]
    fn unmapping_asks_for_a_flush_and_frees_the_memory_with_its_last_user() {
        let fixture = fixture(64);
        fixture
            .space
            .map(&fixture.memory, &mapping(0, 0, 0x8000))
            .unwrap();
        let used = fixture.account.used();
        drop(fixture.memory);
        assert_eq!(fixture.account.used(), used, "still mapped");
        fixture.space.unmap(GuestPhysical(0), 0x8000).unwrap();
        assert_eq!(fixture.space.flushes(), 1);
        assert_eq!(fixture.account.used(), used - 8);
    }

    #[test]
    fn empty_tables_are_used_again_or_pay_for_others_after_a_flush() {
        let fixture = fixture(12);
        let Fixture { space, memory, .. } = &fixture;
        space.map(memory, &mapping(0, 0, 0x1000)).unwrap();
        space.unmap(GuestPhysical(0), 0x1000).unwrap();
        space.map(memory, &mapping(0x1000, 0, 0x1000)).unwrap();
        space.unmap(GuestPhysical(0x1000), 0x1000).unwrap();
        assert_eq!((fixture.account.used(), space.flushes()), (12, 2));
        space.map(memory, &mapping(1 << 38, 0, 0x1000)).unwrap();
        assert_eq!((fixture.account.used(), space.flushes()), (12, 3));
        let refused = space.map(memory, &mapping(0, 0, 0x1000));
        assert_eq!(refused, Err(Error::QuotaExhausted));
        assert_eq!(space.flushes(), 3, "there was no empty table");
    }

    #[test]
    fn a_refused_map_that_gave_tables_back_asks_for_a_flush() {
        let fixture = fixture(12);
        let Fixture { space, memory, .. } = &fixture;
        space.map(memory, &mapping(0, 0, 0x1000)).unwrap();
        space.unmap(GuestPhysical(0), 0x1000).unwrap();
        let used = fixture.account.used();
        let refused = space.map(memory, &mapping((1 << 38) - 0x1000, 0, 0x2000));
        assert_eq!(refused, Err(Error::QuotaExhausted));
        assert!(fixture.account.used() < used);
        assert_eq!((space.flushes(), space.mapped_bytes()), (2, 0));
    }

    #[test]
    fn without_quota_for_tables_nothing_changes() {
        let fixture = fixture(9);
        let used = fixture.account.used();
        let refused = fixture.space.map(&fixture.memory, &mapping(0, 0, 0x1000));
        assert_eq!(refused, Err(Error::QuotaExhausted));
        assert_eq!(
            (fixture.account.used(), fixture.space.mapped_bytes()),
            (used, 0)
        );
    }

    #[test]
    fn the_number_of_regions_is_bounded() {
        let fixture = fixture(64);
        let Fixture { space, memory, .. } = &fixture;
        for index in 0..MAX_REGIONS as u64 {
            space
                .map(memory, &mapping(index * 0x2000, 0, 0x1000))
                .unwrap();
        }
        let one_more = space.map(memory, &mapping(1 << 30, 0, 0x1000));
        assert_eq!(one_more, Err(Error::QuotaExhausted));
    }
}
