//! The dependencies of the hypervisor: every one is trusted code, so the list is fixed.

use std::collections::BTreeSet;

/// Every crate that the hypervisor may depend on, and must.
pub const ALLOWED: [&str; 8] = [
    "bit_field",
    "buddy_system_allocator",
    "log",
    "nuncio-abi",
    "raw-cpuid",
    "spin",
    "x86",
    "x86_64",
];

/// How the dependencies in the text of a `Cargo.toml` differ from [`ALLOWED`].
pub fn violations(cargo_toml: &str) -> Vec<String> {
    let document: toml::Table = match toml::from_str(cargo_toml) {
        Ok(document) => document,
        Err(error) => return vec![format!("Cargo.toml: {error}")],
    };
    let mut found = names(&document, "dependencies");
    found.extend(names(&document, "build-dependencies"));
    let targets = document.get("target").and_then(toml::Value::as_table);
    for target in targets.into_iter().flat_map(toml::Table::values) {
        let table = target.as_table();
        found.extend(table.map_or(BTreeSet::new(), |table| names(table, "dependencies")));
    }
    let allowed: BTreeSet<String> = ALLOWED.map(str::to_owned).into();
    let extra = found.difference(&allowed).map(|name| {
        format!("Cargo.toml: the hypervisor must not depend on {name}; everything in it is trusted code")
    });
    let missing = allowed
        .difference(&found)
        .map(|name| format!("Cargo.toml: the hypervisor should depend on {name}"));
    extra.chain(missing).collect()
}

fn names(document: &toml::Table, key: &str) -> BTreeSet<String> {
    let table = document.get(key).and_then(toml::Value::as_table);
    table.map_or(BTreeSet::new(), |table| table.keys().cloned().collect())
}
