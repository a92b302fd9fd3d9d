//! Whole runs on the host: plans are launched, scripts are the guests, and everything between
//! the world switch and the report is the real code.

mod both_ways;
mod domains;
mod faults;
mod hostile;
mod leaving;
mod lending;
mod machine;
mod model;
mod monitored;
mod monitors;
mod moving;
mod objects;
mod order;
mod scheduling;
mod several_cpus;
mod sleeping;
mod submitting;
mod talking;
mod throttling;
mod vcpus;

use machine::{run, run_traced, stop, Outcome};
