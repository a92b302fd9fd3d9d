//! The vcpus of one domain: which there are, and who has each of them.
//!
//! A vcpu's object is in one place: here while it does not run, and with the loop that has it from
//! [`Vcpus::take`] on. What the loop has taken it gives back, to run again or, once the domain ends, for
//! good. So the domain knows when none of its vcpus can run any more.

use alloc::sync::Arc;
use alloc::vec::Vec;

use nuncio_abi::{Error, RunState, MAX_VCPUS};

use crate::sched::VcpuId;

use super::{Monitor, Sleeper, Vcpu};

/// The number of a vcpu among those of its domain, from 0 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VcpuNumber(pub u8);

impl VcpuNumber {
    /// The vcpu with which a domain from a plan begins.
    pub const FIRST: VcpuNumber = VcpuNumber(0);
}

/// The vcpus of one domain.
#[derive(Default)]
pub(super) struct Vcpus {
    seats: Vec<Seat>,
    /// How many the loops have.
    taken: usize,
    has_ended: bool,
    is_closed: bool,
    /// Vcpus of other domains that wait until this one is closed.
    waiting: Vec<(VcpuId, Arc<Sleeper>)>,
}

struct Seat {
    id: VcpuId,
    monitor: Option<Arc<Monitor>>,
    /// `None` while a loop has it.
    vcpu: Option<Vcpu>,
}

impl Vcpus {
    /// Whether another one can be added.
    pub fn have_room(&self) -> bool {
        !self.has_ended && self.seats.len() < MAX_VCPUS
    }

    /// Adds a vcpu, which does not run, as its page says from now on.
    pub fn add(&mut self, vcpu: Vcpu) -> VcpuNumber {
        vcpu.page().set_run_state(RunState::Stopped);
        let number = VcpuNumber(u8::try_from(self.seats.len()).unwrap_or(u8::MAX));
        self.seats.push(Seat {
            id: vcpu.id(),
            monitor: vcpu.monitor().cloned(),
            vcpu: Some(vcpu),
        });
        number
    }

    /// Takes a vcpu, to have it run.
    ///
    /// # Errors
    /// `PeerGone` if the domain has ended; `WrongState` if it runs already.
    pub fn take(&mut self, number: VcpuNumber) -> Result<Vcpu, Error> {
        if self.has_ended {
            return Err(Error::PeerGone);
        }
        let seat = self.seat_mut(number).ok_or(Error::WrongState)?;
        let vcpu = seat.vcpu.take().ok_or(Error::WrongState)?;
        self.taken = self.taken.saturating_add(1);
        Ok(vcpu)
    }

    /// Gives back a vcpu that does not run any more. Whether it was the last that ran of a domain that
    /// has ended.
    pub fn give_back(&mut self, vcpu: Vcpu) -> bool {
        let id = vcpu.id();
        if let Some(seat) = self.seats.iter_mut().find(|seat| seat.id == id) {
            seat.vcpu = Some(vcpu);
            self.taken = self.taken.saturating_sub(1);
        }
        self.has_ended && self.taken == 0
    }

    /// From here on none can be added or taken. Whether all are here.
    pub fn end(&mut self) -> bool {
        self.has_ended = true;
        self.taken == 0
    }

    /// The numbers of those that loops have.
    pub fn taken(&self) -> Vec<VcpuId> {
        let taken = self.seats.iter().filter(|seat| seat.vcpu.is_none());
        taken.map(|seat| seat.id).collect()
    }

    /// The numbers of all.
    pub fn ids(&self) -> Vec<VcpuId> {
        self.seats.iter().map(|seat| seat.id).collect()
    }

    /// The number by which the loops know the vcpu, and whether one of them has it.
    pub fn place(&self, number: VcpuNumber) -> Option<(VcpuId, bool)> {
        let seat = self.seats.get(usize::from(number.0))?;
        Some((seat.id, seat.vcpu.is_none()))
    }

    /// Who is told of the vcpu's exits.
    pub fn monitor(&self, number: VcpuNumber) -> Option<Arc<Monitor>> {
        self.seats.get(usize::from(number.0))?.monitor.clone()
    }

    /// Takes all that are left, for dropping them where nothing is locked.
    pub fn drain(&mut self) -> Vec<(Option<Vcpu>, Option<Arc<Monitor>>)> {
        let seats = core::mem::take(&mut self.seats);
        let both = seats.into_iter().map(|seat| (seat.vcpu, seat.monitor));
        both.collect()
    }

    /// Has a vcpu wait until the domain is closed; false if it is.
    pub fn await_close(&mut self, vcpu: VcpuId, sleeper: &Arc<Sleeper>) -> bool {
        if !self.is_closed {
            self.waiting.push((vcpu, sleeper.clone()));
        }
        !self.is_closed
    }

    /// The domain is closed. Returns who has waited for that.
    pub fn close(&mut self) -> Vec<(VcpuId, Arc<Sleeper>)> {
        self.is_closed = true;
        core::mem::take(&mut self.waiting)
    }

    fn seat_mut(&mut self, number: VcpuNumber) -> Option<&mut Seat> {
        self.seats.get_mut(usize::from(number.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::arena::Arena;
    use crate::mem::Account;
    use crate::object::Memory;

    fn vcpus<const N: usize>() -> Vcpus {
        let arena = Arena::leak(4, 4);
        let account = Account::new(arena.pool(), 4);
        let memory = Arc::new(Memory::allocate(&account, 1).unwrap());
        let mut vcpus = Vcpus::default();
        for number in 0..N {
            let vcpu = Vcpu::new(VcpuId(40 + number as u32), memory.clone(), arena).unwrap();
            assert_eq!(vcpus.add(vcpu), VcpuNumber(number as u8));
        }
        vcpus
    }

    #[test]
    fn a_vcpu_runs_once_at_a_time() {
        let mut vcpus = vcpus::<2>();
        let second = vcpus.take(VcpuNumber(1)).unwrap();
        assert_eq!(second.id(), VcpuId(41));
        assert_eq!(vcpus.take(VcpuNumber(1)).err(), Some(Error::WrongState));
        assert_eq!(vcpus.take(VcpuNumber(2)).err(), Some(Error::WrongState));
        assert_eq!(vcpus.place(VcpuNumber(1)), Some((VcpuId(41), true)));
        assert!(!vcpus.give_back(second), "the domain lives");
        assert!(vcpus.take(VcpuNumber(1)).is_ok());
    }

    #[test]
    fn the_last_that_comes_back_is_the_end() {
        let mut vcpus = vcpus::<3>();
        let taken = [0, 2].map(|number| vcpus.take(VcpuNumber(number)).unwrap());
        assert!(!vcpus.end());
        assert_eq!(vcpus.taken(), [VcpuId(40), VcpuId(42)]);
        assert_eq!(vcpus.take(VcpuNumber(1)).err(), Some(Error::PeerGone));
        assert!(!vcpus.have_room());
        let last = taken.map(|vcpu| vcpus.give_back(vcpu));
        assert_eq!(last, [false, true]);
        assert_eq!(vcpus.drain().len(), 3);
    }

    #[test]
    fn without_vcpus_that_run_the_end_comes_at_once() {
        assert!(vcpus::<2>().end());
        assert!(Vcpus::default().end());
    }

    #[test]
    fn there_are_so_many_and_no_more() {
        let vcpus = vcpus::<MAX_VCPUS>();
        assert!(!vcpus.have_room());
        assert_eq!(vcpus.ids().len(), MAX_VCPUS);
    }
}
