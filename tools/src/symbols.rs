//! Names and source lines for addresses in an image, from its symbol table and line numbers.

use std::fmt;
use std::path::Path;

use addr2line::{demangle_auto, Frame, Loader, Location};

use crate::project;

/// What lies further behind a symbol belongs to something that has none.
const MAX_OFFSET: u64 = 1 << 20;

/// The symbols of one image.
pub struct Symbols(Loader);

/// A function, and where in it an address lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its name, with its path as far as it is known.
    pub function: String,
    /// `file:line`, or `file` if the compiler merged several lines; `None` without line numbers.
    pub source: Option<String>,
}

impl Symbols {
    /// The symbols of the image at `path`; `None` if it has none that can be read.
    pub fn load(path: &Path) -> Option<Self> {
        Loader::new(path).ok().map(Symbols)
    }

    /// The functions at the instruction at `address`, the innermost inlined one first. Without
    /// line numbers it is the nearest symbol with an offset.
    pub fn places(&self, address: u64) -> Vec<Place> {
        let mut places = Vec::new();
        let symbol = self.0.find_symbol(address).map(demangled);
        if let Ok(mut frames) = self.0.find_frames(address) {
            let mut next = frames.next().ok().flatten();
            while let Some(frame) = next {
                next = frames.next().ok().flatten();
                // Only the last frame is a function that has code of its own, and a symbol.
                let symbol = symbol.as_deref().filter(|_| next.is_none());
                places.extend(function(&frame, symbol).map(|function| Place {
                    function,
                    source: frame.location.as_ref().and_then(source),
                }));
            }
        }
        if places.is_empty() {
            places.extend(self.nearest(address));
        }
        places
    }

    fn nearest(&self, address: u64) -> Option<Place> {
        let symbol = self.0.find_symbol_info(address)?;
        let offset = address.checked_sub(symbol.address())?;
        (offset < MAX_OFFSET).then(|| Place {
            function: format!("{}+{offset:#x}", demangled(symbol.name())),
            source: None,
        })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Some(source) => write!(formatter, "{} ({source})", self.function),
            None => formatter.write_str(&self.function),
        }
    }
}

/// The name of a frame's function. Line tables know the bare name, the symbol has the path; but
/// functions with equal code may share a symbol, so that the two must agree.
fn function<R: addr2line::gimli::Reader>(
    frame: &Frame<'_, R>,
    symbol: Option<&str>,
) -> Option<String> {
    let name = frame.function.as_ref();
    let name = name.and_then(|name| name.demangle().ok().map(|name| name.into_owned()));
    match (name, symbol) {
        (Some(name), Some(symbol)) if is_path_to(symbol, &name) => Some(symbol.to_owned()),
        (Some(name), _) => Some(name),
        (None, symbol) => symbol.map(str::to_owned),
    }
}

/// Whether a path such as `a::b::c` names the function `c` or `c<T>`.
fn is_path_to(path: &str, name: &str) -> bool {
    let bare = name.split('<').next().unwrap_or_default();
    !bare.is_empty() && path.rsplit("::").next() == Some(bare)
}

fn demangled(symbol: &str) -> String {
    demangle_auto(symbol.into(), None).into_owned()
}

fn source(location: &Location<'_>) -> Option<String> {
    let file = shown(location.file?);
    Some(match location.line {
        Some(line) => format!("{file}:{line}"),
        None => file.to_owned(),
    })
}

/// The path without what is the same for every file: the project's directory, or the place where
/// the standard library was built (`/rustc/HASH`).
fn shown(file: &str) -> &str {
    let root = project::root();
    if let Ok(inside) = Path::new(file).strip_prefix(&root) {
        return inside.to_str().unwrap_or(file);
    }
    let library = file.strip_prefix("/rustc/");
    let inside = library.and_then(|file| file.split_once('/'));
    inside.map_or(file, |(_, inside)| inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_gets_its_function_with_path_file_and_line() {
        let image = std::env::current_exe().unwrap();
        let symbols = Symbols::load(&image).unwrap();
        // The test binary is loaded anywhere; its symbol table says where a function lies in the file.
        let known = (0x1000..0x80_0000).step_by(16).any(|address| {
            let places = symbols.places(address);
            places.last().is_some_and(|place| {
                let text = place.to_string();
                text.starts_with("nuncio_tools::symbols::source (tools/src/symbols.rs:")
            })
        });
        assert!(known);
    }

    #[test]
    fn what_lies_far_behind_a_symbol_has_no_name() {
        let image = std::env::current_exe().unwrap();
        let symbols = Symbols::load(&image).unwrap();
        assert_eq!(symbols.places(0x5EAD_0000_0000), []);
    }

    #[test]
    fn a_file_without_symbols_is_no_error() {
        assert!(Symbols::load(Path::new("/none")).is_none());
        let script = project::root().join("run.sh");
        assert!(Symbols::load(&script).is_none());
    }

    #[test]
    fn a_symbol_of_another_function_is_not_believed() {
        assert!(is_path_to("a::b::read", "read"));
        assert!(is_path_to("<a::B as c::D>::read", "read<u8>"));
        assert!(!is_path_to("a::b::write", "read"));
        assert!(!is_path_to("a::b::thread", "read"));
        assert!(!is_path_to("a::b", ""));
    }

    #[test]
    fn paths_are_short() {
        let own = project::root().join("hypervisor/src/main.rs");
        assert_eq!(shown(own.to_str().unwrap()), "hypervisor/src/main.rs");
        let library = "/rustc/0123abcd/library/core/src/panicking.rs";
        assert_eq!(shown(library), "library/core/src/panicking.rs");
        assert_eq!(shown("/elsewhere/x.rs"), "/elsewhere/x.rs");
    }
}
