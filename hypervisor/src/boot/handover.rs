//! Who owns which RAM: the hypervisor's heap is carved out, the modules are found, and the rest
//! is for domains.

#![forbid(unsafe_code)]

use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use super::heap_size::heap_bytes;
use super::memory_map::ram_pages;
use super::{BootError, BootInformation};
use crate::mem::{merge, subtract, total_bytes, HostPhysical, HostRange, PAGE_BYTES};
use crate::plan::Outline;

/// The hypervisor leaves the first MiB alone: firmware tables, and the page in which further CPUs
/// start, lie there.
const LOW_MEMORY_BYTES: u64 = 1 << 20;
/// Video memory and ROMs begin here.
const LOW_RAM_END: u64 = 0xA_0000;
/// The heap must be inside what `entry.S` maps.
const HEAP_LIMIT: u64 = 1 << 32;
/// A file that the boot loader brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootModule {
    /// Its name in the plan.
    pub name: String,
    /// Address of its first byte, on a page boundary if it is not empty.
    pub start: HostPhysical,
    /// Length in bytes; may be 0.
    pub length: u64,
}

/// What the hypervisor starts with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handover {
    /// The command line as the loader gave it.
    pub command_line: String,
    /// The modules in the loader's order.
    pub modules: Vec<BootModule>,
    /// RAM that nobody owns yet, in whole pages, sorted, without overlaps.
    pub usable: Vec<HostRange>,
    /// All RAM of the machine in bytes.
    pub ram_bytes: u64,
}

/// The machine's RAM, divided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Division {
    /// For the rest of the hypervisor.
    pub handover: Handover,
    /// The hypervisor's heap; its page tables are made from it.
    pub heap: HostRange,
    /// All RAM, in whole pages.
    pub ram: Vec<HostRange>,
    /// The pages of the modules.
    pub module_pages: Vec<HostRange>,
    /// A page of RAM below 1 MiB that nobody else uses, in which other CPUs can start.
    pub low_page: Option<HostPhysical>,
}

/// Divides the RAM among the hypervisor (its image and a heap), the modules and the domains. The heap has
/// room for what such a plan needs, and for a block for each of `other_cpus`.
pub fn divide(
    information: &BootInformation,
    image: HostRange,
    other_cpus: usize,
    plan: &Outline,
) -> Result<Division, BootError> {
    let ram = ram_pages(&information.memory);
    let modules = modules(information, image, &ram)?;
    let module_pages = merge(
        information
            .modules
            .iter()
            .map(|module| module.range.pages_around())
            .collect(),
    );
    let mut taken = vec![image.pages_around()];
    taken.extend(information.occupied.iter().map(HostRange::pages_around));
    taken.extend(&module_pages);
    let low_page = low_page(&ram, &taken);
    taken.extend(HostRange::from_length(HostPhysical(0), LOW_MEMORY_BYTES));
    let free = subtract(&ram, &merge(taken));
    let ram_bytes = total_bytes(&ram);
    let heap = place_heap(&free, heap_bytes(plan, ram_bytes, other_cpus as u64))?;
    Ok(Division {
        handover: Handover {
            command_line: information.command_line.clone(),
            modules,
            usable: subtract(&free, &[heap]),
            ram_bytes,
        },
        heap,
        ram,
        module_pages,
        low_page,
    })
}

/// The highest free page below the place where RAM ends on a PC. The lowest ones are the firmware's, even
/// where its map does not say so.
fn low_page(ram: &[HostRange], taken: &[HostRange]) -> Option<HostPhysical> {
    let low = HostRange::new(HostPhysical(PAGE_BYTES), HostPhysical(LOW_RAM_END))?;
    let outside = subtract(ram, &[low]);
    let mut taken = taken.to_vec();
    taken.extend(outside);
    let highest = subtract(ram, &merge(taken)).last()?.end();
    Some(HostPhysical(highest.0 - PAGE_BYTES))
}

/// The first place below the limit that is large enough.
fn place_heap(free: &[HostRange], heap_bytes: u64) -> Result<HostRange, BootError> {
    let heap_bytes = heap_bytes.next_multiple_of(PAGE_BYTES);
    free.iter()
        .filter_map(|range| {
            let heap = HostRange::from_length(range.start(), heap_bytes)?;
            (range.contains_range(&heap) && heap.end().0 <= HEAP_LIMIT).then_some(heap)
        })
        .next()
        .ok_or(BootError::NoRoom {
            heap_bytes,
            largest_bytes: largest_below(free, HEAP_LIMIT),
        })
}

/// Length of the largest piece below the limit.
fn largest_below(free: &[HostRange], limit: u64) -> u64 {
    free.iter()
        .map(|range| range.end().0.min(limit).saturating_sub(range.start().0))
        .max()
        .unwrap_or(0)
}

fn modules(
    information: &BootInformation,
    image: HostRange,
    ram: &[HostRange],
) -> Result<Vec<BootModule>, BootError> {
    let mut modules: Vec<BootModule> = Vec::with_capacity(information.modules.len());
    for loaded in &information.modules {
        let module = BootModule {
            name: module_name(&loaded.text).to_string(),
            start: loaded.range.start(),
            length: loaded.range.length(),
        };
        if let Some(problem) = misplacement(loaded.range, image, ram) {
            return Err(BootError::MisplacedModule {
                name: module.name,
                start: module.start.0,
                problem,
            });
        }
        // Nothing says which one a plan means. What has no name cannot be meant at all.
        let is_named = |other: &BootModule| other.name == module.name;
        if !module.name.is_empty() && modules.iter().any(is_named) {
            return Err(BootError::SameName { name: module.name });
        }
        modules.push(module);
    }
    Ok(modules)
}

/// What is wrong with the place of a module, if anything is. An empty module occupies nothing and
/// can be anywhere.
fn misplacement(module: HostRange, image: HostRange, ram: &[HostRange]) -> Option<&'static str> {
    let pages = module.pages_around();
    if pages.is_empty() {
        None
    } else if pages.start() != module.start() {
        Some("does not begin on a page boundary")
    } else if pages.overlaps(&image.pages_around()) {
        Some("overlaps the hypervisor")
    } else if !ram.iter().any(|range| range.contains_range(&pages)) {
        Some("is not in RAM")
    } else {
        None
    }
}

/// The last word of a module's text. Loaders put the file's path in front; if that is all there
/// is, the file's own name is used.
pub(super) fn module_name(text: &str) -> &str {
    let mut words = text.split_ascii_whitespace();
    match (words.next(), words.next_back()) {
        (_, Some(last)) => last,
        (Some(path), None) => path.rsplit('/').next().unwrap_or(path),
        (None, None) => "",
    }
}

#[cfg(test)]
mod tests {
    use super::super::{LoadedModule, MemoryEntry};
    use super::*;
    use crate::cpu::per_cpu::BLOCK_BYTES;
    use alloc::format;
    use proptest::prelude::*;

    const MIB: u64 = 1 << 20;
    const NO_PLAN: Outline = Outline {
        domains: 0,
        ports: 0,
        kernel_bytes: 0,
    };

    fn range(start: u64, length: u64) -> HostRange {
        HostRange::from_length(HostPhysical(start), length).unwrap()
    }

    fn image() -> HostRange {
        range(MIB, 0x8_5000)
    }

    fn information(ram: &[HostRange], modules: &[HostRange]) -> BootInformation {
        let memory = ram.iter().map(|range| MemoryEntry {
            range: *range,
            is_ram: true,
        });
        let modules = modules.iter().zip(0..).map(|(range, number)| LoadedModule {
            text: format!("/tmp/file name{number}"),
            range: *range,
        });
        BootInformation {
            command_line: "words".into(),
            memory: memory.collect(),
            modules: modules.collect(),
            occupied: vec![range(0x9500, 120)],
            acpi_root_pointer: None,
        }
    }

    #[test]
    fn names_are_last_words_or_file_names() {
        assert_eq!(module_name("/tmp/x/plan.txt nuncio-plan"), "nuncio-plan");
        assert_eq!(module_name("/tmp/x/plan.txt  a  b "), "b");
        assert_eq!(module_name("/tmp/x/input.bin"), "input.bin");
        assert_eq!(module_name("input"), "input");
        assert_eq!(module_name(""), "");
        assert_eq!(module_name("/"), "");
    }

    #[test]
    fn heap_and_modules_are_kept_out_of_what_is_usable() {
        let module = range(2 * MIB, 0x1001);
        let division = divide(
            &information(&[range(0, 0x9_fc00), range(MIB, 255 * MIB)], &[module]),
            image(),
            0,
            &NO_PLAN,
        )
        .unwrap();
        // The gap between image and module is too small for 24 MiB + 255 MiB / 128.
        assert_eq!(division.heap.start().0, 2 * MIB + 0x2000);
        let ram_bytes = 255 * MIB + 0x9_f000;
        assert_eq!(division.handover.ram_bytes, ram_bytes);
        assert!(division.heap.length() >= 48 * MIB + ram_bytes / 128);
        assert_eq!(
            division.handover.usable,
            [
                HostRange::new(image().end(), HostPhysical(2 * MIB)).unwrap(),
                HostRange::new(division.heap.end(), HostPhysical(256 * MIB)).unwrap(),
            ]
        );
        assert_eq!(division.handover.modules[0].name, "name0");
        assert_eq!(division.handover.modules[0].length, 0x1001);
        assert_eq!(division.module_pages, [range(2 * MIB, 0x2000)]);
    }

    #[test]
    fn other_cpus_make_the_heap_larger_and_start_below_what_is_taken() {
        let mut information = information(&[range(0, 0x9_fc00), range(MIB, 255 * MIB)], &[]);
        let one = divide(&information, image(), 0, &NO_PLAN).unwrap();
        let four = divide(&information, image(), 3, &NO_PLAN).unwrap();
        let more_bytes = four.heap.length() - one.heap.length();
        assert!(more_bytes >= 3 * BLOCK_BYTES as u64);
        assert_eq!(four.low_page, Some(HostPhysical(0x9_e000)));
        information.occupied.push(range(0x9_0010, 0xf000));
        let division = divide(&information, image(), 3, &NO_PLAN).unwrap();
        assert_eq!(division.low_page, Some(HostPhysical(0x8_f000)));
        // Page 0 is no place, and what is above is not low.
        information.occupied.push(range(0x1000, 0x9_0000));
        assert_eq!(
            divide(&information, image(), 3, &NO_PLAN).unwrap().low_page,
            None
        );
    }

    #[test]
    fn an_empty_module_takes_nothing() {
        let ram = [range(MIB, 63 * MIB)];
        let without = divide(&information(&ram, &[]), image(), 0, &NO_PLAN).unwrap();
        let with = divide(
            &information(&ram, &[range(32 * MIB + 5, 0)]),
            image(),
            0,
            &NO_PLAN,
        )
        .unwrap();
        assert_eq!(with.handover.usable, without.handover.usable);
        assert_eq!(with.handover.modules[0].length, 0);
    }

    #[test]
    fn misplaced_modules_are_named() {
        let ram = [range(MIB, 63 * MIB)];
        for (module, problem) in [
            (range(MIB + 0x1000, 1), "overlaps the hypervisor"),
            (range(100 * MIB, 1), "is not in RAM"),
            (range(63 * MIB, 2 * MIB), "is not in RAM"),
            (range(32 * MIB + 1, 1), "does not begin on a page boundary"),
        ] {
            let error = divide(&information(&ram, &[module]), image(), 0, &NO_PLAN).unwrap_err();
            assert!(error.to_string().ends_with(problem), "{error}");
            assert!(error.to_string().contains("'name0'"), "{error}");
        }
    }

    #[test]
    fn two_modules_of_one_name_are_an_error() {
        let ram = [range(MIB, 127 * MIB)];
        let mut information = information(&ram, &[range(64 * MIB, 1), range(72 * MIB, 0)]);
        assert!(divide(&information, image(), 0, &NO_PLAN).is_ok());
        information.modules[1].text = "/other/path name0".into();
        let error = divide(&information, image(), 0, &NO_PLAN).unwrap_err();
        assert!(error.to_string().contains("'name0'"), "{error}");
        for module in &mut information.modules {
            module.text.clear();
        }
        assert!(divide(&information, image(), 0, &NO_PLAN).is_ok());
    }

    #[test]
    fn too_little_ram_is_an_error_that_says_how_much_is_needed() {
        let ram = [range(MIB, 15 * MIB), range(1 << 32, 64 * MIB)];
        let error = divide(&information(&ram, &[]), image(), 0, &NO_PLAN).unwrap_err();
        let largest_bytes = 16 * MIB - image().end().0;
        assert!(
            matches!(error, BootError::NoRoom { largest_bytes: found, .. } if found == largest_bytes)
        );
        let text = error.to_string();
        assert!(text.contains("needs 49 MiB of free RAM"), "{text}");
        assert!(text.contains("largest piece has 14 MiB"), "{text}");
    }

    proptest! {
        #[test]
        fn every_page_of_ram_has_one_owner(
            ram in prop::collection::vec((0u64..0x2_0000, 1u64..0x2_0000), 1..6),
            modules in prop::collection::vec((0x200u64..0x2_0000, 0u64..0x300_0000), 0..5),
        ) {
            let ram: Vec<_> = ram.iter().map(|(page, pages)| range(page << 12, pages << 12)).collect();
            let modules: Vec<_> = modules.iter().map(|(page, length)| range(page << 12, *length)).collect();
            let information = information(&ram, &modules);
            let Ok(division) = divide(&information, image(), 0, &NO_PLAN) else {
                return Ok(());
            };
            let mut owned = division.handover.usable.clone();
            owned.push(division.heap);
            let low = range(0, MIB);
            let mut all = owned.clone();
            all.extend([image(), low]);
            all.extend(&division.module_pages);
            // Nothing is lost: the owners together cover the RAM.
            prop_assert_eq!(subtract(&merge(ram.clone()), &merge(all)), []);
            // Nothing is owned twice, and nothing that is no RAM is given away.
            for (index, piece) in owned.iter().enumerate() {
                prop_assert!(!piece.overlaps(&image()) && !piece.overlaps(&low));
                prop_assert!(division.module_pages.iter().all(|module| !module.overlaps(piece)));
                prop_assert!(owned.iter().skip(index + 1).all(|other| !other.overlaps(piece)));
                prop_assert!(merge(ram.clone()).iter().any(|range| range.contains_range(piece)));
            }
        }
    }
}
