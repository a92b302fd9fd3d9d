//! The registers of a guest beyond the general ones and the segment registers, and what is fixed for a
//! CPU about them.

#![forbid(unsafe_code)]

/// A system register, an instruction pointer or flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum SystemRegister {
    Rip,
    Rflags,
    Cr0,
    Cr2,
    Cr3,
    Cr4,
    Efer,
    PageAttributes,
    Cr8,
    GdtrBase,
    GdtrLimit,
    IdtrBase,
    IdtrLimit,
    Star,
    Lstar,
    Cstar,
    Fmask,
    KernelGsBase,
    SysenterCs,
    SysenterEsp,
    SysenterEip,
}

/// What this CPU lets a guest have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RegisterLimits {
    /// Bits of CR4.
    pub cr4: u64,
    /// Bits of a linear address.
    pub linear_bits: u32,
}
