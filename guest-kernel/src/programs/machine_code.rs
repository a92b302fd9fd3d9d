//! Code that is not run here, but written into the memory of others.
// UNSAFETY: the bytes between two symbols of the assembler.
#![allow(unsafe_code)]

/// Makes a function for each piece of code, which gives its bytes. A piece lies on a boundary of 256 bytes.
macro_rules! machine_code {
    ($( $(#[$doc:meta])* $name:ident: $($line:literal,)+ )+) => {
        $(
            core::arch::global_asm!(
                ".pushsection .rodata.machine_code, \"a\"",
                ".balign 256",
                concat!("machine_code_", stringify!($name), "_start:"),
                $($line,)+
                ".code64",
                concat!("machine_code_", stringify!($name), "_end:"),
                ".popsection",
            );

            $(#[$doc])*
            pub fn $name() -> &'static [u8] {
                extern "C" {
                    #[link_name = concat!("machine_code_", stringify!($name), "_start")]
                    static START: u8;
                    #[link_name = concat!("machine_code_", stringify!($name), "_end")]
                    static END: u8;
                }
                let (start, end) = (&raw const START, &raw const END);
                // SAFETY: both symbols are the assembler's, with read-only bytes between them.
                unsafe { core::slice::from_raw_parts(start, end.addr() - start.addr()) }
            }
        )+
    };
}

pub(super) use machine_code;
