//! CPUs and interrupt controllers: the multiple APIC description table, MADT (ACPI 6.4, 5.2.12).

use super::root::Table;
use super::AcpiProblem;
use crate::boot::list::List;
use crate::boot::physical::PhysicalBytes;

/// CPUs that are listed.
const MOST_CPUS: usize = 256;
const MOST_IO_APICS: usize = 32;
const MOST_OVERRIDES: usize = 32;

const FIRST_ENTRY: u64 = 44;
const ENTRY_HEAD_BYTES: u64 = 2;

const LOCAL_APIC: u8 = 0;
const IO_APIC: u8 = 1;
const OVERRIDE: u8 = 2;
const LOCAL_APIC_ADDRESS: u8 = 5;
const LOCAL_X2APIC: u8 = 9;

/// Flag of a CPU: it can be used.
const ENABLED: u32 = 1;

/// What brings interrupts to CPUs.
#[derive(Clone, Debug)]
pub struct Interrupts {
    /// The address of every CPU's local APIC.
    pub local_apic: u64,
    cpus: List<u32, MOST_CPUS>,
    io_apics: List<IoApic, MOST_IO_APICS>,
    overrides: List<Override, MOST_OVERRIDES>,
}

/// A chip with input lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoApic {
    /// Its identifier.
    pub id: u8,
    /// The address of its registers.
    pub address: u64,
    /// The number of its first line among all of the machine.
    pub first_line: u32,
}

/// An ISA interrupt that is not what it would be otherwise: the line of the same number, edge-triggered, active
/// high.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Override {
    /// The ISA interrupt.
    pub source: u8,
    /// The line among all of the machine.
    pub line: u32,
    /// Whether the line is active when it is low.
    pub is_active_low: bool,
    /// When it interrupts.
    pub trigger: Trigger,
}

/// When a line interrupts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// When it becomes active.
    Edge,
    /// As long as it is active.
    Level,
}

impl Interrupts {
    /// The identifiers of the local APICs of CPUs that can be used, in the firmware's order.
    pub fn cpus(&self) -> &[u32] {
        self.cpus.as_slice()
    }

    /// The chips with input lines.
    pub fn io_apics(&self) -> &[IoApic] {
        self.io_apics.as_slice()
    }

    /// The ISA interrupts that are not what they would be.
    pub fn overrides(&self) -> &[Override] {
        self.overrides.as_slice()
    }

    fn add_cpu(&mut self, id: u32, flags: u32) -> Result<(), AcpiProblem> {
        // A CPU may be listed in both forms.
        if flags & ENABLED == 0 || self.cpus().contains(&id) {
            return Ok(());
        }
        self.cpus.push(id).ok_or(AcpiProblem::TooMany("CPUs"))
    }

    /// Takes an entry; one that is shorter than its type needs says nothing.
    fn take(
        &mut self,
        memory: &impl PhysicalBytes,
        entry: Table,
        number: u8,
    ) -> Result<(), AcpiProblem> {
        match number {
            LOCAL_APIC => entry.record::<8>(memory, 0).map_or(Ok(()), |entry| {
                self.add_cpu(entry.u8(3).into(), entry.u32(4))
            }),
            LOCAL_X2APIC => entry
                .record::<16>(memory, 0)
                .map_or(Ok(()), |entry| self.add_cpu(entry.u32(4), entry.u32(8))),
            IO_APIC => entry.record::<12>(memory, 0).map_or(Ok(()), |entry| {
                let added = self.io_apics.push(IoApic {
                    id: entry.u8(2),
                    address: entry.u32(4).into(),
                    first_line: entry.u32(8),
                });
                added.ok_or(AcpiProblem::TooMany("I/O APICs"))
            }),
            OVERRIDE => entry.record::<10>(memory, 0).map_or(Ok(()), |entry| {
                let flags = entry.u16(8);
                let added = self.overrides.push(Override {
                    source: entry.u8(3),
                    line: entry.u32(4),
                    is_active_low: flags & 3 == 3,
                    trigger: match flags >> 2 & 3 {
                        3 => Trigger::Level,
                        _ => Trigger::Edge,
                    },
                });
                added.ok_or(AcpiProblem::TooMany("interrupt source overrides"))
            }),
            LOCAL_APIC_ADDRESS => {
                let entry = entry.record::<12>(memory, 0);
                self.local_apic = entry.map_or(self.local_apic, |entry| entry.u64(4));
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// Reads the table up to its end, or to the first entry that cannot be one.
pub(super) fn read(memory: &impl PhysicalBytes, table: Table) -> Result<Interrupts, AcpiProblem> {
    let address = table.record::<4>(memory, 36);
    let mut interrupts = Interrupts {
        local_apic: address.map_or(0, |address| address.u32(0).into()),
        cpus: List::new(0),
        io_apics: List::new(IoApic {
            id: 0,
            address: 0,
            first_line: 0,
        }),
        overrides: List::new(Override {
            source: 0,
            line: 0,
            is_active_low: false,
            trigger: Trigger::Edge,
        }),
    };
    let mut offset = FIRST_ENTRY;
    while let Some(head) = table.record::<2>(memory, offset) {
        let bytes = u64::from(head.u8(1));
        if bytes < ENTRY_HEAD_BYTES || offset + bytes > table.bytes {
            break;
        }
        let entry = Table {
            address: table.address + offset,
            bytes,
        };
        interrupts.take(memory, entry, head.u8(0))?;
        offset += bytes;
    }
    Ok(interrupts)
}
