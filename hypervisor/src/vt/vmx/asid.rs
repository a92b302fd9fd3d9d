//! Virtual-processor identifiers (VPIDs): which one a vcpu runs with, and when cached translations
//! must go.
//!
//! No emulator shows a missing flush, so the protocol is a pure piece with a model test. What the
//! CPU caches of the nested tables carries the tables' root, and what it caches of the guest's own
//! tables carries identifier and root (Intel SDM vol. 3, 28.3.2). Roots are frames, which are used
//! again, so whatever runs for the first time flushes its root. Identifiers are given out in
//! ascending order; when they have run out, everything goes, and all take new ones.

#![forbid(unsafe_code)]

/// What the CPU is told to forget before the next entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// Nothing.
    Nothing,
    /// Everything that was found through the vcpu's nested tables.
    ThisRoot,
    /// Everything of all guests.
    Everything,
}

/// The identifiers of one physical CPU.
#[derive(Debug)]
pub struct VpidPool {
    next: u32,
    /// Identifiers that the CPU has, 0 (the hypervisor's own) included; 1 if it has no others.
    count: u32,
    generation: u64,
}

/// The identifier of one vcpu.
#[derive(Clone, Copy, Debug, Default)]
pub struct Vpid {
    number: u16,
    must_flush: bool,
    /// The generation in which the number may be used.
    given_in: u64,
}

impl Vpid {
    /// Asks for a flush before the next run.
    pub fn request_flush(&mut self) {
        self.must_flush = true;
    }

    /// The number for the control structure.
    pub const fn number(&self) -> u16 {
        self.number
    }
}

impl VpidPool {
    /// The pool of a CPU with `count` identifiers.
    ///
    /// The first entry flushes everything: whatever ran before may have left translations behind.
    pub const fn new(count: u32) -> Self {
        VpidPool {
            next: count,
            count,
            generation: 0,
        }
    }

    /// Makes `vpid` fit to run with, and says what must be flushed before the entry.
    pub fn prepare(&mut self, vpid: &mut Vpid) -> Flush {
        let must_flush = core::mem::take(&mut vpid.must_flush);
        let is_current = vpid.given_in == self.generation && self.generation != 0;
        if is_current && !must_flush {
            return Flush::Nothing;
        }
        if is_current {
            return Flush::ThisRoot;
        }
        let is_first = self.generation == 0;
        // Without identifiers every entry and exit forgets the guest's own tables (28.3.3.1).
        let has_run_out = self.count > 1 && self.next >= self.count;
        if is_first || has_run_out {
            self.generation = self.generation.wrapping_add(1);
            self.next = 1;
        }
        vpid.given_in = self.generation;
        if self.count > 1 {
            vpid.number = self.next as u16;
            self.next = self.next.saturating_add(1);
        }
        if is_first || has_run_out {
            Flush::Everything
        } else {
            Flush::ThisRoot
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    proptest! {
        /// Whenever a vcpu runs, nothing is cached under its root or its identifier of another
        /// vcpu, nor of its own tables as they were before it asked for a flush. Roots are used
        /// again by vcpus that follow each other in one place.
        #[test]
        fn nothing_stale_is_ever_reachable(
            count in 1u32..6,
            steps in proptest::collection::vec((0usize..5, 0u8..4), 0..200),
        ) {
            let mut pool = VpidPool::new(count);
            let mut vpids = [Vpid::default(); 5];
            let mut version = [0u64; 5];
            // What is cached: root, identifier, version of the tables.
            let mut cached: HashSet<(usize, u16, u64)> = HashSet::new();
            for (vcpu, action) in steps {
                match action {
                    0 => {
                        version[vcpu] += 1;
                        vpids[vcpu].request_flush();
                    }
                    1 => {
                        // Another vcpu with the same root.
                        version[vcpu] += 1;
                        vpids[vcpu] = Vpid::default();
                    }
                    _ => {
                        let flush = pool.prepare(&mut vpids[vcpu]);
                        let number = vpids[vcpu].number();
                        prop_assert!(u32::from(number) < count && (number != 0 || count == 1));
                        match flush {
                            Flush::Nothing => {}
                            Flush::ThisRoot => cached.retain(|entry| entry.0 != vcpu),
                            Flush::Everything => cached.clear(),
                        }
                        for (root, identifier, of) in &cached {
                            prop_assert!(*root != vcpu || *of == version[vcpu]);
                            prop_assert!(count == 1 || *identifier != number || *root == vcpu);
                        }
                        cached.insert((vcpu, number, version[vcpu]));
                    }
                }
            }
        }
    }

    #[test]
    fn running_again_costs_no_flush() {
        let mut pool = VpidPool::new(1 << 16);
        let mut vpid = Vpid::default();
        assert_eq!(pool.prepare(&mut vpid), Flush::Everything, "the first");
        assert_eq!(pool.prepare(&mut vpid), Flush::Nothing);
        vpid.request_flush();
        assert_eq!(pool.prepare(&mut vpid), Flush::ThisRoot);
        assert_eq!(pool.prepare(&mut vpid), Flush::Nothing);
        assert_eq!(vpid.number(), 1);
    }
}
