//! `ps`: the threads, and what interrupts each CPU.

use crate::shell::Code;
use crate::{irq, println, system, task};

pub(super) fn run(_: &[&str]) -> Code {
    println!(
        "{:>6} {:>3} {:8} {:>10} name",
        "thread", "CPU", "state", "run us"
    );
    for thread in task::all() {
        println!(
            "{:>6} {:>3} {:8} {:>10} {}",
            thread.number(),
            thread.cpu(),
            thread.state().name(),
            thread.run_ns() / 1000,
            thread.name()
        );
    }
    for cpu in 0..system::online_cpus() {
        let counts = irq::KIND_NAMES.iter().zip(irq::counts(cpu));
        crate::print!("CPU {cpu}:");
        for (name, count) in counts {
            crate::print!(" {name} {count}");
        }
        println!();
    }
    0
}
