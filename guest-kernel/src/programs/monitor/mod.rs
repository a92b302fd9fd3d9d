//! `program=monitor rounds=N`: makes domains and monitors their vcpus.
//!
//! In each round the children print by a serial port that the monitor plays, use its devices, are
//! interrupted, stopped, run in spaces of its own, and put into real mode. Prints `monitor <what> ok`
//! or says what went wrong; later rounds must not cost the account more than the first.

pub(super) mod code;
mod devices;
mod modes;
mod processes;
pub(super) mod stage;
mod turns;

use nuncio_abi::{Error, QueryItem};

use super::{Context, ExitCode, FAILED, GOOD};
use crate::hv::Client;
use crate::machine::Native;
use crate::println;
use stage::{Miss, Stage, Way};

/// Something that is shown, by its name.
type Show = (&'static str, fn(&Stage<'_>) -> Result<(), Miss>);

const SHOWS: [Show; 13] = [
    ("serial port", devices::serial),
    ("made-up registers by port", |stage| {
        devices::made_up(stage, Way::Port)
    }),
    ("made-up registers by run", |stage| {
        devices::made_up(stage, Way::Run)
    }),
    ("device memory by port", |stage| {
        devices::memory(stage, Way::Port)
    }),
    ("device memory by run", |stage| {
        devices::memory(stage, Way::Run)
    }),
    ("interrupt by port", |stage| {
        turns::interrupt(stage, Way::Port)
    }),
    ("interrupt by run", |stage| {
        turns::interrupt(stage, Way::Run)
    }),
    ("exception", |stage| turns::exception(stage, Way::Run)),
    ("two spaces", processes::in_two_spaces),
    ("timer", turns::recalled),
    ("stop", turns::stopped),
    ("real mode", modes::reset),
    ("refused state", turns::refused),
];

/// Windows through which a round looks at memory; each may need a page table, which stays for what is
/// mapped there next.
const WINDOWS: u64 = 4;
/// The most that the lists of handles and of what is mapped grow by.
const LISTS_BYTES: u64 = 8192;

/// Runs the program.
pub fn run(context: &mut Context<'_, Native>) -> ExitCode {
    let rounds = match context.number("rounds", 2) {
        Ok(rounds) => rounds,
        Err(code) => return code,
    };
    let stage = match Stage::new(context.client()) {
        Ok(stage) => stage,
        Err(error) => {
            println!("monitor FAILED: no memory: {error}");
            return FAILED;
        }
    };
    let mut is_good = true;
    let mut after_first = None;
    for round in 1..=rounds {
        for (what, show) in SHOWS {
            is_good &= tell(what, show(&stage));
        }
        is_good &= tell("account", check_account(&stage, round, &mut after_first));
    }
    if is_good {
        GOOD
    } else {
        FAILED
    }
}

fn tell(what: &str, shown: Result<(), Miss>) -> bool {
    match &shown {
        Ok(()) => println!("monitor {what} ok"),
        Err(miss) => println!("monitor {what} FAILED: {miss:?}"),
    }
    shown.is_ok()
}

fn check_account(
    stage: &Stage<'_>,
    round: u64,
    after_first: &mut Option<[u64; 2]>,
) -> Result<(), Miss> {
    let [frames, bytes] = used(&stage.client)?;
    let [first_frames, first_bytes] = *after_first.get_or_insert([frames, bytes]);
    if frames > first_frames + WINDOWS * (round - 1) || bytes > first_bytes + LISTS_BYTES {
        return Err(Miss::Account { frames, bytes });
    }
    Ok(())
}

fn used(client: &Client<'_, Native>) -> Result<[u64; 2], Error> {
    let domain = client.domain()?;
    let (frames, _) = domain.object().query(QueryItem::Usage)?;
    let (bytes, _) = domain.object().query(QueryItem::KernelUsage)?;
    Ok([frames, bytes])
}
