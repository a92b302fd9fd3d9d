//! Bytes at physical addresses, as a loader's tables name them.
#![forbid(unsafe_code)]

/// Reads physical memory.
pub trait PhysicalBytes {
    /// Fills `bytes` with what lies at `address`; false if not all of it can be read.
    fn read(&self, address: u64, bytes: &mut [u8]) -> bool;

    /// The record of that size at `address`.
    fn record<const BYTES: usize>(&self, address: u64) -> Option<Record<BYTES>> {
        let mut bytes = [0; BYTES];
        self.read(address, &mut bytes).then_some(Record(bytes))
    }
}

/// Numbers in little-endian order, found by their offsets.
#[derive(Clone, Copy, Debug)]
pub struct Record<const BYTES: usize>(pub [u8; BYTES]);

impl<const BYTES: usize> Record<BYTES> {
    /// The bytes from `offset` on; zeros where the record has none.
    pub fn bytes<const COUNT: usize>(&self, offset: usize) -> [u8; COUNT] {
        let rest = self.0.get(offset..).unwrap_or_default();
        rest.first_chunk().copied().unwrap_or([0; COUNT])
    }

    /// The byte at `offset`.
    pub fn u8(&self, offset: usize) -> u8 {
        let [byte] = self.bytes(offset);
        byte
    }

    /// The number of 16 bits at `offset`.
    pub fn u16(&self, offset: usize) -> u16 {
        u16::from_le_bytes(self.bytes(offset))
    }

    /// The number of 32 bits at `offset`.
    pub fn u32(&self, offset: usize) -> u32 {
        u32::from_le_bytes(self.bytes(offset))
    }

    /// The number of 64 bits at `offset`.
    pub fn u64(&self, offset: usize) -> u64 {
        u64::from_le_bytes(self.bytes(offset))
    }
}

#[cfg(test)]
pub(crate) mod fake {
    use super::PhysicalBytes;
    use std::vec::Vec;

    /// Some memory, and nothing around it.
    pub struct Bytes {
        pub start: u64,
        pub bytes: Vec<u8>,
    }

    impl PhysicalBytes for Bytes {
        fn read(&self, address: u64, bytes: &mut [u8]) -> bool {
            let offset = address.checked_sub(self.start);
            let offset = offset.and_then(|offset| usize::try_from(offset).ok());
            let source = offset.and_then(|offset| self.bytes.get(offset..)?.get(..bytes.len()));
            source
                .inspect(|source| bytes.copy_from_slice(source))
                .is_some()
        }
    }

    impl Bytes {
        /// Zeros.
        pub fn zeros(start: u64, count: usize) -> Self {
            Bytes {
                start,
                bytes: std::vec![0; count],
            }
        }

        /// Writes what lies at `address`.
        pub fn put(&mut self, address: u64, bytes: &[u8]) {
            let offset = (address - self.start) as usize;
            self.bytes[offset..offset + bytes.len()].copy_from_slice(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::fake::Bytes;
    use super::*;

    #[test]
    fn numbers_are_found_and_what_is_missing_is_told() {
        let memory = Bytes {
            start: 0x1000,
            bytes: (1..=16).collect(),
        };
        let record = memory.record::<12>(0x1002).unwrap();
        assert_eq!((record.u8(0), record.u16(1)), (3, 0x0504));
        assert_eq!(
            (record.u32(2), record.u64(4)),
            (0x0807_0605, 0x0E0D_0C0B_0A09_0807)
        );
        assert_eq!(record.u64(5), 0, "past its end");
        assert!(memory.record::<12>(0x1005).is_none());
        assert!(memory.record::<1>(0xFFF).is_none());
        assert!(memory.record::<1>(u64::MAX).is_none());
    }
}
