//! What a boot loader left in memory.

use hypervisor::boot::{pm_timer, processors, read, PhysicalBytes};

/// Where the input lies; nothing else can be read.
pub const BASE: u32 = 0x1_0000;

struct Memory<'a>(&'a [u8]);

impl PhysicalBytes for Memory<'_> {
    fn read(&self, address: u64, into: &mut [u8]) -> Option<()> {
        let start = usize::try_from(address.checked_sub(u64::from(BASE))?).ok()?;
        into.copy_from_slice(self.0.get(start..start.checked_add(into.len())?)?);
        Some(())
    }
}

/// A root pointer of the ACPI tables, at the start of the input.
const ACPI: u8 = 3;

/// Allowed: an error with a text; or CPUs without repetitions, no more than there are bytes for.
fn acpi(memory: &[u8]) -> bool {
    if let Err(error) = pm_timer(Some(u64::from(BASE)), &Memory(memory)) {
        assert!(!error.to_string().is_empty());
    }
    match processors(Some(u64::from(BASE)), &Memory(memory)) {
        Ok(mut found) => {
            let count = found.len();
            found.sort_unstable();
            found.dedup();
            assert!(found.len() == count && count * 8 <= memory.len());
            true
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            false
        }
    }
}

/// The first byte chooses the protocol, or the ACPI tables. Allowed: an error with a text; or information with a memory
/// map and texts that were there.
pub fn boot(data: &[u8]) -> bool {
    let Some((protocol, memory)) = data.split_first() else {
        return false;
    };
    if *protocol == ACPI {
        return acpi(memory);
    }
    let magic = match protocol {
        1 => 0x2BAD_B002,
        2 => 0x36D7_6289,
        other => u32::from(*other),
    };
    match read(magic, BASE, &Memory(memory)) {
        Ok(information) => {
            assert!(matches!(protocol, 1 | 2));
            assert!(!information.memory.is_empty() && information.memory.len() <= 1024);
            let texts = information.modules.iter().map(|module| &module.text);
            let longest = texts
                .chain([&information.command_line])
                .map(|text| text.len())
                .max();
            // A byte that is no UTF-8 becomes a character of three.
            assert!(longest.unwrap_or(0) <= 3 * 4096);
            true
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            false
        }
    }
}
