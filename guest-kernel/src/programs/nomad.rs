//! `program=nomad moves=N cpus=M`: a child that counts is stopped, moved to the next of M CPUs and started
//! again, N times.
//!
//! This program runs on CPU 0, with a higher priority. While the child is elsewhere it must count although its
//! maker computes; nobody could who shared the CPU with it. Prints `nomad: N moves, N elsewhere`, or what went
//! wrong.
#![forbid(unsafe_code)]

use nuncio_abi::{BudgetChange, Error, StopReason};

use super::children::{counting, start, Counting};
use super::{Context, ExitCode, FAILED, GOOD};
use crate::hv::{rest_until, Client, Machine};
use crate::machine::Native;
use crate::println;

/// How long the child may take until it counts.
const PATIENCE_NS: u64 = 10_000_000_000;
/// The child's; its maker has 32 from the manifest.
const PRIORITY: u8 = 31;
/// How long its maker sleeps for it on the CPU that they share.
const REST_NS: u64 = 100_000;

/// What went wrong.
#[derive(Debug)]
#[expect(dead_code, reason = "read by people, through Debug")]
enum Miss {
    Refused(Error),
    Ended(StopReason, u64),
    DoesNotCount { moves: u64, cpu: u8 },
    RunsThoughStopped { moves: u64 },
}

impl From<Error> for Miss {
    fn from(error: Error) -> Self {
        Miss::Refused(error)
    }
}

/// Runs the program.
pub fn run(context: &mut Context<'_, Native>) -> ExitCode {
    let (moves, cpus) = match (context.number("moves", 10), context.number("cpus", 1)) {
        (Ok(moves), Ok(cpus)) => (moves, cpus.clamp(1, u64::from(u8::MAX))),
        (Err(code), _) | (_, Err(code)) => return code,
    };
    match wander(&context.client(), moves, cpus) {
        Ok(elsewhere) => {
            println!("nomad: {moves} moves, {elsewhere} elsewhere");
            GOOD
        }
        Err(why) => {
            println!("nomad FAILED: {why:?}");
            FAILED
        }
    }
}

/// The value says how often the child ran while its maker did.
fn wander(client: &Client<'_, Native>, moves: u64, cpus: u64) -> Result<u64, Miss> {
    let machine = client.machine();
    let nomad = counting(client, None)?;
    let vcpu = nomad.child.create_vcpu(&nomad.memory, None, None)?;
    vcpu.schedule(Some(PRIORITY), BudgetChange::Keep)?;
    let mut elsewhere = 0;
    for round in 1..=moves {
        let cpu = (round % cpus) as u8;
        vcpu.move_to(cpu)?;
        let before = nomad.count();
        vcpu.start(start(0))?;
        let give_up_ns = machine.now_ns() + PATIENCE_NS;
        while nomad.count() == before {
            let now_ns = machine.now_ns();
            if now_ns > give_up_ns {
                return Err(miss(&nomad, round, cpu)?);
            }
            if cpu == 0 {
                rest_until(machine, now_ns + REST_NS);
            }
        }
        elsewhere += u64::from(cpu != 0);
        vcpu.stop()?;
        let stopped = nomad.count();
        rest_until(machine, machine.now_ns() + REST_NS);
        if nomad.count() != stopped {
            return Err(Miss::RunsThoughStopped { moves: round });
        }
    }
    nomad.child.destroy()?;
    Ok(elsewhere)
}

fn miss(nomad: &Counting<'_>, moves: u64, cpu: u8) -> Result<Miss, Error> {
    Ok(match nomad.child.status()? {
        (StopReason::Running, _) => Miss::DoesNotCount { moves, cpu },
        (reason, detail) => Miss::Ended(reason, detail),
    })
}
