//! Loads and saves the state of a vcpu on the CPU that this runs on: a guest of one page of code goes
//! through the modes, and what it is given is what it has when it leaves. Exits are told by the vendor's
//! numbers, so that the loop stays the only caller of the decoders and has them inlined.

#![forbid(unsafe_code)]

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;

use nuncio_abi::{Rights, StateGroups, StatePage, StateSegment, StateWord};

use crate::mem::{Account, Extent, GuestPhysical, OutOfFrames, PhysicalMemory};
use crate::nested::{NestedTable, Run};
use crate::vt::entry_rules::self_test::{Entered, Subject};
use crate::vt::{Register, StartState, Vendor, VirtualCpu};

use super::{load, save};

/// Eight frames from guest-physical 0 on.
const RAM_ORDER: u32 = 3;
/// Where code and page tables are.
const CODE: u64 = 0x1000;
const TABLES: [u64; 3] = [0x2000, 0x3000, 0x4000];
/// IN AL, 60h; CPUID; HLT; the same in every mode.
const INSTRUCTIONS: u64 = u64::from_le_bytes([0xE4, 0x60, 0x0F, 0xA2, 0xF4, 0xF4, 0xF4, 0xF4]);
/// Interrupts that may come before a guest has got anywhere.
const MOST_INTERRUPTS: u32 = 100;

/// A mode: its name, CR0, CR4 and EFER, and the access rights of code and data.
type Mode = (&'static str, [u64; 3], [u16; 2]);

/// CPUs keep code segments of real mode as data.
const REAL: Mode = ("real", [0x10, 0, 0], [0x93, 0x93]);
const PROTECTED: Mode = ("protected", [0x11, 0, 0], [0xC09B, 0xC093]);
const LONG: Mode = ("long", [0x8000_0011, 0x20, 0x500], [0xA09B, 0xC093]);
/// The CPU refuses it: no PAE.
const BROKEN: Mode = ("broken", [0x8000_0011, 0, 0x500], [0xA09B, 0xC093]);

type Words = Box<[AtomicU64; 512]>;

fn page() -> Words {
    Box::new(core::array::from_fn(|_| AtomicU64::new(0)))
}

/// Fills a page with a state of that mode, with `seed` in what the mode leaves free.
fn fill(page: StatePage<'_>, (_, [cr0, cr4, efer], [code, data]): Mode, seed: u64) {
    for number in 0..StatePage::GENERALS {
        page.set_general(number, seed << 8 | number as u64);
    }
    for (word, value) in [
        (StateWord::Rip, CODE),
        (StateWord::Rflags, 2),
        (StateWord::Cr0, cr0),
        (StateWord::Cr2, seed << 12),
        (StateWord::Cr3, TABLES[0]),
        (StateWord::Cr4, cr4),
        (StateWord::Efer, efer),
        (StateWord::Pat, 0x0007_0406_0007_0406),
        (StateWord::Cr8, seed & 15),
        (StateWord::GdtrBase, seed << 16),
        (StateWord::GdtrLimit, 0x7F),
        (StateWord::IdtrBase, seed << 20),
        (StateWord::IdtrLimit, 0xFFF),
        (StateWord::Star, seed << 32),
        (StateWord::Lstar, 0xFFFF_8000_0000_0000 | seed),
        (StateWord::Cstar, 0x7FFF_0000_0000 | seed),
        (StateWord::Fmask, seed),
        (StateWord::KernelGsBase, 0xFFFF_FFFF_0000_0000 | seed),
        (StateWord::SysenterCs, seed),
        (StateWord::SysenterEsp, seed << 4),
        (StateWord::SysenterEip, seed << 5),
    ] {
        page.set(word, value);
    }
    for number in 0..StatePage::SEGMENTS {
        let (access, limit) = match number {
            1 => (code, limit_of(code)),
            6 => (0x82, 0xFFFF),
            7 => (0x8B, 0xFFFF),
            _ => (data, limit_of(data)),
        };
        let segment = StateSegment {
            selector: 0,
            access,
            limit,
            base: 0,
        };
        page.set_segment(number, segment);
    }
}

/// The limit that goes with the granularity.
const fn limit_of(access: u16) -> u32 {
    if access >> 15 != 0 {
        u32::MAX
    } else {
        0xFFFF
    }
}

/// Takes a guest through the modes; words of the names that are left out are not compared.
///
/// # Errors
/// When there is too little memory for it.
///
/// # Panics
/// If the CPU does not do as it should.
pub fn run<V: Vendor<Vcpu: Subject>>(
    vendor: &mut V,
    physical: &'static dyn PhysicalMemory,
    account: &Arc<Account>,
    left_out: &[&str],
) -> Result<(), OutOfFrames> {
    let ram = account.allocate(RAM_ORDER)?;
    let mut table = NestedTable::new(account, physical, vendor.entry_format())?;
    let all = Run {
        frame: ram.first(),
        pages: 1 << RAM_ORDER,
    };
    table.map(GuestPhysical(0), &[all], Rights::ACCESS)?;
    write_memory(physical, &ram);
    let start = StartState {
        nested_root: table.root(),
        entry: GuestPhysical(CODE),
        page_table: GuestPhysical(TABLES[0]),
        stack: GuestPhysical(0x8000),
        argument: GuestPhysical(0),
    };
    let mut vcpu = vendor.create_vcpu(account, &start)?;
    vendor.load(&mut vcpu);
    for (mode, seed) in [REAL, PROTECTED, LONG, REAL, LONG, PROTECTED, REAL]
        .into_iter()
        .zip(0x11..)
    {
        go_through(vendor, &mut vcpu, mode, seed, left_out);
        log::info!("state: a guest in {} mode has what it was given", mode.0);
    }
    refuse(vendor, &mut vcpu);
    Ok(())
}

/// One page of 2 MiB at 0, and code.
fn write_memory(physical: &'static dyn PhysicalMemory, ram: &Extent) {
    let [top, middle, bottom] = TABLES;
    let entries = [middle | 3, bottom | 3, 1 << 7 | 3];
    let words = [top, middle, bottom].into_iter().zip(entries);
    for (address, value) in words.chain([(CODE, INSTRUCTIONS)]) {
        let frame = ram.first().offset(address >> 12);
        let page = physical.words(frame).expect("the guest's own memory");
        page[0].store(value, Relaxed);
    }
}

fn go_through<V: Vendor<Vcpu: Subject>>(
    vendor: &mut V,
    vcpu: &mut V::Vcpu,
    mode: Mode,
    seed: u64,
    left_out: &[&str],
) {
    let (given, found) = (page(), page());
    let (given, found) = (StatePage::new(&given), StatePage::new(&found));
    fill(given, mode, seed);
    let done = load(vcpu, StateGroups::ALL, given);
    assert_eq!(done, Ok(()), "{} mode is refused", mode.0);
    let [port, cpuid, halt] = V::Vcpu::PORT_CPUID_HALT.map(Entered::Left);
    assert_eq!(enter(vendor, vcpu), port, "in {} mode", mode.0);
    save(vcpu, StateGroups::ALL, found);
    compare(given, found, left_out);
    vcpu.skip_instruction();
    vcpu.set_port_input(1, 0xA5);
    assert_eq!(enter(vendor, vcpu), cpuid, "in {} mode", mode.0);
    assert_eq!(vcpu.register(Register::RAX), seed << 8 | 0xA5);
    vcpu.skip_instruction();
    assert_eq!(enter(vendor, vcpu), halt, "in {} mode", mode.0);
    assert_eq!(vcpu.instruction_pointer(), CODE + 4);
}

/// The guest has changed nothing so far.
fn compare(given: StatePage<'_>, found: StatePage<'_>, left_out: &[&str]) {
    for word in StateWord::ALL {
        let is_same = found.get(*word) == given.get(*word);
        assert!(is_same || left_out.contains(&word.name()), "{word}");
    }
    for number in 0..StatePage::GENERALS {
        let value = found.general(number);
        assert_eq!(value, given.general(number), "register {number}");
    }
    for number in 0..StatePage::SEGMENTS {
        let segment = found.segment(number);
        assert_eq!(segment, given.segment(number), "segment {number}");
    }
}

/// A state that passes the checks and that the CPU does not enter is explained.
fn refuse<V: Vendor<Vcpu: Subject>>(vendor: &mut V, vcpu: &mut V::Vcpu) {
    let given = page();
    let given = StatePage::new(&given);
    fill(given, BROKEN, 1);
    assert_eq!(load(vcpu, StateGroups::ALL, given), Ok(()));
    assert_eq!(enter(vendor, vcpu), Entered::Refused);
    let failure = vcpu.entry_failure();
    let names = failure.rules.iter().map(|rule| rule.name);
    assert!(
        names.into_iter().any(|name| name.contains("pae")),
        "{failure:?}"
    );
    assert_eq!(failure.instruction_pointer, CODE);
    log::info!("state: a state that the CPU refuses is explained");
}

/// Enters until something but an interrupt comes.
fn enter<V: Vendor<Vcpu: Subject>>(vendor: &mut V, vcpu: &mut V::Vcpu) -> Entered {
    for _ in 0..MOST_INTERRUPTS {
        vendor.run(vcpu);
        let entered = vcpu.entered();
        if entered != Entered::Interrupt {
            return entered;
        }
    }
    Entered::Interrupt
}
