//! The tables in use: filled for this image and this machine, then loaded.
// UNSAFETY: linker symbols, CR3 and EFER.
#![allow(unsafe_code)]

use core::arch::asm;
use core::ops::Range;

use nuncio_abi::PAGE_BYTES;
use spin::{Mutex, Once};

use super::{Access, MapProblem, Mapper, Table, TablePool};
use crate::boot::{ram, Handover};
use crate::instructions::{read_msr, write_msr, MSR_EFER};
use crate::trap;

/// Enough for the RAM up to its limit, a table for each GiB, and a few windows.
const TABLES: usize = 96;
const _: () = assert!(TABLES as u64 >= (ram::RAM_LIMIT >> 30) + 32);
static POOL: [Table; TABLES] = [const { Table::new() }; TABLES];
static MAPPER: Once<Mutex<Mapper<'static>>> = Once::new();

const EFER_NO_EXECUTE: u64 = 1 << 11;

extern "C" {
    static image_start: u8;
    static code_start: u8;
    static user_code_start: u8;
    static user_code_end: u8;
    static code_end: u8;
    static variables_start: u8;
    static image_end: u8;
}

fn address(symbol: *const u8) -> u64 {
    symbol.addr() as u64
}

/// The first and last address of the kernel's code, for the oops.
pub fn code_range() -> (u64, u64) {
    (address(&raw const code_start), address(&raw const code_end))
}

/// The pages with the code for CPL 3.
pub fn user_code_range() -> (u64, u64) {
    let start = address(&raw const user_code_start);
    (start, address(&raw const user_code_end))
}

/// Where the image lies.
pub fn image_range() -> Range<u64> {
    address(&raw const image_start)..address(&raw const image_end)
}

/// Builds the kernel's address space and changes to it: the RAM, what else `map_more` maps, the modules, and
/// the image. The first page stays out, so that a null pointer is a fault.
///
/// # Errors
/// If all that is too much for the pool of tables.
pub fn install(
    handover: &Handover,
    map_more: impl FnOnce(&mut Mapper<'_>) -> Result<(), MapProblem>,
) -> Result<(), MapProblem> {
    let pool = TablePool::new(&POOL, address(POOL.as_ptr().cast()));
    let mut mapper = Mapper::new(pool);
    map_ram(&mut mapper, handover)?;
    map_more(&mut mapper)?;
    mapper.unmap(0, PAGE_BYTES)?;
    map_image(&mut mapper)?;
    let root = mapper.root_address();
    MAPPER.call_once(|| Mutex::new(mapper));
    // SAFETY: EFER exists in every CPU with 64-bit mode; with NXE set, bit 63 of an entry is no
    // longer reserved (Intel SDM 3A, 4.1.4). The new tables map everything that is in use.
    unsafe {
        let extended_features = read_msr(MSR_EFER);
        if extended_features & EFER_NO_EXECUTE == 0 {
            write_msr(MSR_EFER, extended_features | EFER_NO_EXECUTE);
        }
        asm!("mov cr3, {}", in(reg) root, options(nostack, preserves_flags));
    }
    set_write_protect();
    Ok(())
}

/// Maps the pages with the registers of a device where they are, uncached.
///
/// # Errors
/// As [`Mapper::map`].
pub fn map_device(address: u64, bytes: u64) -> Result<(), MapProblem> {
    let end = address.checked_add(bytes);
    let end = end.and_then(|end| end.checked_next_multiple_of(PAGE_BYTES));
    let start = address & !(PAGE_BYTES - 1);
    map(start, end.ok_or(MapProblem::Range)?, Access::Device)
}

/// Maps a range where it is, later than at the start. All vcpus reach it: a CPU does not remember that
/// something was not mapped (Intel SDM 3A, 4.10.2.3; AMD APM 2, 5.5).
///
/// # Errors
/// As [`Mapper::map`].
pub fn map(start: u64, end: u64, access: Access) -> Result<(), MapProblem> {
    let mapper = MAPPER.get().ok_or(MapProblem::OutOfTables)?;
    mapper.lock().map(start, end, access)?;
    reload();
    Ok(())
}

/// Takes a range out. Another vcpu may still reach it until it starts anew.
///
/// # Errors
/// As [`Mapper::unmap`].
pub fn unmap(start: u64, end: u64) -> Result<(), MapProblem> {
    let mapper = MAPPER.get().ok_or(MapProblem::OutOfTables)?;
    mapper.lock().unmap(start, end)?;
    reload();
    Ok(())
}

/// The RAM, and the modules in it or behind it.
fn map_ram(mapper: &mut Mapper<'_>, handover: &Handover) -> Result<(), MapProblem> {
    let mut mapped = Ok(());
    ram::all(handover, |range| {
        mapped = mapped.and_then(|()| mapper.map(range.start, range.end, Access::Write));
    });
    mapped?;
    for module in handover.modules() {
        let end = module.end.checked_next_multiple_of(PAGE_BYTES);
        let start = module.start & !(PAGE_BYTES - 1);
        mapper.map(start, end.ok_or(MapProblem::Range)?, Access::Read)?;
    }
    Ok(())
}

/// The image, each segment with the access that it needs, and the holes below the stacks.
fn map_image(mapper: &mut Mapper<'_>) -> Result<(), MapProblem> {
    let (code_first, code_last) = code_range();
    let variables = address(&raw const variables_start);
    mapper.map(address(&raw const image_start), code_first, Access::Read)?;
    mapper.map(code_first, code_last, Access::Execute)?;
    mapper.map(variables, address(&raw const image_end), Access::Write)?;
    for guard in trap::FIRST_STACKS.guard_pages() {
        mapper.unmap(guard, guard + PAGE_BYTES)?;
    }
    Ok(())
}

/// Makes read-only pages read-only for us too (CR0.WP, Intel SDM 3A, 4.6.1).
fn set_write_protect() {
    const WRITE_PROTECT: u64 = 1 << 16;
    // SAFETY: nothing writes to pages that the tables call read-only.
    unsafe {
        asm!(
            "mov {0}, cr0", "or {0}, {1}", "mov cr0, {0}",
            out(reg) _, const WRITE_PROTECT, options(nostack),
        );
    }
}

/// Loads CR3 again, which drops what the CPU remembers of the tables.
fn reload() {
    // SAFETY: the same tables, with more in them.
    unsafe {
        asm!("mov {0}, cr3", "mov cr3, {0}", out(reg) _, options(nostack, preserves_flags));
    }
}
