//! Which boot tests are run: on which beds, and by name.

use libtest_mimic::Arguments;

use crate::scenarios::{Bed, BEDS};

/// The beds to boot on.
#[derive(Default)]
pub struct Selection {
    /// Those that this host can run.
    pub beds: Vec<&'static Bed>,
    /// The names of those that it cannot, and why not.
    pub not_run: Vec<(&'static str, String)>,
}

/// Why nothing is run.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    /// A sentence for people.
    pub text: String,
    /// 2 for a wrong name, 3 for a bed that this host cannot run.
    pub exit_code: u8,
}

/// The beds of these names, or every bed if there is no name.
///
/// # Errors
/// There is no bed of that name, or the host cannot run one that was asked for.
pub fn select(names: &[String]) -> Result<Selection, Refusal> {
    select_where(names, Bed::obstacle)
}

fn select_where(
    names: &[String],
    obstacle: impl Fn(&Bed) -> Option<String>,
) -> Result<Selection, Refusal> {
    for name in names {
        let bed = Bed::named(name).ok_or_else(|| unknown(name))?;
        if let Some(obstacle) = obstacle(bed) {
            return Err(Refusal {
                text: format!("not run: the test bed {name} cannot be used: {obstacle}"),
                exit_code: 3,
            });
        }
    }
    let mut selection = Selection::default();
    for bed in BEDS {
        if !names.is_empty() && !names.iter().any(|name| name == bed.name) {
            continue;
        }
        match obstacle(bed) {
            None => selection.beds.push(bed),
            Some(obstacle) => selection.not_run.push((bed.name, obstacle)),
        }
    }
    Ok(selection)
}

fn unknown(name: &str) -> Refusal {
    let names: Vec<_> = BEDS.iter().map(|bed| bed.name).collect();
    Refusal {
        text: format!(
            "there is no test bed {name:?}; the beds are: {}",
            names.join(", ")
        ),
        exit_code: 2,
    }
}

/// Whether these arguments choose the test. What is decided here libtest-mimic decides again, the
/// same way; but it does not say beforehand what it is going to run.
pub fn is_chosen(arguments: &Arguments, name: &str, is_ignored: bool) -> bool {
    let matches = |pattern: &String| match arguments.exact {
        true => name == pattern,
        false => name.contains(pattern.as_str()),
    };
    arguments.filter.as_ref().is_none_or(matches)
        && !arguments.skip.iter().any(matches)
        && (is_ignored || !arguments.ignored)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(selection: &Selection) -> Vec<&str> {
        selection.beds.iter().map(|bed| bed.name).collect()
    }

    fn only_kvm(bed: &Bed) -> Option<String> {
        (bed.name == "kvm").then(|| "no flags".to_owned())
    }

    #[test]
    fn several_beds_are_booted_once_each() {
        let wanted = ["bochs-vmx", "qemu-svm", "bochs-vmx"].map(str::to_owned);
        let selection = select_where(&wanted, only_kvm).unwrap();
        assert_eq!(names(&selection), ["qemu-svm", "bochs-vmx"]);
        assert_eq!(selection.not_run, []);
    }

    #[test]
    fn a_bed_that_cannot_be_used_is_said_and_an_error_if_it_was_asked_for() {
        let selection = select_where(&[], only_kvm).unwrap();
        assert_eq!(selection.beds.len(), BEDS.len() - 1);
        assert_eq!(selection.not_run, [("kvm", "no flags".to_owned())]);
        let wanted = ["qemu-svm", "kvm"].map(str::to_owned);
        let refusal = select_where(&wanted, only_kvm).err().unwrap();
        assert_eq!(refusal.exit_code, 3);
        assert!(refusal.text.contains("no flags"), "{}", refusal.text);
    }

    #[test]
    fn a_wrong_name_is_answered_with_every_name() {
        let refusal = select_where(&["kwm".to_owned()], only_kvm).err().unwrap();
        assert_eq!(refusal.exit_code, 2);
        for bed in BEDS {
            assert!(refusal.text.contains(bed.name), "{}", refusal.text);
        }
    }

    #[test]
    fn tests_are_chosen_as_by_cargo_test() {
        let arguments = |words: &[&str]| Arguments::from_iter([&["x"], words].concat());
        for (words, name, is_ignored, expected) in [
            (&[][..], "a::b", false, true),
            (&[], "a::b", true, true),
            (&["b"], "a::b", false, true),
            (&["c"], "a::b", false, false),
            (&["--exact", "b"], "a::b", false, false),
            (&["--skip", "b"], "a::b", false, false),
            (&["--ignored"], "a::b", false, false),
            (&["--ignored"], "a::b", true, true),
        ] {
            let chosen = is_chosen(&arguments(words), name, is_ignored);
            assert_eq!(chosen, expected, "{words:?}");
        }
    }
}
