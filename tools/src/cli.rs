//! The command line.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, Parser, Subcommand};

use crate::backends;
use crate::beds::{self, Board};
use crate::compare::Request;
use crate::costs;
use crate::kernel;
use crate::manifest::limits;
use crate::project;
use crate::run::{Options, What, DEFAULT_LIMIT_SECONDS};
use crate::screen::Detail;
use crate::soak;

const EXAMPLES: &str = "\
Examples:
  nuncio                              run the default manifest with README.md as input
  nuncio --input FILE --count         count instructions: exact, and the same in every run
  nuncio --manifest mine.toml --timeout 10 --json report.json
  nuncio manifest check mine.toml     name every mistake in a manifest with its line
  nuncio manifest plan mine.toml      show what the hypervisor will be told
  nuncio compare --input FILE         do the domains observe the same on every test bed?
  nuncio costs                        what calls cost on both vendors, beside KVM and NOVA
  nuncio soak --minutes 10            make and kill domains at random: is anything lost?
  nuncio image out.iso --input FILE   write an image that boots on any machine
  nuncio kernel --host bochs -- log=info   boot the guest kernel without Nuncio
  nuncio beds                         list the test beds and what each one lacks here
  nuncio abi header nuncio.h          write the C header of the guest ABI
  nuncio abi describe notify 0x10005 1   show what the registers of a call mean

Exit codes:
  0    everything worked: domains exited with code 0, and the digest is right
  1    a domain failed, or the digest is missing or wrong; beds differ
  2    the command line, the manifest or a file is wrong
  3    the test bed is missing, cannot start, or has no CPU that the hypervisor can use
  4    the time limit was reached
  5    the hypervisor broke: panic, reset of the whole machine, incomplete report
  130  interrupted

Environment:
  NUNCIO_QEMU       the QEMU binary (default: qemu-system-x86_64 on the search path)
  CARGO_TARGET_DIR  where the images were built (default: target)";

/// Boots Nuncio on a test bed, shows what its domains do and says whether it really worked.
#[derive(Debug, Parser)]
#[command(name = "nuncio", version, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to do; a run if it is missing.
    #[command(subcommand)]
    pub action: Option<Action>,
    /// The options of a run.
    #[command(flatten)]
    pub run: RunArguments,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Run a manifest on a test bed (the default)
    Run(Box<RunArguments>),
    /// Check a manifest or show its compiled plan
    Manifest {
        /// What to do with it.
        #[command(subcommand)]
        action: ManifestAction,
    },
    /// Run a manifest on several test beds and compare what the domains observed
    Compare(Box<CompareArguments>),
    /// Measure what calls cost on both vendors, beside what the same work costs elsewhere
    Costs(CostsArguments),
    /// Make, message and kill domains at random for a time, and look whether anything is lost
    Soak(SoakArguments),
    /// Write a bootable image (ISO 9660) that runs a manifest on any machine
    Image(Box<ImageArguments>),
    /// Boot the guest kernel without Nuncio and show its serial line
    Kernel(Box<KernelArguments>),
    /// Show which backend serves the guest kernel in each place that there is here
    Backends(BackendsArguments),
    /// List the test beds
    Beds,
    /// What the tables of the guest ABI say, for people who write guests
    Abi {
        /// What to print of them.
        #[command(subcommand)]
        action: AbiAction,
    },
}

/// What to print of the guest ABI.
#[derive(Debug, Subcommand)]
pub enum AbiAction {
    /// Write the C header
    Header {
        /// The file to write [default: standard output]
        #[arg(value_name = "OUT.h")]
        target: Option<PathBuf>,
    },
    /// Print words that are worth trying, as a dictionary for AFL and libFuzzer
    Dictionary,
    /// Print each verb with each status that it may have: what tests have to cover
    Outcomes,
    /// Show what the registers of a call mean, and what they alone are refused for
    Describe {
        /// The number or the name of the verb
        verb: String,
        /// RDI, RSI, RDX, R10 and R8; zeros may be left out at the end
        words: Vec<String>,
    },
}

/// What to do with a manifest.
#[derive(Debug, Subcommand)]
pub enum ManifestAction {
    /// Name every mistake with its line
    Check {
        /// The manifest
        file: PathBuf,
    },
    /// Print the plan that the hypervisor reads
    Plan {
        /// The manifest
        file: PathBuf,
    },
}

/// What a machine is to run.
#[derive(Clone, Debug, Args)]
pub struct WhatArguments {
    /// File that is handed to the domain whose manifest says "{input}": 0 bytes to 64 MiB [default: README.md]
    #[arg(long, value_name = "FILE")]
    pub input: Option<PathBuf>,

    /// Domains and wires to run [default: tools/manifests/stream.toml]
    #[arg(long, value_name = "FILE")]
    pub manifest: Option<PathBuf>,

    /// Directory of the built images [default: target/x86_64-unknown-none/release]
    #[arg(long, value_name = "DIR", help_heading = "Advanced")]
    pub images: Option<PathBuf>,

    /// Command line of the hypervisor: printable ASCII, such as "test=panic", which makes it break
    #[arg(long, value_name = "WORDS", help_heading = "Advanced", value_parser = printable)]
    pub hypervisor_args: Option<String>,
}

/// The options of an image.
#[derive(Clone, Debug, Args)]
pub struct ImageArguments {
    /// The file to write
    #[arg(value_name = "OUT.iso")]
    pub target: PathBuf,
    /// What it runs.
    #[command(flatten)]
    pub what: WhatArguments,
}

/// The options of a measurement.
#[derive(Clone, Debug, Args)]
pub struct CostsArguments {
    /// Time limit of each run in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = DEFAULT_LIMIT_SECONDS, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub timeout: u64,

    /// Write the costs to FILE as JSON (keys: tools/README.md)
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Directory of the built images [default: target/x86_64-unknown-none/release]
    #[arg(long, value_name = "DIR", help_heading = "Advanced")]
    pub images: Option<PathBuf>,
}

/// The options of the table of backends.
#[derive(Clone, Debug, Args)]
pub struct BackendsArguments {
    /// Time limit of each run in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = DEFAULT_LIMIT_SECONDS, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub timeout: u64,

    /// Write the table to FILE as JSON (keys: tools/README.md)
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Directory of the built images [default: target/x86_64-unknown-none/release]
    #[arg(long, value_name = "DIR", help_heading = "Advanced")]
    pub images: Option<PathBuf>,
}

/// The options of a soak.
#[derive(Clone, Debug, Args)]
pub struct SoakArguments {
    /// How long, in minutes of the machine's clock
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=1_440))]
    pub minutes: u64,

    /// How long, in seconds instead
    #[arg(long, value_name = "N", conflicts_with = "minutes", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub seconds: Option<u64>,

    /// What is chosen at random follows from this number [default: another one each time]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,

    /// CPUs of the machine, each with a domain that makes others
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=limits::CPUS))]
    pub cpus: u64,

    /// Test bed to run on
    #[arg(long, value_name = "NAME", default_value = "qemu-svm")]
    pub bed: String,

    /// Count instructions; with one CPU, the same seed does exactly the same then
    #[arg(long)]
    pub count: bool,

    /// Write the result to FILE as JSON (keys: tools/README.md)
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Directory of the built images [default: target/x86_64-unknown-none/release]
    #[arg(long, value_name = "DIR", help_heading = "Advanced")]
    pub images: Option<PathBuf>,
}

/// The options of a kernel without Nuncio.
#[derive(Clone, Debug, Args)]
pub struct KernelArguments {
    /// What the kernel runs on
    #[arg(long, value_name = "NAME", default_value = "qemu", value_parser = clap::builder::PossibleValuesParser::new(kernel::names()))]
    pub host: String,

    /// The board of the machine, "pc" or "q35" [default: the host's]
    #[arg(long, value_name = "NAME", value_parser = board)]
    pub machine: Option<Board>,

    /// CPUs of the machine, 1 to 256
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=limits::CPUS))]
    pub cpus: u64,

    /// Memory of the machine in MiB
    #[arg(long, value_name = "MIB", default_value_t = kernel::DEFAULT_MEMORY_MIB, value_parser = clap::value_parser!(u64).range(8..=1_048_576))]
    pub memory: u64,

    /// Time limit in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = kernel::DEFAULT_LIMIT_SECONDS, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub timeout: u64,

    /// Write the result to FILE as JSON (keys: tools/README.md)
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Directory of the built images [default: target/x86_64-unknown-none/release]
    #[arg(long, value_name = "DIR", help_heading = "Advanced")]
    pub images: Option<PathBuf>,

    /// The kernel's command line
    #[arg(value_name = "WORDS", value_parser = printable)]
    pub words: Vec<String>,
}

fn board(name: &str) -> Result<Board, &'static str> {
    let mut boards = [Board::Pc, Board::Q35].into_iter();
    boards
        .find(|board| board.name() == name)
        .ok_or("the machines are pc and q35")
}

/// The options of a comparison.
#[derive(Clone, Debug, Args)]
pub struct CompareArguments {
    /// What is run.
    #[command(flatten)]
    pub what: WhatArguments,

    /// A test bed to run on, once for each; the others are compared with the first [default: every installed bed that counts]
    #[arg(long = "bed", value_name = "NAME")]
    pub beds: Vec<String>,

    /// Time limit of each run in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = DEFAULT_LIMIT_SECONDS, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub timeout: u64,

    /// Differences that are expected, with reasons [default: tools/expected-differences.toml]
    #[arg(long, value_name = "FILE")]
    pub expected: Option<PathBuf>,

    /// Write the comparison to FILE as JSON (keys: tools/README.md)
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// The options of a run.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct RunArguments {
    /// What it runs.
    #[command(flatten)]
    pub what: WhatArguments,

    /// Test bed to run on [default: kvm if this host can and nothing is counted, else qemu-svm]
    #[arg(long, value_name = "NAME")]
    pub bed: Option<String>,

    /// Time limit in seconds; the machine is killed some time after it
    #[arg(long, value_name = "SECONDS", default_value_t = DEFAULT_LIMIT_SECONDS, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub timeout: u64,

    /// Write the report to FILE as JSON (keys: tools/README.md)
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Show the result only: no console lines, no tables
    #[arg(long, conflicts_with = "verbose")]
    pub quiet: bool,

    /// Show the hypervisor's log and records too, on standard error
    #[arg(long)]
    pub verbose: bool,

    /// Count instructions: exact and repeatable, but slower; on Bochs always, on kvm never
    #[arg(long)]
    pub count: bool,

    /// Show the calls of each domain in their order, as the domain saw them
    #[arg(long)]
    pub trace: bool,

    /// Memory of the machine in MiB [default: what the manifest needs and 128 MiB, at least 256]
    #[arg(long, value_name = "MIB", help_heading = "Advanced", value_parser = clap::value_parser!(u64).range(1..=1_048_576))]
    pub memory: Option<u64>,

    /// CPUs of the machine, 1 to 256 [default: what the manifest says, else 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=limits::CPUS))]
    pub cpus: Option<u64>,

    /// CPU model of the machine, in the test bed's own words: "max,-svm" for QEMU [default: the bed's]
    #[arg(long, value_name = "MODEL", help_heading = "Advanced")]
    pub cpu: Option<String>,
}

/// What QEMU and boot loaders hand over unchanged, and every log can show.
fn printable(words: &str) -> Result<String, &'static str> {
    if words
        .chars()
        .all(|character| matches!(character, ' '..='~'))
    {
        return Ok(words.to_owned());
    }
    Err("only printable ASCII characters and spaces can be handed over")
}

impl WhatArguments {
    /// The options with every default filled in.
    pub fn options(&self) -> What {
        What {
            manifest: self
                .manifest
                .clone()
                .unwrap_or_else(project::default_manifest),
            input: self.input.clone(),
            images: self.images.clone().unwrap_or_else(project::default_images),
            hypervisor_arguments: self.hypervisor_args.clone(),
        }
    }
}

impl CostsArguments {
    /// The options with every default filled in.
    pub fn request(&self) -> costs::Request {
        costs::Request {
            manifest: project::bench_manifest(),
            images: self.images.clone().unwrap_or_else(project::default_images),
            limit_seconds: self.timeout,
        }
    }
}

impl KernelArguments {
    /// The options with every default filled in.
    pub fn request(&self) -> kernel::Request {
        kernel::Request {
            host: self.host.clone(),
            board: self.machine,
            cpus: self.cpus,
            memory_mib: self.memory,
            limit_seconds: self.timeout,
            images: self.images.clone().unwrap_or_else(project::default_images),
            words: self.words.clone(),
        }
    }
}

impl BackendsArguments {
    /// The options with every default filled in.
    pub fn request(&self) -> backends::Request {
        backends::Request {
            manifest: project::kernel_manifest(),
            images: self.images.clone().unwrap_or_else(project::default_images),
            limit_seconds: self.timeout,
        }
    }
}

impl SoakArguments {
    /// The options with every default filled in.
    pub fn request(&self) -> soak::Request {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let arbitrary = now.map_or(1, |time| time.as_secs());
        soak::Request {
            manifest: project::soak_manifest(),
            images: self.images.clone().unwrap_or_else(project::default_images),
            bed: self.bed.clone(),
            seconds: self.seconds.unwrap_or(self.minutes * 60),
            seed: self.seed.unwrap_or(arbitrary),
            cpus: self.cpus,
            count: self.count,
        }
    }
}

impl CompareArguments {
    /// The options with every default filled in.
    pub fn request(&self) -> Request {
        let run = Options {
            what: self.what.options(),
            bed: String::new(),
            limit_seconds: self.timeout,
            silence_seconds: None,
            // Exact, so that a comparison comes out the same every time.
            count: true,
            trace: true,
            memory_mib: None,
            cpus: None,
            cpu: None,
        };
        let expected = self.expected.clone();
        Request {
            run,
            beds: self.beds.clone(),
            expected: expected.unwrap_or_else(project::expected_differences),
        }
    }
}

impl RunArguments {
    /// The options with every default filled in.
    pub fn options(&self) -> Options {
        let named = self.bed.clone();
        Options {
            what: self.what.options(),
            bed: named.unwrap_or_else(|| beds::default_name(self.count).to_owned()),
            limit_seconds: self.timeout,
            silence_seconds: None,
            count: self.count,
            trace: self.trace,
            memory_mib: self.memory,
            cpus: self.cpus,
            cpu: self.cpu.clone(),
        }
    }

    /// How much to show.
    pub fn detail(&self) -> Detail {
        match (self.quiet, self.verbose) {
            (true, _) => Detail::Quiet,
            (_, true) => Detail::Verbose,
            _ => Detail::Normal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_run_needs_no_subcommand() {
        let plain = Cli::parse_from(["nuncio", "--count", "--timeout", "7"]);
        assert!(plain.action.is_none() && plain.run.count);
        assert_eq!(plain.run.options().limit_seconds, 7);
        let named = Cli::parse_from(["nuncio", "run", "--quiet"]);
        assert!(matches!(named.action, Some(Action::Run(run)) if run.detail() == Detail::Quiet));
    }

    #[test]
    fn a_machine_has_at_least_one_cpu() {
        let parse = |number| Cli::try_parse_from(["nuncio", "--cpus", number]);
        assert_eq!(parse("4").unwrap().run.options().cpus, Some(4));
        assert!(parse("0").is_err() && parse("257").is_err());
    }

    #[test]
    fn the_hypervisor_gets_printable_words_only() {
        let parse = |words| Cli::try_parse_from(["nuncio", "--hypervisor-args", words]);
        let options = parse("test=panic x").unwrap().run.options();
        assert_eq!(
            options.what.hypervisor_arguments.as_deref(),
            Some("test=panic x")
        );
        for words in ["test=panic\n", "tab\tbed", "\u{e9}", "\u{7f}"] {
            assert!(parse(words).is_err(), "{words:?}");
        }
    }

    #[test]
    fn a_kernel_gets_its_words_with_and_without_dashes() {
        let parse = |arguments: &[&str]| {
            let all = ["nuncio", "kernel"].iter().chain(arguments);
            match Cli::try_parse_from(all).map(|cli| cli.action) {
                Ok(Some(Action::Kernel(arguments))) => Ok(arguments.request()),
                Ok(other) => panic!("{other:?}"),
                Err(error) => Err(error.to_string()),
            }
        };
        let request = parse(&["--host", "bochs", "--cpus", "4", "log=info", "x"]).unwrap();
        assert_eq!((request.host.as_str(), request.cpus), ("bochs", 4));
        assert_eq!(request.words, ["log=info", "x"]);
        let request = parse(&["--machine", "pc", "--", "--log"]).unwrap();
        assert_eq!(request.board, Some(Board::Pc));
        assert_eq!(request.words, ["--log"]);
        assert!(parse(&["--host", "vmware"]).is_err());
        assert!(parse(&["--machine", "mac"])
            .unwrap_err()
            .contains("pc and q35"));
        assert!(parse(&["a\nb"]).is_err());
    }

    #[test]
    fn the_help_of_run_sh_names_every_option() {
        let script = std::fs::read_to_string(project::root().join("run.sh")).unwrap();
        for argument in Cli::command().get_arguments() {
            if let Some(long) = argument.get_long() {
                assert!(
                    script.contains(&format!("--{long}")),
                    "run.sh --help lacks --{long}"
                );
            }
        }
    }
}
