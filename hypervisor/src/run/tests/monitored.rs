//! Monitors and monitored guests that do anything at all. Whatever they do, the run ends, nothing
//! panics, and every frame comes back.

use core::sync::atomic::Ordering::Relaxed;

use nuncio_abi::{Call, CallToken, Create, Deadline, Handle, RawCall, Verb};
use proptest::prelude::*;
use std::vec::Vec;

use super::domains::{start, ONE};
use super::hostile::{deed, fatal_exit, number, perform, Deed};
use super::machine::script;
use super::monitors::{make, Monitored};
use super::objects::create;
use super::run;
use crate::mem::GuestPhysical;
use crate::vt::fake::{Guest, Script, ScriptResult};
use crate::vt::Exit;

/// What a monitor does.
#[derive(Clone, Debug)]
enum Turn {
    /// Runs its vcpu, in a space of its own or not.
    Run(bool, [u64; 3]),
    /// Takes an exit from its port and answers it so.
    Answer([u64; 3], u64),
    /// Answers with a token that it has made up.
    Guess(u64, [u64; 3]),
    Stop,
    Start,
    /// Gives up one of its handles.
    Close(usize),
    /// Writes into the state page.
    Write(usize, u64),
    Compute(u64),
}

fn answer() -> impl Strategy<Value = [u64; 3]> {
    let first = prop_oneof![
        6 => Just(0u64),
        6 => Just(1u64),
        2 => (0u64..256).prop_map(|vector| 1 << 16 | vector << 8),
        2 => (0u64..32, any::<bool>()).prop_map(|(vector, code)| {
            1 << 17 | vector << 8 | u64::from(code) << 18
        }),
        1 => number(),
    ];
    (first, any::<u64>(), any::<u64>()).prop_map(|(first, second, third)| [first, second, third])
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let turn = prop_oneof![
        12 => (any::<bool>(), answer()).prop_map(|(space, words)| Turn::Run(space, words)),
        12 => (answer(), 1u64..4).prop_map(|(words, length)| Turn::Answer(words, length)),
        1 => (any::<u64>(), answer()).prop_map(|(token, words)| Turn::Guess(token, words)),
        3 => Just(Turn::Stop),
        2 => Just(Turn::Start),
        1 => (0usize..5).prop_map(Turn::Close),
        4 => (0usize..4, any::<u64>()).prop_map(|(word, value)| Turn::Write(word, value)),
        4 => (0usize..512, number()).prop_map(|(word, value)| Turn::Write(word, value)),
        2 => (0u64..8_000_000).prop_map(Turn::Compute),
    ];
    proptest::collection::vec(turn, 0..60)
}

fn monitor(has_port: bool, exits: u64, turns: Vec<Turn>) -> Script {
    script(move |guest| {
        let made = make(guest, None, has_port.then_some(2), &[])?;
        made.page.set_exits(exits);
        let (space, _) = create(guest, Create::Space)?.unwrap();
        let _ = start(guest, made.child.vcpu, 0)?;
        for turn in turns {
            take(guest, &made, space, turn)?;
        }
        Ok(())
    })
}

fn take(guest: &mut Guest, made: &Monitored, space: Handle, turn: Turn) -> ScriptResult {
    let vcpu = made.child.vcpu;
    match turn {
        Turn::Run(in_space, [first, second, third]) => {
            let space = if in_space { space.raw() } else { 0 };
            let arguments = [vcpu.raw(), space, first, second, third];
            let verb = Verb::Run.number();
            let _ = guest.raw_call(RawCall { verb, arguments })?;
        }
        Turn::Answer(words, length) => {
            let Some(port) = made.receiver else {
                return Ok(());
            };
            let (deadline, buffer) = (Deadline(1), 0);
            let received = guest.call(Call::Receive {
                port,
                deadline,
                buffer,
            })?;
            if let Ok([header, ..]) = received {
                reply(guest, port, header & !0xFFFF_FFFF | (8 * length), words)?;
            }
        }
        Turn::Guess(token, words) => {
            let token = CallToken::from_header(token).map_or(0, CallToken::to_header);
            let port = made.receiver.unwrap_or(vcpu);
            reply(guest, port, token | 24, words)?;
        }
        Turn::Stop => {
            let _ = guest.call(Call::Stop {
                object: vcpu,
                code: 0,
            })?;
        }
        Turn::Start => {
            let _ = start(guest, vcpu, 0)?;
        }
        Turn::Close(which) => {
            let child = &made.child;
            let handles = [child.domain, child.space, child.vcpu, child.memory, space];
            let handle = handles[which];
            let _ = guest.call(Call::Close { handle })?;
        }
        Turn::Write(word, value) => {
            if let Some(page) = guest.words(GuestPhysical(super::monitors::STATE_ADDRESS)) {
                page[word].store(value, Relaxed);
            }
        }
        Turn::Compute(ns) => guest.compute(ns)?,
    }
    Ok(())
}

fn reply(guest: &mut Guest, port: Handle, header: u64, words: [u64; 3]) -> ScriptResult {
    let [first, second, third] = words;
    let verb = Verb::Reply.number();
    let used = (header & 0x7F) as usize / 8;
    let mut words = [first, second, third];
    words.iter_mut().skip(used).for_each(|word| *word = 0);
    let [first, second, third] = words;
    let arguments = [port.raw(), header, first, second, third];
    guest.raw_call(RawCall { verb, arguments }).map(|_| ())
}

/// What a guest that has a monitor does: more of what it needs one for.
fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let halt = Exit::Halt {
        interrupts_enabled: true,
    };
    let deed = prop_oneof![
        6 => deed(),
        3 => Just(Deed::Exit(halt)),
        2 => fatal_exit().prop_map(Deed::Exit),
    ];
    proptest::collection::vec(deed, 0..80)
}

fn child(deeds: Vec<Deed>) -> Script {
    script(move |guest| perform(guest, GuestPhysical(0), deeds))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_monitor_and_no_guest_of_one_harms_the_hypervisor(
        has_port: bool,
        exits in prop_oneof![Just(u64::MAX), Just(0), any::<u64>()],
        turns in turns(),
        deeds in deeds(),
    ) {
        let plan = ONE.replacen('\n', "\nlimit-ms 10000\n", 1);
        let outcome = run(&plan, std::vec![monitor(has_port, exits, turns), child(deeds)]);
        prop_assert_eq!(outcome.reports.len(), 1);
    }
}
