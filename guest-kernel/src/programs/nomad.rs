//! `program=nomad moves=N cpus=M`: children move to the next of M CPUs, N times each.
//!
//! This program runs on CPU 0, with a higher priority. The first child counts; it is stopped, moved and started
//! again. The second counts, too, and is moved while it runs: it has all its registers filled and looks at them
//! all the time. The third is moved while it waits for the answer to a call. While a child is elsewhere it must
//! count although its maker computes; nobody could who shared the CPU with it. Prints
//! `nomad: N moves, N elsewhere`, `nomad: N moves of one that runs` and `nomad: N moves of one that calls`, or
//! what went wrong.
#![forbid(unsafe_code)]

use nuncio_abi::{BudgetChange, Deadline, Error, Message, Rights, StopReason};

use super::children::{counting, counting_by, start, Counting};
use super::nomad_code::{calls, remembers};
use super::{Context, ExitCode, FAILED, GOOD};
use crate::hv::{rest_until, Client, Ends, Machine, Port, Vcpu};
use crate::machine::Native;
use crate::println;

/// How long a child may take until it counts.
const PATIENCE_NS: u64 = 10_000_000_000;
/// The children's; their maker has 32 from the manifest.
const PRIORITY: u8 = 31;
/// How long their maker sleeps for them on the CPU that they share.
const REST_NS: u64 = 100_000;
/// A slot of the vcpu page that manifests do not use.
const SLOT: usize = 50;
/// With what the second child fills its registers.
const SEED: u64 = 0x4E6F_6D61_6473_0000;

/// What went wrong.
#[derive(Debug)]
#[expect(dead_code, reason = "read by people, through Debug")]
enum Miss {
    Refused(Error),
    Ended(StopReason, u64),
    DoesNotCount { moves: u64, cpu: u8 },
    RunsThoughStopped { moves: u64 },
    OtherCall { moves: u64, number: u64 },
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
        Ok(()) => GOOD,
        Err(why) => {
            println!("nomad FAILED: {why:?}");
            FAILED
        }
    }
}

fn wander(client: &Client<'_, Native>, moves: u64, cpus: u64) -> Result<(), Miss> {
    let elsewhere = between_two_lives(client, moves, cpus)?;
    println!("nomad: {moves} moves, {elsewhere} elsewhere");
    while_it_runs(client, moves, cpus)?;
    println!("nomad: {moves} moves of one that runs");
    while_it_calls(client, moves, cpus)?;
    println!("nomad: {moves} moves of one that calls");
    Ok(())
}

/// The value says how often the child ran while its maker did.
fn between_two_lives(client: &Client<'_, Native>, moves: u64, cpus: u64) -> Result<u64, Miss> {
    let machine = client.machine();
    let nomad = counting(client, None)?;
    let vcpu = settler(&nomad)?;
    let mut elsewhere = 0;
    for round in 1..=moves {
        let cpu = (round % cpus) as u8;
        vcpu.move_to(cpu)?;
        let before = nomad.count();
        vcpu.start(start(0))?;
        await_count(machine, &nomad, before + 1, (round, cpu))?;
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

fn while_it_runs(client: &Client<'_, Native>, moves: u64, cpus: u64) -> Result<(), Miss> {
    let machine = client.machine();
    let nomad = counting_by(remembers(), client, None)?;
    let vcpu = settler(&nomad)?;
    vcpu.start(start(SEED))?;
    for round in 1..=moves {
        let cpu = (round % cpus) as u8;
        vcpu.move_to(cpu)?;
        let before = nomad.count();
        await_count(machine, &nomad, before + 2, (round, cpu))?;
    }
    Ok(nomad.child.destroy()?)
}

fn while_it_calls(client: &Client<'_, Native>, moves: u64, cpus: u64) -> Result<(), Miss> {
    let machine = client.machine();
    let nomad = counting_by(calls(), client, None)?;
    let Ends { near, far } = client.create_port(1, SLOT)?;
    let port = nomad.child.give(far.object(), Rights::SEND, 0)?;
    let vcpu = settler(&nomad)?;
    vcpu.start(start(port.raw()))?;
    for round in 1..=moves {
        answer_elsewhere(&near, &vcpu, round, cpus)?;
        // It may have the answer before its maker goes on, or after that.
        await_count(machine, &nomad, round, (round, (round % cpus) as u8))?;
    }
    Ok(nomad.child.destroy()?)
}

/// Moves the child, which sleeps in its call, once or twice before it gets its answer, or right behind that.
fn answer_elsewhere(
    port: &Port<'_, Native>,
    vcpu: &Vcpu<'_, Native>,
    round: u64,
    cpus: u64,
) -> Result<(), Miss> {
    let received = port.receive(Deadline::NEVER)?;
    let [number, ..] = received.message.words;
    let token = received.token.filter(|_| number + 1 == round);
    let Some(token) = token else {
        let moves = round;
        return Err(Miss::OtherCall { moves, number });
    };
    let [next, other] = [round % cpus, (round + 1) % cpus].map(|cpu| cpu as u8);
    if round.is_multiple_of(3) {
        vcpu.move_to(other)?;
    }
    if round.is_multiple_of(2) {
        vcpu.move_to(next)?;
    }
    let mut answer = Message::from_bytes(&[0; 8]).ok_or(Error::BadArgument)?;
    answer.words[0] = number + 1;
    port.reply(token, &answer)?;
    Ok(vcpu.move_to(next)?)
}

/// The vcpu of a child, with less priority than its maker.
fn settler<'m>(nomad: &Counting<'m>) -> Result<Vcpu<'m, Native>, Error> {
    let vcpu = nomad.child.create_vcpu(&nomad.memory, None, None)?;
    vcpu.schedule(Some(PRIORITY), BudgetChange::Keep)?;
    Ok(vcpu)
}

/// Waits until the child has counted so far, which has been moved so often and is on that CPU.
fn await_count(
    machine: &Native,
    nomad: &Counting<'_>,
    count: u64,
    (moves, cpu): (u64, u8),
) -> Result<(), Miss> {
    let give_up_ns = machine.now_ns() + PATIENCE_NS;
    while nomad.count() < count {
        let now_ns = machine.now_ns();
        if now_ns > give_up_ns {
            return Err(match nomad.child.status()? {
                (StopReason::Running, _) => Miss::DoesNotCount { moves, cpu },
                (reason, detail) => Miss::Ended(reason, detail),
            });
        }
        if cpu == 0 {
            rest_until(machine, now_ns + REST_NS);
        }
    }
    Ok(())
}
