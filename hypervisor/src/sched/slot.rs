//! What the scheduler keeps of one vcpu.

use core::num::NonZeroU32;

use super::{Allowance, Priority, VcpuId};

/// What is looked at all the time; a power of two in size, so that it is found by a shift.
#[derive(Clone, Copy)]
pub(super) struct Slot {
    pub(super) state: State,
    /// An event word has become pending and the guest has not been told.
    pub(super) upcall: bool,
    pub(super) priority: Priority,
    /// The highest priority that it may give.
    pub(super) ceiling: Priority,
    /// Whether it has been lent something, which may be over.
    pub(super) has_loan: bool,
    /// What is left of its time slice; less than nothing if it has kept the CPU for longer.
    pub(super) slice_left_ns: i32,
    /// Whose budget it uses, if not as much as it can get.
    pub(super) payer: Option<Payer>,
    /// Which of all that have had the number it is, counted from 1.
    pub(super) life: NonZeroU32,
    /// How often a vcpu of this number has woken up.
    pub(super) wakings: u64,
}

const _: () = assert!(size_of::<Slot>() == 32);

/// What only those have to do with who have a budget, or are lent one.
#[derive(Clone, Copy, Default)]
pub(super) struct Ledger {
    /// What is left of its own budget.
    pub(super) allowance: Option<Allowance>,
    /// What it was lent last.
    pub(super) loan: Option<Loan>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Ready,
    Running,
    Blocked,
    /// It could run, but its budget is used up.
    Parked,
    Retired,
}

/// The vcpu whose budget is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Payer {
    pub(super) vcpu: VcpuId,
    /// Which of all that have had the number.
    pub(super) life: NonZeroU32,
}

/// One sleep of a vcpu; there is no other like it, whoever has the number later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sleep {
    pub(super) vcpu: VcpuId,
    pub(super) wakings: u64,
}

/// What a caller lends to the one that is to answer, for as long as it sleeps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Loan {
    pub(super) lender: Sleep,
    /// The first one in a chain of calls, from which all the others have what they lend.
    pub(super) origin: Sleep,
    pub(super) payer: Option<Payer>,
    pub(super) priority: Priority,
}

/// With which priority a vcpu runs, and on whose budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Terms {
    pub(super) priority: Priority,
    pub(super) payer: Option<Payer>,
}

impl Slot {
    /// Of a number that no vcpu has.
    pub(super) const ABSENT: Slot = Slot {
        state: State::Retired,
        upcall: false,
        priority: Priority::DEFAULT,
        ceiling: Priority::DEFAULT,
        has_loan: false,
        slice_left_ns: 0,
        payer: None,
        life: NonZeroU32::MIN,
        wakings: 0,
    };

    /// Whether it runs with its own priority, and uses as much as it can get.
    #[inline(always)]
    pub(super) const fn is_plain(&self) -> bool {
        self.payer.is_none() && !self.has_loan
    }
}
