//! What can be typed.

use alloc::vec::Vec;

use crate::programs::BAD_COMMAND_LINE;
use crate::{println, suite};

mod memory;
mod threads;
mod time;
mod why;

use super::Code;

/// What becomes of a line.
pub(super) enum Outcome {
    /// The command has ended with that code.
    Done(Code),
    /// The kernel is to end.
    Halt,
}

struct Command {
    name: &'static str,
    words: &'static str,
    help: &'static str,
    run: fn(&[&str]) -> Code,
}

const COMMANDS: [Command; 8] = [
    Command {
        name: "help",
        words: "",
        help: "list the commands",
        run: help,
    },
    Command {
        name: "ps",
        words: "",
        help: "list the threads, and what interrupts each CPU",
        run: threads::run,
    },
    Command {
        name: "mem",
        words: "",
        help: "how much memory is used",
        run: memory::run,
    },
    Command {
        name: "time",
        words: "",
        help: "how long the kernel runs",
        run: time::run,
    },
    Command {
        name: "why",
        words: "",
        help:
            "which backend serves each interface, why the others do not, and how often it was used",
        run: why::run,
    },
    Command {
        name: "run",
        words: "[BEHAVIOUR]",
        help: "run the suite of behaviours, or one of them",
        run: suite::run,
    },
    Command {
        name: "stress",
        words: "[SECONDS]",
        help: "make, wake and end threads on all CPUs at random",
        run: suite::stress,
    },
    Command {
        name: "shell",
        words: "",
        help: "read commands from the console",
        run: |_| super::run(),
    },
];

/// Runs a command with its words.
pub(super) fn run_line(line: &str) -> Outcome {
    let words: Vec<_> = line.split_ascii_whitespace().collect();
    let Some((name, words)) = words.split_first() else {
        return Outcome::Done(0);
    };
    if *name == "halt" {
        return Outcome::Halt;
    }
    match COMMANDS.iter().find(|command| command.name == *name) {
        Some(command) => Outcome::Done((command.run)(words)),
        None => {
            println!("there is no command {name}; type `help`");
            Outcome::Done(BAD_COMMAND_LINE)
        }
    }
}

fn help(_: &[&str]) -> Code {
    for command in &COMMANDS {
        println!("{:7}{:12} {}", command.name, command.words, command.help);
    }
    println!("{:7}{:12} end the kernel", "halt", "");
    0
}
