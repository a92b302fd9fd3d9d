//! The limits of a manifest, in one place. The hypervisor enforces the same ones when it reads the
//! plan; checking them here gives an error that names the line.

use std::ops::RangeInclusive;

use nuncio_abi::{COMMAND_LINE_BYTES, MAX_HANDLES, MAX_MODULES, MAX_VCPUS, NAME_BYTES, PAGE_BYTES};

/// Domains in one manifest.
pub const DOMAINS: usize = 512;
/// Ports, and as many memories and as many events.
pub const OBJECTS_OF_A_KIND: usize = 512;
/// Domains or objects for which one table stands.
pub const COUNT: usize = 512;
/// Bytes that a domain may take of the hypervisor's own memory, at least and at most, and without a word
/// about it.
pub const KERNEL_BYTES: RangeInclusive<u64> = 16 << 10..=64 << 20;
/// See there.
pub const DEFAULT_KERNEL_BYTES: u64 = 256 << 10;
/// Modules of one domain.
pub const MODULES: usize = MAX_MODULES;
/// Wires of one domain: the handle table less the domain's own handles and a spare one.
pub const WIRES: usize = MAX_HANDLES - RESERVED_NAMES.len() - 1;
/// CPUs of a machine.
pub const CPUS: u64 = 256;
/// Virtual CPUs of one domain.
pub const VCPUS: i64 = MAX_VCPUS as i64;
/// CPUs that a domain can name, from 0 on.
pub const NAMED_CPUS: i64 = 256;
/// The priority of a domain that has no other.
pub const DEFAULT_PRIORITY: i64 = nuncio_abi::DEFAULT_PRIORITY as i64;
/// The highest priority.
pub const PRIORITY: i64 = nuncio_abi::MAX_PRIORITY as i64;
/// Messages that a port can hold.
pub const PORT_CAPACITY: i64 = 256;
/// Messages that a port holds unless its manifest says otherwise.
pub const DEFAULT_PORT_CAPACITY: i64 = 16;
/// Bytes in a name; the page that carries it adds a zero.
pub const NAME: usize = NAME_BYTES - 1;
/// Bytes in a command line; the page that carries it adds a zero.
pub const COMMAND_LINE: usize = COMMAND_LINE_BYTES - 1;
/// Bytes in a domain's RAM or a shared memory.
pub const MEMORY_BYTES: u64 = 1 << 40;
/// Memory is handed out in pages.
pub const PAGE: u64 = PAGE_BYTES;
/// Bytes in one file that is handed to a machine: the input, a module or an image.
pub const FILE_BYTES: u64 = 64 << 20;
/// Objects that every domain has; no port, memory or event may take their names.
pub const RESERVED_NAMES: [&str; 6] = [
    "domain",
    "vcpu",
    "space",
    "console",
    "time-page",
    "text-page",
];
