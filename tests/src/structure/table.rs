//! The structure of the hypervisor as it should be.

/// What a module may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No unsafe code, no hardware; tested on the host.
    Pure,
    /// The vendor boundary: a pure interface with hardware behind it.
    Boundary,
    /// Touches the machine.
    Hardware,
}

/// A top-level module of the hypervisor.
#[derive(Clone, Copy, Debug)]
pub struct Module {
    /// Its name.
    pub name: &'static str,
    /// What it may do.
    pub kind: Kind,
    /// The top-level modules that it may use.
    pub uses: &'static [&'static str],
}

const fn module(name: &'static str, kind: Kind, uses: &'static [&'static str]) -> Module {
    Module { name, kind, uses }
}

/// Every top-level module; each uses only what stands above it.
pub const MODULES: &[Module] = &[
    module("lock", Kind::Pure, &[]),
    module("mem", Kind::Pure, &["lock"]),
    module("plan", Kind::Pure, &[]),
    module("sched", Kind::Pure, &[]),
    module("image", Kind::Pure, &["mem"]),
    module("nested", Kind::Pure, &["mem"]),
    module("object", Kind::Pure, &["lock", "mem", "nested", "sched"]),
    module("call", Kind::Pure, &["lock", "mem", "nested", "object"]),
    module("cpu", Kind::Hardware, &["mem"]),
    module("vt", Kind::Boundary, &["lock", "mem", "nested", "cpu"]),
    module("policy", Kind::Pure, &["vt"]),
    module(
        "run",
        Kind::Pure,
        &["lock", "mem", "sched", "object", "call", "vt", "policy"],
    ),
    module(
        "launch",
        Kind::Pure,
        &[
            "mem", "plan", "sched", "image", "nested", "object", "vt", "run",
        ],
    ),
    module("boot", Kind::Hardware, &["mem", "cpu"]),
    module(
        "start",
        Kind::Hardware,
        &[
            "lock", "mem", "plan", "object", "cpu", "vt", "policy", "run", "launch", "boot",
        ],
    ),
];

/// What is wrong with a table itself: cycles, and pure modules that use hardware.
pub fn flaws(table: &[Module]) -> Vec<String> {
    let mut flaws = Vec::new();
    for (index, row) in table.iter().enumerate() {
        let above = table.get(..index).unwrap_or_default();
        for used in row.uses {
            match above.iter().find(|other| other.name == *used) {
                None => flaws.push(format!(
                    "table: {} uses {used}, which does not stand above it; dependencies point one way",
                    row.name
                )),
                Some(other) if row.kind == Kind::Pure && other.kind == Kind::Hardware => {
                    flaws.push(format!("table: {} is pure and must not use {used}", row.name));
                }
                Some(_) => {}
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
