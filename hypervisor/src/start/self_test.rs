//! The self tests that need a vendor: what `test=...` on the command line asks for of those.
//!
//! | word | what happens |
//! | --- | --- |
//! | `test=entry-rules` | every rule of the manual for entering guests is broken in turn (`vt/entry_rules`) |
//! | `test=state` | a guest goes through the modes by its state page, and has what it was given (`vt/state`) |
//! | `test=entry-refused` | the first domain gets a reserved bit of DR7, so that the CPU refuses to enter it |
//!
//! `leave-out=A,B` names rules that the first of them does not break, and words of the state page that the
//! second does not compare. What they find stands in the log; an explanation or a register that is wrong is
//! a panic.

// UNSAFETY: a guest's structure is broken on purpose.
#![allow(unsafe_code)]

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::boot::self_test::asked_for;
use crate::cpu::DirectMap;
use crate::mem::{Account, OutOfFrames};
use crate::run::{Platform, Runner};
use crate::vt::entry_rules::self_test::{self, Subject};
use crate::vt::{state, Vendor};

/// Tries the rules for entering guests, if that is asked for.
pub(super) fn entry_rules<V: Vendor<Vcpu: Subject>>(
    command_line: &str,
    vendor: &mut V,
    memory: &'static DirectMap,
    account: &Arc<Account>,
) -> Result<(), OutOfFrames> {
    if asked_for(command_line) != Some("entry-rules") {
        return Ok(());
    }
    let tally = self_test::run(vendor, memory, account, &left_out(command_line))?;
    assert_eq!(tally.misexplained, 0, "the log says which are wrong");
    log::info!("self test entry-rules: the machine goes on");
    Ok(())
}

fn left_out(command_line: &str) -> Vec<&str> {
    let mut words = command_line.split_ascii_whitespace();
    let names = words.find_map(|word| word.strip_prefix("leave-out="));
    names.into_iter().flat_map(|it| it.split(',')).collect()
}

/// Takes a guest through the modes by its state page, if that is asked for.
pub(super) fn state<V: Vendor<Vcpu: Subject>>(
    command_line: &str,
    vendor: &mut V,
    memory: &'static DirectMap,
    account: &Arc<Account>,
) -> Result<(), OutOfFrames> {
    if asked_for(command_line) == Some("state") {
        state::self_test::run(vendor, memory, account, &left_out(command_line))?;
        log::info!("self test state: the machine goes on");
    }
    Ok(())
}

/// Has the CPU refuse the first domain, if that is asked for.
pub(super) fn entry_refused<V: Vendor<Vcpu: Subject>, P: Platform>(
    command_line: &str,
    runner: &mut Runner<V, P>,
) {
    if asked_for(command_line) != Some("entry-refused") {
        return;
    }
    runner.with_first_vcpu(|vendor, vcpu| {
        vendor.load(vcpu);
        let (number, value) = V::Vcpu::REFUSED;
        // SAFETY: bits 32 to 63 of DR7 are checked before anything is loaded.
        unsafe { vcpu.set_word(number, value) };
    });
}
