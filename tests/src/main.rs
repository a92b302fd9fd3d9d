//! `nuncio-boot-tests`: boots Nuncio on the test beds and checks what came of it. It takes the
//! arguments of `cargo test` binaries, `--bed NAME` to boot on some beds only, and `--record FILE`.

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use libtest_mimic::{Arguments, Trial};
use nuncio_tests::record::Recorder;
use nuncio_tests::scenarios::{self, BootTest};
use nuncio_tests::selection::{self, Selection};

/// Machines at a time: each one keeps a processor busy.
const MOST_THREADS: usize = 2;

#[derive(Parser)]
struct Options {
    /// Boot on this test bed only; may be given several times
    #[arg(long = "bed", value_name = "NAME")]
    beds: Vec<String>,
    /// Write what became of each test to FILE, a line of JSON each
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    #[command(flatten)]
    tests: Arguments,
}

fn main() -> ExitCode {
    let mut options = Options::parse();
    let selection = match selection::select(&options.beds) {
        Ok(selection) => selection,
        Err(refusal) => {
            eprintln!("{}", refusal.text);
            return ExitCode::from(refusal.exit_code);
        }
    };
    let threads = options.tests.test_threads.unwrap_or(MOST_THREADS);
    options.tests.test_threads = Some(threads.min(MOST_THREADS));
    let recorder = match options.record.as_deref().map(Recorder::create).transpose() {
        Ok(recorder) => Arc::new(recorder),
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    run(&options.tests, selection, &recorder)
}

fn run(arguments: &Arguments, selection: Selection, recorder: &Arc<Option<Recorder>>) -> ExitCode {
    for (bed, obstacle) in &selection.not_run {
        // `run.sh` shows these lines.
        println!("not run: {bed}: {obstacle}");
    }
    let mut tests = scenarios::of_beds(&selection.beds);
    tests.retain(|test| selection::is_chosen(arguments, &test.name, test.ignored.is_some()));
    if let Some(recorder) = recorder.as_ref() {
        for (bed, obstacle) in &selection.not_run {
            recorder.planned(bed, Some(&format!("not run: {obstacle}")));
        }
        for test in &tests {
            let runs_ignored = arguments.ignored || arguments.include_ignored;
            recorder.planned(&test.name, test.ignored.filter(|_| !runs_ignored));
        }
    }
    let trials = tests.into_iter().map(|test| trial(test, recorder.clone()));
    let conclusion = libtest_mimic::run(arguments, trials.collect());
    if let Some(recorder) = recorder.as_ref() {
        recorder.end();
    }
    conclusion.exit_code()
}

fn trial(test: BootTest, recorder: Arc<Option<Recorder>>) -> Trial {
    let BootTest { name, ignored, run } = test;
    let own_name = name.clone();
    let trial = Trial::test(name, move || match recorder.as_ref() {
        Some(recorder) => recorder.record(&own_name, run),
        None => run(),
    });
    trial.with_ignored_flag(ignored.is_some())
}
