//! Unsafe code: only in modules that say why they need it, each block with the reason why it holds,
//! and none at all in pure modules.

use super::table::{Kind, Module};
use super::SourceFile;

/// What is wrong with the unsafe code of one file.
pub fn violations(file: &SourceFile) -> Vec<String> {
    let lines: Vec<&str> = file.text.lines().collect();
    let mut violations = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let code = without_comment(line);
        let above = lines.get(..index).unwrap_or_default();
        let flaw = if is_unsafe_code(code) && !has_comment(above, line, "SAFETY:") {
            "unsafe code without a `// SAFETY:` comment above it that says why it holds here"
        } else if code.contains("allow(unsafe_code)") && !has_comment(above, line, "UNSAFETY:") {
            "unsafe code is allowed without an `// UNSAFETY:` comment above that says why this module needs it"
        } else {
            continue;
        };
        violations.push(format!("{}:{}: {flaw}", file.path, index + 1));
    }
    violations
}

/// Pure modules that do not forbid unsafe code.
pub fn pure_modules(files: &[SourceFile], table: &[Module]) -> Vec<String> {
    let mut violations = Vec::new();
    for row in table.iter().filter(|row| row.kind == Kind::Pure) {
        let root = files.iter().find(|file| file.module() == [row.name]);
        if let Some(file) = root {
            let forbids = |line: &str| line.trim() == "#![forbid(unsafe_code)]";
            if !file.text.lines().any(forbids) {
                violations.push(format!(
                    "{}:1: {} is pure; add #![forbid(unsafe_code)]",
                    file.path, row.name
                ));
            }
        }
    }
    violations
}

fn without_comment(line: &str) -> &str {
    line.split("//").next().unwrap_or(line)
}

/// An unsafe block or an unsafe implementation. Unsafe functions state their conditions in their
/// documentation, which clippy checks.
fn is_unsafe_code(code: &str) -> bool {
    let mut words = code.split_inclusive(|character: char| !is_word(character));
    words.any(|word| word.trim_end_matches(|c: char| !is_word(c)) == "unsafe") && {
        let after = code.rsplit("unsafe").next().unwrap_or("").trim_start();
        after.is_empty() || after.starts_with('{') || after.starts_with("impl")
    }
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// Whether the statement that ends with `line` has a comment with `mark` in it or right above it.
fn has_comment(above: &[&str], line: &str, mark: &str) -> bool {
    if line.contains(mark) {
        return true;
    }
    for line in above.iter().rev() {
        let trimmed = line.trim();
        if trimmed.starts_with("//") {
            if trimmed.contains(mark) {
                return true;
            }
            continue;
        }
        let is_other_statement = [';', '}', '{', ',']
            .iter()
            .any(|end| trimmed.ends_with(*end));
        if trimmed.is_empty() || is_other_statement {
            return false;
        }
    }
    false
}
