//! `nuncio-boot-tests`: boots Nuncio on the test beds and checks what came of it. It takes the
//! arguments of `cargo test` binaries, and `--bed NAME` to boot on one bed only.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use libtest_mimic::Arguments;
use nuncio_tests::scenarios::{self, Bed};

/// Machines at a time: each one keeps a processor busy.
const MOST_THREADS: usize = 2;

#[derive(Parser)]
struct Options {
    /// Boot on this test bed only
    #[arg(long, value_name = "NAME")]
    bed: Option<String>,
    #[command(flatten)]
    tests: Arguments,
}

fn main() -> ExitCode {
    let mut options = Options::parse();
    let only = options.bed.as_deref().map(|name| (name, Bed::named(name)));
    if let Some((name, None)) = only {
        let names: Vec<_> = scenarios::BEDS.iter().map(|bed| bed.name).collect();
        eprintln!(
            "there is no test bed {name:?}; the beds are: {}",
            names.join(", ")
        );
        return ExitCode::from(2);
    }
    let only = only.and_then(|(_, bed)| bed);
    let threads = options.tests.test_threads.unwrap_or(MOST_THREADS);
    options.tests.test_threads = Some(threads.min(MOST_THREADS));
    libtest_mimic::run(&options.tests, scenarios::all(only)).exit_code()
}
