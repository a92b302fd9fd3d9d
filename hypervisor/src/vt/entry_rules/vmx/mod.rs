//! Intel's rules: the checks of a VM entry (Intel SDM vol. 3, 26.2 and 26.3).
//!
//! `controls`, `host`, `guest` and `segments` have the rows, `limits` what is
//! fixed for a CPU. The checks for what no guest of the hypervisor has are left out: virtual-8086
//! mode, guests that are not unrestricted, system-management mode, shadow stacks, and the controls
//! that came later.

#![forbid(unsafe_code)]

mod controls;
mod events;
mod guest;
mod host;
mod limits;
mod non_register;
mod segments;

use super::{Class, Field, Refusal, Rule, Rules};
use crate::vt::fields::vmx as fields;
use crate::vt::fields::vmx::exit_reason::{BAD_GUEST_STATE, BAD_MSR_LOAD};

pub use limits::{capability, Capabilities, Groups, Limits};

const MANUAL: &str = "Intel SDM vol. 3";

/// Every rule, as in the manual.
pub const RULES: Rules<Limits> = &[
    controls::RULES,
    controls::EXIT_AND_ENTRY,
    events::RULES,
    host::RULES,
    guest::RULES,
    segments::RULES,
    non_register::RULES,
];

/// VM-instruction errors (30.4).
const CONTROLS_ERROR: u64 = 7;
const HOST_ERROR: u64 = 8;

const REGISTER_LIST_FIELDS: &[Field] = &[fields::ENTRY_LOAD_COUNT, fields::ENTRY_LOAD];

/// A refusal before anything was loaded: VMLAUNCH or VMRESUME has failed with this error.
pub fn refused_at_once(error: u64) -> Refusal {
    let (class, sentence) = match error {
        CONTROLS_ERROR => (
            Class::Controls,
            "The CPU refused the controls of the guest (VM-instruction error 7).",
        ),
        HOST_ERROR => (
            Class::Host,
            "The CPU refused the host's state (VM-instruction error 8).",
        ),
        _ => (
            Class::Any,
            "The CPU refused to enter the guest; the code is the VM-instruction error (Intel SDM vol. 3, 30.4).",
        ),
    };
    refusal(class, error, 0, sentence)
}

/// A refusal as an exit of this reason.
pub fn refused_by_exit(reason: u32, qualification: u64) -> Refusal {
    let (class, sentence) = match reason as u16 {
        BAD_GUEST_STATE => (
            Class::Guest,
            "The CPU refused the guest's state (exit reason 33).",
        ),
        BAD_MSR_LOAD => (
            Class::RegisterList,
            "The CPU could not load the list of registers for the entry (exit reason 34); the qualification is the number of the register in the list.",
        ),
        _ => (
            Class::Any,
            "The CPU refused to enter the guest; the code is the exit reason (Intel SDM vol. 3, 26.7).",
        ),
    };
    refusal(class, u64::from(reason), qualification, sentence)
}

fn refusal(class: Class, code: u64, qualification: u64, sentence: &'static str) -> Refusal {
    Refusal {
        manual: MANUAL,
        class,
        code,
        qualification,
        sentence,
        fields: match class {
            Class::RegisterList => REGISTER_LIST_FIELDS,
            _ => &[],
        },
    }
}

type VmxRule = Rule<Limits>;
type View<'a> = super::View<'a, Limits>;
type Change = super::Change<Limits>;

/// A change to a value.
const fn to(field: Field, value: u64) -> Change {
    Change {
        field,
        to: super::To::Value(value),
    }
}

/// A change that sets bits.
const fn set(field: Field, bits: u64) -> Change {
    Change {
        field,
        to: super::To::Set(bits),
    }
}

/// A change that clears bits.
const fn clear(field: Field, bits: u64) -> Change {
    Change {
        field,
        to: super::To::Clear(bits),
    }
}

/// A change that depends on the CPU.
const fn flip(field: Field, mask: fn(&Limits) -> u64) -> Change {
    Change {
        field,
        to: super::To::Flip(mask),
    }
}

/// An address beyond the CPU's physical-address width.
const fn too_far(field: Field) -> Change {
    flip(field, |limits| super::lowest(limits.beyond_physical()))
}

const fn bit(number: u32) -> u64 {
    1 << number
}

/// Whether the field is a multiple of `alignment` that lies in the physical-address width.
fn is_address(view: &View<'_>, field: Field, alignment: u64) -> bool {
    !view.has(field, view.limits.beyond_physical() | (alignment - 1))
}

fn is_canonical(view: &View<'_>, field: Field) -> bool {
    view.limits.is_canonical(view.get(field))
}

/// Whether the field has every bit that must be 1 and none that must be 0.
fn fits(view: &View<'_>, field: Field, must: u64, may: u64) -> bool {
    let value = view.get(field);
    value & must == must && value & !may == 0
}

/// Whether the guest is entered in IA-32e mode.
fn is_long(view: &View<'_>) -> bool {
    view.has(fields::ENTRY_CONTROLS, controls::ENTRY_LONG_MODE)
}
