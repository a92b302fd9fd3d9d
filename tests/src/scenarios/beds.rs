//! The beds, and where they differ from each other in ways that scenarios must know.

use nuncio_tools::beds::Counting;

/// A test bed.
pub struct Bed {
    /// Its name.
    pub name: &'static str,
    /// What `run.sh` says when it must not install what the bed needs.
    pub install_advice: &'static str,
    /// Accelerator and CPU if it is QEMU, which is disturbed from outside and whose firmware boots
    /// images.
    pub qemu: Option<[&'static str; 4]>,
    /// Whether a repeated string instruction counts as one for each repetition.
    pub counts_repetitions: bool,
    /// Whether the CPU raises #GP for a reserved bit in a control register, as real ones do, instead
    /// of failing the next entry.
    pub refuses_reserved_bits: bool,
    /// Whether the local APIC's timer can wait for the time-stamp counter; `None` if that is the host's affair.
    pub has_deadlines: Option<bool>,
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
        install_advice: "apt-get install qemu-system-x86",
        qemu: Some(["-accel", "tcg", "-cpu", "max"]),
        counts_repetitions: false,
        refuses_reserved_bits: false,
        has_deadlines: Some(false),
        budget_percent: 100,
        cannot: &[],
    },
    Bed {
        name: "bochs-svm",
        install_advice: "apt-get install bochs",
        qemu: None,
        counts_repetitions: true,
        refuses_reserved_bits: true,
        has_deadlines: Some(false),
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
            (
                "several-cpus::a_domain_that_takes_no_interrupts",
                "no interrupt exits a guest that was entered with its interrupt flag clear",
            ),
        ],
    },
    Bed {
        name: "bochs-vmx",
        install_advice: "apt-get install bochs",
        qemu: None,
        counts_repetitions: true,
        refuses_reserved_bits: true,
        has_deadlines: Some(true),
        budget_percent: 125,
        cannot: &[],
    },
    Bed {
        name: "bochs-vmx-min",
        install_advice: "apt-get install bochs",
        qemu: None,
        counts_repetitions: true,
        refuses_reserved_bits: true,
        has_deadlines: Some(true),
        budget_percent: 125,
        cannot: &[],
    },
    Bed {
        name: "kvm",
        install_advice: "apt-get install qemu-system-x86",
        qemu: Some(["-accel", "kvm", "-cpu", "host"]),
        counts_repetitions: false,
        refuses_reserved_bits: true,
        has_deadlines: None,
        budget_percent: 100,
        cannot: &[
            ("counts::two_runs_count_the_same", COUNTS_NOTHING),
            ("counts::calls_stay_in_their_budgets", COUNTS_NOTHING),
            ("time::ten_thousand_timers", COUNTS_NOTHING),
        ],
    },
];

const COUNTS_NOTHING: &str = "nothing counts instructions on a real CPU";

impl Bed {
    /// The bed of that name.
    pub fn named(name: &str) -> Option<&'static Bed> {
        BEDS.iter().find(|bed| bed.name == name)
    }

    /// Why it cannot pass that scenario, if it cannot.
    pub fn cannot(&self, scenario: &str) -> Option<&'static str> {
        let mut cannot = self.cannot.iter();
        cannot.find_map(|(name, why)| (*name == scenario).then_some(*why))
    }

    /// Whether instructions can be counted on it.
    pub fn counts(&self) -> bool {
        nuncio_tools::beds::named(self.name).is_ok_and(|bed| bed.counting() != Counting::Never)
    }

    /// Why this host cannot run it, if it cannot. That it is not installed is no such reason.
    pub fn obstacle(&self) -> Option<String> {
        match nuncio_tools::beds::named(self.name) {
            Ok(bed) => bed.obstacle(),
            Err(error) => Some(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_bed_cannot_is_a_scenario() {
        for bed in BEDS {
            let scenarios = super::super::of_bed(bed);
            let names: Vec<_> = scenarios.iter().map(|test| &test.name).collect();
            for (scenario, _) in bed.cannot {
                let name = format!("{}::{scenario}", bed.name);
                assert!(names.contains(&&name), "{name}");
            }
        }
    }

    #[test]
    fn the_beds_are_those_of_the_host_tool() {
        let known: Vec<_> = nuncio_tools::beds::all()
            .iter()
            .map(|bed| bed.name())
            .collect();
        for bed in BEDS {
            assert!(known.contains(&bed.name), "{}", bed.name);
        }
        assert_eq!(known.len(), BEDS.len(), "a bed of the tool is not booted");
    }
}
