//! How much a plan asks for, as read before there is a heap in which it could be parsed.

use super::DEFAULT_KERNEL_BYTES;

/// What the size of the heap depends on. Of a plan that is right it says what is there; of any other text,
/// anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outline {
    /// How many domains it has.
    pub domains: u64,
    /// How many ports.
    pub ports: u64,
    /// What all domains together may take of the hypervisor's own memory, in bytes.
    pub kernel_bytes: u64,
}

/// Longer lines say nothing that matters here: the longest that does is a `kernel-memory` with a name of
/// 31 bytes and a number of 20 digits.
const LINE_BYTES: usize = 80;

impl Outline {
    /// Reads a plan's text once, byte by byte, without taking memory.
    pub fn of(text: impl IntoIterator<Item = u8>) -> Self {
        let mut outline = Outline::default();
        let mut line = [0; LINE_BYTES];
        let mut length = 0usize;
        for byte in text {
            if byte == b'\n' {
                outline.take_line(line.get(..length).unwrap_or_default());
                length = 0;
            } else if let Some(place) = line.get_mut(length) {
                *place = byte;
                length = length.saturating_add(1);
            }
        }
        outline
    }

    fn take_line(&mut self, line: &[u8]) {
        let mut words = line.split(|byte| *byte == b' ');
        match words.next() {
            Some(b"domain") => {
                self.domains = self.domains.saturating_add(1);
                self.kernel_bytes = self.kernel_bytes.saturating_add(DEFAULT_KERNEL_BYTES);
            }
            Some(b"port") => self.ports = self.ports.saturating_add(1),
            // It stands for what the domain's own record has added.
            Some(b"kernel-memory") => {
                let bytes = words.nth(1).map_or(0, number);
                let others = self.kernel_bytes.saturating_sub(DEFAULT_KERNEL_BYTES);
                self.kernel_bytes = others.saturating_add(bytes);
            }
            _ => {}
        }
    }
}

fn number(digits: &[u8]) -> u64 {
    let text = core::str::from_utf8(digits).ok();
    text.and_then(|text| text.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Plan;
    use alloc::format;
    use alloc::string::String;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_says_of_a_plan_what_the_parser_says(
            kernel_bytes in proptest::collection::vec(proptest::option::of(16_384u64..=64 << 20), 1..40),
            ports in 0usize..30, command_line in "[ -~]{1,200}",
        ) {
            let mut text = String::from("nuncio-plan 1\n");
            for (index, bytes) in kernel_bytes.iter().enumerate() {
                text += &format!("domain d{index} image=i memory=4096 vcpus=1 background=no\n");
                text += &format!("command-line d{index} x{command_line}\n");
                if let Some(bytes) = bytes {
                    text += &format!("kernel-memory d{index} {bytes}\n");
                }
            }
            for index in 0..ports {
                text += &format!("port p{index} capacity=1\n");
            }
            let plan = Plan::parse(text.as_bytes()).unwrap();
            let limits = plan.domains.iter().map(|domain| domain.kernel_bytes.unwrap_or(DEFAULT_KERNEL_BYTES));
            let expected = Outline {
                domains: plan.domains.len() as u64,
                ports: plan.ports.len() as u64,
                kernel_bytes: limits.sum(),
            };
            prop_assert_eq!(Outline::of(text.bytes()), expected);
        }

        #[test]
        fn noise_is_read_without_harm(noise: std::vec::Vec<u8>) {
            let _ = Outline::of(noise);
        }
    }

    #[test]
    fn a_long_line_counts_like_a_short_one() {
        let long = format!("domain {}\nport p\n", "x".repeat(500));
        let outline = Outline::of(long.bytes());
        assert_eq!((outline.domains, outline.ports), (1, 1));
    }
}
