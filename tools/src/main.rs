//! `nuncio`: see `nuncio --help`.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use nuncio_tools::{app, cli::Cli};

fn main() -> ExitCode {
    ExitCode::from(app::main(&Cli::parse()))
}
