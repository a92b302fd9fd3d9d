//! Keeps the structure of the hypervisor's sources: which module may use which, where unsafe code
//! may stand, and what the crate depends on.
//!
//! `table` is the structure as it should be, `references` finds what a file uses, `unsafety` looks
//! at unsafe code and its reasons, `waiting` at loops that wait, `dependencies` reads the manifest of the crate.
//!
//! Invariant: a module that is not in the table is a violation, so the table is complete.

pub mod dependencies;
pub mod references;
pub mod table;
pub mod unsafety;
pub mod waiting;

use std::fs;
use std::path::{Path, PathBuf};

use table::Module;

/// A source file of the crate.
#[derive(Clone, Debug)]
pub struct SourceFile {
    /// Its path below `src`, such as `vt/svm/exit.rs`.
    pub path: String,
    /// Its text.
    pub text: String,
}

impl SourceFile {
    /// The path of the module, such as `["vt", "svm", "exit"]`; empty for the roots of the crate.
    pub fn module(&self) -> Vec<&str> {
        let stem = self.path.trim_end_matches(".rs");
        let mut parts: Vec<&str> = stem.split('/').collect();
        if parts.last() == Some(&"mod") || matches!(parts.as_slice(), ["lib" | "main"]) {
            parts.pop();
        }
        parts
    }

    /// Whether the file is compiled only for tests.
    fn is_test(&self) -> bool {
        self.module().contains(&"tests")
    }
}

/// Reads every Rust file below `src`, in the order of their paths.
pub fn read_sources(src: &Path) -> Vec<SourceFile> {
    let mut files = Vec::new();
    let mut folders = vec![src.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.extend(read_source(src, path));
            }
        }
    }
    files.sort_by(|one, other| one.path.cmp(&other.path));
    files
}

fn read_source(src: &Path, path: PathBuf) -> Option<SourceFile> {
    let relative = path.strip_prefix(src).ok()?.to_str()?.to_owned();
    let text = fs::read_to_string(&path).ok()?;
    Some(SourceFile {
        path: relative,
        text,
    })
}

/// Every violation of the table in these sources, as `file:line: what is wrong`.
pub fn violations(files: &[SourceFile], table: &[Module]) -> Vec<String> {
    let mut violations = table::flaws(table);
    for file in files {
        violations.extend(unsafety::violations(file));
        if !file.is_test() {
            violations.extend(uses(file, table));
            violations.extend(waiting::violations(file));
        }
    }
    violations.extend(unsafety::pure_modules(files, table));
    violations
}

fn uses(file: &SourceFile, table: &[Module]) -> Vec<String> {
    let module = file.module();
    let Some(top) = module.first() else {
        // The roots tie everything together and may use everything.
        return Vec::new();
    };
    let Some(row) = table.iter().find(|row| row.name == *top) else {
        return vec![format!(
            "{}:1: module {top} is not in the table of modules; add it to tests/src/structure/table.rs with what it may use",
            file.path
        )];
    };
    let references = match references::find(&file.text, &module) {
        Ok(references) => references,
        Err(error) => return vec![format!("{}:1: cannot be read as Rust: {error}", file.path)],
    };
    let forbidden = references.iter().filter_map(|reference| {
        let target = reference.path.first()?;
        if target != top && !row.uses.contains(&target.as_str()) {
            return Some(format!(
                "{}:{}: {top} must not use {target}; it may use: {}",
                file.path,
                reference.line,
                row.uses.join(", ")
            ));
        }
        table::vendors(&module, &reference.path)
            .map(|what| format!("{}:{}: {what}", file.path, reference.line))
    });
    let mut forbidden: Vec<String> = forbidden.collect();
    // `use crate::x::{A, B}` is one mistake.
    forbidden.dedup();
    forbidden
}

#[cfg(test)]
mod tests;
