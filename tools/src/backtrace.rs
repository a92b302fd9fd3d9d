//! Turns the return addresses of a panic into names and lines, with the symbols of the image that
//! was booted.

use std::path::Path;

use addr2line::Loader;

use crate::report::PanicReport;

/// The panic for people: the message, the registers and the backtrace.
pub fn render(panic: &PanicReport, hypervisor: &Path) -> String {
    let mut lines = vec![format!("panic of the hypervisor: {}", panic.text)];
    lines.extend(panic.lines.iter().map(|line| format!("  {line}")));
    if !panic.trace.is_empty() {
        lines.push("backtrace, the innermost first:".to_owned());
    }
    let symbols = Loader::new(hypervisor).ok();
    for (index, address) in panic.trace.iter().enumerate() {
        let places = symbols
            .as_ref()
            .map_or(Vec::new(), |symbols| places(symbols, *address));
        if places.is_empty() {
            lines.push(format!("  {index:>2}: {address:#018x}"));
        }
        for (depth, place) in places.iter().enumerate() {
            match depth {
                0 => lines.push(format!("  {index:>2}: {address:#018x} {place}")),
                _ => lines.push(format!("      {:18} {place}", "inlined into")),
            }
        }
    }
    lines.join("\n")
}

/// The functions at a return address, the innermost inlined one first.
fn places(symbols: &Loader, return_address: u64) -> Vec<String> {
    // The call lies just before the address to which it returns.
    let address = return_address.saturating_sub(1);
    let mut places = Vec::new();
    if let Ok(mut frames) = symbols.find_frames(address) {
        while let Ok(Some(frame)) = frames.next() {
            let function = frame.function.as_ref();
            let name = function.and_then(|name| name.demangle().ok().map(|name| name.into_owned()));
            let Some(name) = name else { continue };
            places.push(match frame.location {
                Some(location) => format!("{name} ({})", place(&location)),
                None => name,
            });
        }
    }
    if places.is_empty() {
        let symbol = symbols.find_symbol(address);
        places.extend(symbol.map(|name| addr2line::demangle_auto(name.into(), None).into_owned()));
    }
    places
}

fn place(location: &addr2line::Location<'_>) -> String {
    let file = location.file.unwrap_or("?");
    match location.line {
        Some(line) => format!("{file}:{line}"),
        None => file.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[inline(never)]
    fn landmark() -> usize {
        std::hint::black_box(landmark as *const () as usize)
    }

    #[test]
    fn addresses_without_symbols_are_still_shown() {
        let panic = PanicReport {
            text: "x.rs:1: broken".to_owned(),
            lines: vec!["rax=0".to_owned()],
            trace: vec![0x1234],
        };
        let text = render(&panic, Path::new("/none"));
        assert!(text.contains("x.rs:1: broken"));
        assert!(text.contains("0: 0x0000000000001234"), "{text}");
    }

    #[test]
    fn an_address_gets_its_function() {
        assert_ne!(landmark(), 0);
        let image = std::env::current_exe().unwrap();
        let symbols = Loader::new(&image).unwrap();
        // The test binary is loaded anywhere; its symbol table says where a function lies in the file.
        let name = "an_address_gets_its_function";
        let known = (0x1000..0x40_0000).step_by(16).find(|address| {
            places(&symbols, *address)
                .iter()
                .any(|place| place.contains(name))
        });
        assert!(known.is_some());
    }
}
