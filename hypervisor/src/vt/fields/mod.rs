//! The fields of a VMCS and of a VMCB by their places, and the numbers of exits, as the manuals have them:
//! the vendors' code reads and writes them, and the rules for entries speak of them.

#![forbid(unsafe_code)]

pub mod svm;
pub mod vmx;

/// A field of a control structure or block: some bits of the word of that number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name in reports: no spaces.
    pub name: &'static str,
    /// The vendor's number: the encoding for VMREAD, or the offset of a word in the control block.
    pub number: u32,
    /// Its lowest bit in the word.
    shift: u32,
    /// How many bits it has.
    bits: u32,
}

impl Field {
    /// A whole word.
    pub const fn word(name: &'static str, number: u32) -> Self {
        Field {
            name,
            number,
            shift: 0,
            bits: 64,
        }
    }

    /// Some bits of a word.
    pub const fn part(self, name: &'static str, shift: u32, bits: u32) -> Self {
        Field {
            name,
            number: self.number,
            shift,
            bits,
        }
    }

    const fn mask(self) -> u64 {
        u64::MAX >> (64 - self.bits)
    }

    /// Its value in that word.
    pub const fn of(self, word: u64) -> u64 {
        word >> self.shift & self.mask()
    }

    /// The word with another value of the field.
    pub const fn put(self, word: u64, value: u64) -> u64 {
        word & !(self.mask() << self.shift) | (value & self.mask()) << self.shift
    }
}

/// Fields that are whole words.
macro_rules! words {
    ($( $name:ident = $number:literal $text:literal, )+) => { $(
        #[allow(missing_docs)]
        pub const $name: Field = Field::word($text, $number);
    )+ };
}

use words;

/// Names for the numbers that a vendor gives to exits.
macro_rules! exit_codes {
    ($kind:ty: $( $name:ident = $number:literal, )+) => { $( pub const $name: $kind = $number; )+ };
}

use exit_codes;
