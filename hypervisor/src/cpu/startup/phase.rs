//! How far a CPU has come.

#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicU32, Ordering};

use super::LeftOut;

/// The way of a CPU from its start to its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Phase {
    /// It has not come to Rust code, or is setting itself up.
    Away = 0,
    /// It is like the boot CPU and answers it.
    Here = 1,
    /// It has found out that it will not do, and halts.
    Unfit = 2,
    /// The boot CPU has let it in.
    LetIn = 3,
    /// The boot CPU has given it up.
    LeftOut = 4,
}

/// A CPU's phase, changed by itself and by the boot CPU, and why it is unfit.
#[derive(Debug)]
pub(crate) struct PhaseCell {
    phase: AtomicU32,
    reason: AtomicU32,
}

impl PhaseCell {
    pub(crate) const fn new() -> Self {
        PhaseCell {
            phase: AtomicU32::new(Phase::Away as u32),
            reason: AtomicU32::new(0),
        }
    }

    pub(crate) fn get(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Away,
            1 => Phase::Here,
            2 => Phase::Unfit,
            3 => Phase::LetIn,
            _ => Phase::LeftOut,
        }
    }

    /// Goes from one phase to the next; `false`, and nothing changed, if it is in another one.
    pub(crate) fn change(&self, from: Phase, to: Phase) -> bool {
        let (from, to) = (from as u32, to as u32);
        let changed = self
            .phase
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire);
        changed.is_ok()
    }

    /// Says why the CPU itself cannot go on.
    pub(crate) fn become_unfit(&self, reason: LeftOut) {
        self.reason.store(reason as u32, Ordering::Relaxed);
        self.change(Phase::Away, Phase::Unfit);
    }

    /// Why it is unfit.
    pub(crate) fn reason(&self) -> LeftOut {
        let reason = self.reason.load(Ordering::Relaxed);
        let known = LeftOut::ALL.into_iter().find(|it| *it as u32 == reason);
        known.unwrap_or(LeftOut::NoAnswer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_side_decides() {
        let cell = PhaseCell::new();
        assert!(cell.change(Phase::Away, Phase::LeftOut));
        // The CPU comes late.
        assert!(!cell.change(Phase::Away, Phase::Here));
        cell.become_unfit(LeftOut::NoApic);
        assert_eq!(cell.get(), Phase::LeftOut);
    }

    #[test]
    fn an_unfit_cpu_says_why() {
        for reason in LeftOut::ALL {
            let cell = PhaseCell::new();
            cell.become_unfit(reason);
            assert_eq!((cell.get(), cell.reason()), (Phase::Unfit, reason));
        }
    }
}
