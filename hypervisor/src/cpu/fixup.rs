//! Instructions that may fault, and where to go on if they do.
//!
//! An instruction that probes (RDMSR of an MSR that may not exist) puts a [`Fixup`] into the
//! section `.fault_fixups`. When it faults, the trap handler continues at the recovery address
//! instead of reporting a panic. The table is read-only and needs no per-CPU state.

#![forbid(unsafe_code)]

use spin::Once;

/// One entry. Both numbers are relative to their own address, so that the table needs no
/// relocation.
#[derive(Debug)]
#[repr(C)]
pub struct Fixup {
    fault: i32,
    recovery: i32,
}

static TABLE: Once<&'static [Fixup]> = Once::new();

/// Makes the image's table known.
pub fn install(table: &'static [Fixup]) {
    TABLE.call_once(|| table);
}

/// Where to go on after a fault of the instruction at `rip`.
pub(super) fn recovery(rip: u64) -> Option<u64> {
    TABLE
        .get()?
        .iter()
        .find(|entry| target(&entry.fault) == rip)
        .map(|entry| target(&entry.recovery))
}

fn target(field: &i32) -> u64 {
    let address = core::ptr::from_ref(field) as u64;
    address.wrapping_add_signed(i64::from(*field))
}

#[cfg(test)]
mod tests {
    use super::*;

    static ENTRIES: [Fixup; 2] = [
        Fixup {
            fault: -0x100,
            recovery: -0x200,
        },
        Fixup {
            fault: 0x40,
            recovery: 0x60,
        },
    ];

    #[test]
    fn a_fault_is_found_by_its_address() {
        install(&ENTRIES);
        let second = core::ptr::from_ref(&ENTRIES[1]) as u64;
        assert_eq!(recovery(second + 0x40), Some(second + 4 + 0x60));
        assert_eq!(recovery(second + 0x41), None);
        let first = core::ptr::from_ref(&ENTRIES[0]) as u64;
        assert_eq!(recovery(first - 0x100), Some(first + 4 - 0x200));
    }
}
