//! The structure of the hypervisor as it should be.

/// A top-level module of the hypervisor.
#[derive(Clone, Copy, Debug)]
pub struct Module {
    /// Its name.
    pub name: &'static str,
    /// The top-level modules that it may use.
    pub uses: &'static [&'static str],
    /// Whether it is pure: no unsafe code, no hardware, tested on the host.
    pub is_pure: bool,
}

const fn pure(name: &'static str, uses: &'static [&'static str]) -> Module {
    Module {
        name,
        uses,
        is_pure: true,
    }
}

const fn hardware(name: &'static str, uses: &'static [&'static str]) -> Module {
    Module {
        name,
        uses,
        is_pure: false,
    }
}

/// Every top-level module, what it uses only above it.
pub const MODULES: &[Module] = &[
    pure("mem", &[]),
    pure("plan", &[]),
    pure("sched", &[]),
    pure("image", &["mem"]),
    pure("nested", &["mem"]),
    pure("object", &["mem", "nested"]),
    pure("call", &["mem", "nested", "object"]),
    hardware("cpu", &["mem"]),
    hardware("vt", &["mem", "nested", "cpu"]),
    hardware("boot", &["mem", "cpu"]),
    hardware(
        "run",
        &[
            "mem", "plan", "sched", "image", "nested", "object", "call", "cpu", "vt",
        ],
    ),
    hardware(
        "start",
        &[
            "mem", "plan", "sched", "image", "nested", "object", "call", "cpu", "vt", "boot", "run",
        ],
    ),
];

/// What is wrong with a table itself: cycles, and pure modules that use hardware.
pub fn flaws(table: &[Module]) -> Vec<String> {
    let mut flaws = Vec::new();
    for (index, row) in table.iter().enumerate() {
        for used in row.uses {
            match table.iter().position(|other| other.name == *used) {
                Some(above) if above < index => {
                    if row.is_pure && !table[above].is_pure {
                        flaws.push(format!("table: {} is pure and must not use {used}", row.name));
                    }
                }
                _ => flaws.push(format!(
                    "table: {} uses {used}, which does not stand above it; dependencies point one way",
                    row.name
                )),
            }
        }
    }
    flaws
}

/// The vendors' directories below `vt`; neither may know of the other.
const VENDORS: [&str; 2] = ["svm", "vmx"];

/// What is wrong with a reference from one vendor's code to the other's.
pub fn vendors(from: &[&str], to: &[String]) -> Option<String> {
    let vendor = |part: Option<&str>| VENDORS.into_iter().find(|name| part == Some(name));
    let own = vendor(from.get(1).copied())?;
    let other = vendor(to.get(1).map(String::as_str))?;
    let in_vt = from.first() == Some(&"vt") && to.first().is_some_and(|top| top == "vt");
    (in_vt && own != other).then(|| format!("vt/{own} must not use vt/{other}"))
}
