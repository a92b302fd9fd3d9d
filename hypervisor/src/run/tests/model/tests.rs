//! Random sequences, and the short ones in which machine and model once differed.

use alloc::vec::Vec;
use std::println;

use nuncio_abi::{Call, Deadline, Handle, Outgoing, Verb};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};

use super::choose::{place_of_deadline, Taste, OTHERS};
use super::{play, Setting};

const STEPS: usize = 2_000;

fn number(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{variable} is no number: {text}")),
        Err(_) => default,
    }
}

/// Plays random sequences until so many calls are made, and shortens the first that fails.
fn explore(name: &str, taste: Taste) {
    let wanted = number("NUNCIO_MODEL_CALLS", 216_000);
    let seed = number("NUNCIO_MODEL_SEED", 1);
    let (mut calls, mut made) = (0, (0, 0));
    let mut seen = alloc::collections::BTreeMap::new();
    let started = std::time::Instant::now();
    let mut round = 0u64;
    while calls < wanted {
        round += 1;
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        bytes[8..16].copy_from_slice(&round.to_le_bytes());
        let mut runner = TestRunner::new_with_rng(
            Config {
                cases: 1,
                failure_persistence: None,
                max_shrink_iters: 20_000,
                ..Config::default()
            },
            TestRng::from_seed(RngAlgorithm::ChaCha, &bytes),
        );
        let steps = proptest::collection::vec(any::<u64>(), 1..STEPS);
        let setting = (
            2usize..=4,
            prop_oneof![0u64..24, 600u64..1400],
            prop_oneof![8u64..40, 256u64..257],
        );
        let setting = setting.prop_map(move |(domains, slack_frames, kib)| Setting {
            domains,
            slack_frames,
            kernel_bytes: kib << 10,
            taste,
        });
        let played = core::cell::RefCell::new(super::Played::default());
        let result = runner.run(&(setting, steps), |(setting, steps)| {
            *played.borrow_mut() = play(&setting, &steps).map_err(TestCaseError::fail)?;
            Ok(())
        });
        match result {
            Err(TestError::Fail(reason, (setting, steps))) => {
                panic!("{name}: {reason}\n{setting:?}\n{steps:x?}")
            }
            Err(error) => panic!("{name}: {error}"),
            Ok(()) => {}
        }
        let played = played.into_inner();
        calls += played.calls;
        made = (made.0 + played.made.0, made.1 + played.made.1);
        for (what, count) in played.seen {
            *seen.entry(what).or_insert(0) += count;
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    println!("{name}: {calls} calls in {round} sequences, {seconds:.1} s");
    println!("domains made by domains: {}, with {} calls", made.0, made.1);
    println!("by verb and status: {seen:?}");
    assert_every_verb_succeeds(&taste, &seen);
}

/// A test that never gets past the errors would compare nothing.
fn assert_every_verb_succeeds(taste: &Taste, seen: &alloc::collections::BTreeMap<(u64, u64), u64>) {
    let verbs = taste
        .verbs
        .iter()
        .zip(0u64..)
        .filter(|(weight, _)| **weight > 0);
    // Who stops itself gets no answer, and no vcpu here can be run.
    let missing: Vec<u64> = verbs
        .map(|(_, verb)| verb)
        .filter(|verb| !matches!(verb, 9 | 16) && !seen.contains_key(&(*verb, 0)))
        .collect();
    assert!(
        missing.is_empty(),
        "verbs that never succeeded: {missing:?}"
    );
}

#[test]
fn everything_at_once_agrees_with_the_model() {
    let verbs = [1, 10, 12, 8, 4, 8, 6, 5, 4, 0, 8, 6, 5, 10, 10, 1, 1];
    let mut others = OTHERS;
    others[1] = 1;
    explore("everything", Taste { verbs, others });
}

#[test]
fn messages_and_calls_agree_with_the_model() {
    let verbs = [0, 12, 16, 4, 2, 0, 0, 2, 2, 0, 2, 3, 0, 22, 26, 0, 0];
    explore(
        "calls",
        Taste {
            verbs,
            others: OTHERS,
        },
    );
}

#[test]
fn events_and_timers_agree_with_the_model() {
    let verbs = [0, 4, 6, 16, 8, 0, 0, 3, 2, 0, 6, 2, 14, 3, 3, 0, 0];
    let mut others = OTHERS;
    others[0] = 5;
    explore("events", Taste { verbs, others });
}

#[test]
fn memory_and_handles_agree_with_the_model() {
    let verbs = [0, 4, 5, 0, 1, 20, 16, 6, 5, 0, 14, 10, 0, 2, 2, 1, 2];
    let mut others = OTHERS;
    others[2] = 3;
    explore("memory", Taste { verbs, others });
}

#[test]
fn domains_that_domains_make_agree_with_the_model() {
    let verbs = [0, 6, 6, 3, 3, 6, 2, 3, 6, 2, 22, 14, 2, 5, 5, 10, 0];
    explore(
        "domains",
        Taste {
            verbs,
            others: OTHERS,
        },
    );
}

/// A sequence in which all slept until the end of time would never come to its own end.
#[test]
fn every_deadline_of_a_call_is_known_to_be_one() {
    let (deadline, port) = (Deadline(0xDEAD_0000), Handle::new(1, 1));
    let message = Outgoing::registers(8, [1, 0, 0]);
    let calls = [
        Call::SendWaiting {
            port,
            message,
            deadline,
        },
        Call::Receive {
            port,
            deadline,
            buffer: 0,
        },
        Call::Wait { deadline },
        Call::Arm {
            timer: port,
            deadline,
        },
        Call::Call {
            port,
            message,
            deadline,
        },
    ];
    for call in calls {
        let raw = call.encode();
        let place = raw.arguments.iter().position(|word| *word == deadline.0);
        assert_eq!(place_of_deadline(&raw), place, "{call}");
    }
    let send = Call::Send { port, message }.encode();
    assert_eq!(place_of_deadline(&send), None);
    let with_deadline = |verb: &&Verb| {
        let arguments = verb.signature().arguments;
        let mut meanings = arguments.iter().map(|argument| argument.meaning);
        meanings.any(|meaning| meaning == nuncio_abi::Meaning::Deadline)
    };
    // `send` has one only with the bit in its header.
    assert_eq!(
        Verb::ALL.iter().filter(with_deadline).count() + 1,
        calls.len()
    );
}
