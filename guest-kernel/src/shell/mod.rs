//! The shell: commands, one file each, on the console's input or from `do=` on the command line.
//!
//! `do=COMMAND,COMMAND,...` runs these and ends the kernel with the first exit code that is not 0; `+` stands for a
//! space. The command `shell` reads others from the console, line by line.
#![forbid(unsafe_code)]

mod commands;
mod line;

use crate::interface::Console;
use crate::programs::ExitCode;
use crate::system::services;
use crate::{kernel, println, task};

use commands::{run_line, Outcome};
pub use line::LineEditor;

/// How long the shell sleeps before it looks for input again, where that interrupts nobody.
const LOOK_AGAIN_NS: u64 = 10_000_000;

/// Runs the commands of a script, and ends the kernel.
pub fn run_script(script: &str) -> ! {
    let mut code = 0;
    for command in script.split(',') {
        let command = command.replace('+', " ");
        match run_line(&command) {
            Outcome::Done(0) => {}
            Outcome::Done(failed) if code == 0 => code = failed,
            Outcome::Done(_) => {}
            Outcome::Halt => break,
        }
    }
    kernel::stop(code)
}

/// Reads commands from the console until one halts the kernel.
pub fn run() -> ! {
    let Some(console) = services().console.get() else {
        println!("there is no console to read commands from; name some with do=COMMAND,COMMAND");
        kernel::stop(crate::programs::BAD_COMMAND_LINE)
    };
    println!("type `help`");
    loop {
        let line = read_line(console);
        if let Outcome::Halt = run_line(&line) {
            kernel::stop(0);
        }
    }
}

fn read_line(console: &'static dyn Console) -> alloc::string::String {
    let mut editor = LineEditor::new();
    console.write(b"> ");
    loop {
        while let Some(byte) = console.read() {
            let typed = editor.take(byte);
            console.write(typed.echo());
            if let Some(line) = typed.line() {
                return line;
            }
        }
        task::sleep_until(crate::system::now_ns() + LOOK_AGAIN_NS);
    }
}

/// What a command ends with.
pub type Code = ExitCode;
