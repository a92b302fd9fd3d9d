//! Loops that wait for another CPU: each gives the core's other half a chance, and each that has no bound
//! says why it ends.

use super::SourceFile;

/// Lines above a pause in which the bound of its loop stands, or why it ends.
const REACH: usize = 8;

/// Lines of a loop in which it has to pause.
const BODY: usize = 6;

/// What is wrong with the loops of one file.
pub fn violations(file: &SourceFile) -> Vec<String> {
    let lines: Vec<&str> = file.text.lines().collect();
    let mut violations = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let code = line.split("//").next().unwrap_or(line);
        let from = index.saturating_sub(REACH);
        let above = lines.get(from..index).unwrap_or_default();
        let body = lines.iter().skip(index + 1).take(BODY);
        let flaw = if code.contains("spin_loop()") && !above.iter().any(|line| says_end(line)) {
            "a loop that waits, with neither a bound nor an `// ENDS:` comment that says why it ends"
        } else if is_wait(code) && !body.into_iter().any(|line| pauses(line)) {
            "a loop that waits for an atomic without spin_loop()"
        } else {
            continue;
        };
        violations.push(format!("{}:{}: {flaw}", file.path, index + 1));
    }
    violations
}

fn says_end(line: &str) -> bool {
    line.contains("ENDS:") || line.contains("in 0..") || line.contains("(0..") || is_deadline(line)
}

/// The clock ends it.
fn is_deadline(line: &str) -> bool {
    line.contains("now_ns() < deadline_ns") || line.contains("now_ns() >= deadline_ns")
}

fn is_wait(code: &str) -> bool {
    code.trim_start().starts_with("while ") && code.contains(".load(")
}

fn pauses(line: &str) -> bool {
    line.contains("spin_loop()") || line.contains(".idle()")
}
