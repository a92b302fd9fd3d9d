//! Words and calls that are worth trying, for fuzzers and tests: the table of signatures tells them.

use crate::signature::{Argument, Register};
use crate::{RawCall, Verb, MAX_ARGUMENTS};

/// Numbers that stand for no verb: behind the last one, and the last one with an upper bit set.
pub const UNKNOWN_VERBS: [u64; 4] = [
    Verb::ALL.len() as u64,
    0xFF,
    1 << 32 | (Verb::ALL.len() as u64 - 1),
    u64::MAX,
];

/// A word that is worth trying.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Of which verb.
    pub verb: Verb,
    /// In which argument.
    pub argument: &'static str,
    /// The word.
    pub word: u64,
}

/// Every word that is worth trying in a register, with the argument for which it is.
pub fn words() -> impl Iterator<Item = Entry> {
    Verb::ALL.iter().flat_map(|verb| {
        let signature = verb.signature();
        let kinds = signature.kinds.iter();
        let further = kinds.flat_map(|form| form.arguments);
        signature
            .arguments
            .iter()
            .chain(further)
            .flat_map(|argument| {
                argument.meaning.words().iter().map(|word| Entry {
                    verb: *verb,
                    argument: argument.name,
                    word: *word,
                })
            })
    })
}

/// Calls that are worth making: each verb well formed (and each kind of object of `create`), then
/// with one register changed at a time to every word of [`words`] for it, and with something in
/// each register that the verb does not use; last, verbs that do not exist. About 500.
///
/// ```
/// use nuncio_abi::{dictionary, Call, Error};
///
/// let refused = dictionary::calls().filter(|call| Call::decode(call).is_err());
/// assert!(refused.count() > 100);
/// let unknown = dictionary::calls().last().unwrap();
/// assert_eq!(Call::decode(&unknown), Err(Error::UnknownVerb));
/// ```
pub fn calls() -> impl Iterator<Item = RawCall> {
    let known = well_formed().flat_map(|call| core::iter::once(call).chain(variants(call)));
    let unknown = UNKNOWN_VERBS.into_iter().map(|verb| RawCall {
        verb,
        arguments: [0; MAX_ARGUMENTS],
    });
    known.chain(unknown)
}

/// Each verb once, with each kind of object that it takes.
pub fn well_formed() -> impl Iterator<Item = RawCall> {
    Verb::ALL.iter().flat_map(|verb| {
        let signature = verb.signature();
        let kinds = signature.kinds.iter().map(Some);
        let kinds = kinds.chain(signature.kinds.is_empty().then_some(None));
        kinds.map(move |form| {
            let mut call = RawCall {
                verb: verb.number(),
                arguments: [0; MAX_ARGUMENTS],
            };
            for argument in signature.arguments {
                fill(&mut call, argument);
            }
            if let Some(form) = form {
                // The argument that says which kind it is comes first.
                set(&mut call, Register::Rdi, form.kind.number());
                for argument in form.arguments {
                    fill(&mut call, argument);
                }
            }
            call
        })
    })
}

fn fill(call: &mut RawCall, argument: &Argument) {
    for register in argument.registers {
        let word = argument.meaning.words().first();
        set(call, *register, word.copied().unwrap_or(0));
    }
}

/// The call with one register changed at a time.
fn variants(call: RawCall) -> impl Iterator<Item = RawCall> {
    let signature = Verb::from_number(call.verb).map(Verb::signature);
    Register::ARGUMENTS.into_iter().flat_map(move |register| {
        let mut arguments = signature.into_iter().flat_map(|it| it.arguments_of(&call));
        let owner = arguments.find(|argument| argument.registers.contains(&register));
        let words = owner.map_or([1, u64::MAX].as_slice(), |argument| {
            argument.meaning.words()
        });
        words.iter().map(move |word| {
            let mut changed = call;
            set(&mut changed, register, *word);
            changed
        })
    })
}

fn set(call: &mut RawCall, register: Register, word: u64) {
    for (own, place) in Register::ARGUMENTS.into_iter().zip(&mut call.arguments) {
        if own == register {
            *place = word;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Call, Error};
    use std::string::ToString;
    use std::vec::Vec;

    #[test]
    fn the_first_words_make_a_call_that_decodes() {
        for call in well_formed() {
            let decoded = Call::decode(&call);
            assert!(decoded.is_ok(), "{call}: {decoded:?}");
        }
        assert!(well_formed().count() >= Verb::ALL.len());
    }

    #[test]
    fn registers_that_no_argument_names_are_refused() {
        for call in well_formed() {
            let signature = Verb::from_number(call.verb).unwrap().signature();
            let named: Vec<_> = signature
                .arguments_of(&call)
                .flat_map(|it| it.registers)
                .collect();
            for register in Register::ARGUMENTS {
                let mut changed = call;
                set(&mut changed, register, 1 << 63);
                if !named.contains(&&register) {
                    assert_eq!(Call::decode(&changed), Err(Error::BadArgument), "{changed}");
                }
            }
        }
    }

    #[test]
    fn a_question_mark_means_a_call_that_is_refused() {
        for call in calls() {
            let (text, decoded) = (call.to_string(), Call::decode(&call));
            assert_eq!(text.contains('?'), decoded.is_err(), "{text}: {decoded:?}");
        }
    }

    #[test]
    fn every_verb_has_calls_that_decode_and_calls_that_do_not() {
        for verb in Verb::ALL {
            let of_verb = || calls().filter(|call| call.verb == verb.number());
            assert!(of_verb().any(|call| Call::decode(&call).is_ok()), "{verb}");
            assert!(of_verb().any(|call| Call::decode(&call).is_err()), "{verb}");
        }
        let entries = words().count();
        assert!(calls().count() > entries);
    }
}
