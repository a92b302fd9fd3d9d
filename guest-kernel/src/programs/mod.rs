//! What the kernel runs. The command line picks a program by `program=NAME`.
//!
//! A program is a function of a [`Context`] that returns an exit code. Those that need nothing but
//! the client of the ABI run on any [`Machine`] and are tested on the host; those that look at the
//! CPU itself exist only with the feature `bare-metal`.

use core::fmt;

use nuncio_abi::BootInfo;

use crate::boot::CommandLine;
use crate::hv::{Client, Machine};

pub mod clock;
pub mod conformance;
pub mod consumer;
pub mod echo;
pub mod loan;
pub mod producer;
pub mod soak;
pub mod stream;

#[cfg(feature = "bare-metal")]
mod bench;
#[cfg(feature = "bare-metal")]
mod borrower;
#[cfg(feature = "bare-metal")]
mod children;
#[cfg(feature = "bare-metal")]
mod hostile;
#[cfg(feature = "bare-metal")]
mod lender;
#[cfg(feature = "bare-metal")]
mod machine_code;
#[cfg(feature = "bare-metal")]
mod monitor;
#[cfg(feature = "bare-metal")]
mod nomad;
#[cfg(feature = "bare-metal")]
mod nomad_code;
#[cfg(feature = "bare-metal")]
mod probe;
#[cfg(feature = "bare-metal")]
mod punctual;
#[cfg(feature = "bare-metal")]
mod smp;
#[cfg(feature = "bare-metal")]
mod spin;
#[cfg(feature = "bare-metal")]
mod table;
#[cfg(feature = "bare-metal")]
mod timers;
#[cfg(feature = "bare-metal")]
mod worker;

#[cfg(feature = "bare-metal")]
pub(crate) use hostile::memory::descend;
#[cfg(feature = "bare-metal")]
pub use table::run_by_name;

/// What a program passes to the stop verb.
pub type ExitCode = u64;

/// The program has done what it is for.
pub const GOOD: ExitCode = 0;
/// The program has said on the console why it failed.
pub const FAILED: ExitCode = 1;
/// The command line does not say what to do.
pub const BAD_COMMAND_LINE: ExitCode = 2;

/// What a program runs in.
pub struct Context<'a, M> {
    /// The machine.
    pub machine: &'a M,
    /// What the domain was given.
    pub boot: &'a BootInfo,
    /// The command line.
    pub words: CommandLine<'a>,
    /// The console.
    pub out: &'a mut dyn fmt::Write,
}

impl<'a, M: Machine> Context<'a, M> {
    /// A client for the domain's objects.
    pub const fn client(&self) -> Client<'a, M> {
        Client::new(self.machine, self.boot)
    }

    /// A number from the command line, or a word on the console why there is none.
    ///
    /// # Errors
    /// The exit code.
    pub fn number(&mut self, name: &str, default: u64) -> Result<u64, ExitCode> {
        self.words.number(name, default).map_err(|value| {
            // The console cannot fail; what it loses it counts itself.
            let _ = writeln!(self.out, "{name}={value} is no number");
            BAD_COMMAND_LINE
        })
    }
}
