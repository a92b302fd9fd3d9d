//! The guests of `guest-abi/examples/`, which know the ABI and nothing of the guest kernel.

use libtest_mimic::Failed;

use super::{Bed, Scenario};
use crate::run::{project, Outcome, Run};

pub const SCENARIOS: &[Scenario] = &[("hello", hello), ("hello_c", hello_c)];

fn example(bed: &Bed, name: &str) -> Result<Outcome, Failed> {
    let manifest = project().join(format!("guest-abi/examples/{name}/manifest.toml"));
    let text = std::fs::read_to_string(&manifest);
    let text = text.map_err(|error| format!("cannot read {}: {error}", manifest.display()))?;
    let outcome = Run::new(bed)?.manifest(&text)?.go()?;
    outcome.ends(0, "ok")?.exits(name, 0)?.returns_frames()?;
    Ok(outcome)
}

fn hello(bed: &Bed) -> Result<(), Failed> {
    let outcome = example(bed, "hello")?;
    outcome.check(
        console(&outcome, "hello") == ["hello from a small guest"],
        "it should say hello",
    )?;
    Ok(())
}

/// It says whose it is, and reads a clock that has run for a while, but not for an hour.
fn hello_c(bed: &Bed) -> Result<(), Failed> {
    let outcome = example(bed, "hello-c")?;
    let lines = console(&outcome, "hello-c");
    let ns = lines.get(1).and_then(|line| {
        let number = line.strip_prefix("the clock says ")?.strip_suffix(" ns")?;
        number.parse::<u64>().ok()
    });
    let is_plausible = ns.is_some_and(|ns| (1_000..3_600_000_000_000).contains(&ns));
    outcome.check(
        lines.len() == 2 && lines[0] == "hello from C in hello-c" && is_plausible,
        "it should say hello and the time",
    )?;
    Ok(())
}

/// The lines of a domain.
pub fn console<'a>(outcome: &'a Outcome, domain: &str) -> Vec<&'a str> {
    let prefix = format!("[{domain}] ");
    let lines = outcome.stdout.lines();
    lines
        .filter_map(|line| line.strip_prefix(&prefix))
        .collect()
}
