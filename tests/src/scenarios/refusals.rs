//! CPUs that lack something that Nuncio needs: each is refused with one line that names it.
//!
//! What is refused depends on the CPU alone, so each CPU is booted on one bed.

use libtest_mimic::Failed;

use super::Bed;
use crate::run::Run;

/// A CPU that must be refused.
pub struct Refusal {
    /// Its name in the list of tests.
    pub name: &'static str,
    /// The bed that has it.
    pub bed: &'static str,
    /// The CPU model in the words of the bed.
    cpu: &'static str,
    /// What the line names.
    lacks: &'static str,
}

const fn refusal(
    bed: &'static str,
    name: &'static str,
    cpu: &'static str,
    lacks: &'static str,
) -> Refusal {
    Refusal {
        name,
        bed,
        cpu,
        lacks,
    }
}

const NEITHER: &str = "neither Intel VT-x nor AMD SVM";
const NO_NESTED_PAGING: &str = "AMD SVM without nested paging (NPT)";
const NO_64_BIT_MODE: &str = "no 64-bit mode";

pub const REFUSALS: &[Refusal] = &[
    refusal("qemu-svm", "svm_switched_off", "max,-svm", NEITHER),
    // It lacks XSAVE, too, which is not worth a word here.
    refusal("qemu-svm", "no_virtualization", "qemu64,-svm", NEITHER),
    refusal("qemu-svm", "no_npt", "qemu64,+svm,-npt", NO_NESTED_PAGING),
    refusal("qemu-svm", "no_long_mode", "qemu32", NO_64_BIT_MODE),
    refusal("bochs-svm", "no_npt", "turion64_tyler", NO_NESTED_PAGING),
    refusal(
        "bochs-vmx",
        "no_ept",
        "core2_penryn_t9600",
        "Intel VT-x without EPT",
    ),
    refusal(
        "bochs-vmx",
        "no_unrestricted_guests",
        // It lacks XSAVE, too.
        "corei5_lynnfield_750",
        "Intel VT-x without unrestricted guests",
    ),
    // Bochs has another way to end than QEMU.
    refusal("bochs-vmx", "no_long_mode", "p4_willamette", NO_64_BIT_MODE),
    refusal("kvm", "no_virtualization", "host,-vmx,-svm", NEITHER),
];

/// The CPU is refused, and the line says what it lacks.
pub fn is_refused(bed: &Bed, refusal: &Refusal) -> Result<(), Failed> {
    let run = Run::new(bed)?.input(b"x")?.option("--cpu", refusal.cpu);
    let outcome = run.go()?;
    outcome.ends(3, "refused")?.complains(refusal.lacks)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_is_booted() {
        for refusal in REFUSALS {
            assert!(Bed::named(refusal.bed).is_some(), "{}", refusal.bed);
        }
    }
}
