//! Breaks every rule on the CPU that this runs on, in every way that is known, and compares what the
//! CPU and [`explain`](super::explain) say.
//!
//! Each way gets a vcpu of its own whose guest has no memory: it is entered once as it is, and must
//! come back because of that; then the rule is broken and it is entered again.

// UNSAFETY: structures are broken on purpose.
#![allow(unsafe_code)]

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::mem::{Account, GuestPhysical, OutOfFrames, PhysicalMemory};
use crate::nested::NestedTable;
use crate::vt::{StartState, Vendor, VirtualCpu};

use super::{Class, Rule, Rules, Sample, View};

/// What came of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entered {
    /// The CPU refused.
    Refused,
    /// The guest touched memory, which it does not have.
    Fault,
    /// An interrupt came first, or the guest's time was up.
    Interrupt,
    /// It left for another reason, by the vendor's number.
    Left(u64),
}

/// A virtual CPU whose structure the rules can be tried on.
pub trait Subject: VirtualCpu {
    /// What the CPU allows.
    type Limits: 'static;

    /// The rules of its vendor.
    const RULES: Rules<Self::Limits>;

    /// A word and a value for it that every CPU refuses, with all else as guests start: a reserved
    /// bit of DR7.
    const REFUSED: (u32, u64);

    /// The vendor's numbers for an access to a port, CPUID and HLT, as [`Entered::Left`] has them.
    const PORT_CPUID_HALT: [u64; 3];

    /// What this CPU allows.
    fn limits() -> Self::Limits;

    /// What came of the last entry. The decoding of exits is left alone, so that the compiler keeps
    /// it where it is hot.
    fn entered(&self) -> Entered;

    /// A word of its structure; `None` if the CPU has no such word. It is loaded.
    fn word(&self, number: u32) -> Option<u64>;

    /// Writes a word of its structure. It is loaded.
    ///
    /// # Safety
    /// The CPU refuses the entry because of it, or else an exit from a guest that has no memory brings
    /// the hypervisor back as it was.
    unsafe fn set_word(&mut self, number: u32, value: u64);

    /// Has the next entry meet what was written, an identifier too, which is else written before the
    /// entry. It has been entered since it was loaded, so no flush is due.
    fn settle(&mut self);
}

/// Ticks after which a guest that has been entered after all is stopped where the vendor can.
const MOST_TICKS: u64 = 1 << 20;
/// Interrupts that may come between an entry and its nested fault.
const MOST_INTERRUPTS: u32 = 100;

/// What came of breaking a rule in one way.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    /// The CPU refused and the rule is the only one that was named.
    Explained,
    /// The CPU refused and something else was named.
    Misexplained(Vec<&'static str>),
    /// The CPU took it.
    Accepted(Entered),
    /// This CPU leaves no way to break it.
    NoWay,
}

/// How often each outcome has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Rules.
    pub rules: u32,
    /// Refused, with the right explanation.
    pub explained: u32,
    /// Refused, with another explanation.
    pub misexplained: u32,
    /// Not refused.
    pub accepted: u32,
    /// Impossible on this CPU.
    pub no_way: u32,
}

struct Bench<'a, V> {
    vendor: &'a mut V,
    account: &'a Arc<Account>,
    start: StartState,
}

/// Tries all rules but those of these names, logs each outcome, and counts them.
///
/// # Errors
/// When there is too little memory for one vcpu.
///
/// # Panics
/// If the CPU refuses a guest as it starts, or the rules do.
pub fn run<V: Vendor<Vcpu: Subject>>(
    vendor: &mut V,
    physical: &'static dyn PhysicalMemory,
    account: &Arc<Account>,
    left_out: &[&str],
) -> Result<Tally, OutOfFrames> {
    let table = NestedTable::new(account, physical, vendor.entry_format())?;
    let mut bench = Bench {
        vendor,
        account,
        start: StartState {
            nested_root: table.root(),
            entry: GuestPhysical(0x20_0000),
            page_table: GuestPhysical(0x30_0000),
            stack: GuestPhysical(0x40_0000),
            argument: GuestPhysical(0),
        },
    };
    let limits = V::Vcpu::limits();
    let mut tally = Tally::default();
    for rule in V::Vcpu::RULES.iter().copied().flatten() {
        tally.rules += 1;
        for (index, sample) in rule.broken_by.iter().enumerate() {
            if left_out.contains(&rule.name) {
                log::info!("entry rule {} {index}: left out", rule.name);
                continue;
            }
            let outcome = bench.try_sample(rule, sample, &limits)?;
            tally.count(rule, index, &outcome);
        }
    }
    log::info!(
        "entry rules: vendor={} rules={} explained={} misexplained={} accepted={} no_way={}",
        V::NAME,
        tally.rules,
        tally.explained,
        tally.misexplained,
        tally.accepted,
        tally.no_way,
    );
    Ok(tally)
}

impl Tally {
    fn count<L>(&mut self, rule: &Rule<L>, index: usize, outcome: &Outcome) {
        let Rule { name, section, .. } = rule;
        match outcome {
            Outcome::Explained => {
                self.explained += 1;
                log::info!("entry rule {name} {index}: refused and explained ({section})");
            }
            Outcome::Misexplained(names) => {
                self.misexplained += 1;
                log::error!("entry rule {name} {index}: refused, explained by {names:?}");
            }
            Outcome::Accepted(entered) => {
                self.accepted += 1;
                log::info!("entry rule {name} {index}: accepted, {entered:?}");
            }
            Outcome::NoWay => {
                self.no_way += 1;
                log::info!("entry rule {name} {index}: no way on this CPU");
            }
        }
    }
}

impl<V: Vendor<Vcpu: Subject>> Bench<'_, V> {
    fn try_sample(
        &mut self,
        rule: &Rule<<V::Vcpu as Subject>::Limits>,
        sample: Sample<<V::Vcpu as Subject>::Limits>,
        limits: &<V::Vcpu as Subject>::Limits,
    ) -> Result<Outcome, OutOfFrames> {
        let mut vcpu = self.vendor.create_vcpu(self.account, &self.start)?;
        self.vendor.load(&mut vcpu);
        vcpu.limit_run(Some(MOST_TICKS));
        let entered = self.enter(&mut vcpu);
        assert_eq!(entered, Entered::Fault, "the guest has no memory");
        let view = View {
            read: &|number| vcpu.word(number),
            limits,
        };
        for rule in V::Vcpu::RULES.iter().copied().flatten() {
            let name = rule.name;
            assert!(!rule.is_broken(&view), "a guest that runs breaks {name}");
        }
        // First all words, because a way may lead through a field that this CPU does not have.
        for change in sample {
            let word = vcpu.word(change.field.number);
            let Some(word) = word.and_then(|word| change.apply(word, limits)) else {
                return Ok(Outcome::NoWay);
            };
            // SAFETY: the rule is one that is checked before anything is loaded, or the guest has
            // no memory, so that the next instruction exits; whoever calls leaves out what his CPU
            // does not check and would load at an exit.
            unsafe { vcpu.set_word(change.field.number, word) };
        }
        vcpu.limit_run(Some(MOST_TICKS));
        vcpu.settle();
        let entered = self.enter(&mut vcpu);
        if entered != Entered::Refused {
            return Ok(Outcome::Accepted(entered));
        }
        let failure = vcpu.entry_failure();
        let is_right_class = [rule.class, Class::Any].contains(&failure.refusal.class);
        let names: Vec<_> = failure.rules.iter().map(|broken| broken.name).collect();
        Ok(if names == [rule.name] && is_right_class {
            Outcome::Explained
        } else {
            Outcome::Misexplained(names)
        })
    }

    /// Enters until something but an interrupt comes.
    fn enter(&mut self, vcpu: &mut V::Vcpu) -> Entered {
        for _ in 0..MOST_INTERRUPTS {
            self.vendor.run(vcpu);
            let entered = vcpu.entered();
            if entered != Entered::Interrupt {
                return entered;
            }
        }
        Entered::Interrupt
    }
}
