//! The tables in use: filled for this image and this domain, then loaded.
// UNSAFETY: linker symbols, CR3 and EFER.
#![allow(unsafe_code)]

use core::arch::asm;

use nuncio_abi::{BootInfo, PAGE_BYTES};
use spin::{Mutex, Once};

use super::{Access, MapProblem, Mapper, Table, TablePool};
use crate::instructions::{read_msr, write_msr, MSR_EFER};
use crate::trap;

/// Enough for RAM of 40 GiB and a few windows.
const TABLES: usize = 64;
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

/// Builds the kernel's address space and changes to it.
///
/// # Errors
/// If the RAM is too large for the pool of tables.
pub fn install(boot: &BootInfo) -> Result<(), MapProblem> {
    let pool = TablePool::new(&POOL, address(POOL.as_ptr().cast()));
    let mut mapper = Mapper::new(pool);
    map_domain(&mut mapper, boot)?;
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

/// The RAM, the modules and the pages of the hypervisor.
fn map_domain(mapper: &mut Mapper<'_>, boot: &BootInfo) -> Result<(), MapProblem> {
    let ram_end = boot.ram_bytes & !(PAGE_BYTES - 1);
    mapper.map(0, ram_end, Access::Write)?;
    for module in boot.modules() {
        let end = module.address.checked_add(module.length);
        let end = end.and_then(|end| end.checked_next_multiple_of(PAGE_BYTES));
        let start = module.address & !(PAGE_BYTES - 1);
        mapper.map(start, end.ok_or(MapProblem::Range)?, Access::Read)?;
    }
    let boot_info = core::ptr::from_ref(boot).addr() as u64;
    let vcpus = boot.vcpus().len().max(1) as u64;
    for (page, pages, access) in [
        (boot_info, 1, Access::Read),
        (boot.vcpu_page, vcpus, Access::Write),
        (boot.time_page, 1, Access::Read),
        (boot.text_page, 1, Access::Execute),
    ] {
        mapper.map(page, page + pages * PAGE_BYTES, access)?;
    }
    mapper.unmap(0, PAGE_BYTES)
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
