//! `nuncio-junit`: makes a JUnit report of what `run.sh` has left in its scratch directory.

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use nuncio_tests::junit;

#[derive(Parser)]
struct Options {
    /// The directory with the stages of the run
    stages: PathBuf,
    /// The file to write
    target: PathBuf,
    /// The exit code of the run
    #[arg(long, value_name = "NUMBER")]
    status: i32,
}

fn main() -> ExitCode {
    let options = Options::parse();
    match junit::write(&options.stages, options.status, &options.target) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
