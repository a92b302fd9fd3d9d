//! A test under many schedules.

use std::env;

use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, Runner};

/// Where the schedules begin, so that a failure comes again; `SHUTTLE_RANDOM_SEED` begins elsewhere.
const SEED: u64 = 1;

/// Most switches between threads that a schedule is made of, with the second kind of scheduler.
const PCT_DEPTH: usize = 4;

/// The beds' frames of the stack are large in a build without optimization.
const STACK_BYTES: usize = 256 << 10;

/// Runs `test` under so many schedules, half of them with a random choice at every step, half with
/// few switches at random steps (PCT). `NUNCIO_SCHEDULES=N` tries N times as many.
///
/// What fails, or comes to a deadlock, is reported with a schedule for `shuttle::replay`.
pub fn explore(schedules: usize, test: impl Fn() + Send + Sync + Clone + 'static) {
    let times = env::var("NUNCIO_SCHEDULES").ok();
    let times = times.map_or(1, |times| times.parse().expect("a number of times"));
    let half = schedules * times / 2;
    let random = RandomScheduler::new_from_seed(SEED, half);
    Runner::new(random, config()).run(test.clone());
    let few_switches = PctScheduler::new_from_seed(SEED, PCT_DEPTH, half);
    Runner::new(few_switches, config()).run(test);
}

fn config() -> Config {
    let mut config = Config::new();
    config.stack_size = STACK_BYTES;
    // That weaker orders count as sequentially consistent is known: the tests of the shared pages
    // use loom.
    config.silence_warnings = true;
    config
}
