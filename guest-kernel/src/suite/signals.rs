//! A signal to a CPU interrupts it, once for each that it is sent when the one before has arrived.

use alloc::format;
use alloc::string::String;

use super::{wait_until, Judgement, PATIENCE_NS};
use crate::interface::Signal;
use crate::system::services;
use crate::{irq, system};

const SIGNALS: u64 = 100;

pub(super) fn judge() -> Judgement {
    let Some(smp) = services().smp.get() else {
        return Ok(String::from("one CPU, and nobody who could send any"));
    };
    let cpus = system::online_cpus();
    for cpu in 0..cpus {
        let count = || irq::counts(cpu)[1 + usize::from(Signal::Flush.number())];
        for _ in 0..SIGNALS {
            let before = count();
            smp.signal(cpu, Signal::Flush);
            wait_until("a signal arrives", PATIENCE_NS, || count() > before)?;
            if count() != before + 1 {
                return Err(format!(
                    "one signal interrupted CPU {cpu} {} times",
                    count() - before
                ));
            }
        }
    }
    Ok(format!("{SIGNALS} to each of {cpus} CPUs"))
}
