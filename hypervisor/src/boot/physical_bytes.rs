//! How the parsers of boot information see memory: bytes that may or may not be there.

#![forbid(unsafe_code)]

use alloc::string::String;
use alloc::vec::Vec;

use super::BootError;

/// Longest command line or module string, in bytes; a longer one is refused.
pub const MAX_TEXT_BYTES: u64 = 4096;

/// Memory as the boot loader left it.
pub trait PhysicalBytes {
    /// Copies the bytes from `address` on; `None`, and nothing copied, if any of them cannot be
    /// read.
    fn read(&self, address: u64, into: &mut [u8]) -> Option<()>;
}

/// One structure of the boot information: a start, an end that no read may cross, and a name for
/// error texts.
pub struct Record<'memory, Memory: PhysicalBytes> {
    memory: &'memory Memory,
    what: &'static str,
    start: u64,
    length: u64,
}

impl<'memory, Memory: PhysicalBytes> Record<'memory, Memory> {
    /// A structure of `length` bytes at `start`.
    pub fn new(memory: &'memory Memory, what: &'static str, start: u64, length: u64) -> Self {
        Record {
            memory,
            what,
            start,
            length,
        }
    }

    /// Address of its first byte.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Length in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The little-endian 32-bit number at an offset.
    pub fn u32(&self, offset: u64) -> Result<u32, BootError> {
        self.bytes(offset).map(u32::from_le_bytes)
    }

    /// The little-endian 64-bit number at an offset.
    pub fn u64(&self, offset: u64) -> Result<u64, BootError> {
        self.bytes(offset).map(u64::from_le_bytes)
    }

    /// The part from `offset` on that has `length` bytes.
    pub fn part(&self, what: &'static str, offset: u64, length: u64) -> Result<Self, BootError> {
        let start = self.address(offset, length)?;
        Ok(Record::new(self.memory, what, start, length))
    }

    /// The zero-terminated text from `offset` on. Bytes that are no UTF-8 are replaced: nothing
    /// that the hypervisor looks for contains any.
    pub fn text(&self, offset: u64) -> Result<String, BootError> {
        let limit = self.length.saturating_sub(offset);
        let mut text = Vec::new();
        for index in 0..limit.min(MAX_TEXT_BYTES) {
            let [byte] = self.bytes(offset.saturating_add(index))?;
            if byte == 0 {
                return Ok(String::from_utf8_lossy(&text).into_owned());
            }
            text.push(byte);
        }
        Err(BootError::EndlessText { what: self.what })
    }

    fn bytes<const LENGTH: usize>(&self, offset: u64) -> Result<[u8; LENGTH], BootError> {
        let address = self.address(offset, LENGTH as u64)?;
        let mut bytes = [0; LENGTH];
        self.memory
            .read(address, &mut bytes)
            .ok_or(BootError::Unreadable {
                what: self.what,
                address,
            })?;
        Ok(bytes)
    }

    fn address(&self, offset: u64, length: u64) -> Result<u64, BootError> {
        let end = offset.checked_add(length);
        match (end, self.start.checked_add(offset)) {
            (Some(end), Some(address)) if end <= self.length => Ok(address),
            _ => Err(BootError::Truncated { what: self.what }),
        }
    }
}

/// A small piece of memory for tests.
#[cfg(test)]
pub(super) struct FakeMemory {
    pub(super) base: u64,
    pub(super) bytes: Vec<u8>,
}

#[cfg(test)]
impl PhysicalBytes for FakeMemory {
    fn read(&self, address: u64, into: &mut [u8]) -> Option<()> {
        let start = usize::try_from(address.checked_sub(self.base)?).ok()?;
        let bytes = self.bytes.get(start..start.checked_add(into.len())?)?;
        into.copy_from_slice(bytes);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory() -> FakeMemory {
        FakeMemory {
            base: 0x1000,
            bytes: b"abc\0\x01\x02\x03\x04".to_vec(),
        }
    }

    #[test]
    fn reads_stop_at_the_end_of_the_record() {
        let memory = memory();
        let record = Record::new(&memory, "test record", 0x1000, 8);
        assert_eq!(record.u32(4), Ok(0x0403_0201));
        assert_eq!(
            record.u32(5),
            Err(BootError::Truncated {
                what: "test record"
            })
        );
        assert!(record.u64(u64::MAX).is_err());
        assert!(record.part("part", 4, 5).is_err());
    }

    #[test]
    fn memory_that_is_not_there_is_an_error() {
        let memory = memory();
        let record = Record::new(&memory, "test record", 0x1000, 64);
        assert_eq!(
            record.u32(8),
            Err(BootError::Unreadable {
                what: "test record",
                address: 0x1008
            })
        );
    }

    #[test]
    fn text_ends_at_its_zero_or_is_refused() {
        let memory = memory();
        let record = Record::new(&memory, "test record", 0x1000, 8);
        assert_eq!(record.text(0).as_deref(), Ok("abc"));
        assert!(record.text(4).is_err());
    }
}
