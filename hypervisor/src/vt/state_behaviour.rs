//! What the state page does with the vcpus of both vendors and with the fake: one list of tests, which
//! `state_behaviours!` runs.

use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;
use std::boxed::Box;

use nuncio_abi::{StateGroups, StatePage, StateSegment, StateWord};

use super::behaviour::Bed;
use super::state::{load, save, StateRefused};
use super::{start_state, SystemRegister, VirtualCpu};

/// A vcpu that runs nothing.
pub trait StateBed {
    type Vcpu: VirtualCpu;

    fn create() -> Self;

    fn vcpu(&mut self) -> &mut Self::Vcpu;

    /// Whether its translations are to be forgotten since this was last asked.
    fn take_flush(&mut self) -> bool;
}

impl<B: Bed> StateBed for B {
    type Vcpu = B::Vcpu;

    fn create() -> Self {
        B::create()
    }

    fn vcpu(&mut self) -> &mut Self::Vcpu {
        Bed::vcpu(self)
    }

    fn take_flush(&mut self) -> bool {
        Bed::take_flush(self)
    }
}

/// A page of the tests.
pub struct Page(Box<[AtomicU64; 512]>);

impl Page {
    pub fn empty() -> Self {
        Page(Box::new(core::array::from_fn(|_| AtomicU64::new(0))))
    }

    pub fn state(&self) -> StatePage<'_> {
        StatePage::new(&self.0)
    }

    fn values(&self) -> [u64; 512] {
        core::array::from_fn(|word| self.0[word].load(Relaxed))
    }

    fn put(&self, word: usize, value: u64) {
        self.0[word].store(value, Relaxed);
    }

    /// All that a vcpu has.
    fn of(vcpu: &impl VirtualCpu) -> Self {
        let page = Page::empty();
        save(vcpu, StateGroups::ALL, page.state());
        page
    }

    /// A kernel in long mode, with a value of its own in each word.
    fn long_mode() -> Self {
        let page = Page::empty();
        let state = page.state();
        for number in 0..16 {
            state.set_general(number, 0x1_0000_0000 + number as u64);
        }
        for (word, value) in [
            (StateWord::Rip, 0xFFFF_8000_0000_1234),
            (StateWord::Rflags, 0x247),
            (StateWord::Shadow, 1),
            (StateWord::Cr0, 0x8005_0011),
            (StateWord::Cr2, 0x1234_5678_9ABC_DEF0),
            (StateWord::Cr3, 0x7654_3000),
            (StateWord::Cr4, 0x6A0),
            (StateWord::Efer, 0x501),
            (StateWord::Pat, 0x0001_0405_0607_0406),
            (StateWord::Cr8, 9),
            (StateWord::GdtrBase, 0x11_1000),
            (StateWord::GdtrLimit, 0xFFFF),
            (StateWord::IdtrBase, 0x22_2000),
            (StateWord::IdtrLimit, 0xFFE),
            (StateWord::Star, 0x1B_0008_0000_0001),
            (StateWord::Lstar, 0xFFFF_8000_0000_0000),
            (StateWord::Cstar, 0x7FFF_FFFF_FFFF),
            (StateWord::Fmask, 0xFFFF_FFFF),
            (StateWord::KernelGsBase, 0xFFFF_FFFF_FFFF_0000),
            (StateWord::SysenterCs, 0x10),
            (StateWord::SysenterEsp, 0x33_3000),
            (StateWord::SysenterEip, 0x44_4000),
        ] {
            state.set(word, value);
        }
        for number in 0..8 {
            let access = match number {
                // Code, no table, a busy task.
                1 => 0xA09B,
                6 => 0,
                7 => 0x008B,
                // Data; the stack's level is 3.
                2 => 0xC0F3,
                _ => 0xC093,
            };
            state.set_segment(
                number,
                StateSegment {
                    selector: 0x10 + number as u16 * 8,
                    access,
                    limit: 0xFFFF_0000 + number as u32,
                    base: 0x5_0000 + number as u64,
                },
            );
        }
        page
    }
}

fn word(word: StateWord) -> usize {
    word as usize
}

pub fn every_group_makes_the_round_trip<B: StateBed>() {
    let mut bed = B::create();
    let given = Page::long_mode();
    assert_eq!(load(bed.vcpu(), StateGroups::ALL, given.state()), Ok(()));
    assert_eq!(Page::of(bed.vcpu()).values(), given.values());
    assert_eq!(bed.vcpu().instruction_pointer(), 0xFFFF_8000_0000_1234);
    assert_eq!(
        given.values(),
        Page::long_mode().values(),
        "it is only read"
    );
}

pub fn groups_that_are_not_named_stay<B: StateBed>() {
    for (group, name, words, _) in StateGroups::ROWS {
        let mut bed = B::create();
        let before = Page::of(bed.vcpu()).values();
        let given = Page::long_mode();
        assert_eq!(load(bed.vcpu(), *group, given.state()), Ok(()), "{name}");
        let after = Page::of(bed.vcpu()).values();
        for word in 0..512 {
            let expected = if words.contains(&word) {
                given.values()[word]
            } else {
                before[word]
            };
            assert_eq!(after[word], expected, "{name}: word {word}");
        }
        let saved = Page::empty();
        (0..512).for_each(|word| saved.put(word, 77));
        save(bed.vcpu(), *group, saved.state());
        let is_other = |word: &usize| !words.contains(word);
        let mut others = (0..512).filter(is_other);
        assert!(others.all(|word| saved.values()[word] == 77), "{name}");
    }
}

/// What no guest may be given, each in a page that is fine otherwise.
const REFUSED: &[(StateWord, u64)] = &[
    (StateWord::Rflags, 0),
    (StateWord::Rflags, 1 << 3 | 2),
    (StateWord::Rflags, 1 << 5 | 2),
    (StateWord::Rflags, 1 << 15 | 2),
    (StateWord::Rflags, 1 << 17 | 2),
    (StateWord::Rflags, 1 << 22 | 2),
    (StateWord::Rflags, 1 << 63 | 2),
    (StateWord::Shadow, 2),
    (StateWord::Shadow, 1 << 63),
    (StateWord::Cr0, 0x8005_0010),
    (StateWord::Cr0, 0xA005_0011),
    (StateWord::Cr0, 0x8005_0051),
    (StateWord::Cr0, 0x1_8005_0011),
    (StateWord::Cr4, 1 << 13 | 0x20),
    (StateWord::Cr4, 1 << 15 | 0x20),
    (StateWord::Cr4, 1 << 32 | 0x20),
    (StateWord::Efer, 0x101),
    (StateWord::Efer, 0x401),
    (StateWord::Efer, 0x1501),
    (StateWord::Efer, 0x503),
    (StateWord::Efer, 0x4501),
    (StateWord::Pat, 2),
    (StateWord::Pat, 3 << 8),
    (StateWord::Pat, 8 << 56),
    (StateWord::Cr8, 16),
    (StateWord::GdtrLimit, 0x1_0000),
    (StateWord::IdtrLimit, 0x1_0000),
    (StateWord::Lstar, 0x8000_0000_0000),
    (StateWord::Cstar, 0xFFFF_7FFF_FFFF_FFFF),
    (StateWord::Fmask, 1 << 32),
    (StateWord::KernelGsBase, 1 << 63),
    (StateWord::SysenterCs, 1 << 32),
    (StateWord::SysenterEsp, 1 << 47),
    (StateWord::SysenterEip, 1 << 62),
];

pub fn what_no_guest_may_have_is_refused_and_changes_nothing<B: StateBed>() {
    let mut bed = B::create();
    bed.take_flush();
    let before = Page::of(bed.vcpu()).values();
    let named = REFUSED.iter().map(|(name, value)| (word(*name), *value));
    let segments = (0..8).map(|number| {
        let first = StatePage::segment_word(number);
        (first, Page::long_mode().values()[first] | 1 << 24)
    });
    for (word, value) in named.chain(segments) {
        let page = Page::long_mode();
        page.put(word, value);
        let result = load(bed.vcpu(), StateGroups::ALL, page.state());
        assert_eq!(result, Err(StateRefused { word }), "{value:#x}");
        assert_eq!(Page::of(bed.vcpu()).values(), before);
        assert!(!bed.take_flush());
        let others = StateGroups::ROWS.iter();
        let mut others = others.filter(|(_, _, words, _)| !words.contains(&word));
        assert!(others.all(|(group, ..)| load(B::create().vcpu(), *group, page.state()).is_ok()));
    }
}

pub fn a_pending_upcall_is_shown_and_not_loaded<B: StateBed>() {
    let mut bed = B::create();
    bed.vcpu().request_upcall(0x40);
    let page = Page::of(bed.vcpu());
    assert_eq!(page.state().get(StateWord::Pending), 0x40);
    page.put(word(StateWord::Pending), u64::MAX);
    let done = load(bed.vcpu(), StateGroups::INSTRUCTION, page.state());
    assert_eq!((done, bed.vcpu().pending_upcall()), (Ok(()), Some(0x40)));
    assert_eq!(bed.vcpu().take_upcall(), Some(0x40));
    let done = load(bed.vcpu(), StateGroups::INSTRUCTION, page.state());
    assert_eq!((done, bed.vcpu().pending_upcall()), (Ok(()), None));
}

pub fn translations_go_when_what_they_depend_on_changes<B: StateBed>() {
    let mut bed = B::create();
    let page = Page::long_mode();
    load(bed.vcpu(), StateGroups::ALL, page.state()).unwrap();
    assert!(bed.take_flush());
    load(bed.vcpu(), StateGroups::ALL, page.state()).unwrap();
    assert!(!bed.take_flush(), "nothing has changed");
    for (name, value, flushes) in [
        (StateWord::Cr0, 0x8004_0011, true),
        (StateWord::Cr2, 1, false),
        (StateWord::Cr3, 0x7654_4000, true),
        (StateWord::Cr4, 0x620, true),
        (StateWord::Efer, 0xD01, true),
        (StateWord::Pat, 0x0007_0406_0007_0406, true),
        (StateWord::Cr8, 3, false),
        (StateWord::Rip, 3, false),
    ] {
        page.put(word(name), value);
        load(bed.vcpu(), StateGroups::ALL, page.state()).unwrap();
        assert_eq!(bed.take_flush(), flushes, "{name}");
    }
}

/// Modes by CR0, CR4 and EFER.
const MODES: [(&str, u64, u64, u64); 5] = [
    ("real", 0x10, 0, 0),
    ("protected", 0x31, 0, 0),
    ("with 32-bit paging", 0x8000_0031, 0x10, 0x800),
    ("compatibility or long", 0x8000_0011, 0x20, 0x501),
    ("long mode enabled, not active", 0x60000010, 0x20, 0x100),
];

pub fn a_vcpu_changes_from_any_mode_into_any_other<B: StateBed>() {
    let mut bed = B::create();
    let page = Page::long_mode();
    for from in MODES {
        for (name, cr0, cr4, efer) in [from].into_iter().chain(MODES) {
            page.put(word(StateWord::Cr0), cr0);
            page.put(word(StateWord::Cr4), cr4);
            page.put(word(StateWord::Efer), efer);
            let done = load(bed.vcpu(), StateGroups::CONTROL, page.state());
            assert_eq!(done, Ok(()), "{name}");
            let control = bed.vcpu().control_registers();
            assert_eq!((control.cr0, control.cr4, control.efer), (cr0, cr4, efer));
        }
    }
}

pub fn a_guest_cannot_be_without_the_extension_type<B: StateBed>() {
    let mut bed = B::create();
    let page = Page::long_mode();
    page.put(word(StateWord::Cr0), 0x8005_0001);
    load(bed.vcpu(), StateGroups::CONTROL, page.state()).unwrap();
    assert_eq!(bed.vcpu().control_registers().cr0, 0x8005_0011);
}

pub fn page_directory_pointers_can_only_be_kept<B: StateBed>() {
    let mut bed = B::create();
    let page = Page::long_mode();
    page.put(word(StateWord::Efer), 0x800);
    let refused = Err(StateRefused {
        word: word(StateWord::Cr3),
    });
    let try_it = |bed: &mut B| load(bed.vcpu(), StateGroups::CONTROL, page.state());
    assert_eq!(try_it(&mut bed), refused);
    // The guest has gone there by itself.
    bed.vcpu().set_efer(0x800);
    assert_eq!(try_it(&mut bed), refused, "another CR3");
    bed.vcpu()
        .set_system_register(SystemRegister::Cr3, 0x7654_3000);
    assert_eq!(try_it(&mut bed), Ok(()));
    page.put(word(StateWord::Cr2), 5);
    assert_eq!(try_it(&mut bed), Ok(()));
    bed.vcpu().set_efer(start_state::EFER);
    assert_eq!(try_it(&mut bed), refused, "out of long mode");
}

/// One test for each behaviour of the list, on this bed.
macro_rules! state_behaviours {
    ($bed:ty) => {
        state_behaviours! { $bed:
            every_group_makes_the_round_trip,
            groups_that_are_not_named_stay,
            what_no_guest_may_have_is_refused_and_changes_nothing,
            a_pending_upcall_is_shown_and_not_loaded,
            translations_go_when_what_they_depend_on_changes,
            a_vcpu_changes_from_any_mode_into_any_other,
            a_guest_cannot_be_without_the_extension_type,
            page_directory_pointers_can_only_be_kept,
        }
    };
    ($bed:ty: $( $name:ident, )+) => { $(
        #[test]
        fn $name() {
            $crate::vt::state_behaviour::$name::<$bed>();
        }
    )+ };
}

pub(super) use state_behaviours;
