//! The boot-info page: what a guest is told when it starts.

use core::mem::{offset_of, size_of};

use crate::table::abi_struct;
use crate::{Handle, ObjectKind, Rights, PAGE_BYTES};

/// The first word of a boot-info page: `NUNCIO` and two zeros.
pub const BOOT_INFO_MAGIC: u64 = u64::from_le_bytes(*b"NUNCIO\0\0");

/// Bytes in a name with its terminating zero.
pub const NAME_BYTES: usize = 32;
/// Bytes in the command line with its terminating zero.
pub const COMMAND_LINE_BYTES: usize = 512;
/// Modules that a domain can have.
pub const MAX_MODULES: usize = 16;
/// Handles that a domain can start with.
pub const MAX_HANDLES: usize = 40;
/// Vcpus of a domain.
pub const MAX_VCPUS: usize = 64;

/// A name, padded with zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Name([u8; NAME_BYTES]);

impl Name {
    /// The empty name.
    pub const EMPTY: Name = Name([0; NAME_BYTES]);

    /// A name of at most 31 bytes without a zero byte; `None` for any other.
    pub fn new(name: &str) -> Option<Self> {
        let mut bytes = [0; NAME_BYTES];
        if name.len() >= NAME_BYTES || name.as_bytes().contains(&0) {
            return None;
        }
        bytes
            .get_mut(..name.len())?
            .copy_from_slice(name.as_bytes());
        Some(Name(bytes))
    }

    /// The name; empty if the bytes are no text.
    pub fn as_str(&self) -> &str {
        text(&self.0)
    }
}

abi_struct! {
    /// A module in the domain's address space, read-only.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Module {
        /// The name under which the manifest hands it over.
        pub name: Name,
        /// Guest-physical address of the first byte.
        pub address: u64,
        /// Length in bytes.
        pub length: u64,
    }
}

abi_struct! {
    /// A handle that the domain starts with.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct NamedHandle {
        /// The object's name in the manifest; `domain`, `vcpu`, `space` and `console` are the
        /// domain's own.
        pub name: Name,
        /// The handle, as [`Handle::raw`] gives it.
        pub handle: u64,
        /// The number of the [`ObjectKind`] in bits 0 to 7, the slot in the vcpu page in bits 8 to 15
        /// (for ports and events that this domain receives from), the [`Rights`] in bits 32 to 63.
        pub description: u64,
    }
}

impl NamedHandle {
    /// An entry of the table.
    pub const fn new(
        name: Name,
        handle: Handle,
        kind: ObjectKind,
        rights: Rights,
        slot: u8,
    ) -> Self {
        NamedHandle {
            name,
            handle: handle.raw(),
            description: kind.number() | (slot as u64) << 8 | rights.bits() << 32,
        }
    }

    /// The handle.
    pub const fn handle(&self) -> Option<Handle> {
        Handle::from_raw(self.handle)
    }

    /// What the handle names.
    pub const fn kind(&self) -> Option<ObjectKind> {
        ObjectKind::from_number(self.description & 0xFF)
    }

    /// The slot in the vcpu page at which this object announces itself.
    pub const fn slot(&self) -> usize {
        (self.description >> 8 & 0xFF) as usize
    }

    /// What the holder may do.
    pub const fn rights(&self) -> Option<Rights> {
        Rights::from_bits(self.description >> 32)
    }
}

abi_struct! {
    /// The page that RDI points to when a domain starts. All addresses are guest-physical.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct BootInfo {
        /// [`BOOT_INFO_MAGIC`].
        pub magic: u64,
        /// The ABI version of the hypervisor, as [`crate::Version::to_raw`] gives it.
        pub version: u64,
        /// The domain's name.
        pub name: Name,
        /// The domain's RAM begins at address 0 and has this many bytes.
        pub ram_bytes: u64,
        /// The first byte of RAM that holds neither the image nor the first page tables; everything
        /// from here to the end of the RAM is free.
        pub free_start: u64,
        /// The vcpu page of the first vcpu (see [`crate::VcpuPage`]); those of the others follow.
        pub vcpu_page: u64,
        /// The time page (see [`crate::TimePage`]), read-only.
        pub time_page: u64,
        /// The text page, read-only and executable; the call entry is its first byte.
        pub text_page: u64,
        /// The first address past everything that is mapped when the domain starts.
        pub mapped_end: u64,
        /// The first address that cannot be mapped.
        pub address_limit: u64,
        /// Entries in `modules` that are used.
        pub module_count: u64,
        /// Entries in `handles` that are used.
        pub handle_count: u64,
        /// The command line, padded with zeros.
        pub command_line: [u8; COMMAND_LINE_BYTES],
        /// The modules.
        pub modules: [Module; MAX_MODULES],
        /// The handles.
        pub handles: [NamedHandle; MAX_HANDLES],
        /// Vcpus with which the domain begins, at least 1.
        pub vcpu_count: u64,
        /// Their handles; 0 in the others. That of the first is in `handles`, too.
        pub vcpus: [u64; MAX_VCPUS],
    }
}

impl BootInfo {
    /// The command line; empty if the bytes are no text.
    pub fn command_line(&self) -> &str {
        text(&self.command_line)
    }

    /// The modules in use.
    pub fn modules(&self) -> &[Module] {
        prefix(&self.modules, self.module_count)
    }

    /// The handles in use.
    pub fn handles(&self) -> &[NamedHandle] {
        prefix(&self.handles, self.handle_count)
    }

    /// The handles of the vcpus with which the domain begins.
    pub fn vcpus(&self) -> &[u64] {
        prefix(&self.vcpus, self.vcpu_count)
    }

    /// The address of the vcpu page of the vcpu with that number, counted from 0; `None` if there is
    /// none.
    pub fn vcpu_page_of(&self, vcpu: usize) -> Option<u64> {
        let number = u64::try_from(vcpu).ok()?;
        let offset = number.checked_mul(PAGE_BYTES)?;
        let is_there = vcpu < self.vcpus().len();
        is_there.then(|| self.vcpu_page.checked_add(offset))?
    }

    /// The module of that name.
    pub fn module(&self, name: &str) -> Option<&Module> {
        self.modules()
            .iter()
            .find(|module| module.name.as_str() == name)
    }

    /// The handle of that name.
    pub fn handle(&self, name: &str) -> Option<&NamedHandle> {
        self.handles()
            .iter()
            .find(|handle| handle.name.as_str() == name)
    }

    /// The page as the words that lie in memory (the hypervisor's side).
    pub fn to_words(&self) -> [u64; 512] {
        let mut page = Page([0; 512]);
        page.word(offset_of!(BootInfo, magic), self.magic);
        page.word(offset_of!(BootInfo, version), self.version);
        page.bytes(offset_of!(BootInfo, name), &self.name.0);
        page.word(offset_of!(BootInfo, ram_bytes), self.ram_bytes);
        page.word(offset_of!(BootInfo, free_start), self.free_start);
        page.word(offset_of!(BootInfo, vcpu_page), self.vcpu_page);
        page.word(offset_of!(BootInfo, time_page), self.time_page);
        page.word(offset_of!(BootInfo, text_page), self.text_page);
        page.word(offset_of!(BootInfo, mapped_end), self.mapped_end);
        page.word(offset_of!(BootInfo, address_limit), self.address_limit);
        page.word(offset_of!(BootInfo, module_count), self.module_count);
        page.word(offset_of!(BootInfo, handle_count), self.handle_count);
        page.bytes(offset_of!(BootInfo, command_line), &self.command_line);
        for (index, module) in self.modules.iter().enumerate() {
            let base = offset_of!(BootInfo, modules) + index * size_of::<Module>();
            page.bytes(base + offset_of!(Module, name), &module.name.0);
            page.word(base + offset_of!(Module, address), module.address);
            page.word(base + offset_of!(Module, length), module.length);
        }
        for (index, handle) in self.handles.iter().enumerate() {
            let base = offset_of!(BootInfo, handles) + index * size_of::<NamedHandle>();
            page.bytes(base + offset_of!(NamedHandle, name), &handle.name.0);
            page.word(base + offset_of!(NamedHandle, handle), handle.handle);
            page.word(
                base + offset_of!(NamedHandle, description),
                handle.description,
            );
        }
        page.word(offset_of!(BootInfo, vcpu_count), self.vcpu_count);
        for (index, handle) in self.vcpus.iter().enumerate() {
            page.word(offset_of!(BootInfo, vcpus) + index * 8, *handle);
        }
        page.0
    }

    /// A page with nothing in it but the magic number.
    pub const EMPTY: BootInfo = BootInfo {
        magic: BOOT_INFO_MAGIC,
        version: 0,
        name: Name::EMPTY,
        ram_bytes: 0,
        free_start: 0,
        vcpu_page: 0,
        time_page: 0,
        text_page: 0,
        mapped_end: 0,
        address_limit: 0,
        module_count: 0,
        handle_count: 0,
        command_line: [0; COMMAND_LINE_BYTES],
        modules: [Module {
            name: Name::EMPTY,
            address: 0,
            length: 0,
        }; MAX_MODULES],
        handles: [NamedHandle {
            name: Name::EMPTY,
            handle: 0,
            description: 0,
        }; MAX_HANDLES],
        vcpu_count: 0,
        vcpus: [0; MAX_VCPUS],
    };
}

const _: () = assert!(size_of::<BootInfo>() <= PAGE_BYTES as usize);

/// The words of a page while they are being filled in; offsets are in bytes and multiples of 8.
struct Page([u64; 512]);

impl Page {
    fn word(&mut self, offset: usize, value: u64) {
        if let Some(word) = self.0.get_mut(offset / 8) {
            *word = value;
        }
    }

    fn bytes(&mut self, offset: usize, bytes: &[u8]) {
        for (index, chunk) in bytes.as_chunks::<8>().0.iter().enumerate() {
            self.word(offset + index * 8, u64::from_le_bytes(*chunk));
        }
    }
}

fn prefix<T>(entries: &[T], count: u64) -> &[T] {
    usize::try_from(count)
        .ok()
        .and_then(|count| entries.get(..count))
        .unwrap_or(entries)
}

fn text(bytes: &[u8]) -> &str {
    let length = bytes
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(bytes.len());
    bytes
        .get(..length)
        .and_then(|bytes| core::str::from_utf8(bytes).ok())
        .unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_lie_where_the_struct_says() {
        let mut info = BootInfo::EMPTY;
        info.name = Name::new("alpha").unwrap();
        info.text_page = 0x1234_5000;
        info.handles[1] = NamedHandle::new(
            Name::new("console").unwrap(),
            Handle::new(7, 1),
            ObjectKind::Port,
            Rights::SEND,
            9,
        );
        let words = info.to_words();
        assert_eq!(words[0], BOOT_INFO_MAGIC);
        assert_eq!(words[2].to_le_bytes(), *b"alpha\0\0\0");
        assert_eq!(words[offset_of!(BootInfo, text_page) / 8], 0x1234_5000);
        let second = (offset_of!(BootInfo, handles) + size_of::<NamedHandle>()) / 8;
        assert_eq!(words[second].to_le_bytes(), *b"console\0");
        assert_eq!(words[second + 4], Handle::new(7, 1).raw());
        assert_eq!(words[second + 5], 5 | 9 << 8 | Rights::SEND.bits() << 32);
    }

    #[test]
    fn a_named_handle_keeps_its_parts() {
        let name = Name::new("free").unwrap();
        let entry = NamedHandle::new(name, Handle::new(2, 3), ObjectKind::Event, Rights::WAIT, 63);
        assert_eq!(entry.handle(), Some(Handle::new(2, 3)));
        assert_eq!(entry.kind(), Some(ObjectKind::Event));
        assert_eq!(entry.rights(), Some(Rights::WAIT));
        assert_eq!(entry.slot(), 63);
    }

    #[test]
    fn names_are_short_text() {
        assert_eq!(Name::new("console").unwrap().as_str(), "console");
        assert!(Name::new("a-name-of-thirty-two-characters-").is_none());
        assert!(Name::new("zero\0inside").is_none());
    }

    #[test]
    fn counts_beyond_the_table_are_cut() {
        let info = BootInfo {
            handle_count: u64::MAX,
            ..BootInfo::EMPTY
        };
        assert_eq!(info.handles().len(), MAX_HANDLES);
    }
}
