//! What holds for every vendor's rules; the vendors' folders bring the states in which guests start.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::string::String;
use std::vec::Vec;

use super::*;

/// The words of a structure.
pub(in crate::vt) type Words = BTreeMap<u32, u64>;

fn refusal(class: Class) -> Refusal {
    Refusal {
        manual: "Manual",
        class,
        code: 7,
        qualification: 0,
        sentence: "Refused.",
        fields: &[],
    }
}

fn named<L>(rules: Rules<L>, words: &Words, limits: &L, class: Class) -> Vec<&'static str> {
    let view = View {
        read: &|number| Some(words.get(&number).copied().unwrap_or(0)),
        limits,
    };
    let failure = explain(rules, &view, refusal(class), 0);
    failure.rules.iter().map(|rule| rule.name).collect()
}

/// On each of these CPUs, the state in which guests start breaks no rule, and each way to break a rule
/// breaks that one alone. Each way must exist on one of them. Returns how many rules and ways there are.
pub(in crate::vt) fn check<L>(rules: Rules<L>, cpus: &[(L, Words)]) -> (usize, usize) {
    let mut tried = BTreeSet::new();
    for (limits, words) in cpus {
        assert_eq!(named(rules, words, limits, Class::Any), [""; 0]);
        for rule in rules.iter().copied().flatten() {
            for (index, sample) in rule.broken_by.iter().enumerate() {
                let Some(broken) = changed(words, sample, limits) else {
                    continue;
                };
                let all = named(rules, &broken, limits, Class::Any);
                assert_eq!(all, [rule.name], "sample {index}");
                assert_eq!(named(rules, &broken, limits, rule.class), [rule.name]);
                tried.insert((rule.name, index));
            }
        }
    }
    let mut names = BTreeSet::new();
    for rule in rules.iter().copied().flatten() {
        assert!(names.insert(rule.name), "{} stands twice", rule.name);
        assert!(!rule.broken_by.is_empty(), "{} cannot be broken", rule.name);
        assert!(rule.sentence.ends_with('.') && !rule.section.is_empty());
        for index in 0..rule.broken_by.len() {
            let is_tried = tried.contains(&(rule.name, index));
            assert!(is_tried, "{} {index} fits none of the CPUs", rule.name);
        }
        for (limits, words) in cpus {
            looks_only_at_its_fields(rule, words, limits);
        }
    }
    (names.len(), tried.len())
}

fn changed<L>(words: &Words, sample: Sample<L>, limits: &L) -> Option<Words> {
    let mut words = words.clone();
    for change in sample {
        let number = change.field.number;
        let word = words.get(&number).copied().unwrap_or(0);
        words.insert(number, change.apply(word, limits)?);
    }
    Some(words)
}

fn looks_only_at_its_fields<L>(rule: &Rule<L>, words: &Words, limits: &L) {
    let own: Vec<u32> = rule.fields.iter().map(|field| field.number).collect();
    let seen = RefCell::new(BTreeSet::new());
    let states = rule.broken_by.iter();
    let states = states.filter_map(|sample| changed(words, sample, limits));
    for words in states.chain([words.clone()]) {
        let view = View {
            read: &|number| {
                seen.borrow_mut().insert(number);
                words.get(&number).copied()
            },
            limits,
        };
        let _ = (rule.holds)(&view);
    }
    for number in seen.into_inner() {
        assert!(own.contains(&number), "{} hides {number:#x}", rule.name);
    }
}

const FIRST: Field = Field::word("word", 1).part("first", 4, 8);
const SECOND: Field = Field::word("second", 2);

const fn row(
    name: &'static str,
    class: Class,
    fields: &'static [Field],
    holds: fn(&View<'_, ()>) -> bool,
) -> Rule<()> {
    Rule {
        name,
        class,
        section: "1.2",
        sentence: "It holds.",
        fields,
        holds,
        broken_by: &[],
    }
}

const ROWS: Rules<()> = &[&[
    row("one", Class::Guest, &[FIRST], |view| {
        view.get(FIRST) != 0xAB
    }),
    row("two", Class::Host, &[SECOND], |view| view.get(SECOND) != 2),
    row("three", Class::Guest, &[FIRST, SECOND], |_| false),
]];

fn lines(words: &[(u32, u64)], class: Class) -> String {
    let words: Words = words.iter().copied().collect();
    let view = View {
        read: &|number| words.get(&number).copied(),
        limits: &(),
    };
    let mut text = String::new();
    let failure = explain(ROWS, &view, refusal(class), 0);
    failure.write_lines(&mut text, "a").unwrap();
    text
}

#[test]
fn broken_rules_are_named_with_the_values_of_their_fields() {
    assert_eq!(
        lines(&[(1, 0x1ABC), (2, 3)], Class::Guest),
        "\n@entry name=a class=guest-state code=0x7 qualification=0x0 rules=2 text=Refused.\
         \n@rule name=a rule=one section=1.2 first=0xab text=It holds. (Manual, 1.2)\
         \n@rule name=a rule=three section=1.2 first=0xab second=0x3 text=It holds. (Manual, 1.2)"
    );
}

#[test]
fn a_rule_of_another_class_is_not_named() {
    let text = lines(&[(1, 0xAB0), (2, 2)], Class::Host);
    assert!(
        text.contains("rule=two") && text.contains("rules=1"),
        "{text}"
    );
}

#[test]
fn a_rule_about_a_field_that_is_not_there_is_not_judged() {
    let text = lines(&[(1, 0xAB0)], Class::Guest);
    assert!(
        text.contains("rule=one") && !text.contains("rule=three"),
        "{text}"
    );
}

#[test]
fn without_a_broken_rule_the_fields_in_question_are_shown() {
    assert_eq!(
        lines(&[(2, 1)], Class::Host),
        "\n@entry name=a class=host-state code=0x7 qualification=0x0 rules=0 text=Refused. \
         No rule that the hypervisor knows is broken; the fields in question follow.\
         \n@fields name=a second=0x1"
    );
}

#[test]
fn a_change_leaves_the_rest_of_the_word_alone() {
    let change = |to| Change { field: FIRST, to };
    assert_eq!(change(To::Value(0xFFF)).apply(0x1234, &()), Some(0x1FF4));
    assert_eq!(change(To::Set(1)).apply(0x1204, &()), Some(0x1214));
    assert_eq!(change(To::Clear(2)).apply(0x1234, &()), Some(0x1214));
    assert_eq!(change(To::Flip(|()| 3)).apply(0x1234, &()), Some(0x1204));
    assert_eq!(change(To::Flip(|()| 0)).apply(0x1234, &()), None);
}

#[test]
fn types_of_memory_that_do_not_exist_are_found() {
    assert!(is_page_attribute_table(0x0007_0406_0007_0406));
    for kind in [2u64, 3, 8, 0xFF] {
        assert!(!is_page_attribute_table(0x0007_0406_0007_0406 | kind << 56));
    }
}
