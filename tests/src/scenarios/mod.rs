//! What is booted: one file a theme, each scenario on every bed. A test's name is
//! `bed::theme::scenario`, or `all-beds::compare::scenario` where one test boots on each.

mod beds;
mod checked;
mod compare;
mod conformance;
mod counts;
mod cpus;
mod domains;
mod entries;
mod errors;
mod examples;
mod faults;
mod fixtures;
mod flushes;
mod image;
mod kernel;
mod monitors;
mod panics;
mod refusals;
mod scale;
mod scheduling;
mod several_cpus;
mod smp;
mod soak;
mod stream;
mod threads;
mod time;

use libtest_mimic::Failed;

pub use beds::{Bed, BEDS};

/// A scenario: a name and what is done on a bed.
type Scenario = (&'static str, fn(&Bed) -> Result<(), Failed>);

/// A scenario on a bed.
pub struct BootTest {
    /// `bed::theme::scenario`.
    pub name: String,
    /// Why the bed cannot pass it, if it cannot.
    pub ignored: Option<&'static str>,
    /// Boots, and checks what came of it.
    pub run: Box<dyn FnOnce() -> Result<(), Failed> + Send>,
}

/// Every test of these beds.
pub fn of_beds(beds: &[&'static Bed]) -> Vec<BootTest> {
    let mut tests: Vec<_> = beds.iter().flat_map(|bed| of_bed(bed)).collect();
    // Without all of them there is nothing to compare.
    let is_chosen = |bed: &Bed| beds.iter().any(|chosen| chosen.name == bed.name);
    if compare::beds().all(is_chosen) {
        tests.extend(compare::MANIFESTS.iter().map(|compared| BootTest {
            name: format!("all-beds::compare::{}", compared.name),
            ignored: None,
            run: Box::new(|| compare::is_equal(compared)),
        }));
    }
    tests
}

fn of_bed(bed: &'static Bed) -> Vec<BootTest> {
    let mut themes = vec![
        ("stream", stream::SCENARIOS),
        ("conformance", conformance::SCENARIOS),
        ("counts", counts::SCENARIOS),
        ("cpus", cpus::SCENARIOS),
        ("domains", domains::SCENARIOS),
        ("entries", entries::SCENARIOS),
        ("errors", errors::SCENARIOS),
        ("examples", examples::SCENARIOS),
        ("fixtures", fixtures::SCENARIOS),
        ("flushes", flushes::SCENARIOS),
        ("faults", faults::SCENARIOS),
        ("monitors", monitors::SCENARIOS),
        ("panics", panics::SCENARIOS),
        ("scale", scale::SCENARIOS),
        ("scheduling", scheduling::SCENARIOS),
        ("several-cpus", several_cpus::SCENARIOS),
        ("smp", smp::SCENARIOS),
        ("threads", threads::SCENARIOS),
        ("time", time::SCENARIOS),
    ];
    if soak::BEDS.contains(&bed.name) {
        themes.push(("soak", soak::SCENARIOS));
        themes.push(("scale", scale::COSTS));
    }
    // Once on each emulator: it does not matter there what the CPU could virtualize.
    match bed.name {
        "qemu-svm" => themes.extend([("kernel", kernel::ON_QEMU), ("threads", threads::ON_QEMU)]),
        "bochs-svm" => {
            themes.extend([("kernel", kernel::ON_BOCHS), ("threads", threads::ON_BOCHS)])
        }
        _ => {}
    }
    if bed.qemu.is_some() {
        themes.push(("checked", checked::SCENARIOS));
        themes.push(("cpus", cpus::MANY));
        themes.push(("image", image::SCENARIOS));
        themes.push(("panics", panics::DISTURBED));
        themes.push(("several-cpus", several_cpus::FAST));
        themes.push(("smp", smp::MANY));
        themes.push(("threads", threads::MANY));
        themes.push(("time", time::WITHOUT_PIT));
    }
    let plain = themes.into_iter().flat_map(|(theme, scenarios)| {
        scenarios.iter().map(move |(name, scenario)| {
            let scenario = *scenario;
            test(bed, theme, name, move || scenario(bed))
        })
    });
    let hostile = faults::HOSTILE.iter().map(|guest| {
        test(bed, "faults", &guest.name(), move || {
            faults::survives(bed, guest)
        })
    });
    let fatal = panics::FATAL.iter().map(|fatal| {
        test(bed, "panics", &fatal.name(), move || {
            panics::is_reported(bed, fatal)
        })
    });
    let refused = refusals::REFUSALS
        .iter()
        .filter(|refusal| refusal.bed == bed.name);
    let refused = refused.map(|refusal| {
        test(bed, "refusals", refusal.name, move || {
            refusals::is_refused(bed, refusal)
        })
    });
    plain
        .chain(hostile)
        .chain(fatal)
        .chain(refused)
        .chain(kept(bed))
        .chain(on_kvm(bed))
        .collect()
}

/// What runs on this computer's own CPU, once.
fn on_kvm(bed: &'static Bed) -> Vec<BootTest> {
    if bed.name != "qemu-svm" {
        return Vec::new();
    }
    let obstacle = threads::kvm_obstacle();
    let tests = threads::ON_KVM.iter().map(|(name, scenario)| BootTest {
        ignored: obstacle,
        ..test(bed, "threads", name, move || scenario(bed))
    });
    tests.collect()
}

/// A test for each image that was kept; one that fails if they cannot be listed.
fn kept(bed: &'static Bed) -> Vec<BootTest> {
    let fixtures = match fixtures::all() {
        Ok(fixtures) => fixtures,
        Err(error) => {
            let failed = format!("the fixtures cannot be listed: {error}");
            return vec![test(bed, "fixtures", "listed", || Err(failed.into()))];
        }
    };
    let tests = fixtures.into_iter().map(|fixture| {
        test(bed, "fixtures", &fixture.name(), move || {
            fixtures::runs_or_is_refused(bed, &fixture)
        })
    });
    tests.collect()
}

fn test(
    bed: &Bed,
    theme: &str,
    name: &str,
    run: impl FnOnce() -> Result<(), Failed> + Send + 'static,
) -> BootTest {
    let scenario = format!("{theme}::{name}");
    BootTest {
        name: format!("{}::{scenario}", bed.name),
        ignored: bed.cannot(&scenario),
        run: Box::new(run),
    }
}
