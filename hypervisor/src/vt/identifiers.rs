//! Identifiers of translations: ASIDs on SVM, VPIDs on VT-x. Which one a vcpu runs with, and when
//! cached translations must go.
//!
//! No emulator shows a missing flush, so the protocol is a pure piece with a model test. Identifiers
//! are given out in ascending order. When they have run out, a new generation begins with a flush
//! of everything, and every vcpu takes a new one before it runs again. What the CPU is told for
//! each [`Flush`] is the vendor's affair.

#![forbid(unsafe_code)]

/// What must be forgotten before the next entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// Nothing.
    Nothing,
    /// Nothing that was found under the vcpu's identifier, which is a new one. What a CPU keeps
    /// under the root of the nested tables must go: the root's frame may have been another's.
    NewIdentifier,
    /// All that the vcpu has had cached.
    ThisVcpu,
    /// Everything of all guests.
    Everything,
}

/// The identifiers of one physical CPU.
#[derive(Debug)]
pub struct IdentifierPool {
    next: u32,
    /// What a generation begins with: 1, since 0 is the hypervisor's own, or 0 if there is no other.
    first: u32,
    /// Identifiers that the CPU has, 0 included.
    count: u32,
    generation: u64,
    can_flush_one: bool,
}

/// The identifier of one vcpu.
#[derive(Clone, Copy, Debug, Default)]
pub struct Identifier {
    number: u32,
    /// The generation in which the number may be used; [`NO_GENERATION`] if not without a flush.
    valid_in: u64,
    /// The generation in which the number was given out.
    given_in: u64,
}

const NO_GENERATION: u64 = 0;

impl Identifier {
    /// Asks for a flush before the next run.
    pub fn request_flush(&mut self) {
        self.valid_in = NO_GENERATION;
    }

    /// Whether a flush was asked for since this was last asked.
    #[cfg(test)]
    pub fn take_request(&mut self) -> bool {
        let is_requested = self.valid_in == NO_GENERATION;
        self.valid_in = NO_GENERATION + 1;
        is_requested
    }

    /// The number for the control block.
    pub const fn number(&self) -> u32 {
        self.number
    }
}

impl IdentifierPool {
    /// The pool of a CPU with `count` identifiers, 0 (the hypervisor's own) included. With a count
    /// of 1 all vcpus have the number 0, and entries and exits must forget what is cached under it.
    /// `can_flush_one`: what one vcpu has cached can be flushed alone; else it gets a new number.
    ///
    /// The first entry flushes everything: whatever ran before may have left translations behind.
    pub const fn new(count: u32, can_flush_one: bool) -> Self {
        IdentifierPool {
            next: count,
            first: if count > 1 { 1 } else { 0 },
            count,
            generation: NO_GENERATION + 1,
            can_flush_one,
        }
    }

    /// Makes `identifier` fit to run with, and says what must be flushed before the entry.
    pub fn prepare(&mut self, identifier: &mut Identifier) -> Flush {
        if identifier.valid_in == self.generation {
            return Flush::Nothing;
        }
        if identifier.given_in == self.generation && self.can_flush_one {
            identifier.valid_in = self.generation;
            return Flush::ThisVcpu;
        }
        let flush = if self.next >= self.count {
            self.generation = self.generation.wrapping_add(1);
            self.next = self.first;
            Flush::Everything
        } else {
            Flush::NewIdentifier
        };
        *identifier = Identifier {
            number: self.next,
            valid_in: self.generation,
            given_in: self.generation,
        };
        self.next = self.next.saturating_add(self.first);
        flush
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;
    use std::vec::Vec;

    /// A translation that the CPU has cached for a vcpu's tables as they were at some time. Each
    /// place has one root of nested tables; vcpus follow each other there.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    struct Cached {
        place: usize,
        number: u32,
        version: u64,
    }

    /// The CPU as the manuals describe it.
    struct Cpu {
        cached: HashSet<Cached>,
        /// VT-x (SDM vol. 3, 28.3.2): what comes from the nested tables alone is cached under their
        /// root, all else under identifier and root, and INVEPT flushes a root. SVM (APM vol. 2,
        /// 15.16.1): all is cached under the identifier, and a flush goes by the identifier.
        goes_by_root: bool,
    }

    impl Cpu {
        fn flush(&mut self, flush: Flush, place: usize, number: u32) {
            match flush {
                Flush::Nothing => {}
                Flush::NewIdentifier | Flush::ThisVcpu if self.goes_by_root => {
                    self.cached.retain(|entry| entry.place != place);
                }
                Flush::NewIdentifier => {}
                Flush::ThisVcpu => self.cached.retain(|entry| entry.number != number),
                Flush::Everything => self.cached.clear(),
            }
        }

        /// What an entry with this root and identifier could use.
        fn reachable(&self, place: usize, number: u32) -> Vec<Cached> {
            let by_root = |entry: &&Cached| entry.place == place;
            // Number 0 is forgotten at every entry and exit, so only roots lead to anything.
            let by_number = |entry: &&Cached| entry.number == number && number != 0;
            let is_reachable =
                |entry: &&Cached| by_number(entry) || self.goes_by_root && by_root(entry);
            self.cached.iter().filter(is_reachable).copied().collect()
        }
    }

    proptest! {
        /// Whenever a vcpu runs, nothing can be reached that is another vcpu's, nor of its own
        /// tables as they were before it asked for a flush.
        #[test]
        fn nothing_stale_is_ever_reachable(
            goes_by_root: bool,
            by_one: bool,
            count in 1u32..6,
            steps in proptest::collection::vec((0usize..5, 0u8..4), 0..200),
        ) {
            // SVM has at least 2 identifiers and may lack the flush of one; VT-x always has INVEPT.
            let count = if goes_by_root { count } else { count + 1 };
            let mut pool = IdentifierPool::new(count, by_one || goes_by_root);
            let mut identifiers = [Identifier::default(); 5];
            let mut versions = [0u64; 5];
            let mut cpu = Cpu { cached: HashSet::new(), goes_by_root };
            for (place, action) in steps {
                let identifier = &mut identifiers[place];
                match action {
                    0 => {
                        versions[place] += 1;
                        identifier.request_flush();
                    }
                    1 => {
                        // Another vcpu with the same root.
                        versions[place] += 1;
                        *identifier = Identifier::default();
                    }
                    _ => {
                        let flush = pool.prepare(identifier);
                        let number = identifier.number();
                        prop_assert!(number < count && (number != 0 || count == 1));
                        cpu.flush(flush, place, number);
                        let now = Cached { place, number, version: versions[place] };
                        for entry in cpu.reachable(place, number) {
                            // A new number of the same vcpu may reach what it cached under its old.
                            let is_its = entry.place == place && entry.version == now.version;
                            prop_assert!(is_its, "{now:?} can reach {entry:?}");
                        }
                        cpu.cached.insert(now);
                    }
                }
            }
        }
    }

    #[test]
    fn running_again_costs_no_flush() {
        for count in [1, 16] {
            let mut pool = IdentifierPool::new(count, true);
            let mut identifier = Identifier::default();
            assert_eq!(pool.prepare(&mut identifier), Flush::Everything, "first");
            let number = identifier.number();
            assert_eq!(pool.prepare(&mut identifier), Flush::Nothing);
            identifier.request_flush();
            assert_eq!(pool.prepare(&mut identifier), Flush::ThisVcpu);
            assert_eq!(pool.prepare(&mut identifier), Flush::Nothing);
            assert_eq!(identifier.number(), number);
        }
    }

    #[test]
    fn only_the_last_number_makes_everybody_pay() {
        for (count, can_flush_one) in [(3, false), (3, true), (1, true)] {
            let mut pool = IdentifierPool::new(count, can_flush_one);
            let flushes = [Flush::Nothing; 4].map(|_| pool.prepare(&mut Identifier::default()));
            let expected = if count == 1 {
                [
                    Flush::Everything,
                    Flush::NewIdentifier,
                    Flush::NewIdentifier,
                    Flush::NewIdentifier,
                ]
            } else {
                [
                    Flush::Everything,
                    Flush::NewIdentifier,
                    Flush::Everything,
                    Flush::NewIdentifier,
                ]
            };
            assert_eq!(flushes, expected);
        }
    }

    #[test]
    fn a_cpu_that_cannot_flush_one_gives_another_number() {
        let mut pool = IdentifierPool::new(16, false);
        let mut identifier = Identifier::default();
        pool.prepare(&mut identifier);
        let number = identifier.number();
        identifier.request_flush();
        assert_eq!(pool.prepare(&mut identifier), Flush::NewIdentifier);
        assert_ne!(identifier.number(), number);
    }
}
