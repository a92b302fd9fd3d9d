//! Where the parts of what lies in memory are, for programs that write bindings.

use crate::{Module, Name, NamedHandle, NAME_BYTES};

/// A field of a structure in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// Bytes before it.
    pub offset: usize,
    /// Bytes that it takes.
    pub bytes: usize,
    /// What is in them.
    pub form: Form,
}

/// What lies in a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A word: 64 bits, little-endian.
    Word,
    /// Text of that many bytes, padded with zeros.
    Text(usize),
    /// That many [`Module`]s.
    Modules(usize),
    /// That many [`NamedHandle`]s.
    Handles(usize),
    /// That many words.
    Words(usize),
}

/// A type that a field can have.
pub(crate) trait InMemory {
    const FORM: Form;
}

impl InMemory for u64 {
    const FORM: Form = Form::Word;
}

impl InMemory for Name {
    const FORM: Form = Form::Text(NAME_BYTES);
}

impl<const BYTES: usize> InMemory for [u8; BYTES] {
    const FORM: Form = Form::Text(BYTES);
}

impl<const COUNT: usize> InMemory for [Module; COUNT] {
    const FORM: Form = Form::Modules(COUNT);
}

impl<const COUNT: usize> InMemory for [u64; COUNT] {
    const FORM: Form = Form::Words(COUNT);
}

impl<const COUNT: usize> InMemory for [NamedHandle; COUNT] {
    const FORM: Form = Form::Handles(COUNT);
}
