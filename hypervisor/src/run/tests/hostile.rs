//! Guests that do anything at all: random calls and exits, from two domains at a time. Whatever
//! they do, the run ends, nothing panics, and every frame comes back.

use nuncio_abi::{QueryItem, RawCall, Verb};
use proptest::prelude::*;

use super::machine::script;
use super::run;
use super::talking::PAIR;
use crate::mem::GuestPhysical;
use crate::vt::fake::{Guest, Script, ScriptResult};
use crate::vt::{Access, Exit};
use std::vec::Vec;

#[derive(Clone, Debug)]
pub enum Deed {
    Call(RawCall),
    Exit(Exit),
    Compute(u64),
    Scribble(u64, u64),
}

/// Numbers that a hostile guest would try: handles that exist, page addresses, edges.
pub fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => (0u64..10).prop_map(|index| 1 << 16 | index),
        2 => (0u64..4096).prop_map(|page| page << 12),
        2 => (0u64..4096).prop_map(|page| page << 12 | 3),
        1 => 0u64..70,
        1 => prop_oneof![Just(u64::MAX), Just(1u64 << 63), Just(1 << 38), Just((1 << 39) - 4096)],
        1 => any::<u64>(),
    ]
}

fn call() -> impl Strategy<Value = RawCall> {
    let used = prop_oneof![Just(1usize), Just(2), Just(3), Just(5)];
    let verb = prop_oneof![
        20 => 0u64..Verb::Stop.number(),
        1 => any::<u64>(),
    ];
    (verb, proptest::array::uniform5(number()), used).prop_map(|(verb, mut arguments, used)| {
        arguments
            .iter_mut()
            .skip(used)
            .for_each(|argument| *argument = 0);
        if verb == Verb::Query.number() {
            arguments[1] %= QueryItem::ALL.len() as u64;
        }
        RawCall { verb, arguments }
    })
}

fn harmless_exit() -> impl Strategy<Value = Exit> {
    prop_oneof![
        (any::<u32>(), any::<u32>()).prop_map(|(leaf, subleaf)| Exit::Cpuid { leaf, subleaf }),
        any::<u32>().prop_map(|index| Exit::MsrRead { index }),
        (any::<u32>(), any::<u64>()).prop_map(|(index, value)| Exit::MsrWrite { index, value }),
        Just(Exit::Interrupt),
        Just(Exit::Nmi),
        Just(Exit::CacheFlush),
        Just(Exit::ForbiddenInstruction),
        Just(Exit::RefusedInstruction),
        Just(Exit::Call { privilege: 3 }),
    ]
}

pub fn fatal_exit() -> impl Strategy<Value = Exit> {
    prop_oneof![
        Just(Exit::Shutdown),
        Just(Exit::BadState),
        any::<u64>().prop_map(|information| Exit::port(information, 1, [1, 2, 4])),
        any::<u64>().prop_map(|address| Exit::Memory {
            address: GuestPhysical(address),
            access: Access::Read,
        }),
        Just(Exit::Halt {
            interrupts_enabled: true
        }),
        Just(Exit::Halt {
            interrupts_enabled: false
        }),
    ]
}

pub fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        40 => call().prop_map(Deed::Call),
        6 => harmless_exit().prop_map(Deed::Exit),
        2 => (0u64..20_000_000).prop_map(Deed::Compute),
        6 => (0u64..512, any::<u64>()).prop_map(|(word, value)| Deed::Scribble(word, value)),
        1 => fatal_exit().prop_map(Deed::Exit),
    ]
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    proptest::collection::vec(deed(), 0..80)
}

fn guest(deeds: Vec<Deed>) -> Script {
    script(move |guest| {
        let vcpu_page = GuestPhysical(guest.boot_info().vcpu_page);
        perform(guest, vcpu_page, deeds)
    })
}

/// Does these deeds, whatever comes of them.
pub fn perform(guest: &mut Guest, vcpu_page: GuestPhysical, deeds: Vec<Deed>) -> ScriptResult {
    for deed in deeds {
        match deed {
            Deed::Call(raw) => {
                let _ = guest.raw_call(raw)?;
            }
            Deed::Exit(exit) => {
                guest.exit(exit)?;
            }
            Deed::Compute(ns) => guest.compute(ns)?,
            Deed::Scribble(word, value) => {
                if let Some(page) = guest.words(vcpu_page) {
                    page[word as usize].store(value, core::sync::atomic::Ordering::SeqCst);
                }
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn no_sequence_of_deeds_harms_the_hypervisor(first in deeds(), second in deeds()) {
        let plan = PAIR.replacen('\n', "\nlimit-ms 10000\n", 1);
        let outcome = run(&plan, std::vec![guest(first), guest(second)]);
        prop_assert_eq!(outcome.reports.len(), 2);
    }
}
