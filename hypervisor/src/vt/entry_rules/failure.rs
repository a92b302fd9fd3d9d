//! What is said about an entry that has failed.

#![forbid(unsafe_code)]

use alloc::vec::Vec;
use core::fmt;

use super::{Class, Field};

/// A field's name and value.
pub type Value = (&'static str, u64);

/// What the CPU has said when it refused to enter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The manual that the sections are of.
    pub manual: &'static str,
    /// What is wrong, as far as the CPU says.
    pub class: Class,
    /// Its number for it: the VM-instruction error, the exit reason, or the exit code.
    pub code: u64,
    /// The exit qualification, 0 where there is none.
    pub qualification: u64,
    /// What was refused, as a sentence.
    pub sentence: &'static str,
    /// Fields that are shown, beside those of the rules, if no rule is broken.
    pub fields: &'static [Field],
}

/// A rule that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokenRule {
    /// The word that stands for it.
    pub name: &'static str,
    /// The section of the manual.
    pub section: &'static str,
    /// What it says.
    pub sentence: &'static str,
    /// The fields that it speaks of, with their values.
    pub values: Vec<Value>,
}

/// Why a guest could not be entered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryFailure {
    /// What the CPU said.
    pub refusal: Refusal,
    /// Where the guest was to go on, 0 if the CPU has overwritten that.
    pub instruction_pointer: u64,
    /// The rules that are broken, as in the manual; the first few of them.
    pub rules: Vec<BrokenRule>,
    /// How many more there are.
    pub not_named: usize,
    /// If no rule is broken: the fields in question, with their values.
    pub values: Vec<Value>,
}

/// Values in one line.
const VALUES_PER_LINE: usize = 8;

impl EntryFailure {
    /// Writes the lines of the report for the domain of that name, each with a line feed before it.
    ///
    /// # Errors
    /// Those of the formatter.
    pub fn write_lines(&self, out: &mut dyn fmt::Write, domain: &str) -> fmt::Result {
        let Refusal {
            manual,
            class,
            code,
            qualification,
            sentence,
            ..
        } = &self.refusal;
        let class = class.name();
        let count = self.rules.len() + self.not_named;
        write!(
            out,
            "\n@entry name={domain} class={class} code={code:#x} qualification={qualification:#x} rules={count} text={sentence}"
        )?;
        if count == 0 {
            write!(
                out,
                " No rule that the hypervisor knows is broken; the fields in question follow."
            )?;
        }
        for rule in &self.rules {
            let BrokenRule {
                name,
                section,
                sentence,
                values,
            } = rule;
            write!(out, "\n@rule name={domain} rule={name} section={section}")?;
            write_values(out, values)?;
            write!(out, " text={sentence} ({manual}, {section})")?;
        }
        for values in self.values.chunks(VALUES_PER_LINE) {
            write!(out, "\n@fields name={domain}")?;
            write_values(out, values)?;
        }
        Ok(())
    }
}

fn write_values(out: &mut dyn fmt::Write, values: &[Value]) -> fmt::Result {
    for (name, value) in values {
        write!(out, " {name}={value:#x}")?;
    }
    Ok(())
}
