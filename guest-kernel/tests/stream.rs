//! The producer and the consumer against each other, and each against a peer that misbehaves.

use std::sync::Arc;
use std::thread;

use guest_kernel::boot::CommandLine;
use guest_kernel::hv::fake::{DomainId, FakeMachine, World};
use guest_kernel::hv::{Client, Machine};
use guest_kernel::programs::{consumer, producer, Context};
use nuncio_abi::{Deadline, Error, Rights};
use proptest::prelude::*;
use sha2::{Digest, Sha256};

const SLOT: usize = 64 << 10;

struct Pair {
    world: Arc<World>,
    producer: DomainId,
    consumer: DomainId,
}

fn pair(memory_bytes: usize, capacity: usize) -> Pair {
    let world = World::new();
    let (producer, consumer) = (world.domain(), world.domain());
    let port = world.port(capacity);
    let memory = world.memory(memory_bytes);
    let free = world.event();
    world.give(producer, "descriptors", port, Rights::SEND);
    world.give(consumer, "descriptors", port, Rights::RECEIVE);
    world.give(producer, "stream", memory, Rights::READ | Rights::WRITE);
    world.give(consumer, "stream", memory, Rights::READ);
    world.give(producer, "free", free, Rights::WAIT);
    world.give(consumer, "free", free, Rights::NOTIFY);
    Pair {
        world,
        producer,
        consumer,
    }
}

/// Runs a program in a thread of its own, with what it prints going to a text.
fn run(
    machine: FakeMachine,
    program: fn(&mut Context<'_, FakeMachine>) -> u64,
) -> thread::JoinHandle<(u64, String)> {
    thread::spawn(move || {
        let mut text = String::new();
        let boot = *machine.boot_info();
        let mut context = Context {
            machine: &machine,
            boot: &boot,
            words: CommandLine::new("peer=other"),
            out: &mut text,
        };
        let code = program(&mut context);
        machine.exit(code);
        (code, text)
    })
}

fn check_transfer(bytes: &[u8], slots: usize, capacity: usize) {
    let pair = pair(slots * SLOT, capacity);
    let producer_machine = pair.world.machine(pair.producer, &[("input", bytes)]);
    let consumer_machine = pair.world.machine(pair.consumer, &[]);
    let consumer = run(consumer_machine, consumer::run);
    let producer = run(producer_machine, producer::run);
    assert_eq!(producer.join().unwrap(), (0, String::new()));
    let sum: String = Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let line = format!("sha256 {sum} {} bytes\n", bytes.len());
    assert_eq!(consumer.join().unwrap(), (0, line));
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length)
        .map(|index| (index * 7 + index / 251) as u8)
        .collect()
}

#[test]
fn sizes_around_the_slots() {
    for length in [0, 1, SLOT - 1, SLOT, SLOT + 1, 5 * SLOT, 5 * SLOT + 17] {
        check_transfer(&pattern(length), 2, 16);
    }
}

#[test]
fn sixty_four_slots_and_more_memory_than_that() {
    check_transfer(&pattern(70 * SLOT), 64, 256);
    check_transfer(&pattern(70 * SLOT), 66, 256);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn any_input_arrives(length in 0usize..20 * SLOT, slots in 1usize..8, capacity in 1usize..6) {
        check_transfer(&pattern(length), slots, capacity);
    }
}

/// Runs the consumer against messages of a hostile producer, which then goes on existing.
fn consume(messages: &[[u64; 3]]) -> (u64, String) {
    let pair = pair(4 * SLOT, 64);
    let hostile = pair.world.machine(pair.producer, &[]);
    let boot = *hostile.boot_info();
    let port = Client::new(&hostile, &boot)
        .port("descriptors", Rights::SEND)
        .unwrap();
    for words in messages {
        port.send_words(*words).unwrap();
    }
    let consumer = run(pair.world.machine(pair.consumer, &[]), consumer::run);
    // It waits for ever, so that the clock moves.
    let sleeper = thread::spawn(move || {
        let boot = *hostile.boot_info();
        let free = Client::new(&hostile, &boot)
            .event("free", Rights::WAIT)
            .unwrap();
        while free.wait(0, Deadline(hostile.now_ns() + 1_000_000_000)) == Err(Error::TimedOut) {
            if hostile.now_ns() > 20_000_000_000 {
                break;
            }
        }
        hostile.exit(0);
    });
    let outcome = consumer.join().unwrap();
    sleeper.join().unwrap();
    outcome
}

#[test]
fn hostile_descriptors_are_refused() {
    for words in [
        [0, 1 | 4 << 8, 1],
        [0, 1, 64 * 1024 + 1],
        [0, 1, u64::MAX],
        [7, 1, 1],
        [0, 2, 1],
        [0, 9, 0],
        [0, 1 | 1 << 40, 1],
    ] {
        let (code, text) = consume(&[words]);
        assert_eq!(code, 1, "{words:x?}");
        assert!(
            text.starts_with("consumer: other sent a bad descriptor: "),
            "{text}"
        );
    }
}

#[test]
fn a_repeated_descriptor_is_refused() {
    let (code, text) = consume(&[[0, 1, 10], [0, 1, 10]]);
    assert_eq!(
        (code, text.as_str()),
        (1, "consumer: other sent a bad descriptor: Sequence\n")
    );
}

#[test]
fn a_silent_producer_is_given_up() {
    let (code, text) = consume(&[[0, 1, 10]]);
    assert_eq!(
        (code, text.as_str()),
        (1, "consumer: other sent nothing for 10 s\n")
    );
}

#[test]
fn a_producer_that_dies_is_noticed() {
    let pair = pair(4 * SLOT, 64);
    let consumer = run(pair.world.machine(pair.consumer, &[]), consumer::run);
    pair.world.kill(pair.producer);
    let (code, text) = consumer.join().unwrap();
    assert_eq!(
        (code, text.as_str()),
        (1, "consumer: other has gone before the end\n")
    );
}

#[test]
fn a_consumer_that_dies_is_noticed() {
    let pair = pair(SLOT, 2);
    let bytes = pattern(10 * SLOT);
    let machine = pair.world.machine(pair.consumer, &[]);
    let producer = run(
        pair.world.machine(pair.producer, &[("input", &bytes)]),
        producer::run,
    );
    let boot = *machine.boot_info();
    let port = Client::new(&machine, &boot)
        .port("descriptors", Rights::RECEIVE)
        .unwrap();
    assert!(port.receive(Deadline::NEVER).is_ok());
    pair.world.kill(pair.consumer);
    let (code, text) = producer.join().unwrap();
    assert_eq!((code, text.as_str()), (1, "producer: other has gone\n"));
}

#[test]
fn a_consumer_that_frees_no_slot_is_given_up() {
    let pair = pair(SLOT, 2);
    let bytes = pattern(10 * SLOT);
    let machine = pair.world.machine(pair.consumer, &[]);
    let producer = run(
        pair.world.machine(pair.producer, &[("input", &bytes)]),
        producer::run,
    );
    let boot = *machine.boot_info();
    let client = Client::new(&machine, &boot);
    let port = client.port("descriptors", Rights::RECEIVE).unwrap();
    let free = client.event("free", Rights::NOTIFY).unwrap();
    // It takes every message and frees slots that are not in use.
    while let Ok(_) | Err(Error::TimedOut) = port.receive(Deadline(machine.now_ns() + 1_000_000)) {
        let _ = free.notify(!1);
    }
    let (code, text) = producer.join().unwrap();
    assert_eq!(
        (code, text.as_str()),
        (1, "producer: other made no progress for 10 s\n")
    );
}

#[test]
fn missing_things_are_named() {
    let world = World::new();
    let domain = world.domain();
    let (code, text) = run(world.machine(domain, &[]), producer::run)
        .join()
        .unwrap();
    assert_eq!(
        (code, text.as_str()),
        (1, "producer: cannot use module input: bad-handle\n")
    );
    let domain = world.domain();
    let (code, text) = run(world.machine(domain, &[]), consumer::run)
        .join()
        .unwrap();
    assert_eq!(
        (code, text.as_str()),
        (1, "consumer: cannot use memory stream: bad-handle\n")
    );
}

#[test]
fn memory_without_room_for_a_slot_is_refused() {
    let pair = pair(SLOT - 4096, 2);
    let machine = pair.world.machine(pair.producer, &[("input", b"x")]);
    let (code, text) = run(machine, producer::run).join().unwrap();
    assert_eq!(code, 1);
    assert_eq!(
        text,
        "producer: stream has 61440 bytes, a slot takes 65536\n"
    );
}
