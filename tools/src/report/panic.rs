//! What the hypervisor says when it breaks: a message, registers and return addresses.

use super::fields;

/// Lines with registers that are kept.
const MAX_LINES: usize = 48;
/// Return addresses that are kept.
const MAX_ADDRESSES: usize = 64;

/// A panic of the hypervisor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PanicReport {
    /// Where and what.
    pub text: String,
    /// The number of the CPU that broke; `None` if it did not say so.
    pub cpu: Option<u64>,
    /// The lines that follow: registers.
    pub lines: Vec<String>,
    /// Return addresses, the innermost first; those of an exception begin with its rip.
    pub trace: Vec<u64>,
}

impl PanicReport {
    /// A panic with this message.
    pub fn new(text: &str, cpu: Option<u64>) -> Self {
        PanicReport {
            text: text.to_owned(),
            cpu,
            ..PanicReport::default()
        }
    }

    /// Adds a line of registers.
    pub fn add_line(&mut self, line: &str) {
        if self.lines.len() < MAX_LINES && !line.trim().is_empty() {
            self.lines.push(line.to_owned());
        }
    }

    /// Where the instruction was that raised an exception; `None` if it was a Rust panic.
    pub fn rip(&self) -> Option<u64> {
        let mut words = self.lines.iter().flat_map(|line| line.split_whitespace());
        words.find(|word| *word == "rip")?;
        fields::number(words.next()?)
    }

    /// Adds a return address.
    pub fn add_address(&mut self, text: &str) -> Option<()> {
        let address = fields::number(text)?;
        if self.trace.len() == MAX_ADDRESSES {
            return None;
        }
        self.trace.push(address);
        Some(())
    }
}
