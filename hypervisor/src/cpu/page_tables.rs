//! The hypervisor's own page tables: an identity map in which no page is both writable and
//! executable.
//!
//! | what | access | page size |
//! | --- | --- | --- |
//! | the image's code | read, execute | 4 KiB |
//! | the image's constants | read | 4 KiB |
//! | the image's variables and stacks | read, write | 4 KiB |
//! | all other RAM | read, write | 2 MiB where it fits |
//! | APIC registers | read, write, uncached | 4 KiB |
//! | page 0, guard pages, everything else | none | |

// UNSAFETY: builds page tables and loads CR3.
#![allow(unsafe_code)]

use alloc::boxed::Box;
use alloc::vec::Vec;

use x86_64::registers::control::{Cr3, Cr3Flags};
use x86_64::structures::paging::mapper::{MapToError, Mapper};
use x86_64::structures::paging::{
    FrameAllocator, OffsetPageTable, PageSize, PageTable, PageTableFlags, PhysFrame, Size2MiB,
    Size4KiB,
};
use x86_64::{PhysAddr, VirtAddr};

use crate::mem::{merge, subtract, HostRange};
use crate::mem::{HostPhysical, PAGE_BYTES};

/// Where most machines have the first I/O APIC (ACPI would tell).
pub const IO_APIC_ADDRESS: u64 = 0xFEC0_0000;

const LARGE_PAGE_BYTES: u64 = Size2MiB::SIZE;

/// The parts of the hypervisor's image, each in whole pages.
#[derive(Clone, Copy, Debug)]
pub struct ImageSections {
    /// Code.
    pub text: HostRange,
    /// Constants.
    pub constants: HostRange,
    /// Variables, stacks, and the guard pages between them.
    pub variables: HostRange,
}

impl ImageSections {
    /// From the first to the last byte.
    pub fn whole(&self) -> HostRange {
        HostRange::new(self.text.start(), self.variables.end()).unwrap_or(HostRange::EMPTY)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    ReadExecute,
    ReadOnly,
    ReadWrite,
    Device,
}

impl Access {
    /// PCD and PWT select "uncached" in the page-attribute table that every CPU has after a reset
    /// (Intel SDM vol. 3, 11.12.4).
    fn flags(self) -> PageTableFlags {
        let present = PageTableFlags::PRESENT;
        match self {
            Access::ReadExecute => present,
            Access::ReadOnly => present | PageTableFlags::NO_EXECUTE,
            Access::ReadWrite => present | PageTableFlags::WRITABLE | PageTableFlags::NO_EXECUTE,
            Access::Device => {
                Access::ReadWrite.flags() | PageTableFlags::NO_CACHE | PageTableFlags::WRITE_THROUGH
            }
        }
    }
}

/// What the map is made of.
#[derive(Clone, Copy, Debug)]
pub struct Layout<'layout> {
    /// All RAM, in whole pages, sorted.
    pub ram: &'layout [HostRange],
    /// The hypervisor's image, inside the RAM.
    pub image: ImageSections,
    /// Pages inside the image that stay unmapped.
    pub guards: &'layout [HostRange],
    /// Pages of device registers.
    pub devices: &'layout [HostRange],
}

/// Builds the tables on the heap. `Err` says what could not be mapped.
pub fn build(layout: &Layout<'_>) -> Result<&'static mut PageTable, &'static str> {
    let root: &'static mut PageTable = Box::leak(Box::new(PageTable::new()));
    // SAFETY: `root` is a valid empty table, and all tables come from the heap, which lies at
    // the same physical and virtual address: the offset between the two is 0.
    let mut tables = unsafe { OffsetPageTable::new(&mut *root, VirtAddr::zero()) };
    for (range, access) in pieces(layout) {
        map(&mut tables, range, access)?;
    }
    Ok(root)
}

/// Makes the tables the ones in use.
///
/// # Safety
///
/// They map everything that the hypervisor has in use, at its physical address.
pub unsafe fn load(root: &'static PageTable) {
    let address = PhysAddr::new(core::ptr::from_ref(root) as u64);
    // SAFETY: the tables are valid and never freed; what they map is the caller's promise.
    unsafe { Cr3::write(PhysFrame::containing_address(address), Cr3Flags::empty()) };
}

/// Uses the tables that the boot CPU uses, on another CPU.
pub(super) fn load_again(root: PhysFrame) {
    // SAFETY: they are in use on the boot CPU, and map what this CPU has in use as well: its block is part
    // of the heap.
    unsafe { Cr3::write(root, Cr3Flags::empty()) };
}

/// The map as ranges that do not overlap.
fn pieces(layout: &Layout<'_>) -> Vec<(HostRange, Access)> {
    let null_page = HostRange::from_length(HostPhysical(0), PAGE_BYTES);
    let mut not_plain: Vec<HostRange> = layout.devices.to_vec();
    not_plain.extend(null_page);
    not_plain.push(layout.image.whole());
    let plain = subtract(layout.ram, &merge(not_plain));
    let guards = merge(layout.guards.to_vec());
    let mut pieces = Vec::new();
    let image = layout.image;
    let parts: [(&[HostRange], Access); 5] = [
        (&plain, Access::ReadWrite),
        (&[image.text], Access::ReadExecute),
        (&[image.constants], Access::ReadOnly),
        (&[image.variables], Access::ReadWrite),
        (layout.devices, Access::Device),
    ];
    for (ranges, access) in parts {
        let ranges = subtract(ranges, &guards);
        pieces.extend(ranges.into_iter().map(|range| (range, access)));
    }
    pieces
}

fn map(
    tables: &mut OffsetPageTable<'_>,
    range: HostRange,
    access: Access,
) -> Result<(), &'static str> {
    let flags = access.flags();
    let (mut address, end) = (range.start().0, range.end().0);
    while address < end {
        let is_large = address % LARGE_PAGE_BYTES == 0 && end - address >= LARGE_PAGE_BYTES;
        address += if is_large {
            map_page::<Size2MiB>(tables, address, flags)?
        } else {
            map_page::<Size4KiB>(tables, address, flags)?
        };
    }
    Ok(())
}

fn map_page<Size>(
    tables: &mut OffsetPageTable<'_>,
    address: u64,
    flags: PageTableFlags,
) -> Result<u64, &'static str>
where
    Size: PageSize + core::fmt::Debug,
    for<'tables> OffsetPageTable<'tables>: Mapper<Size>,
{
    let frame = PhysFrame::<Size>::from_start_address(PhysAddr::new(address))
        .map_err(|_| "an address is not aligned")?;
    // SAFETY: the tables are not in use yet.
    let mapped = unsafe { tables.identity_map(frame, flags, &mut HeapFrames) };
    match mapped {
        Ok(flush) => {
            flush.ignore();
            Ok(Size::SIZE)
        }
        Err(MapToError::FrameAllocationFailed) => Err("no memory for page tables"),
        Err(_) => Err("two parts of memory overlap"),
    }
}

/// Frames for tables, from the heap; they are never given back.
struct HeapFrames;

// SAFETY: a new box is a frame of its own, because a `PageTable` is a page in size and alignment.
unsafe impl FrameAllocator<Size4KiB> for HeapFrames {
    fn allocate_frame(&mut self) -> Option<PhysFrame> {
        let table: &'static mut PageTable = Box::leak(Box::new(PageTable::new()));
        let address = PhysAddr::new(core::ptr::from_mut(table) as u64);
        Some(PhysFrame::containing_address(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use x86_64::structures::paging::mapper::{MappedFrame, Translate, TranslateResult};

    const MIB: u64 = 1 << 20;

    fn range(start: u64, length: u64) -> HostRange {
        HostRange::from_length(HostPhysical(start), length).unwrap()
    }

    /// 64 MiB of RAM, an image of 12 pages of which the last but one is a guard page, one device.
    fn example() -> OffsetPageTable<'static> {
        let layout = Layout {
            ram: &[range(0, 0x9_f000), range(MIB, 63 * MIB - 0x3000)],
            image: ImageSections {
                text: range(MIB, 0x4000),
                constants: range(MIB + 0x4000, 0x4000),
                variables: range(MIB + 0x8000, 0x4000),
            },
            guards: &[range(MIB + 0xa000, 0x1000)],
            devices: &[range(0xFEE0_0000, 0x1000)],
        };
        let root = build(&layout).unwrap();
        // SAFETY: the table lies, like all others that `build` made, at its own address.
        unsafe { OffsetPageTable::new(root, VirtAddr::zero()) }
    }

    fn look_up(tables: &OffsetPageTable<'_>, address: u64) -> Option<(u64, PageTableFlags)> {
        match tables.translate(VirtAddr::new(address)) {
            TranslateResult::Mapped {
                frame,
                offset,
                flags,
            } => {
                assert_eq!(frame.start_address().as_u64() + offset, address);
                let bytes = match frame {
                    MappedFrame::Size4KiB(_) => PAGE_BYTES,
                    MappedFrame::Size2MiB(_) => LARGE_PAGE_BYTES,
                    MappedFrame::Size1GiB(_) => 1 << 30,
                };
                Some((bytes, flags))
            }
            _ => None,
        }
    }

    #[test]
    fn every_part_has_its_access_and_page_size() {
        let tables = example();
        let cases = [
            (0x1000, PAGE_BYTES, Access::ReadWrite),
            (MIB + 0x3fff, PAGE_BYTES, Access::ReadExecute),
            (MIB + 0x4000, PAGE_BYTES, Access::ReadOnly),
            (MIB + 0x9000, PAGE_BYTES, Access::ReadWrite),
            (MIB + 0xc000, PAGE_BYTES, Access::ReadWrite),
            (2 * MIB, LARGE_PAGE_BYTES, Access::ReadWrite),
            (64 * MIB - 0x4000, PAGE_BYTES, Access::ReadWrite),
            (0xFEE0_00B0, PAGE_BYTES, Access::Device),
        ];
        for (address, bytes, access) in cases {
            let (found, flags) = look_up(&tables, address).unwrap();
            let flags = flags - PageTableFlags::HUGE_PAGE;
            assert_eq!((found, flags), (bytes, access.flags()), "{address:#x}");
        }
    }

    #[test]
    fn null_page_guards_and_holes_are_not_mapped() {
        let tables = example();
        for address in [
            0,
            0xfff,
            0x9_f000,
            MIB + 0xa000,
            64 * MIB - 0x3000,
            64 * MIB,
            0xFEC0_0000,
        ] {
            assert!(look_up(&tables, address).is_none(), "{address:#x}");
        }
    }

    #[test]
    fn nothing_is_both_writable_and_executable() {
        let tables = example();
        let mut mapped = 0;
        for address in (0..64 * MIB).step_by(PAGE_BYTES as usize) {
            if let Some((_, flags)) = look_up(&tables, address) {
                mapped += 1;
                assert!(
                    !flags.contains(PageTableFlags::WRITABLE)
                        || flags.contains(PageTableFlags::NO_EXECUTE),
                    "{address:#x}"
                );
                assert!(!flags.contains(PageTableFlags::USER_ACCESSIBLE));
            }
        }
        // RAM less the null page, the guard page and the three pages at the end.
        assert_eq!(mapped, 0x9f - 1 + 63 * 256 - 3 - 1);
    }

    #[test]
    fn parts_that_overlap_are_refused() {
        let image = ImageSections {
            text: range(MIB, 0x4000),
            constants: range(MIB + 0x2000, 0x4000),
            variables: range(MIB + 0x8000, 0x4000),
        };
        let layout = Layout {
            ram: &[range(MIB, 63 * MIB)],
            image,
            guards: &[],
            devices: &[],
        };
        assert!(build(&layout).is_err());
    }
}
