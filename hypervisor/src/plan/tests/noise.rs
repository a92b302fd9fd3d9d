//! The parser against noise, damaged plans and random ones.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::rules::assert_rules;
use super::{DOMAIN, EXAMPLE};
use crate::plan::{Fault, Plan};

/// Lines out of few names and values, so that many of them fit together.
fn plausible_line() -> impl Strategy<Value = String> {
    let name = || prop::sample::select(&["a", "b", "c", "d", "space"][..]);
    let number =
        || prop::sample::select(&["0", "1", "4096", "8192", "65536", "99999999999999"][..]);
    let right =
        prop::sample::select(&["send", "receive", "notify", "wait", "r", "rw", "rx", "rwx"][..]);
    let kind = prop::sample::select(&["port", "memory", "event"][..]);
    prop_oneof![
        1 => number().prop_map(|ms| format!("limit-ms {ms}")),
        1 => (name(), number())
            .prop_map(|(n, m)| format!("domain {n} image=i memory={m} vcpus=1 background=yes")),
        1 => (name(), number()).prop_map(|(n, cpu)| format!("cpu {n} {cpu}")),
        1 => (name(), number(), number(), number()).prop_map(|(n, p, b, t)| {
            format!("schedule {n} priority={p} budget-us={b} period-us={t}")
        }),
        1 => (name(), "[ -~]{0,20}").prop_map(|(n, text)| format!("command-line {n} {text}")),
        1 => (name(), name()).prop_map(|(d, n)| format!("module {d} {n} boot=x")),
        1 => (name(), number()).prop_map(|(n, c)| format!("port {n} capacity={c}")),
        1 => (name(), number()).prop_map(|(n, b)| format!("memory {n} bytes={b}")),
        1 => name().prop_map(|n| format!("event {n}")),
        6 => (name(), kind, name(), right).prop_map(|(d, k, o, r)| format!("give {d} {k} {o} {r}")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn noise_is_refused_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(Plan::parse(&bytes).is_err());
        let mut headed = b"nuncio-plan 1\n".to_vec();
        headed.extend(bytes);
        if let Ok(plan) = Plan::parse(&headed) {
            assert_rules(&plan);
        }
    }

    #[test]
    fn a_changed_plan_breaks_no_rule(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
        cuts in any::<bool>(),
    ) {
        let mut bytes = EXAMPLE.as_bytes().to_vec();
        for (index, byte) in changes {
            *index.get_mut(&mut bytes) = byte;
        }
        if cuts {
            bytes.truncate(cut.index(bytes.len()));
        }
        let lines = bytes.split(|byte| *byte == b'\n').count() as u32;
        match Plan::parse(&bytes) {
            Ok(plan) => assert_rules(&plan),
            Err(error) => prop_assert!((1..=lines).contains(&error.line)),
        }
    }

    #[test]
    fn shuffled_and_dropped_lines_break_no_rule(
        order in Just(EXAMPLE.lines().skip(1).collect::<Vec<_>>()).prop_shuffle(),
        kept in 0usize..14,
    ) {
        let text = format!("nuncio-plan 1\n{}\n", order[..kept].join("\n"));
        if let Ok(plan) = Plan::parse(text.as_bytes()) {
            assert_rules(&plan);
        }
    }

    #[test]
    fn plausible_lines_are_taken_or_refused_by_the_rules(
        candidates in proptest::collection::vec(plausible_line(), 0..40),
    ) {
        // Grows a plan line by line; a line that is refused is left out again.
        let mut text = format!("nuncio-plan 1\n{DOMAIN}");
        for line in candidates {
            let longer = format!("{text}{line}\n");
            match Plan::parse(longer.as_bytes()).map_err(|error| error.fault) {
                Ok(plan) => assert_rules(&plan),
                Err(Fault::NoReceiver(_) | Fault::NoWaiter(_)) => (),
                Err(_) => continue,
            }
            text = longer;
        }
    }
}
