//! What a loader hands over, whichever it is.
//!
//! Everything is copied, because what it lies in becomes heap, and checked: a loader's table that makes no
//! sense is a [`HandoverProblem`]. There need not be a memory map: Xen hands none to its first domain.
#![forbid(unsafe_code)]

use core::fmt;

use nuncio_abi::BootInfo;

use super::list::List;
use super::physical::PhysicalBytes;

/// Ranges that a memory map may have; firmware of PCs has some ten to sixty.
pub const MOST_RANGES: usize = 128;
/// Modules that a loader may bring.
pub const MOST_MODULES: usize = 16;
/// Bytes in the longest command line.
pub const MOST_COMMAND_LINE_BYTES: usize = 2048;

/// Who has loaded the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loader {
    /// The hypervisor Nuncio.
    Nuncio,
    /// Anybody who knows Xen's start info: QEMU, Xen.
    Pvh,
    /// Anybody who knows the second multiboot protocol: GRUB.
    Multiboot2,
}

impl Loader {
    /// The name for people.
    pub const fn name(self) -> &'static str {
        match self {
            Loader::Nuncio => "nuncio",
            Loader::Pvh => "pvh",
            Loader::Multiboot2 => "multiboot2",
        }
    }
}

/// What a range of physical addresses is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryKind {
    /// Free RAM.
    Free,
    /// RAM that holds what was loaded.
    Loaded,
    /// The firmware's tables; RAM once they have been read.
    Tables,
    /// Anything else: not to be touched.
    Reserved,
}

impl MemoryKind {
    /// The numbers of ACPI's system address map (ACPI 6.4, table 15.8), as all PC loaders use them.
    pub(super) const fn of_firmware(number: u32) -> Self {
        match number {
            1 => MemoryKind::Free,
            3 => MemoryKind::Tables,
            _ => MemoryKind::Reserved,
        }
    }
}

/// A range of physical addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryRange {
    /// Where it begins.
    pub start: u64,
    /// Where the next may begin; greater than the start.
    pub end: u64,
    /// What it is.
    pub kind: MemoryKind,
}

/// A file in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadedModule {
    /// Where it begins.
    pub start: u64,
    /// Just past its last byte; not less than the start.
    pub end: u64,
}

/// ACPI's root system description pointer as it was found (ACPI 6.4, 5.2.5.3), zeros behind its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RootPointer(pub [u8; RootPointer::BYTES]);

impl RootPointer {
    /// Bytes in the newer form.
    pub const BYTES: usize = 36;
    /// Bytes in the older form, which revision 0 has.
    pub const OLD_BYTES: usize = 20;
    const REVISION: usize = 15;

    /// The one at `address`, in the form that its revision says.
    pub fn read(memory: &impl PhysicalBytes, address: u64) -> Option<Self> {
        let mut bytes = [0; Self::BYTES];
        let (old, rest) = bytes.split_at_mut(Self::OLD_BYTES);
        let has_old = memory.read(address, old);
        let is_new = old
            .get(Self::REVISION)
            .is_some_and(|revision| *revision >= 2);
        let rest_at = address.checked_add(Self::OLD_BYTES as u64);
        let has_rest = !is_new || rest_at.is_some_and(|at| memory.read(at, rest));
        (has_old && has_rest).then_some(RootPointer(bytes))
    }
}

/// What a loader has handed over.
#[derive(Clone, Debug)]
pub struct Handover {
    /// Who has loaded the kernel.
    pub loader: Loader,
    /// ACPI's root, if the loader knows it.
    pub root_pointer: Option<RootPointer>,
    ranges: List<MemoryRange, MOST_RANGES>,
    modules: List<LoadedModule, MOST_MODULES>,
    command_line: List<u8, MOST_COMMAND_LINE_BYTES>,
}

/// Why what a loader hands over cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandoverProblem {
    /// The register that names the protocol holds something else.
    UnknownLoader(u32),
    /// A table begins with another number than it should.
    NoMagic(u32),
    /// Something is where nothing can be read.
    Unreadable(&'static str, u64),
    /// There are more of something than the kernel has room for.
    TooMany(&'static str),
    /// The length of something cannot be right.
    Length(&'static str, u64),
    /// A range that ends before it begins, or behind the last address.
    Range(u64, u64),
    /// The command line is not UTF-8.
    NotText,
}

impl fmt::Display for HandoverProblem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HandoverProblem::UnknownLoader(magic) => {
                write!(formatter, "no loader that is known says {magic:#x}")
            }
            HandoverProblem::NoMagic(magic) => {
                write!(
                    formatter,
                    "the start info begins with {magic:#x}, which is not its magic number"
                )
            }
            HandoverProblem::Unreadable(what, address) => {
                write!(formatter, "the {what} at {address:#x} cannot be read")
            }
            HandoverProblem::TooMany(what) => {
                write!(
                    formatter,
                    "the loader has more {what} than there is room for"
                )
            }
            HandoverProblem::Length(what, length) => {
                write!(formatter, "the {what} cannot have a length of {length}")
            }
            HandoverProblem::Range(start, end) => {
                write!(
                    formatter,
                    "no memory can begin at {start:#x} and end at {end:#x}"
                )
            }
            HandoverProblem::NotText => formatter.write_str("the command line is no text"),
        }
    }
}

impl Handover {
    /// A loader that has said nothing yet.
    pub(super) const fn new(loader: Loader) -> Self {
        Handover {
            loader,
            root_pointer: None,
            ranges: List::new(MemoryRange {
                start: 0,
                end: 0,
                kind: MemoryKind::Reserved,
            }),
            modules: List::new(LoadedModule { start: 0, end: 0 }),
            command_line: List::new(0),
        }
    }

    /// What Nuncio hands over, in a boot info that has been checked.
    ///
    /// # Errors
    /// See [`HandoverProblem`].
    pub fn of_boot_info(boot: &BootInfo) -> Result<Self, HandoverProblem> {
        let mut handover = Handover::new(Loader::Nuncio);
        handover.add_range(0, boot.free_start, MemoryKind::Loaded)?;
        let free_bytes = boot.ram_bytes.saturating_sub(boot.free_start);
        handover.add_range(boot.free_start, free_bytes, MemoryKind::Free)?;
        for module in boot.modules() {
            handover.add_module(module.address, module.length)?;
        }
        handover.set_command_line(boot.command_line().as_bytes())?;
        Ok(handover)
    }

    /// The memory map, in the loader's order. Ranges may overlap; see [`ram`](super::ram).
    pub fn ranges(&self) -> &[MemoryRange] {
        self.ranges.as_slice()
    }

    /// The files that came with the kernel.
    pub fn modules(&self) -> &[LoadedModule] {
        self.modules.as_slice()
    }

    /// The command line.
    pub fn command_line(&self) -> &str {
        // It was checked when it was set.
        core::str::from_utf8(self.command_line.as_slice()).unwrap_or_default()
    }

    pub(super) fn add_range(
        &mut self,
        start: u64,
        bytes: u64,
        kind: MemoryKind,
    ) -> Result<(), HandoverProblem> {
        let end = checked_end(start, bytes)?;
        if bytes == 0 {
            return Ok(());
        }
        let added = self.ranges.push(MemoryRange { start, end, kind });
        added.ok_or(HandoverProblem::TooMany("memory ranges"))
    }

    pub(super) fn add_module(&mut self, start: u64, bytes: u64) -> Result<(), HandoverProblem> {
        let end = checked_end(start, bytes)?;
        let added = self.modules.push(LoadedModule { start, end });
        added.ok_or(HandoverProblem::TooMany("modules"))
    }

    pub(super) fn set_command_line(&mut self, text: &[u8]) -> Result<(), HandoverProblem> {
        core::str::from_utf8(text).map_err(|_| HandoverProblem::NotText)?;
        self.command_line = List::new(0);
        let mut bytes = text.iter();
        let all = bytes.try_for_each(|byte| self.command_line.push(*byte));
        all.ok_or(HandoverProblem::Length("command line", text.len() as u64))
    }

    /// Takes the command line that ends with a zero byte.
    pub(super) fn read_command_line(
        &mut self,
        memory: &impl PhysicalBytes,
        address: u64,
    ) -> Result<(), HandoverProblem> {
        let mut text = [0; MOST_COMMAND_LINE_BYTES];
        for (offset, place) in (0u64..).zip(&mut text) {
            let unreadable = HandoverProblem::Unreadable("command line", address);
            let at = address.checked_add(offset).ok_or(unreadable)?;
            if !memory.read(at, core::slice::from_mut(place)) {
                return Err(unreadable);
            }
            if *place == 0 {
                let length = offset as usize;
                return self.set_command_line(text.get(..length).unwrap_or_default());
            }
        }
        Err(HandoverProblem::Length(
            "command line",
            MOST_COMMAND_LINE_BYTES as u64,
        ))
    }
}

fn checked_end(start: u64, bytes: u64) -> Result<u64, HandoverProblem> {
    let end = start.checked_add(bytes);
    end.ok_or(HandoverProblem::Range(start, start.wrapping_add(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::physical::fake::Bytes;

    #[test]
    fn a_boot_info_is_a_handover() {
        let boot = BootInfo {
            ram_bytes: 0x40_0000,
            free_start: 0x30_0000,
            ..BootInfo::EMPTY
        };
        let handover = Handover::of_boot_info(&boot).unwrap();
        assert_eq!(handover.loader, Loader::Nuncio);
        let kinds = handover
            .ranges()
            .iter()
            .map(|range| (range.start, range.end, range.kind));
        assert!(kinds.eq([
            (0, 0x30_0000, MemoryKind::Loaded),
            (0x30_0000, 0x40_0000, MemoryKind::Free),
        ]));
        assert_eq!((handover.command_line(), handover.modules()), ("", &[][..]));
    }

    #[test]
    fn a_root_pointer_is_as_long_as_its_revision_says() {
        let mut memory = Bytes::zeros(0x1000, 20);
        assert!(RootPointer::read(&memory, 0x1000).is_some());
        memory.put(0x100F, &[2]);
        assert_eq!(
            RootPointer::read(&memory, 0x1000),
            None,
            "the rest is missing"
        );
        let mut memory = Bytes::zeros(0x1000, 36);
        memory.put(0x100F, &[2]);
        memory.put(0x1023, &[7]);
        assert_eq!(RootPointer::read(&memory, 0x1000).unwrap().0[35], 7);
        assert_eq!(RootPointer::read(&memory, u64::MAX), None);
    }

    #[test]
    fn what_does_not_fit_is_told() {
        let mut handover = Handover::new(Loader::Pvh);
        for number in 0..MOST_RANGES as u64 {
            handover.add_range(number, 1, MemoryKind::Free).unwrap();
        }
        let full = HandoverProblem::TooMany("memory ranges");
        assert_eq!(handover.add_range(0, 1, MemoryKind::Free), Err(full));
        assert_eq!(handover.add_range(0, 0, MemoryKind::Free), Ok(()));
        let wraps = handover.add_range(u64::MAX, 2, MemoryKind::Free);
        assert_eq!(wraps, Err(HandoverProblem::Range(u64::MAX, 1)));
        let long = [b'x'; MOST_COMMAND_LINE_BYTES + 1];
        assert_eq!(handover.set_command_line(&long[1..]), Ok(()));
        assert_eq!(handover.command_line().len(), MOST_COMMAND_LINE_BYTES);
        assert!(handover.set_command_line(&long).is_err());
        assert_eq!(
            handover.set_command_line(b"\xFF"),
            Err(HandoverProblem::NotText)
        );
    }
}
