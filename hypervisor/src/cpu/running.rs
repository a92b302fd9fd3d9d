//! The CPUs that run, by their numbers: 0 is the boot CPU, and no number is left out.

#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicU32, Ordering};

use super::per_cpu::MAX_CPUS;

/// The CPUs of the machine.
pub(super) static RUNNING: Running = Running::new();

/// How many CPUs run.
pub fn count() -> usize {
    RUNNING.count()
}

/// Numbers and local APICs of running CPUs. The boot CPU alone adds to it.
pub(super) struct Running {
    count: AtomicU32,
    apic_ids: [AtomicU32; MAX_CPUS],
}

impl Running {
    /// One CPU runs: the one that asks.
    const fn new() -> Self {
        Running {
            count: AtomicU32::new(1),
            apic_ids: [const { AtomicU32::new(0) }; MAX_CPUS],
        }
    }

    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Acquire) as usize
    }

    /// Makes the boot CPU's local APIC known.
    pub(super) fn set_boot_cpu(&self, apic_id: u32) {
        self.apic_ids[0].store(apic_id, Ordering::Relaxed);
    }

    /// Gives the CPU with this local APIC the next number; `None` if there are too many.
    pub(super) fn add(&self, apic_id: u32) -> Option<u32> {
        let index = self.count.load(Ordering::Relaxed);
        let slot = self.apic_ids.get(index as usize)?;
        slot.store(apic_id, Ordering::Relaxed);
        self.count.store(index + 1, Ordering::Release);
        Some(index)
    }

    /// The local APIC of the CPU with this number, if it runs.
    pub(super) fn apic_id(&self, index: usize) -> Option<u32> {
        let is_running = index < self.count();
        let slot = self.apic_ids.get(index).filter(|_| is_running)?;
        Some(slot.load(Ordering::Relaxed))
    }

    /// The local APICs of all that run.
    pub(super) fn apic_ids(&self) -> impl Iterator<Item = u32> + '_ {
        let running = self.apic_ids.iter().take(self.count());
        running.map(|slot| slot.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn numbers_are_given_in_turn_as_long_as_there_are_some() {
        let running = Running::new();
        running.set_boot_cpu(9);
        assert_eq!((running.apic_id(0), running.apic_id(1)), (Some(9), None));
        assert_eq!(running.add(4), Some(1));
        assert_eq!(running.apic_ids().collect::<Vec<_>>(), [9, 4]);
        for index in 2..MAX_CPUS as u32 {
            assert_eq!(running.add(1000 + index), Some(index));
        }
        assert_eq!(running.add(5), None);
        assert_eq!(running.apic_id(MAX_CPUS - 1), Some(1255));
        assert_eq!(running.apic_id(MAX_CPUS), None);
    }
}
