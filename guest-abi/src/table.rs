//! The macros behind every table of the ABI: numbers, bits, and structures in memory.
//!
//! A row is a number, a Rust name, a name for people and machines, and a text. The enum, both
//! conversions, the list of all rows and the rustdoc come out of the same row, so they cannot
//! drift apart. What a verb takes and returns is a table of its own (`signature/table.rs`).

/// Declares a numbered table as an enum with `number`, `from_number`, `name`, `text` and `ALL`.
macro_rules! abi_table {
    (
        $(#[$attribute:meta])*
        pub enum $table:ident {
            $( $number:literal $variant:ident $name:literal $text:literal, )+
        }
    ) => {
        $(#[$attribute])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u64)]
        pub enum $table {
            $( #[doc = $text] $variant = $number, )+
        }

        impl $table {
            /// Every row, in the order of the numbers.
            pub const ALL: &'static [$table] = &[ $( $table::$variant, )+ ];

            /// The number that stands for this row in a register or a shared page.
            #[inline]
            pub const fn number(self) -> u64 {
                self as u64
            }

            /// The row with this number, or `None` if the table has no such number.
            #[inline]
            pub const fn from_number(number: u64) -> Option<Self> {
                match number {
                    $( $number => Some($table::$variant), )+
                    _ => None,
                }
            }

            /// The name in traces, reports and the specification.
            pub const fn name(self) -> &'static str {
                match self {
                    $( $table::$variant => $name, )+
                }
            }

            /// What the row means, as a sentence for people.
            pub const fn text(self) -> &'static str {
                match self {
                    $( $table::$variant => $text, )+
                }
            }
        }

        impl core::fmt::Display for $table {
            fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                formatter.write_str(self.name())
            }
        }
    };
}

/// Declares the rows of a set of bits: a constant for each, and `ROWS` with bit, name, the kind of
/// object it belongs to, and what it allows.
macro_rules! abi_bits {
    (
        $set:ident
        $( $bit:literal $constant:ident $name:literal $of:literal $text:literal, )+
    ) => {
        impl $set {
            $(
                #[doc = concat!("Of a ", $of, ": ", $text, ".")]
                pub const $constant: $set = $set(1 << $bit);
            )+

            /// Every bit that means something, from the lowest on: the set with that bit alone, its
            /// name, the kind of object that it belongs to, and what it allows.
            pub const ROWS: &'static [($set, &'static str, &'static str, &'static str)] = &[
                $( ($set::$constant, $name, $of, $text), )+
            ];

            const ALL: u32 = $( 1 << $bit )|+;
        }
    };
}

/// Declares a structure that lies in memory, with `FIELDS`: the name, place and form of each field,
/// and the text of its documentation.
macro_rules! abi_struct {
    (
        $(#[$attribute:meta])*
        pub struct $structure:ident {
            $( $(#[doc = $text:literal])+ pub $field:ident: $type:ty, )+
        }
    ) => {
        $(#[$attribute])*
        #[repr(C)]
        pub struct $structure {
            $( $(#[doc = $text])+ pub $field: $type, )+
        }

        impl $structure {
            /// The fields, in the order in which they lie in memory.
            pub const FIELDS: &'static [$crate::Field] = &[
                $( $crate::Field {
                    name: stringify!($field),
                    offset: core::mem::offset_of!($structure, $field),
                    bytes: core::mem::size_of::<$type>(),
                    form: <$type as $crate::layout::InMemory>::FORM,
                }, )+
            ];
        }
    };
}

pub(crate) use {abi_bits, abi_struct, abi_table};
