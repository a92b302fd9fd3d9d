//! A CPU with nothing to do is not interrupted.

use alloc::format;
use alloc::string::String;

use super::Judgement;
use crate::{irq, system, task};

const SLEEP_NS: u64 = 200_000_000;
/// The sleeper's own timer, and one that was set for a slice that ended early.
const MOST: u64 = 3;

pub(super) fn judge() -> Judgement {
    let cpus = system::online_cpus();
    let count = |cpu: usize| irq::counts(cpu).iter().sum::<u64>();
    let before: alloc::vec::Vec<_> = (0..cpus).map(count).collect();
    task::sleep_until(system::now_ns() + SLEEP_NS);
    for (cpu, before) in before.into_iter().enumerate() {
        let interrupts = count(cpu) - before;
        if interrupts > MOST {
            return Err(format!(
                "CPU {cpu} was interrupted {interrupts} times in {SLEEP_NS} ns"
            ));
        }
    }
    Ok(String::from("no tick"))
}
