//! What the kernel learns when it starts.
//!
//! [`Handover`] is what any loader says, and [`read_handover`] finds it by the protocol of the loader: [`pvh`],
//! [`multiboot2`]. Under Nuncio there is a boot info; [`check`] decides whether it is one that this kernel can
//! use. [`ram`] divides the memory; [`CommandLine`] reads the words of the command line.
//!
//! `entry.S`, where loaders other than Nuncio enter, belongs to the image (`main.rs`).

mod command_line;
mod handover;
#[cfg(feature = "bare-metal")]
pub mod identity;
pub mod list;
pub mod multiboot2;
pub mod physical;
pub mod pvh;
pub mod ram;

use core::fmt;

use nuncio_abi::{BootInfo, Version, BOOT_INFO_MAGIC, PAGE_BYTES, VERSION};

pub use command_line::CommandLine;
pub use handover::{
    Handover, HandoverProblem, LoadedModule, Loader, MemoryKind, MemoryRange, RootPointer,
};
use physical::PhysicalBytes;

/// Reads what a loader hands over that names its protocol by `magic` and its information by `address`.
///
/// # Errors
/// See [`HandoverProblem`].
pub fn read_handover(
    memory: &impl PhysicalBytes,
    magic: u32,
    address: u64,
) -> Result<Handover, HandoverProblem> {
    match magic {
        pvh::MAGIC => pvh::read(memory, address),
        multiboot2::MAGIC => multiboot2::read(memory, address),
        other => Err(HandoverProblem::UnknownLoader(other)),
    }
}

/// Why a boot-info page cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootProblem {
    /// It does not begin with the magic number.
    NoMagic,
    /// The hypervisor has a version that does not serve this kernel.
    Version(Version),
    /// A page that it names is misaligned or beyond the address limit.
    Page(&'static str, u64),
    /// The free part of the RAM does not lie in the RAM.
    Ram,
}

impl fmt::Display for BootProblem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BootProblem::NoMagic => formatter.write_str("the boot info has no magic number"),
            BootProblem::Version(version) => {
                write!(
                    formatter,
                    "the hypervisor speaks ABI {version}, not {VERSION}"
                )
            }
            BootProblem::Page(name, address) => {
                write!(formatter, "the {name} page cannot be at {address:#x}")
            }
            BootProblem::Ram => formatter.write_str("the free RAM is not in the RAM"),
        }
    }
}

/// Checks what the rest of the kernel relies on.
///
/// # Errors
/// The first problem found.
pub fn check(boot: &BootInfo) -> Result<(), BootProblem> {
    if boot.magic != BOOT_INFO_MAGIC {
        return Err(BootProblem::NoMagic);
    }
    let version = u32::try_from(boot.version).map(Version::from_raw);
    match version {
        Ok(version) if version.serves(VERSION) => {}
        Ok(version) => return Err(BootProblem::Version(version)),
        Err(_) => return Err(BootProblem::NoMagic),
    }
    let vcpus = boot.vcpus().len().max(1) as u64;
    for (name, address, pages) in [
        ("vcpu", boot.vcpu_page, vcpus),
        ("time", boot.time_page, 1),
        ("text", boot.text_page, 1),
    ] {
        let end = address.checked_add(pages * PAGE_BYTES);
        let fits = end.is_some_and(|end| end <= boot.mapped_end);
        if address == 0 || !address.is_multiple_of(PAGE_BYTES) || !fits {
            return Err(BootProblem::Page(name, address));
        }
    }
    if boot.free_start > boot.ram_bytes || boot.ram_bytes > boot.mapped_end {
        return Err(BootProblem::Ram);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> BootInfo {
        BootInfo {
            version: VERSION.to_raw().into(),
            ram_bytes: 0x40_0000,
            free_start: 0x30_0000,
            vcpu_page: 0x40_0000,
            time_page: 0x40_1000,
            text_page: 0x40_2000,
            mapped_end: 0x40_3000,
            address_limit: 1 << 39,
            ..BootInfo::EMPTY
        }
    }

    #[test]
    fn what_a_hypervisor_hands_over_is_accepted() {
        assert_eq!(check(&good()), Ok(()));
    }

    #[test]
    fn each_thing_the_kernel_relies_on_is_checked() {
        let other = Version { major: 9, minor: 0 };
        let cases = [
            (BootInfo { magic: 0, ..good() }, BootProblem::NoMagic),
            (
                BootInfo {
                    version: other.to_raw().into(),
                    ..good()
                },
                BootProblem::Version(other),
            ),
            (
                BootInfo {
                    text_page: 0x40_2008,
                    ..good()
                },
                BootProblem::Page("text", 0x40_2008),
            ),
            (
                BootInfo {
                    time_page: !4095,
                    ..good()
                },
                BootProblem::Page("time", !4095),
            ),
            (
                BootInfo {
                    vcpu_count: 4,
                    ..good()
                },
                BootProblem::Page("vcpu", 0x40_0000),
            ),
            (
                BootInfo {
                    free_start: 0x40_0001,
                    ..good()
                },
                BootProblem::Ram,
            ),
        ];
        for (boot, problem) in cases {
            assert_eq!(check(&boot), Err(problem));
        }
    }
}
