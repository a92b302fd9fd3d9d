//! Random programs of calls, each made both ways on two equal machines: every call by itself, and
//! all of them through a ring. What they give and leave behind is the same.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;
use std::sync::Mutex;

use nuncio_abi::{
    Call, Create, Error, Handle, Header, Meaning, ObjectKind, QueryItem, RawCall, Reply, Rights,
    VcpuPage, Verb, MAX_INTERVAL_NS, MAX_VALUES, RING_ENTRIES,
};
use proptest::prelude::*;
use proptest::sample::select;

use super::domains::ONE;
use super::machine::script;
use super::submitting::{ring, submit, RING};
use super::{run, stop};
use crate::mem::GuestPhysical;
use crate::vt::fake::{Gone, Guest};

/// Where memory is mapped.
const WINDOW: u64 = 0x4000_0000;
/// RAM for messages.
const BUFFERS: u64 = 0x20_0000;
const PAGE: u64 = 0x1000;
/// Places of the table of handles that programs know.
const PLACES: u64 = 24;
const SLOTS: usize = 4;

#[derive(Clone, Debug)]
enum Step {
    Call(RawCall),
    Take(usize),
    Enable(usize, u64),
    Write(u64, u64),
}

/// What a program has found and left.
#[derive(Default, PartialEq, Debug)]
struct Record {
    replies: Vec<Result<[u64; MAX_VALUES], Error>>,
    taken: Vec<u64>,
    state: Vec<Option<[u64; MAX_VALUES]>>,
    memory: Vec<u64>,
}

/// Where `furnish` finds and puts handles: kind, rights that verbs ask for, place in the table.
const FURNITURE: [(ObjectKind, Rights, u64); 10] = [
    (ObjectKind::Domain, Rights::STOP, 0),
    (ObjectKind::Vcpu, Rights::NONE, 1),
    (ObjectKind::Space, Rights::MAP, 2),
    (ObjectKind::Port, Rights::SEND, 5),
    (ObjectKind::Event, Rights::WAIT, 6),
    (ObjectKind::Event, Rights::NOTIFY, 7),
    (ObjectKind::Port, Rights::RECEIVE, 8),
    (ObjectKind::Port, Rights::SEND, 9),
    (ObjectKind::Memory, PAGE_ACCESS, 10),
    (ObjectKind::Timer, Rights::ARM, 11),
];
const PAGE_ACCESS: Rights = Rights::from_set(&[Rights::READ, Rights::WRITE]);

/// Mostly one that the verb takes, at first.
fn handles(kinds: &'static [ObjectKind], rights: Rights) -> impl Strategy<Value = u64> {
    let fits = FURNITURE.iter().filter(|(kind, allowed, _)| {
        (kinds.is_empty() || kinds.contains(kind)) && allowed.contains(rights)
    });
    let mut fits: Vec<u64> = fits.map(|(.., place)| 1 << 16 | place).collect();
    if fits.is_empty() {
        fits.push(0);
    }
    prop_oneof![
        16 => select(fits),
        4 => (1u64..3, 0..PLACES).prop_map(|(generation, place)| generation << 16 | place),
        1 => select(vec![0, 1 << 32, 0x1_03FF, u64::MAX]),
    ]
}

fn addresses() -> impl Strategy<Value = u64> {
    prop_oneof![
        (0u64..6).prop_map(|page| WINDOW + page * PAGE),
        (0u64..6).prop_map(|place| BUFFERS + place * 128),
        select(Meaning::Address.words()),
    ]
}

fn words(meaning: Meaning) -> BoxedStrategy<u64> {
    match meaning {
        Meaning::Handle { kinds, rights } => handles(kinds, rights).boxed(),
        Meaning::Header => {
            select(vec![0, 8, 16, 24, 0x80, 0xC0, 0x108, 0x1C0, 0x200, 0x19]).boxed()
        }
        Meaning::Address => addresses().boxed(),
        Meaning::Words => prop_oneof![
            2 => Just(0),
            2 => addresses(),
            2 => handles(&[], Rights::NONE).prop_map(|handle| handle | 0x208 << 32),
            1 => select(meaning.words()),
        ]
        .boxed(),
        // Time passes differently: what matters is what comes before what.
        Meaning::Deadline => prop_oneof![
            200 => select(vec![0, 1, 100_000_000_000, 200_000_000_000, 300_000_000_000]),
            1 => Just(u64::MAX),
        ]
        .boxed(),
        // Longer than a sequence takes, whatever the way.
        Meaning::Interval => select(vec![0, 0, MAX_INTERVAL_NS, MAX_INTERVAL_NS + 1]).boxed(),
        Meaning::Slot => select(vec![0, 1, 2, 3, 3, 63, 64]).boxed(),
        Meaning::ReplyHeader => (select(vec![0u64, 8, 24, 0xC0, 0x800]), 0u64..3, 1u64..4)
            .prop_map(|(header, place, generation)| header | place << 32 | generation << 48)
            .boxed(),
        meaning => prop_oneof![
            1 => Just(meaning.words()[0]),
            2 => select(meaning.words()),
        ]
        .boxed(),
    }
}

/// A call of a verb, with words in its registers that are worth trying there.
fn call(verb: Verb) -> BoxedStrategy<RawCall> {
    let signature = verb.signature();
    let kinds = signature.kinds.iter().map(Some);
    let kinds = kinds.chain(signature.kinds.is_empty().then_some(None));
    let forms = kinds.map(|form| {
        let further = form.map_or(&[][..], |form| form.arguments);
        let mut registers = [const { None }; 5];
        for argument in signature.arguments.iter().chain(further) {
            for register in argument.registers {
                let place = nuncio_abi::Register::ARGUMENTS
                    .iter()
                    .position(|other| other == register);
                registers[place.unwrap()] = Some(argument.meaning);
            }
        }
        let mut words: Vec<BoxedStrategy<u64>> = registers
            .into_iter()
            .map(|meaning| meaning.map_or(Just(0).boxed(), words))
            .collect();
        if let Some(form) = form {
            words[0] = Just(form.kind.number()).boxed();
        }
        words
            .prop_map(move |words| RawCall {
                verb: verb.number(),
                arguments: words.try_into().unwrap(),
            })
            .boxed()
    });
    proptest::strategy::Union::new(forms.collect::<Vec<_>>()).boxed()
}

/// Mostly clears what lies past a message in registers.
fn tidy(raw: RawCall, is_tidy: bool) -> RawCall {
    let has_message = [Verb::Send, Verb::Call, Verb::Reply].map(Verb::number);
    if !is_tidy || !has_message.contains(&raw.verb) {
        return raw;
    }
    let header = Header::from_raw(raw.arguments[1] & 0x7FF);
    let used = match header {
        Ok(header) if header.in_memory => 1,
        Ok(header) => header.words(),
        Err(_) => 3,
    };
    let mut tidied = raw;
    let room = if raw.verb == Verb::Call.number() {
        2
    } else {
        3
    };
    for word in tidied.arguments[2..2 + room].iter_mut().skip(used) {
        *word = 0;
    }
    tidied
}

/// Whether a program may make it: not if the ring would go, or a vcpu would start, which runs at other
/// times then.
fn is_fit(raw: &RawCall) -> bool {
    let [_, address, length, ..] = raw.arguments;
    match Verb::from_number(raw.verb) {
        Some(Verb::Unmap) => address > RING || address.saturating_add(length) <= RING,
        Some(Verb::Start | Verb::Run | Verb::Schedule) => false,
        _ => true,
    }
}

fn steps() -> impl Strategy<Value = Step> {
    let weighted = Verb::ALL.iter().filter_map(|verb| {
        let weight = match verb {
            Verb::Submit | Verb::Start | Verb::Run | Verb::Schedule => return None,
            Verb::Stop => 1,
            Verb::Wait | Verb::Hello | Verb::Close => 8,
            _ => 20,
        };
        Some((weight, call(*verb)))
    });
    let calls = proptest::strategy::Union::new_weighted(weighted.collect());
    prop_oneof![
        40 => (calls, prop::bool::weighted(0.9))
            .prop_map(|(raw, is_tidy)| tidy(raw, is_tidy))
            .prop_filter("not in a ring", is_fit)
            .prop_map(Step::Call),
        3 => (0..SLOTS).prop_map(Step::Take),
        3 => (0..SLOTS, select(vec![0, 1, 3, u64::MAX])).prop_map(|(slot, bits)| Step::Enable(slot, bits)),
        2 => (0u64..6 * 16, any::<u64>()).prop_map(|(word, value)| Step::Write(word, value)),
        1 => any::<[u64; 5]>().prop_map(|arguments| Step::Call(RawCall { verb: 18, arguments })),
    ]
}

/// The values that the verb returns; what is in other registers is not the call's.
fn own_values(raw: &RawCall, values: [u64; MAX_VALUES]) -> [u64; MAX_VALUES] {
    let signature = Verb::from_number(raw.verb).unwrap().signature();
    let asks_for_none =
        signature.may_return_nothing && raw.arguments[1] & Header::THEN_RECEIVE == 0;
    let registers = signature.values.iter().map(|value| value.registers.len());
    let count = if asks_for_none { 0 } else { registers.sum() };
    core::array::from_fn(|index| if index < count { values[index] } else { 0 })
}

/// Gives the program an event, a port, memory and a timer of its own.
fn furnish(guest: &mut Guest) -> Result<(), Gone> {
    let info = guest.boot_info();
    let place = |name| info.handle(name).unwrap().handle;
    let known = ["domain", "vcpu", "space", "console"].map(place);
    assert_eq!(known, [0x1_0000, 0x1_0001, 0x1_0002, 0x1_0005]);
    let slot = |slot| Create::Event {
        slot,
        interval_ns: 0,
    };
    let [_, event, ..] = guest.call(Call::Create(slot(0)))?.unwrap();
    let port = Create::Port {
        capacity: 2,
        slot: 1,
    };
    guest.call(Call::Create(port))?.unwrap();
    let memory = Create::Memory { bytes: 3 * PAGE };
    guest.call(Call::Create(memory))?.unwrap();
    let event = Handle::from_raw(event).unwrap();
    let timer = Create::Timer { event, bits: 4 };
    let [timer, ..] = guest.call(Call::Create(timer))?.unwrap();
    assert_eq!((event.raw(), timer), (0x1_0007, 0x1_000B));
    Ok(())
}

/// The part of a step that is no call.
fn act(guest: &Guest, step: &Step, record: &Mutex<Record>) {
    let page = guest.boot_info().vcpu_page;
    let page = VcpuPage::new(guest.words(GuestPhysical(page)).unwrap());
    match step {
        Step::Call(_) => {}
        Step::Take(slot) => {
            let taken = page.slot(*slot).unwrap().take();
            record.lock().unwrap().taken.push(taken);
        }
        Step::Enable(slot, bits) => page.slot(*slot).unwrap().enable(*bits),
        Step::Write(word, value) => {
            if let Some(words) = guest.words(GuestPhysical(BUFFERS)) {
                words[*word as usize].store(*value, Relaxed);
            }
        }
    }
}

/// Each call by itself.
fn by_itself(guest: &mut Guest, program: &[Step], record: &Mutex<Record>) -> Result<(), Gone> {
    for step in program {
        if let Step::Call(raw) = step {
            let reply = guest.raw_call(*raw)?;
            let reply = reply.map(|values| own_values(raw, values));
            record.lock().unwrap().replies.push(reply);
        }
        act(guest, step, record);
    }
    Ok(())
}

/// As many as come between two steps that are no calls stand in the ring, and are made in portions.
fn by_ring(
    guest: &mut Guest,
    program: &[Step],
    portions: &[u64],
    record: &Mutex<Record>,
) -> Result<(), Gone> {
    let ring = ring(guest);
    let mut portions = portions.iter().cycle().copied();
    let mut waiting = Vec::new();
    for (index, step) in program.iter().enumerate() {
        if let Step::Call(raw) = step {
            waiting.push(ring.push(raw, 0).unwrap());
        }
        let is_last = index + 1 == program.len() || waiting.len() == RING_ENTRIES;
        if is_last || !matches!(step, Step::Call(_)) {
            let mut left = waiting.len() as u64;
            while left > 0 {
                let portion = portions.next().unwrap();
                let done = submit(guest, portion)?.unwrap();
                assert_eq!(done, portion.min(left));
                left -= done;
            }
            let replies = waiting.drain(..).map(|number| ring.reply(number).unwrap());
            record
                .lock()
                .unwrap()
                .replies
                .extend(replies.map(Reply::result));
        }
        act(guest, step, record);
    }
    Ok(())
}

/// What queries say of all handles, and the memory.
fn look(guest: &mut Guest, record: &Mutex<Record>) -> Result<(), Gone> {
    for handle in
        (1u64..3).flat_map(|generation| (0..PLACES + 8).map(move |it| generation << 16 | it))
    {
        let handle = Handle::from_raw(handle).unwrap();
        for item in [QueryItem::Kind, QueryItem::Usage, QueryItem::KernelUsage] {
            let call = Call::Query { handle, item };
            let answer = guest.call(call)?.ok();
            let answer = answer.map(|values| own_values(&call.encode(), values));
            record.lock().unwrap().state.push(answer);
        }
    }
    let pages = [guest.boot_info().vcpu_page, BUFFERS];
    let windows = (0..8).map(|page| WINDOW + page * PAGE);
    for address in pages.into_iter().chain(windows) {
        let words = guest.words(GuestPhysical(address));
        let words = words.into_iter().flatten().map(|word| word.load(Relaxed));
        let mut record = record.lock().unwrap();
        record.memory.push(address);
        record.memory.extend(words);
    }
    Ok(())
}

/// Plays a program one way or the other; what it found, and how its domain and its traffic ended.
fn play(program: Vec<Step>, portions: Option<Vec<u64>>) -> (Record, alloc::string::String) {
    let record = Arc::new(Mutex::new(Record::default()));
    let found = record.clone();
    let outcome = run(
        ONE,
        vec![script(move |guest| {
            furnish(guest)?;
            match portions {
                Some(portions) => by_ring(guest, &program, &portions, &found)?,
                None => by_itself(guest, &program, &found)?,
            }
            look(guest, &found)?;
            stop(guest, 0)
        })],
    );
    let report = &outcome.reports[0];
    let end = alloc::format!(
        "{:?} {:?} {:?} {:?}",
        report.ending.reason,
        report.ending.detail,
        report.traffic,
        outcome.lines
    );
    let record = core::mem::take(&mut *record.lock().unwrap());
    (record, end)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        failure_persistence: None,
        max_shrink_iters: 4_000,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_ring_does_what_calls_do(
        program in proptest::collection::vec(steps(), 1..120),
        portions in proptest::collection::vec(1u64..=31, 1..8),
    ) {
        let (one, one_end) = play(program.clone(), None);
        let (other, other_end) = play(program, Some(portions));
        prop_assert_eq!(one_end, other_end);
        // A program that has ended in the middle of a ring has not read the last replies.
        let both = one.replies.len().min(other.replies.len());
        prop_assert_eq!(&one.replies[..both], &other.replies[..both]);
        prop_assert!(one.state.is_empty() || one.replies.len() == both);
        prop_assert_eq!(one.taken, other.taken);
        prop_assert_eq!(one.state, other.state);
        prop_assert_eq!(one.memory, other.memory);
    }
}
