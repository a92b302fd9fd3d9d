//! What the scheduler keeps of one vcpu.

use core::num::NonZeroU32;

use super::loans::Loans;
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
    /// Whether it has been lent something, which may be over, or lends something to another CPU.
    pub(super) has_loan: bool,
    /// Whether it lends something to another CPU.
    pub(super) lends_afar: bool,
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
    /// What it has been lent.
    pub(super) loans: Loans,
    /// Who pays for what it lends to another CPU.
    pub(super) lent_on: Option<Payer>,
    /// Vcpus that it has made and that use its budget.
    pub(super) dependants: u32,
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

/// The vcpu whose budget is used; or the one that has been lent a budget from another CPU, which is kept with
/// the loan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Payer {
    pub(super) vcpu: VcpuId,
    /// Which of all that have had the number; or which of all loans, with [`Payer::AFAR`].
    pub(super) life: NonZeroU32,
}

impl Payer {
    /// Marks a loan from another CPU. No number has that many lives.
    pub(super) const AFAR: NonZeroU32 = NonZeroU32::new(1 << 31).expect("not 0");

    /// Whoever pays for that loan of a vcpu's.
    pub(super) fn afar(borrower: VcpuId, loan: u32) -> Self {
        Payer {
            vcpu: borrower,
            life: Self::AFAR | loan,
        }
    }

    /// Whether the budget is another CPU's.
    pub(super) fn is_afar(self) -> bool {
        self.life.get() & Self::AFAR.get() != 0
    }
}

/// One sleep of a vcpu; there is no other like it, whoever has the number later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sleep {
    pub(super) vcpu: VcpuId,
    /// How often it had woken before; or the number of its offer, if it is another CPU's, with [`AFAR`].
    pub(super) wakings: u64,
}

/// Marks a sleep on another CPU.
const AFAR: u64 = 1 << 63;

impl Sleep {
    /// A sleep on another CPU, in which that offer is made.
    pub(super) const fn afar(vcpu: VcpuId, offer: u64) -> Self {
        Sleep {
            vcpu,
            wakings: AFAR | offer,
        }
    }

    /// The offer that is made in it, if it is one on another CPU.
    pub(super) const fn offer(self) -> Option<u64> {
        match self.wakings & AFAR {
            0 => None,
            _ => Some(self.wakings & !AFAR),
        }
    }
}

/// What a caller lends to the one that is to answer, for as long as it sleeps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Loan {
    pub(super) lender: Sleep,
    /// The first one in a chain of calls, from which all the others have what they lend.
    pub(super) origin: Sleep,
    pub(super) payer: Option<Payer>,
    pub(super) priority: Priority,
    /// What is left of a budget that is another CPU's, as far as is known here.
    pub(super) allowance: Option<Allowance>,
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
        lends_afar: false,
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
