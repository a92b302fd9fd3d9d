//! What a rule is, and how the broken ones are found.

#![forbid(unsafe_code)]

use alloc::vec::Vec;

use super::failure::{BrokenRule, EntryFailure, Refusal, Value};
use super::Field;

/// Broken rules that are named; the others are counted.
const MOST_NAMED: usize = 4;

/// What the CPU says is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The controls: of execution, exit and entry.
    Controls,
    /// What the CPU would load at an exit.
    Host,
    /// What it would load at the entry.
    Guest,
    /// The list of model-specific registers that it would load at the entry.
    RegisterList,
    /// Something; AMD's CPUs do not say what.
    Any,
}

impl Class {
    /// The word that stands for it in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Class::Controls => "controls",
            Class::Host => "host-state",
            Class::Guest => "guest-state",
            Class::RegisterList => "msr-list",
            Class::Any => "any",
        }
    }
}

/// What a rule sees: the words of a structure, and what is fixed for the CPU.
pub struct View<'a, L> {
    /// Reads a word by the vendor's number; `None` if the CPU has no such word.
    pub read: &'a dyn Fn(u32) -> Option<u64>,
    /// What the CPU allows.
    pub limits: &'a L,
}

impl<L> View<'_, L> {
    /// A field's value, or 0 if the CPU does not have it.
    pub fn get(&self, field: Field) -> u64 {
        self.find(field).unwrap_or(0)
    }

    /// Whether one of these bits is set in a field.
    pub fn has(&self, field: Field, bits: u64) -> bool {
        self.get(field) & bits != 0
    }

    fn find(&self, field: Field) -> Option<u64> {
        Some(field.of((self.read)(field.number)?))
    }
}

/// A rule of a manual.
pub struct Rule<L: 'static> {
    /// A word that stands for it in reports.
    pub name: &'static str,
    /// Who is refused when it is broken.
    pub class: Class,
    /// The section of the manual.
    pub section: &'static str,
    /// What it says, in a sentence of our own.
    pub sentence: &'static str,
    /// The fields that it speaks of; it looks at no others.
    pub fields: &'static [Field],
    /// Whether it holds.
    pub holds: fn(&View<'_, L>) -> bool,
    /// Ways to break it, and nothing but it, from the state in which guests start.
    pub broken_by: &'static [Sample<L>],
}

/// One way to break a rule: changes that go together.
pub type Sample<L> = &'static [Change<L>];

/// A change of one field.
#[derive(Clone, Copy)]
pub struct Change<L: 'static> {
    /// The field.
    pub field: Field,
    /// Its new value.
    pub to: To<L>,
}

/// The new value of a field.
#[derive(Clone, Copy)]
pub enum To<L: 'static> {
    /// This value.
    Value(u64),
    /// The old one with these bits set.
    Set(u64),
    /// The old one without these bits.
    Clear(u64),
    /// The old one with some bits changed, which depend on the CPU; 0: this CPU leaves no way.
    Flip(fn(&L) -> u64),
}

impl<L> Change<L> {
    /// The word after the change; `None` if this CPU leaves no way.
    pub fn apply(&self, word: u64, limits: &L) -> Option<u64> {
        let old = self.field.of(word);
        let new = match self.to {
            To::Value(value) => value,
            To::Set(bits) => old | bits,
            To::Clear(bits) => old & !bits,
            To::Flip(mask) => match mask(limits) {
                0 => return None,
                mask => old ^ mask,
            },
        };
        Some(self.field.put(word, new))
    }
}

/// Several rows of rules, in the order of the manual.
pub type Rules<L> = &'static [&'static [Rule<L>]];

impl<L> Rule<L> {
    /// Whether it is of a class that the CPU has reported.
    fn is_of(&self, class: Class) -> bool {
        self.class == class || class == Class::Any
    }

    /// Whether the CPU has every field that it speaks of.
    fn can_be_judged(&self, view: &View<'_, L>) -> bool {
        self.fields.iter().all(|field| view.find(*field).is_some())
    }

    /// Whether it is broken.
    pub fn is_broken(&self, view: &View<'_, L>) -> bool {
        self.can_be_judged(view) && !(self.holds)(view)
    }
}

/// Names the rules of the refusal's class that are broken, in the order of the manual. If there are
/// none, the values of all fields that the class's rules speak of are kept.
pub fn explain<L>(
    rules: Rules<L>,
    view: &View<'_, L>,
    refusal: Refusal,
    instruction_pointer: u64,
) -> EntryFailure {
    let of_class = || {
        let rows = rules.iter().copied().flatten();
        rows.filter(|rule| rule.is_of(refusal.class))
    };
    let broken: Vec<&Rule<L>> = of_class().filter(|rule| rule.is_broken(view)).collect();
    let named = broken.iter().take(MOST_NAMED).map(|rule| BrokenRule {
        name: rule.name,
        section: rule.section,
        sentence: rule.sentence,
        values: values(view, rule.fields),
    });
    let fields = refusal.fields.iter();
    let mut all: Vec<Field> = fields.copied().collect();
    for field in of_class().flat_map(|rule| rule.fields) {
        if !all.contains(field) {
            all.push(*field);
        }
    }
    EntryFailure {
        refusal,
        instruction_pointer,
        rules: named.collect(),
        not_named: broken.len().saturating_sub(MOST_NAMED),
        values: if broken.is_empty() {
            values(view, &all)
        } else {
            Vec::new()
        },
    }
}

fn values<L>(view: &View<'_, L>, fields: &[Field]) -> Vec<Value> {
    let present = fields
        .iter()
        .filter_map(|field| Some((field.name, view.find(*field)?)));
    present.collect()
}

/// The lowest of some bits; 0 if there are none.
pub(in crate::vt) const fn lowest(bits: u64) -> u64 {
    bits & bits.wrapping_neg()
}

/// Bits of an address that this many address bits do not reach.
pub(in crate::vt) const fn beyond(address_bits: u32) -> u64 {
    match u64::MAX.checked_shl(address_bits) {
        Some(bits) => bits,
        None => 0,
    }
}

/// Whether all bits of an address above this many are as the highest below them.
pub(in crate::vt) const fn is_canonical(address: u64, address_bits: u32) -> bool {
    let unused = 64 - address_bits;
    ((address << unused) as i64 >> unused) as u64 == address
}

/// Whether the page-attribute table has only types that exist: UC, WC, WT, WP, WB, UC-.
pub(in crate::vt) fn is_page_attribute_table(value: u64) -> bool {
    let types = value.to_le_bytes();
    types.iter().all(|kind| matches!(kind, 0 | 1 | 4..=7))
}
