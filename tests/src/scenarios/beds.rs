//! The beds, and where they differ from each other in ways that scenarios must know.

/// A test bed.
pub struct Bed {
    /// Its name.
    pub name: &'static str,
    /// A CPU model without the hardware virtualization that is needed.
    pub plain_cpu: &'static str,
    /// What the refusal of that CPU names.
    pub plain_cpu_lacks: &'static str,
    /// What `run.sh` says when it must not install what the bed needs.
    pub install_advice: &'static str,
    /// Whether it is QEMU, which is disturbed from outside and whose firmware boots images.
    pub is_qemu: bool,
    /// Whether a repeated string instruction counts as one for each repetition.
    pub counts_repetitions: bool,
    /// Whether the CPU raises #GP for a reserved bit in a control register, as real ones do, instead
    /// of failing the next entry.
    pub refuses_reserved_bits: bool,
    /// What calls may cost, in percent of their budgets: VT-x reads and writes the fields of its
    /// control structure by instructions, SVM finds them in memory.
    pub budget_percent: u64,
    /// Scenarios that it cannot pass, by theme and name, and why not. They are listed as ignored.
    pub cannot: &'static [(&'static str, &'static str)],
}

/// The beds on which every scenario is booted.
pub const BEDS: &[Bed] = &[
    Bed {
        name: "qemu-svm",
        plain_cpu: "max,-svm",
        plain_cpu_lacks: "SVM",
        install_advice: "apt-get install qemu-system-x86",
        is_qemu: true,
        counts_repetitions: false,
        refuses_reserved_bits: false,
        budget_percent: 100,
        cannot: &[],
    },
    Bed {
        name: "bochs-svm",
        // VT-x without extended page tables.
        plain_cpu: "core2_penryn_t9600",
        plain_cpu_lacks: "EPT",
        install_advice: "apt-get install bochs",
        is_qemu: false,
        counts_repetitions: true,
        refuses_reserved_bits: true,
        budget_percent: 100,
        cannot: &[
            (
                "faults::triple_fault",
                "Bochs 2.7 ends at a guest's triple fault even if SHUTDOWN is intercepted",
            ),
            (
                "faults::spin_no_interrupts",
                "no interrupt exits a guest that was entered with its interrupt flag clear",
            ),
        ],
    },
    Bed {
        name: "bochs-vmx",
        // VT-x without extended page tables.
        plain_cpu: "core2_penryn_t9600",
        plain_cpu_lacks: "EPT",
        install_advice: "apt-get install bochs",
        is_qemu: false,
        counts_repetitions: true,
        refuses_reserved_bits: true,
        budget_percent: 125,
        cannot: &[],
    },
];

impl Bed {
    /// The bed of that name.
    pub fn named(name: &str) -> Option<&'static Bed> {
        BEDS.iter().find(|bed| bed.name == name)
    }

    /// Whether it cannot pass that scenario.
    pub fn cannot(&self, scenario: &str) -> bool {
        self.cannot.iter().any(|(name, _)| *name == scenario)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_bed_cannot_is_a_scenario() {
        for bed in BEDS {
            let names: Vec<_> = super::super::of_bed(bed)
                .iter()
                .map(|trial| trial.name().to_owned())
                .collect();
            for (scenario, _) in bed.cannot {
                let name = format!("{}::{scenario}", bed.name);
                assert!(names.contains(&name), "{name}");
            }
        }
    }
}
