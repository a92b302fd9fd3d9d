//! A map in place of the CPU that keeps the fields, and the tests.

use super::*;
use crate::vt::start_state::SEGMENTS;

impl Vmcs {
    pub fn word(&self, number: u32) -> Option<u64> {
        Some(self.get(Field::word("", number)))
    }

    pub fn get(&self, field: Field) -> u64 {
        self.fields
            .borrow()
            .get(&field.number)
            .copied()
            .unwrap_or(0)
    }

    pub fn set(&self, field: Field, value: u64) {
        self.fields.borrow_mut().insert(field.number, value);
    }

    pub fn retire(&self) {}
}

#[test]
fn the_fields_of_a_segment_lie_in_step() {
    let vmcs = Vmcs::new(HostPhysical(0));
    for segment in &SEGMENTS {
        vmcs.set_all(segment.to_vmcs());
    }
    // SDM vol. 3, appendix B: selector, limit, access rights and base.
    for (numbers, expected) in [
        (
            [0x0800, 0x4800, 0x4814, 0x6806],
            [0x10, 0xFFFF_FFFF, 0xC093, 0],
        ),
        (
            [0x0802, 0x4802, 0x4816, 0x6808],
            [0x08, 0xFFFF_FFFF, 0xA09B, 0],
        ),
        ([0x080C, 0x480C, 0x4820, 0x6812], [0, 0, 0x1_0000, 0]),
        ([0x080E, 0x480E, 0x4822, 0x6814], [0, 0xFFFF, 0x8B, 0]),
    ] {
        assert_eq!(numbers.map(|number| vmcs.word(number).unwrap()), expected);
    }
    assert_eq!(vmcs.get(SS_ACCESS), 0xC093);
}

#[test]
fn the_privilege_level_is_that_of_the_stack() {
    assert_eq!(privilege(0xC093), 0);
    assert_eq!(privilege(0xC0F3), 3);
}
