//! The self tests that need a vendor: what `test=...` on the command line asks for of those.
//!
//! | word | what happens |
//! | --- | --- |
//! | `test=entry-rules` | every rule of the manual for entering guests is broken in turn (`vt/entry_rules`) |
//! | `test=state` | a guest goes through the modes by its state page, and has what it was given (`vt/state`) |
//! | `test=entry-refused` | the first domain gets a reserved bit of DR7, so that the CPU refuses to enter it |
//! | `test=cpus` | every other CPU turns virtualization on, is interrupted and gets an NMI |
//! | `test=cpu-absent` | the last CPU does not answer when it is started |
//! | `test=cpus-panic` | every CPU panics, all at the same moment |
//! | `test=cpu-overflow` | another CPU's stack overflows |
//!
//! `leave-out=A,B` names rules that the first of them does not break, and words of the state page that the
//! second does not compare. What they find stands in the log; an explanation or a register that is wrong is
//! a panic.

// UNSAFETY: a guest's structure is broken on purpose.
#![allow(unsafe_code)]

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::hint::spin_loop;
use core::sync::atomic::{AtomicUsize, Ordering};

use spin::Once;

use crate::boot::self_test::{asked_for, overflow_the_stack};
use crate::boot::Handover;
use crate::cpu::per_cpu::MAX_CPUS;
use crate::cpu::startup::Work;
use crate::cpu::{self, DirectMap, OtherCpus};
use crate::mem::{Account, FramePool, HostPhysical, HostRange, OutOfFrames, PAGE_BYTES};
use crate::policy::msr;
use crate::run::{Platform, Runner};
use crate::vt::entry_rules::self_test::{self, Subject};
use crate::vt::svm::Svm;
use crate::vt::vmx::Vmx;
use crate::vt::{state, Vendor};

use super::{other_cpus, Virtualization};

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

/// What the other CPUs do: run domains, or what the self test wants.
pub(super) fn work_of_other_cpus(
    handover: &mut Handover,
    memory: &'static DirectMap,
    others: &mut OtherCpus,
) -> Work {
    match asked_for(&handover.command_line) {
        Some("cpus") => {
            FRAMES.call_once(|| (set_frames_aside(handover, memory), memory));
            answer_interrupts
        }
        Some("cpus-panic") => panic_with_the_others,
        Some("cpu-overflow") => overflow_stack,
        Some("cpu-absent") => {
            others.withhold_last();
            other_cpus::work
        }
        _ => other_cpus::work,
    }
}

/// Whether the self test keeps the other CPUs from running domains.
pub(super) fn keeps_other_cpus(command_line: &str) -> bool {
    let tests = ["cpus", "cpus-panic", "cpu-overflow"];
    asked_for(command_line).is_some_and(|test| tests.contains(&test))
}

/// What virtualization takes on a CPU: less than this many frames.
const FRAMES_A_CPU: u64 = 32;

/// Frames for the other CPUs, which keep them.
static FRAMES: Once<(Arc<Account>, &'static DirectMap)> = Once::new();

/// Takes them from the end of the RAM.
fn set_frames_aside(handover: &mut Handover, memory: &'static DirectMap) -> Arc<Account> {
    let bytes = FRAMES_A_CPU * PAGE_BYTES * MAX_CPUS as u64;
    let last = handover.usable.pop().expect("there is RAM for domains");
    let boundary = HostPhysical(last.end().0 - bytes);
    let kept = HostRange::new(last.start(), boundary).expect("there is enough of it");
    handover.usable.push(kept);
    let pool = FramePool::new(memory);
    pool.add(boundary.frame(), FRAMES_A_CPU * MAX_CPUS as u64);
    Account::new(pool, u64::MAX)
}

/// How far the other CPUs have come in the self test.
static STEPS: AtomicUsize = AtomicUsize::new(0);

/// A step takes much less; the clock of an emulator on a loaded host goes on while its threads wait.
const STEP_LIMIT_NS: u64 = 5_000_000_000;

/// Has every other CPU turn virtualization on, interrupts it and sends it an NMI, or has all panic or the
/// last one break, if that is asked for.
pub(super) fn cpus(command_line: &str, platform: &cpu::Platform) {
    match asked_for(command_line) {
        Some("cpus") => interrupt_others(platform),
        Some("cpus-panic") => {
            STEPS.store(1, Ordering::SeqCst);
            panic!("{}", Slowly(platform));
        }
        // Its report ends the machine.
        Some("cpu-overflow") => wait_for(platform, usize::MAX, "break"),
        _ => {}
    }
}

fn interrupt_others(platform: &cpu::Platform) {
    let others = cpu::count() - 1;
    wait_for(platform, others, "turn virtualization on");
    for other in 1..=others {
        assert!(platform.interrupt(other));
        wait_for(platform, others + 2 * other - 1, "take an interrupt");
        assert!(platform.send_nmi(other));
        wait_for(platform, others + 2 * other, "take an NMI");
    }
    assert!(!platform.interrupt(others + 1) && !platform.send_nmi(others + 1));
    log::info!("self test cpus: the machine goes on");
}

fn wait_for(platform: &cpu::Platform, steps: usize, what: &str) {
    let deadline_ns = platform.now_ns().saturating_add(STEP_LIMIT_NS);
    while STEPS.load(Ordering::SeqCst) < steps {
        assert!(platform.now_ns() < deadline_ns, "no other CPU does {what}");
        spin_loop();
    }
}

/// The other side of [`interrupt_others`].
fn answer_interrupts(platform: cpu::Platform) -> ! {
    turn_virtualization_on();
    let (index, apic_id) = (platform.index(), platform.apic_id());
    log::info!("CPU {index}, local APIC {apic_id}: virtualization is on");
    assert!(!platform.was_signalled() && platform.nmi_count() == 0);
    STEPS.fetch_add(1, Ordering::SeqCst);
    while !platform.was_signalled() {
        platform.idle();
    }
    STEPS.fetch_add(1, Ordering::SeqCst);
    // ENDS: the boot CPU sends the NMI, and panics if this CPU does not answer in time.
    while platform.nmi_count() == 0 {
        spin_loop();
    }
    STEPS.fetch_add(1, Ordering::SeqCst);
    platform.halt()
}

/// For good: the CPU goes on using its frames.
fn turn_virtualization_on() {
    let found = super::find_virtualization().expect("every CPU has virtualization");
    let (account, memory) = FRAMES.get().expect("frames were set aside");
    let (memory, passed) = (*memory, &msr::PASSED);
    match found {
        Virtualization::Vmx(features) => {
            core::mem::forget(Vmx::enable(features, memory, account, passed).expect("a frame"));
        }
        Virtualization::Svm(features) => {
            core::mem::forget(
                Svm::enable(features, false, memory, account, passed).expect("a frame"),
            );
        }
    }
}

fn panic_with_the_others(platform: cpu::Platform) -> ! {
    // ENDS: the boot CPU makes the first step.
    while STEPS.load(Ordering::SeqCst) == 0 {
        spin_loop();
    }
    panic!("{}", Slowly(&platform));
}

/// Words that take a second, longer than a broken CPU waits for another one's line: whoever is not stopped
/// reports in their midst.
struct Slowly<'platform>(&'platform cpu::Platform);

impl fmt::Display for Slowly<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "CPU {} panics", self.0.index())?;
        let deadline_ns = self.0.now_ns().saturating_add(1_000_000_000);
        while self.0.now_ns() < deadline_ns {
            spin_loop();
        }
        formatter.write_str(" with all others")
    }
}

fn overflow_stack(platform: cpu::Platform) -> ! {
    overflow_the_stack();
    platform.halt()
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
