//! Address-space identifiers: which one a vcpu runs with, and when cached translations must go.
//!
//! No emulator shows a missing flush, so the protocol is a pure piece with a model test. Identifiers
//! are given out in ascending order. When they have run out, a new generation begins with a flush
//! of everything, and every vcpu takes a new one before it runs again.

#![forbid(unsafe_code)]

/// What the CPU forgets on the next entry (TLB_CONTROL, AMD APM volume 2, section 15.16.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Flush {
    /// Nothing.
    Nothing = 0,
    /// All translations of all guests.
    Everything = 1,
    /// All translations of this identifier; only where the CPU has the feature.
    ThisAsid = 3,
}

/// The identifiers of one physical CPU.
#[derive(Debug)]
pub struct AsidPool {
    next: u32,
    /// Identifiers that the CPU has, 0 (the hypervisor's own) included.
    count: u32,
    generation: u64,
    flush_by_asid: bool,
}

/// The identifier of one vcpu.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asid {
    number: u32,
    /// The generation in which the number may be used; [`NO_GENERATION`] if not without a flush.
    valid_in: u64,
    /// The generation in which the number was given out.
    given_in: u64,
}

const NO_GENERATION: u64 = 0;

impl Asid {
    /// Asks for a flush before the next run.
    pub fn request_flush(&mut self) {
        self.valid_in = NO_GENERATION;
    }

    /// The number for the control block.
    #[inline]
    pub const fn number(&self) -> u32 {
        self.number
    }
}

impl AsidPool {
    /// The pool of a CPU with `count` identifiers (at least 2, else none is left for guests).
    ///
    /// The first entry flushes everything: whatever ran before may have left translations behind.
    pub const fn new(count: u32, flush_by_asid: bool) -> Self {
        let count = if count < 2 { 2 } else { count };
        AsidPool {
            next: count,
            count,
            generation: NO_GENERATION + 1,
            flush_by_asid,
        }
    }

    /// Makes `asid` fit to run with, and says what must be flushed on entry.
    #[inline]
    pub fn prepare(&mut self, asid: &mut Asid) -> Flush {
        if asid.valid_in == self.generation {
            return Flush::Nothing;
        }
        self.renew(asid)
    }

    #[cold]
    fn renew(&mut self, asid: &mut Asid) -> Flush {
        if asid.given_in == self.generation && self.flush_by_asid {
            asid.valid_in = self.generation;
            return Flush::ThisAsid;
        }
        // A number that was not used in this generation has nothing cached.
        let flush = if self.next >= self.count {
            self.generation = self.generation.wrapping_add(1);
            self.next = 1;
            Flush::Everything
        } else {
            Flush::Nothing
        };
        *asid = Asid {
            number: self.next,
            valid_in: self.generation,
            given_in: self.generation,
        };
        self.next = self.next.saturating_add(1);
        flush
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{HashMap, HashSet};
    use std::vec::Vec;

    /// The CPU as the manual describes it: translations stay under their identifier until flushed.
    #[derive(Default)]
    struct Tlb {
        cached: HashMap<u32, HashSet<(usize, u64)>>,
    }

    impl Tlb {
        fn enter(&mut self, asid: u32, flush: Flush) {
            match flush {
                Flush::Nothing => {}
                Flush::Everything => self.cached.clear(),
                Flush::ThisAsid => {
                    self.cached.remove(&asid);
                }
            }
        }
    }

    proptest! {
        /// Whenever a vcpu runs, its identifier has nothing cached of another vcpu, nor of its own
        /// tables as they were before it asked for a flush.
        #[test]
        fn nothing_stale_is_ever_reachable(
            count in 2u32..6,
            by_asid: bool,
            steps in proptest::collection::vec((0usize..5, any::<bool>()), 0..200),
        ) {
            let mut pool = AsidPool::new(count, by_asid);
            let mut asids = [Asid::default(); 5];
            let mut version = [0u64; 5];
            let mut tlb = Tlb::default();
            for (vcpu, tables_change) in steps {
                if tables_change {
                    version[vcpu] += 1;
                    asids[vcpu].request_flush();
                    continue;
                }
                let flush = pool.prepare(&mut asids[vcpu]);
                let number = asids[vcpu].number();
                prop_assert!((1..count).contains(&number));
                tlb.enter(number, flush);
                let cached = tlb.cached.entry(number).or_default();
                let stale: Vec<_> = cached.iter().filter(|entry| **entry != (vcpu, version[vcpu])).collect();
                prop_assert!(stale.is_empty(), "vcpu {vcpu} can reach {stale:?}");
                cached.insert((vcpu, version[vcpu]));
            }
        }
    }

    #[test]
    fn running_again_costs_no_flush() {
        let mut pool = AsidPool::new(16, false);
        let mut asid = Asid::default();
        assert_eq!(pool.prepare(&mut asid), Flush::Everything, "the first");
        let number = asid.number();
        assert_eq!(pool.prepare(&mut asid), Flush::Nothing);
        assert_eq!(asid.number(), number);
    }

    #[test]
    fn a_requested_flush_stays_with_its_identifier_where_the_cpu_can() {
        let mut pool = AsidPool::new(16, true);
        let mut asid = Asid::default();
        pool.prepare(&mut asid);
        asid.request_flush();
        assert_eq!(pool.prepare(&mut asid), Flush::ThisAsid);
        assert_eq!(pool.prepare(&mut asid), Flush::Nothing);
    }
}
