//! The table of fixed hardware (FADT, ACPI specification 6.5, section 5.2.9): where the power-management
//! timer is.

use super::{u32_at, u64_at};
use crate::cpu::PmTimer;

/// Where the fields stand.
const PM_TMR_BLK: usize = 76;
const PM_TMR_LEN: usize = 91;
const FLAGS: usize = 112;
/// A generic address (section 5.2.3.2): the kind of space, three bytes, and the address.
const X_PM_TMR_BLK: usize = 208;
const X_PM_TMR_BLK_ADDRESS: usize = 212;

const SYSTEM_IO: u8 = 1;
/// The timer has 32 bits, and not 24.
const TMR_VAL_EXT: u32 = 1 << 8;
/// There is no fixed hardware.
const HW_REDUCED_ACPI: u32 = 1 << 20;
/// Bytes of the timer.
const TIMER_BYTES: u8 = 4;

/// The timer that a whole FADT names, if it is one at a port. Tables of ACPI 1.0 end before the generic
/// address.
pub(super) fn pm_timer(fadt: &[u8]) -> Option<PmTimer> {
    let flags = u32_at(fadt, FLAGS)?;
    if flags & HW_REDUCED_ACPI != 0 {
        return None;
    }
    let port = generic_port(fadt).or_else(|| port(fadt))?;
    Some(PmTimer::new(port, flags & TMR_VAL_EXT != 0))
}

fn generic_port(fadt: &[u8]) -> Option<u16> {
    let is_port = *fadt.get(X_PM_TMR_BLK)? == SYSTEM_IO;
    let address = u64_at(fadt, X_PM_TMR_BLK_ADDRESS)?;
    port_of_timer(address).filter(|_| is_port)
}

fn port(fadt: &[u8]) -> Option<u16> {
    let is_timer = *fadt.get(PM_TMR_LEN)? == TIMER_BYTES;
    let address = u32_at(fadt, PM_TMR_BLK)?;
    port_of_timer(address.into()).filter(|_| is_timer)
}

/// A port that 4 bytes can be read from, and not the 0 that stands for none.
fn port_of_timer(address: u64) -> Option<u16> {
    let port = u16::try_from(address).ok()?;
    (port != 0 && port % 4 == 0).then_some(port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    /// A table with these two addresses, which ends behind the second.
    fn fadt(old: u32, new: Option<(u8, u64)>, flags: u32) -> Vec<u8> {
        let mut bytes = vec![0; 220];
        bytes[PM_TMR_BLK..PM_TMR_BLK + 4].copy_from_slice(&old.to_le_bytes());
        bytes[PM_TMR_LEN] = TIMER_BYTES;
        bytes[FLAGS..FLAGS + 4].copy_from_slice(&flags.to_le_bytes());
        match new {
            None => bytes.truncate(FLAGS + 4),
            Some((space, address)) => {
                bytes[X_PM_TMR_BLK] = space;
                bytes[X_PM_TMR_BLK_ADDRESS..].copy_from_slice(&address.to_le_bytes());
            }
        }
        bytes
    }

    #[test]
    fn the_timer_is_where_the_table_says() {
        let timer = |port, has_32_bits| Some(PmTimer::new(port, has_32_bits));
        let old = |flags| pm_timer(&fadt(0x608, None, flags));
        assert_eq!(old(0), timer(0x608, false));
        assert_eq!(old(TMR_VAL_EXT), timer(0x608, true));
        assert_eq!(old(HW_REDUCED_ACPI | TMR_VAL_EXT), None);
        let new = |space, address| pm_timer(&fadt(0x608, Some((space, address)), 0));
        assert_eq!(new(SYSTEM_IO, 0xB008), timer(0xB008, false));
        // What is no port, or none at all, is nothing; then the old field counts.
        for (space, address) in [(0, 0xB008), (SYSTEM_IO, 0), (SYSTEM_IO, 0x1_0608)] {
            assert_eq!(new(space, address), timer(0x608, false), "{address:#x}");
        }
    }

    #[test]
    fn a_table_without_a_timer_names_none() {
        assert_eq!(pm_timer(&fadt(0, None, 0)), None);
        assert_eq!(pm_timer(&fadt(0x60A, None, 0)), None, "not aligned");
        let mut other_length = fadt(0x608, None, 0);
        other_length[PM_TMR_LEN] = 0;
        assert_eq!(pm_timer(&other_length), None);
        let short = fadt(0x608, None, 0);
        assert_eq!(pm_timer(&short[..FLAGS + 3]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = pm_timer(&bytes);
        }
    }
}
