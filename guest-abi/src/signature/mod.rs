//! What each verb takes, gives and refuses: the types of the table in `table.rs`.
//!
//! [`Call::decode`](crate::Call::decode) does not use it, because the hypervisor inlines that into its
//! hot path; tests hold the two against each other. Everything that is not hot does: the text of a
//! call in traces, the words that fuzzers are given, the C header, the specification's test.

mod meaning;
mod table;

pub use meaning::Meaning;

use crate::{Error, ObjectKind, RawCall, Verb, MAX_ARGUMENTS};

/// A register of a call, by its name in the x86-64 binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    /// The first argument; the fourth value.
    Rdi,
    /// The second argument; the fifth value.
    Rsi,
    /// The third argument; the first value.
    Rdx,
    /// The fourth argument; the second value.
    R10,
    /// The fifth argument; the third value.
    R8,
}

impl Register {
    /// The registers of arguments, in their order.
    pub const ARGUMENTS: [Register; MAX_ARGUMENTS] = [
        Register::Rdi,
        Register::Rsi,
        Register::Rdx,
        Register::R10,
        Register::R8,
    ];

    /// Its name in lower case.
    pub const fn name(self) -> &'static str {
        match self {
            Register::Rdi => "rdi",
            Register::Rsi => "rsi",
            Register::Rdx => "rdx",
            Register::R10 => "r10",
            Register::R8 => "r8",
        }
    }

    /// What it holds in a call.
    pub const fn argument(self, call: &RawCall) -> u64 {
        let [rdi, rsi, rdx, r10, r8] = call.arguments;
        match self {
            Register::Rdi => rdi,
            Register::Rsi => rsi,
            Register::Rdx => rdx,
            Register::R10 => r10,
            Register::R8 => r8,
        }
    }
}

/// An argument of a verb.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Argument {
    /// Its name.
    pub name: &'static str,
    /// Where it is; more than one register for the words of a message.
    pub registers: &'static [Register],
    /// What the registers hold.
    pub meaning: Meaning,
}

/// Values that a verb returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value {
    /// Their name.
    pub name: &'static str,
    /// Where they are.
    pub registers: &'static [Register],
}

/// The arguments that go with one kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KindArguments {
    /// The kind, in the register of the argument that is a [`Meaning::Kind`].
    pub kind: ObjectKind,
    /// What comes behind it.
    pub arguments: &'static [Argument],
}

/// What a verb takes, gives and refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature {
    /// Its arguments; registers that none of them names are zero.
    pub arguments: &'static [Argument],
    /// Further arguments that depend on the first, which is a kind; empty for all verbs but `create`.
    pub kinds: &'static [KindArguments],
    /// What it returns if it succeeds.
    pub values: &'static [Value],
    /// Whether a successful call may return no values, because it asked for none.
    pub may_return_nothing: bool,
    /// Its errors in the order in which they are looked for; some are looked for more than once.
    /// What holds for all verbs, `unknown-verb`, is left out.
    pub errors: &'static [Error],
}

impl Signature {
    /// The arguments of a call: those of the verb, and those of its kind of object.
    pub fn arguments_of(&self, call: &RawCall) -> impl Iterator<Item = &'static Argument> {
        let kind = self.kinds.iter().find(|form| {
            let is_kind = |argument: &&Argument| matches!(argument.meaning, Meaning::Kind);
            let argument = self.arguments.iter().find(is_kind);
            let register = argument.and_then(|argument| argument.registers.first());
            register.is_some_and(|register| register.argument(call) == form.kind.number())
        });
        let own: &'static [Argument] = self.arguments;
        let further: &'static [Argument] = kind.map_or(&[], |form| form.arguments);
        own.iter().chain(further)
    }
}

impl Verb {
    /// What can become of a call of this verb: success, and each error once. Tests of a hypervisor
    /// or of a guest's library have covered a verb if they have seen all of it.
    ///
    /// ```
    /// use nuncio_abi::{Error, Verb};
    ///
    /// let outcomes: Vec<_> = Verb::Wait.outcomes().collect();
    /// assert_eq!(outcomes, [None, Some(Error::BadArgument), Some(Error::TimedOut)]);
    /// ```
    pub fn outcomes(self) -> impl Iterator<Item = Option<Error>> {
        let errors = self.signature().errors;
        let first = move |(index, error): (usize, &'static Error)| {
            let is_known = errors.iter().take(index).any(|earlier| earlier == error);
            (!is_known).then_some(Some(*error))
        };
        core::iter::once(None).chain(errors.iter().enumerate().filter_map(first))
    }

    /// The verb of that name.
    pub fn named(name: &str) -> Option<Verb> {
        Verb::ALL.iter().copied().find(|verb| verb.name() == name)
    }
}
