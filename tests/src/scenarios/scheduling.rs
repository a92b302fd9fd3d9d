//! Who gets the CPU: priorities and budgets, with instructions counted. A second of a machine's time takes some
//! three seconds on Bochs.

use libtest_mimic::Failed;

use super::examples::console;
use super::{Bed, Scenario};
use crate::run::{Outcome, Run};

pub const SCENARIOS: &[Scenario] = &[
    ("a_spinning_neighbour_delays_nobody_more_urgent", urgent),
    ("a_budget_is_kept_over_a_second", capped),
    ("a_budget_is_kept_on_an_idle_cpu", capped_alone),
    ("a_budget_is_kept_on_another_cpu", |bed| capped_on(bed, 2)),
    ("a_budget_is_kept_on_the_last_of_four_cpus", |bed| {
        capped_on(bed, 4)
    }),
    ("a_waiting_caller_gets_its_server_past_a_spinner", |bed| {
        answered(bed, 0, true)
    }),
    (
        "a_caller_gets_its_server_on_another_cpu_past_a_spinner",
        |bed| answered(bed, 1, false),
    ),
    (
        "a_waiting_caller_gets_its_server_on_another_cpu_past_a_spinner",
        |bed| answered(bed, 1, true),
    ),
    ("a_server_on_another_cpu_is_paid_by_its_caller", paid_afar),
];

/// By how much a deadline may be late on a CPU on which somebody else computes: entries and exits.
const MOST_LATE_NS: u64 = 100_000;

fn domain(name: &str, command_line: &str, keys: &str) -> String {
    format!(
        "[[domain]]\nname = \"{name}\"\nimage = \"guest-kernel\"\nmemory = \"4 MiB\"\n\
         command_line = \"{command_line}\"\n{keys}\n"
    )
}

fn go(bed: &Bed, domains: &[String]) -> Result<Outcome, Failed> {
    let outcome = Run::new(bed)?.manifest(&domains.concat())?.count().go()?;
    outcome.ends(0, "ok")?.returns_frames()?;
    Ok(outcome)
}

fn urgent(bed: &Bed) -> Result<(), Failed> {
    let late_ns = |priorities: [u64; 2]| -> Result<u64, Failed> {
        let [urgent, spinner] = priorities.map(|priority| format!("priority = {priority}"));
        let spinner = format!("background = true\n{spinner}");
        let outcome = go(
            bed,
            &[
                domain("urgent", "program=punctual turns=30", &urgent),
                domain("spinner", "program=spin", &spinner),
            ],
        )?;
        let said = console(&outcome, "urgent");
        let line = said.iter().find_map(|line| {
            let number = line.split_once("late by ")?.1.split_once(" ns")?.0;
            number.parse().ok()
        });
        line.ok_or_else(|| format!("it says {said:?}").into())
    };
    let late = late_ns([33, 32])?;
    if late > MOST_LATE_NS {
        return Err(format!("told too late by {late} ns").into());
    }
    // The spinner is one: as equals, it makes the other one wait for the end of its slice.
    let late = late_ns([32, 32])?;
    if late <= MOST_LATE_NS {
        return Err(format!("equals do not wait for each other: {late} ns").into());
    }
    Ok(())
}

/// How long a server works for each call.
const WORK_US: u64 = 1_000;
/// A call that waits for another one, and itself, and some exits.
const MOST_ANSWERED_NS: u64 = 3_000_000;

/// An urgent caller on the first CPU, and on another one or the same its server, which is less urgent than a
/// spinner there, and may be busy with the calls of somebody who is less urgent still.
fn answered(bed: &Bed, cpu: u64, is_busy: bool) -> Result<(), Failed> {
    let there = format!("cpu = {cpu}\nbackground = true");
    let worker = format!("program=worker work_us={WORK_US}");
    let receives = format!("{there}\npriority = 20\nports = {{ service = \"receive\" }}");
    let client = format!("{there}\npriority = 10\nports = {{ service = \"send\" }}");
    let mut domains = vec![
        format!("cpus = {}\n", cpu + 1),
        domain(
            "urgent",
            "program=caller turns=20 interval_us=2700 patience_ms=300",
            "cpu = 0\npriority = 40\nports = { service = \"send\" }",
        ),
        domain("server", &worker, &receives),
        domain("spinner", "program=spin", &there),
        "[[port]]\nname = \"service\"\n".to_owned(),
    ];
    if is_busy {
        let calls = "program=caller turns=0 interval_us=0";
        domains.push(domain("client", calls, &client));
    }
    let outcome = go(bed, &domains)?;
    let said = console(&outcome, "urgent");
    let line = said.iter().find_map(|line| {
        let number = line.split_once("of ")?.1.split_once(" ns")?.0;
        number.parse::<u64>().ok()
    });
    match line {
        Some(longest_ns) if longest_ns < MOST_ANSWERED_NS => Ok(()),
        _ => Err(format!("it says {said:?}").into()),
    }
}

/// The caller has 2 ms of each 10 ms, and uses them on a CPU on which it does not run itself: so the server does
/// no more, though it is urgent then and its own time is not limited.
fn paid_afar(bed: &Bed) -> Result<(), Failed> {
    // A call that is not answered when the budget is used up is given up, and another one lends anew.
    let calls = "program=caller turns=0 interval_us=0 patience_ms=5";
    let caller = "cpu = 0\npriority = 40\nbudget_us = 2000\nperiod_us = 10000\nbackground = true\n\
        ports = { service = \"send\" }";
    let server = "cpu = 1\npriority = 20\nbackground = true\nports = { service = \"receive\" }";
    let outcome = go(
        bed,
        &[
            "cpus = 2\n".to_owned(),
            domain("caller", calls, caller),
            domain("server", "program=worker work_us=500", server),
            domain("spinner", "program=spin ms=500", "cpu = 1"),
            "[[port]]\nname = \"service\"\n".to_owned(),
        ],
    )?;
    let [server, spinner] = [
        instructions(&outcome, "server")?,
        instructions(&outcome, "spinner")?,
    ];
    let share = server / (server + spinner);
    // What the caller needs itself to call is missing from it.
    if !(0.16..0.205).contains(&share) {
        return Err(format!("the server had {share:.4} of its CPU").into());
    }
    Ok(())
}

/// Instructions that were counted of a domain.
fn instructions(outcome: &Outcome, name: &str) -> Result<f64, Failed> {
    let counted = outcome.domain(name)["stop"]["instructions"].as_f64();
    counted.ok_or_else(|| format!("nothing was counted of {name}").into())
}

fn check_share(share: f64, expected: f64) -> Result<(), Failed> {
    if (share - expected).abs() > expected * 0.02 {
        return Err(format!("a share of {share:.4} instead of {expected}").into());
    }
    Ok(())
}

/// 2 ms of each 10 ms for the one, and the rest for the other, whose priority is lower. A period that has
/// begun when the second begins or ends makes a difference of one part in a hundred.
fn capped(bed: &Bed) -> Result<(), Failed> {
    check_capped(&go(bed, &a_capped_one_and_another(""))?)
}

/// The same on the last of several CPUs, while a spinner has each of the others.
fn capped_on(bed: &Bed, cpus: u64) -> Result<(), Failed> {
    let last = cpus - 1;
    let mut domains = vec![format!("cpus = {cpus}\n")];
    domains.extend(a_capped_one_and_another(&format!("cpu = {last}")));
    for cpu in 0..last {
        let keys = format!("cpu = {cpu}\nbackground = true");
        domains.push(domain(&format!("spinner-{cpu}"), "program=spin", &keys));
    }
    check_capped(&go(bed, &domains)?)
}

fn a_capped_one_and_another(keys: &str) -> [String; 2] {
    let budget = "priority = 40\nbudget_us = 2000\nperiod_us = 10000\nbackground = true";
    [
        domain("capped", "program=spin", &format!("{budget}\n{keys}")),
        domain("other", "program=spin ms=1000", keys),
    ]
}

fn check_capped(outcome: &Outcome) -> Result<(), Failed> {
    let [capped, other] = [
        instructions(outcome, "capped")?,
        instructions(outcome, "other")?,
    ];
    check_share(capped / (capped + other), 0.2)
}

/// The same beside somebody who only looks at the clock once in a while: nobody takes what is left.
fn capped_alone(bed: &Bed) -> Result<(), Failed> {
    let budget = "budget_us = 3000\nperiod_us = 10000\nbackground = true";
    let outcome = go(
        bed,
        &[
            domain("capped", "program=spin", budget),
            domain("other", "program=punctual turns=10 interval_us=100000", ""),
        ],
    )?;
    let budget = "budget_us = 6000\nperiod_us = 10000\nbackground = true";
    let twice = go(
        bed,
        &[
            domain("capped", "program=spin", budget),
            domain("other", "program=punctual turns=10 interval_us=100000", ""),
        ],
    )?;
    check_share(
        instructions(&outcome, "capped")? / instructions(&twice, "capped")?,
        0.5,
    )
}
