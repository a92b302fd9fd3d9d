//! The macro behind every numbered table of the ABI.
//!
//! A row is a number, a Rust name, a name for people and machines, and a text. The enum, both
//! conversions, the list of all rows and the rustdoc come out of the same row, so they cannot
//! drift apart.

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

pub(crate) use abi_table;
