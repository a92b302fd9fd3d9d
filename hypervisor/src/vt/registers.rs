//! The general registers of a guest, by the numbers that instructions use, and their part in the
//! world switch that both vendors share.

#![forbid(unsafe_code)]

use core::ops::{Index, IndexMut};

use nuncio_abi::MAX_VALUES;

/// A general register, by its number in instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Register(u8);

#[allow(missing_docs)]
impl Register {
    pub const RAX: Self = Register(0);
    pub const RCX: Self = Register(1);
    pub const RDX: Self = Register(2);
    pub const RBX: Self = Register(3);
    pub const RSP: Self = Register(4);
    pub const RSI: Self = Register(6);
    pub const RDI: Self = Register(7);
    pub const R8: Self = Register(8);
    pub const R10: Self = Register(10);

    /// The register of a field of four bits.
    pub const fn numbered(number: u64) -> Self {
        Register((number & 15) as u8)
    }
}

/// The arguments of a call, in the order of the ABI.
pub const ARGUMENTS: [Register; 5] = [
    Register::RDI,
    Register::RSI,
    Register::RDX,
    Register::R10,
    Register::R8,
];

/// The values of a reply; a short one has the first two.
pub const VALUES: [Register; MAX_VALUES] = [
    Register::RDX,
    Register::R10,
    Register::R8,
    Register::RDI,
    Register::RSI,
];

/// The general registers as the world switch loads and stores them. A vendor that keeps one of them
/// in its control block leaves its place unused; RSP is in both vendors'.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Registers([u64; 16]);

impl Registers {
    /// Sets the two values of a short reply.
    #[inline(always)]
    pub fn set_pair(&mut self, first: u64, second: u64) {
        self[VALUES[0]] = first;
        self[VALUES[1]] = second;
    }

    /// Sets the five values of a long reply.
    #[inline]
    pub fn set_values(&mut self, values: &[u64; MAX_VALUES]) {
        for (register, value) in VALUES.into_iter().zip(values) {
            self[register] = *value;
        }
    }

    /// The values of a reply.
    #[inline]
    pub fn values(&self) -> [u64; MAX_VALUES] {
        VALUES.map(|register| self[register])
    }
}

impl Index<Register> for Registers {
    type Output = u64;

    #[inline(always)]
    fn index(&self, register: Register) -> &u64 {
        // Numbers are below 16; the mask says so to the compiler.
        &self.0[(register.0 & 15) as usize]
    }
}

impl IndexMut<Register> for Registers {
    #[inline(always)]
    fn index_mut(&mut self, register: Register) -> &mut u64 {
        &mut self.0[(register.0 & 15) as usize]
    }
}

/// Instructions that load all but RAX and RSP from the [`Registers`] at RDI; they change no flag.
macro_rules! load_registers {
    () => {
        "mov rcx, [rdi + 8 * 1]
         mov rdx, [rdi + 8 * 2]
         mov rbx, [rdi + 8 * 3]
         mov rbp, [rdi + 8 * 5]
         mov rsi, [rdi + 8 * 6]
         .irp n, 8, 9, 10, 11, 12, 13, 14, 15
         mov r\\n, [rdi + 8 * \\n]
         .endr
         mov rdi, [rdi + 8 * 7]"
    };
}

/// Instructions that store all but RAX, RSP and RDI in the [`Registers`] at RDI, and as RDI what is
/// on top of the stack, which they take away.
macro_rules! store_registers {
    () => {
        "mov [rdi + 8 * 1], rcx
         mov [rdi + 8 * 2], rdx
         mov [rdi + 8 * 3], rbx
         mov [rdi + 8 * 5], rbp
         mov [rdi + 8 * 6], rsi
         .irp n, 8, 9, 10, 11, 12, 13, 14, 15
         mov [rdi + 8 * \\n], r\\n
         .endr
         pop qword ptr [rdi + 8 * 7]"
    };
}

pub(super) use {load_registers, store_registers};
