//! A panic of the hypervisor for people: its return addresses become names and lines, with the
//! symbols of the image that was booted.

use std::path::Path;

use crate::report::PanicReport;
use crate::symbols::{Place, Symbols};

/// The message, the registers and the backtrace.
pub fn render(panic: &PanicReport, hypervisor: &Path) -> String {
    let cpu = panic.cpu.map(|cpu| format!(" on CPU {cpu}"));
    let cpu = cpu.unwrap_or_default();
    let mut lines = vec![format!("panic of the hypervisor{cpu}: {}", panic.text)];
    lines.extend(panic.lines.iter().map(|line| format!("  {}", line.trim())));
    if !panic.trace.is_empty() {
        lines.push("backtrace, the innermost first:".to_owned());
    }
    let symbols = Symbols::load(hypervisor);
    let mut index = 0;
    for repeated in panic.trace.chunk_by(|one, next| one == next) {
        let Some(address) = repeated.first() else {
            continue;
        };
        let places = symbols.as_ref().map_or(Vec::new(), |symbols| {
            symbols.places(instruction(panic, index, *address))
        });
        let first = places.first().map_or(String::new(), Place::to_string);
        let line = format!("  {index:>2}: {address:#018x} {first}");
        lines.push(line.trim_end().to_owned());
        for place in places.iter().skip(1) {
            lines.push(format!("      {:18} {place}", "inlined into"));
        }
        if repeated.len() > 1 {
            lines.push(format!("      and {} times more", repeated.len() - 1));
        }
        index += repeated.len();
    }
    lines.join("\n")
}

/// Where to look up an address of the trace. A call lies just before the address to which it
/// returns; the trace of an exception begins with the instruction that raised it.
fn instruction(panic: &PanicReport, index: usize, address: u64) -> u64 {
    if index == 0 && panic.rip() == Some(address) {
        return address;
    }
    address.saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn panic(lines: &[&str], trace: &[u64]) -> PanicReport {
        PanicReport {
            text: "x.rs:1: broken".to_owned(),
            cpu: Some(2),
            lines: lines.iter().map(|line| (*line).to_owned()).collect(),
            trace: trace.to_owned(),
        }
    }

    #[test]
    fn addresses_without_symbols_are_still_shown() {
        let text = render(&panic(&["  rax    0x0"], &[0x1234]), Path::new("/none"));
        let expected = [
            "panic of the hypervisor on CPU 2: x.rs:1: broken",
            "  rax    0x0",
            "backtrace, the innermost first:",
            "   0: 0x0000000000001234",
        ];
        assert_eq!(text, expected.join("\n"));
    }

    #[test]
    fn endless_recursion_takes_two_lines() {
        let text = render(&panic(&[], &[9, 5, 5, 5, 7]), Path::new("/none"));
        let expected = [
            "   0: 0x0000000000000009",
            "   1: 0x0000000000000005",
            "      and 2 times more",
            "   4: 0x0000000000000007",
        ];
        assert!(text.ends_with(&expected.join("\n")), "{text}");
    }

    #[test]
    fn only_the_rip_of_an_exception_is_looked_up_as_it_is() {
        let registers = ["  rbp    0x3  rsp    0x2  rip    0x1234"];
        let exception = panic(&registers, &[0x1234, 0x1234]);
        assert_eq!(instruction(&exception, 0, 0x1234), 0x1234);
        assert_eq!(instruction(&exception, 1, 0x1234), 0x1233);
        assert_eq!(instruction(&panic(&[], &[0x1234]), 0, 0x1234), 0x1233);
        assert_eq!(instruction(&exception, 0, 0), 0);
    }
}
