//! The state page: registers of a vcpu in memory that whoever monitors it shares with the hypervisor.
//!
//! The monitor says which groups of registers are written at an exit and which are read before the vcpu
//! goes on. All that the hypervisor reads here is checked before a register changes.

use core::ops::{BitOr, RangeInclusive};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::table::abi_table;

/// A set of groups of registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[repr(transparent)]
pub struct StateGroups(u64);

/// Declares the groups: a constant for each, and `ROWS`.
macro_rules! groups {
    ($( $bit:literal $constant:ident $name:literal $first:literal to $last:literal $text:literal, )+) => {
        impl StateGroups {
            $(
                #[doc = concat!("Words ", $first, " to ", $last, ": ", $text, ".")]
                pub const $constant: StateGroups = StateGroups(1 << $bit);
            )+

            /// Every group, from the lowest bit on: the set with it alone, its name, its words, and
            /// what they hold.
            pub const ROWS: &'static [(StateGroups, &'static str, RangeInclusive<usize>, &'static str)] =
                &[ $( (StateGroups::$constant, $name, $first..=$last, $text), )+ ];

            /// Every group.
            pub const ALL: StateGroups = StateGroups($( 1 << $bit )|+);
        }
    };
}

groups! {
    0 GENERAL "general" 16 to 31 "the general registers, by their numbers in instructions",
    1 INSTRUCTION "instruction" 32 to 35 "where the vcpu is, its flags, and what is to interrupt it",
    2 CONTROL "control" 40 to 46 "the registers that decide in which mode it runs",
    3 SEGMENTS "segments" 64 to 83 "segment registers and descriptor tables",
    4 SYSTEM "system" 96 to 103 "the registers of SYSCALL, SWAPGS and SYSENTER",
}

impl StateGroups {
    /// No group.
    pub const NONE: StateGroups = StateGroups(0);

    /// The set with these bits; `None` if a bit stands for no group.
    #[inline]
    pub const fn from_bits(bits: u64) -> Option<Self> {
        if bits & !Self::ALL.0 == 0 {
            Some(StateGroups(bits))
        } else {
            None
        }
    }

    /// The set as bits.
    #[inline]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether every group of `other` is in this set.
    #[inline]
    pub const fn contains(self, other: StateGroups) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for StateGroups {
    type Output = StateGroups;

    #[inline]
    fn bitor(self, other: StateGroups) -> StateGroups {
        StateGroups(self.0 | other.0)
    }
}

abi_table! {
    /// A word of the state page that has a name. General registers and segment registers are found by
    /// their numbers: [`StatePage::general`], [`StatePage::segment`].
    pub enum StateWord {
        0 Exits "exits" "which exits go to the monitor",
        1 Save "save" "the groups that are written at an exit",
        2 Load "load" "the groups that are read before the vcpu goes on",
        3 Exceptions "exceptions" "which exceptions go to the monitor",
        32 Rip "rip" "RIP",
        33 Rflags "rflags" "RFLAGS",
        34 Shadow "shadow" "bit 0: an interrupt shadow is in effect, as of STI or MOV SS",
        35 Pending "pending" "the vector of an interrupt that has not been delivered yet, or 0; ignored when loaded",
        40 Cr0 "cr0" "CR0",
        41 Cr2 "cr2" "CR2",
        42 Cr3 "cr3" "CR3",
        43 Cr4 "cr4" "CR4",
        44 Efer "efer" "IA32_EFER",
        45 Pat "pat" "IA32_PAT",
        46 Cr8 "cr8" "CR8",
        80 GdtrBase "gdtr-base" "GDTR: base",
        81 GdtrLimit "gdtr-limit" "GDTR: limit",
        82 IdtrBase "idtr-base" "IDTR: base",
        83 IdtrLimit "idtr-limit" "IDTR: limit",
        96 Star "star" "IA32_STAR",
        97 Lstar "lstar" "IA32_LSTAR",
        98 Cstar "cstar" "IA32_CSTAR",
        99 Fmask "fmask" "IA32_FMASK",
        100 KernelGsBase "kernel-gs-base" "IA32_KERNEL_GS_BASE",
        101 SysenterCs "sysenter-cs" "IA32_SYSENTER_CS",
        102 SysenterEsp "sysenter-esp" "IA32_SYSENTER_ESP",
        103 SysenterEip "sysenter-eip" "IA32_SYSENTER_EIP",
    }
}

/// What a segment register holds, as two words of the state page have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct StateSegment {
    /// The selector.
    pub selector: u16,
    /// Bytes 5 and 6 of a descriptor, without the four bits of the limit. Without bit 7, "present", the
    /// register cannot be used.
    pub access: u16,
    /// The last byte: in bytes, whatever the granularity in `access`.
    pub limit: u32,
    /// The base.
    pub base: u64,
}

/// A view of the state page.
///
/// ```
/// use core::sync::atomic::AtomicU64;
/// use nuncio_abi::{StateGroups, StatePage, StateSegment, StateWord};
///
/// let words: [AtomicU64; 512] = core::array::from_fn(|_| AtomicU64::new(0));
/// let page = StatePage::new(&words);
/// // Have the vcpu go on in real mode, at F000:FFF0.
/// page.set(StateWord::Rip, 0xFFF0);
/// page.set(StateWord::Rflags, 2);
/// page.set(StateWord::Cr0, 0x10);
/// let code = StateSegment { selector: 0xF000, access: 0x9B, limit: 0xFFFF, base: 0xF_0000 };
/// page.set_segment(1, code);
/// page.set_load(StateGroups::INSTRUCTION | StateGroups::CONTROL | StateGroups::SEGMENTS);
/// assert_eq!(page.segment(1), code);
/// assert_eq!(page.load().unwrap().bits(), 0b1110);
/// ```
#[derive(Clone, Copy)]
pub struct StatePage<'a> {
    words: &'a [AtomicU64; 512],
}

impl<'a> StatePage<'a> {
    /// The word of RAX; the other general registers follow in the order of their numbers.
    pub const FIRST_GENERAL: usize = 16;
    /// How many general registers there are.
    pub const GENERALS: usize = 16;
    /// The first word of ES; CS, SS, DS, FS, GS, LDTR and TR follow.
    pub const FIRST_SEGMENT: usize = 64;
    /// How many segment registers there are.
    pub const SEGMENTS: usize = 8;
    /// From the words of one segment register to those of the next.
    pub const WORDS_PER_SEGMENT: usize = 2;

    /// Looks at a page as a state page.
    #[inline]
    pub const fn new(words: &'a [AtomicU64; 512]) -> Self {
        StatePage { words }
    }

    /// A word that has a name.
    #[inline]
    pub fn get(self, word: StateWord) -> u64 {
        self.words[word as usize].load(Relaxed)
    }

    /// Sets a word that has a name.
    #[inline]
    pub fn set(self, word: StateWord, value: u64) {
        self.words[word as usize].store(value, Relaxed);
    }

    /// Which exits go to the monitor.
    pub fn exits(self) -> u64 {
        self.get(StateWord::Exits)
    }

    /// Says which exits go to the monitor.
    pub fn set_exits(self, bits: u64) {
        self.set(StateWord::Exits, bits);
    }

    /// Which exceptions go to the monitor, a bit for each vector.
    pub fn exceptions(self) -> u64 {
        self.get(StateWord::Exceptions)
    }

    /// Says which exceptions go to the monitor.
    pub fn set_exceptions(self, vectors: u64) {
        self.set(StateWord::Exceptions, vectors);
    }

    /// The groups that are written at an exit; `None` if a reserved bit is set.
    pub fn save(self) -> Option<StateGroups> {
        StateGroups::from_bits(self.get(StateWord::Save))
    }

    /// Says which groups are written at an exit.
    pub fn set_save(self, groups: StateGroups) {
        self.set(StateWord::Save, groups.bits());
    }

    /// The groups that are read before the vcpu goes on; `None` if a reserved bit is set.
    pub fn load(self) -> Option<StateGroups> {
        StateGroups::from_bits(self.get(StateWord::Load))
    }

    /// Says which groups are read before the vcpu goes on.
    pub fn set_load(self, groups: StateGroups) {
        self.set(StateWord::Load, groups.bits());
    }

    /// A general register, by its number in instructions; only the lower four bits count.
    #[inline]
    pub fn general(self, number: usize) -> u64 {
        self.words[Self::FIRST_GENERAL + number % Self::GENERALS].load(Relaxed)
    }

    /// Sets a general register.
    #[inline]
    pub fn set_general(self, number: usize, value: u64) {
        self.words[Self::FIRST_GENERAL + number % Self::GENERALS].store(value, Relaxed);
    }

    /// The first word of a segment register, by its place in the order ES, CS, SS, DS, FS, GS, LDTR, TR;
    /// only the lower three bits count.
    #[inline]
    pub const fn segment_word(number: usize) -> usize {
        Self::FIRST_SEGMENT + number % Self::SEGMENTS * Self::WORDS_PER_SEGMENT
    }

    /// A segment register.
    pub fn segment(self, number: usize) -> StateSegment {
        let first = Self::segment_word(number);
        let word = self.words[first].load(Relaxed);
        StateSegment {
            selector: word as u16,
            access: (word >> 16) as u16,
            limit: (word >> 32) as u32,
            base: self.words[first + 1].load(Relaxed),
        }
    }

    /// Sets a segment register.
    pub fn set_segment(self, number: usize, segment: StateSegment) {
        let first = Self::segment_word(number);
        let word = u64::from(segment.selector)
            | u64::from(segment.access) << 16
            | u64::from(segment.limit) << 32;
        self.words[first].store(word, Relaxed);
        self.words[first + 1].store(segment.base, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn group_of(word: usize) -> Vec<&'static str> {
        let rows = StateGroups::ROWS.iter();
        rows.filter(|(_, _, words, _)| words.contains(&word))
            .map(|(_, name, ..)| *name)
            .collect()
    }

    #[test]
    fn every_register_is_in_one_group() {
        for word in StateWord::ALL.iter().filter(|word| word.number() > 3) {
            assert_eq!(group_of(word.number() as usize).len(), 1, "{word}");
        }
        for number in 0..16 {
            assert_eq!(group_of(StatePage::FIRST_GENERAL + number), ["general"]);
            let segment = StatePage::segment_word(number);
            assert_eq!(group_of(segment), ["segments"]);
            assert_eq!(group_of(segment + 1), ["segments"]);
        }
    }

    #[test]
    fn words_do_not_overlap() {
        let words: [AtomicU64; 512] = core::array::from_fn(|_| AtomicU64::new(0));
        let page = StatePage::new(&words);
        for (value, word) in (1..).zip(StateWord::ALL) {
            page.set(*word, value);
        }
        for number in 0..16 {
            page.set_general(number, 100 + number as u64);
        }
        let segment = |number: usize| StateSegment {
            selector: 200 + number as u16,
            access: 300 + number as u16,
            limit: 400 + number as u32,
            base: 500 + number as u64,
        };
        for number in 0..8 {
            page.set_segment(number, segment(number));
        }
        for (value, word) in (1..).zip(StateWord::ALL) {
            assert_eq!(page.get(*word), value, "{word}");
        }
        for number in 0..16 {
            assert_eq!(page.general(number), 100 + number as u64);
            assert_eq!(page.segment(number % 8), segment(number % 8));
        }
        let used = words.iter().filter(|word| word.load(Relaxed) != 0);
        assert_eq!(used.count(), StateWord::ALL.len() + 16 + 16);
    }

    #[test]
    fn reserved_groups_are_no_groups() {
        assert_eq!(StateGroups::from_bits(1 << 5), None);
        assert_eq!(StateGroups::from_bits(0b1_1111), Some(StateGroups::ALL));
        let words: [AtomicU64; 512] = core::array::from_fn(|_| AtomicU64::new(1 << 63));
        let page = StatePage::new(&words);
        assert_eq!((page.save(), page.load()), (None, None));
    }
}
