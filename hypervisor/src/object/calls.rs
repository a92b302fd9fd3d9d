//! The calls that a port has taken in and not answered.

use alloc::sync::Arc;
use alloc::vec::Vec;

use nuncio_abi::CallToken;

use crate::sched::VcpuId;

use super::Sleeper;

/// Who waits for the answer to a call.
#[derive(Clone)]
pub struct CallingVcpu {
    /// The vcpu to wake.
    pub vcpu: VcpuId,
    /// Where its answer goes.
    pub sleeper: Arc<Sleeper>,
}

/// A bounded table of callers, each found by a token that is good for one call only.
pub(super) struct Calls {
    places: Vec<Place>,
    free: Vec<u16>,
}

struct Place {
    generation: u16,
    caller: Option<CallingVcpu>,
}

/// Bytes of the table for each call that it can hold.
pub(super) const BYTES_PER_CALL: usize = size_of::<Place>() + size_of::<u16>();

impl Calls {
    /// A table for so many calls. All its memory is taken now.
    pub(super) fn new(capacity: usize) -> Self {
        let capacity = capacity.min(usize::from(u16::MAX));
        let place = |_| Place {
            generation: 1,
            caller: None,
        };
        Calls {
            places: (0..capacity).map(place).collect(),
            free: (0..capacity as u16).rev().collect(),
        }
    }

    /// Whether another caller could be taken in.
    pub(super) fn has_room(&self) -> bool {
        !self.free.is_empty()
    }

    /// The token that [`Calls::insert`] gives next; `None` if the table is full.
    #[inline(always)]
    pub(super) fn next(&self) -> Option<CallToken> {
        let index = *self.free.last()?;
        let place = self.places.get(usize::from(index))?;
        Some(CallToken::new(index, place.generation))
    }

    /// Takes a caller in; `None` if the table is full.
    #[inline(always)]
    pub(super) fn insert(&mut self, caller: CallingVcpu) -> Option<CallToken> {
        let index = self.free.pop()?;
        let place = self.places.get_mut(usize::from(index))?;
        place.caller = Some(caller);
        Some(CallToken::new(index, place.generation))
    }

    /// Who waits for the answer to this call.
    #[inline]
    pub(super) fn get(&self, token: CallToken) -> Option<&CallingVcpu> {
        let place = self.places.get(usize::from(token.index()))?;
        let caller = place.caller.as_ref()?;
        (place.generation == token.generation()).then_some(caller)
    }

    /// Takes a caller out; the token names nothing any more.
    #[inline(always)]
    pub(super) fn remove(&mut self, token: CallToken) -> Option<CallingVcpu> {
        self.get(token)?;
        let place = self.places.get_mut(usize::from(token.index()))?;
        let caller = place.caller.take();
        // 0 is no generation. A token that is 65,535 calls old could name another caller, but only
        // to the receiver that let it grow so old.
        place.generation = place.generation.checked_add(1).unwrap_or(1);
        self.free.push(token.index());
        caller
    }

    /// Takes all callers out.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = CallingVcpu> {
        self.free.clear();
        core::mem::take(&mut self.places)
            .into_iter()
            .filter_map(|place| place.caller)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(number: u32) -> CallingVcpu {
        CallingVcpu {
            vcpu: VcpuId(number),
            sleeper: Default::default(),
        }
    }

    #[test]
    fn a_token_is_good_for_one_call() {
        let mut calls = Calls::new(1);
        let first = calls.insert(caller(1)).unwrap();
        assert!(calls.insert(caller(2)).is_none());
        assert_eq!(
            calls.remove(first).map(|caller| caller.vcpu),
            Some(VcpuId(1))
        );
        assert!(calls.get(first).is_none());
        let second = calls.insert(caller(2)).unwrap();
        assert_ne!(first, second);
        assert!(calls.remove(first).is_none());
        assert_eq!(calls.get(second).map(|caller| caller.vcpu), Some(VcpuId(2)));
        for token in [CallToken::new(1, 1), CallToken::new(0, 0)] {
            assert!(calls.get(token).is_none());
        }
    }

    #[test]
    fn generations_come_round_without_zero() {
        let mut calls = Calls::new(1);
        for _ in 0..=u32::from(u16::MAX) {
            let token = calls.insert(caller(0)).unwrap();
            assert_ne!(token.generation(), 0);
            assert!(calls.remove(token).is_some());
        }
    }
}
