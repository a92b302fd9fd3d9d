//! Every target for a moment: its corpus, what once crashed it, and random changes of these.
//! `./run.sh fuzz` does the same for as long as one likes, and finds its way into the code.

use nuncio_fuzz::{mutate, regressions, Target, TARGETS};

/// Inputs made from the corpus of each target, from a fixed seed.
const CHANGES: u64 = 20_000;

fn target(name: &str) -> &'static Target {
    TARGETS.iter().find(|target| target.name == name).unwrap()
}

fn explore(name: &str) {
    let target = target(name);
    let corpus = (target.corpus)();
    assert!(!corpus.is_empty());
    for input in &corpus {
        assert!(
            (target.run)(input),
            "{name} refuses an input of its own corpus"
        );
    }
    let mut inputs = corpus;
    for input in regressions(name) {
        (target.run)(&input);
        inputs.push(input);
    }
    let mut random = fastrand::Rng::with_seed(1);
    let mut accepted = 0;
    for _ in 0..CHANGES {
        let mut input = inputs[random.usize(0..inputs.len())].clone();
        let other = inputs[random.usize(0..inputs.len())].clone();
        mutate(&mut input, &other, &mut random);
        accepted += u64::from((target.run)(&input));
    }
    // Changes that are all refused would stop at the first check.
    assert!(
        accepted > CHANGES / 1000,
        "{name}: {accepted} of {CHANGES} accepted"
    );
    assert!(accepted < CHANGES, "{name}: everything is accepted");
}

#[test]
fn calls_survive_noise() {
    explore("call");
}

#[test]
fn messages_survive_noise() {
    explore("message");
}

#[test]
fn manifests_survive_noise() {
    explore("manifest");
}

#[test]
fn plans_survive_noise() {
    explore("plan");
}

#[test]
fn images_survive_noise() {
    explore("image");
}

#[test]
fn boot_information_survives_noise() {
    explore("boot");
}
