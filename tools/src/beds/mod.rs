//! Test beds: the machines on which Nuncio is run.
//!
//! A bed says how to start a machine and what its exit status means; everything else (staging
//! files, reading the serial line, time limits, the verdict) is the same for all and lies in `run`.
//!
//! Invariant: a bed's command writes the serial line to its standard output and nothing else.

mod bochs;
mod kvm;
mod qemu;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::verdict::Verdict;

pub use bochs::Bochs;
pub use qemu::{Accelerator, Qemu};

/// The board of a machine, where there is a choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Board {
    /// With Intel's 440FX.
    Pc,
    /// With Intel's Q35.
    #[default]
    Q35,
}

impl Board {
    /// QEMU's name for it.
    pub const fn name(self) -> &'static str {
        match self {
            Board::Pc => "pc",
            Board::Q35 => "q35",
        }
    }
}

/// The machine that a bed is asked to start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// The directory with the image and the boot modules.
    pub run_dir: PathBuf,
    /// The name of the image that is booted: a file in `run_dir`.
    pub image: String,
    /// The board, if the bed has several.
    pub board: Board,
    /// Memory of the machine.
    pub memory_mib: u64,
    /// Names of the boot modules: files in `run_dir`.
    pub modules: Vec<String>,
    /// Whether instructions are to be counted, exactly and repeatably.
    pub count: bool,
    /// How many CPUs the machine has; 0 counts as 1.
    pub cpus: u64,
    /// Another CPU than the bed's own choice.
    pub cpu: Option<String>,
    /// The command line of the image.
    pub arguments: Option<String>,
}

/// What the exit status of a bed says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// The hypervisor ended the run: every foreground domain did its work.
    Ok,
    /// The hypervisor ended the run: a domain failed.
    Failed,
    /// The hypervisor cannot run on this machine.
    Refused,
    /// The hypervisor broke and said so.
    Panicked,
    /// The hypervisor ended the run, not with success; only the report says with what.
    Ended,
    /// The machine reset without a result: a triple fault of the hypervisor itself.
    MachineReset,
    /// As a reset, but a guest's triple fault would look the same.
    TripleFault,
    /// The bed could not start the machine.
    CannotStart,
    /// A status that nothing is known to end with.
    Unknown,
}

/// Whether a bed counts instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counting {
    /// If it is asked to.
    OnRequest,
    /// In every run.
    Always,
    /// It cannot.
    Never,
}

impl Counting {
    /// Whether a run counts that was asked to or not.
    pub fn counts(self, is_asked: bool) -> bool {
        match self {
            Counting::OnRequest => is_asked,
            Counting::Always => true,
            Counting::Never => false,
        }
    }
}

/// A program that a bed needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// Its path or its name.
    pub program: PathBuf,
    /// What to do if it is not there.
    pub advice: &'static str,
}

/// A machine on which Nuncio can run.
pub trait TestBed {
    /// Its name for `--bed`.
    fn name(&self) -> &'static str;
    /// What it is, in a few words.
    fn summary(&self) -> &'static str;
    /// The program that is the machine, as found or as it would be searched.
    fn program(&self) -> PathBuf;
    /// Every program that it needs.
    fn needs(&self) -> Vec<Need>;
    /// What of this host keeps it from running here, and what to do about it. Programs that are not
    /// installed are another matter.
    fn obstacle(&self) -> Option<String> {
        None
    }
    /// Whether it counts instructions.
    fn counting(&self) -> Counting;
    /// How long a run with this time limit may take until nothing can be expected of it any more:
    /// the hypervisor measures the limit by the machine's clock, and begins after the firmware.
    fn wall_limit(&self, limit: Duration) -> Duration;
    /// Adds to `machine.run_dir` what the command needs besides the staged files.
    fn prepare(&self, _machine: &Machine) -> Result<(), Verdict> {
        Ok(())
    }
    /// The command that starts `machine`, to be run in `machine.run_dir`.
    fn command(&self, machine: &Machine) -> Command;
    /// Whether a line on the command's standard error says something; the last one that does may
    /// explain why the machine could not be started.
    fn is_message(&self, line: &str) -> bool {
        line.contains(char::is_alphanumeric)
    }
    /// Whether a command that ended like this failed for a reason that is over by now, such as another
    /// machine that was started at the same moment, and may be tried again: nothing has run.
    fn may_start_again(&self, _status: i32, _said: &str) -> bool {
        false
    }
    /// What an exit status of that command says, with the last message on its standard error.
    fn meaning(&self, status: i32, said: &str) -> Meaning;
}

/// Every bed.
pub fn all() -> Vec<Box<dyn TestBed>> {
    let mut beds: Vec<Box<dyn TestBed>> = vec![
        Box::new(Qemu::from_environment(Accelerator::Tcg)),
        Box::new(Qemu::from_environment(Accelerator::Kvm)),
    ];
    for bed in bochs::BEDS {
        beds.push(Box::new(*bed));
    }
    beds
}

/// The name of the bed of a run that names none: the host's own CPU, if it can run guests of guests
/// and need not count instructions, else the one that runs everywhere.
pub fn default_name(must_count: bool) -> &'static str {
    let native = Qemu::from_environment(Accelerator::Kvm);
    let (native, everywhere): (&dyn TestBed, &dyn TestBed) =
        (&native, &Qemu::from_environment(Accelerator::Tcg));
    preferred(native, everywhere, must_count).name()
}

fn preferred<'a>(
    native: &'a dyn TestBed,
    everywhere: &'a dyn TestBed,
    must_count: bool,
) -> &'a dyn TestBed {
    let cannot_count = must_count && native.counting() == Counting::Never;
    if cannot_count || native.obstacle().is_some() {
        everywhere
    } else {
        native
    }
}

/// The names of the beds that can count instructions.
pub fn counting_names() -> Vec<&'static str> {
    let all = all();
    let counting = all.iter().filter(|bed| bed.counting() != Counting::Never);
    counting.map(|bed| bed.name()).collect()
}

/// The first of these programs that is not there.
pub fn missing(needs: Vec<Need>) -> Option<Need> {
    let mut needs = needs.into_iter();
    needs.find(|need| !is_installed(&need.program))
}

/// The bed of that name; the error lists the names.
pub fn named(name: &str) -> Result<Box<dyn TestBed>, String> {
    let mut beds = all();
    match beds.iter().position(|bed| bed.name() == name) {
        Some(index) => Ok(beds.swap_remove(index)),
        None => {
            let names: Vec<_> = beds.iter().map(|bed| bed.name()).collect();
            Err(format!(
                "there is no test bed {name:?}; the beds are: {}",
                names.join(", ")
            ))
        }
    }
}

/// Whether a program can be started: a path to a file, or a name that is on the search path.
pub fn is_installed(program: &Path) -> bool {
    if program.components().count() > 1 {
        return program.is_file();
    }
    let search = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&search).any(|folder| folder.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_runs_here_and_counts_if_it_must() {
        let tcg = Qemu::from_environment(Accelerator::Tcg);
        let kvm = Qemu::from_environment(Accelerator::Kvm);
        // The interpreter has no obstacle, so it stands for a host's CPU that can be used.
        assert_eq!(preferred(&tcg, &kvm, true).name(), "qemu-svm");
        assert_eq!(preferred(&kvm, &tcg, true).name(), "qemu-svm");
        let expected = match kvm.obstacle() {
            None => "kvm",
            Some(_) => "qemu-svm",
        };
        assert_eq!(preferred(&kvm, &tcg, false).name(), expected);
    }

    #[test]
    fn beds_that_count_are_named() {
        let names = counting_names();
        assert!(names.contains(&"qemu-svm") && names.contains(&"bochs-vmx"));
        assert!(!names.contains(&"kvm"));
    }
}
