//! The fields of one line.

use nuncio_abi::Name;

use super::{Fault, FieldProblem};

/// What is left of a line. Fields are separated by one space each.
pub(super) struct Fields<'a> {
    rest: Option<&'a str>,
}

impl<'a> Fields<'a> {
    pub(super) fn of(line: &'a str) -> Self {
        Fields { rest: Some(line) }
    }

    /// The next field, which is what `field` says.
    pub(super) fn word(&mut self, field: &'static str) -> Result<&'a str, Fault> {
        let line = self.remainder(field)?;
        let (word, rest) = match line.split_once(' ') {
            Some((word, rest)) => (word, Some(rest)),
            None => (line, None),
        };
        self.rest = rest;
        Ok(word)
    }

    /// The value of the next field, which is `field=value`.
    pub(super) fn value(&mut self, field: &'static str) -> Result<&'a str, Fault> {
        self.word(field)?
            .strip_prefix(field)
            .and_then(|value| value.strip_prefix('='))
            .ok_or(problem(field, FieldProblem::Displaced))
    }

    /// The next field, a name.
    pub(super) fn name(&mut self, field: &'static str) -> Result<Name, Fault> {
        let word = self.word(field)?;
        parse_name(word).ok_or(problem(field, FieldProblem::NoName))
    }

    /// The name that is the value of the next field.
    pub(super) fn name_value(&mut self, field: &'static str) -> Result<Name, Fault> {
        let value = self.value(field)?;
        parse_name(value).ok_or(problem(field, FieldProblem::NoName))
    }

    /// The next field, a number.
    pub(super) fn number(&mut self, field: &'static str) -> Result<u64, Fault> {
        let word = self.word(field)?;
        parse_number(word).ok_or(problem(field, FieldProblem::NoNumber))
    }

    /// The number that is the value of the next field.
    pub(super) fn number_value(&mut self, field: &'static str) -> Result<u64, Fault> {
        let value = self.value(field)?;
        parse_number(value).ok_or(problem(field, FieldProblem::NoNumber))
    }

    /// Everything that is left, which is what `field` says.
    pub(super) fn remainder(&mut self, field: &'static str) -> Result<&'a str, Fault> {
        self.rest
            .take()
            .ok_or(problem(field, FieldProblem::Missing))
    }

    /// Nothing may be left.
    pub(super) fn end(self) -> Result<(), Fault> {
        match self.rest {
            None => Ok(()),
            Some(_) => Err(Fault::TrailingField),
        }
    }
}

pub(super) const fn problem(field: &'static str, problem: FieldProblem) -> Fault {
    Fault::Field { field, problem }
}

fn parse_name(text: &str) -> Option<Name> {
    let is_word = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let (first, rest) = text.as_bytes().split_first()?;
    let valid = is_word(first)
        && rest
            .iter()
            .all(|byte| is_word(byte) || b"._-".contains(byte));
    Name::new(text).filter(|_| valid)
}

fn parse_number(text: &str) -> Option<u64> {
    let canonical = text == "0" || !text.starts_with(['0', '+']);
    text.parse().ok().filter(|_| canonical)
}
