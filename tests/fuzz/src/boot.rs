//! What a boot loader left in memory.

use hypervisor::boot::{read, PhysicalBytes};

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

/// The first byte chooses the protocol. Allowed: an error with a text; or information with a memory
/// map and texts that were there.
pub fn boot(data: &[u8]) -> bool {
    let Some((protocol, memory)) = data.split_first() else {
        return false;
    };
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
