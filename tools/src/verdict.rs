//! The verdict: whether a run really worked, and if not, why and what to do.
//!
//! Success needs everything at once: the bed's status, the hypervisor's `@end result=ok`, every
//! foreground domain exited with code 0, no frame lost, and the right digest where one is due.

use std::fmt;

/// What became of a run. The names and exit codes are part of the interface (see `--help`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Everything worked.
    Ok,
    /// A domain did not do its work.
    DomainFailed,
    /// The kernel that ran alone says that it has failed.
    KernelFailed,
    /// No digest was printed.
    DigestMissing,
    /// The digest is not the input's.
    DigestDiffers,
    /// The domains observed different things on different beds.
    BedsDiffer,
    /// The command line, the manifest or a file is wrong.
    Invalid,
    /// The hypervisor cannot run on this machine.
    Refused,
    /// The bed is not installed or the images are not built.
    Missing,
    /// The bed could not start the machine.
    BedFailed,
    /// The time limit was reached.
    TimeLimit,
    /// The hypervisor broke and said so.
    HypervisorPanic,
    /// The whole machine reset.
    MachineReset,
    /// The machine ended without a readable result.
    ReportIncomplete,
    /// Frames of the domains were not given back.
    FramesLost,
    /// The user interrupted the run.
    Interrupted,
}

impl Kind {
    /// The name in the JSON report.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Ok => "ok",
            Kind::DomainFailed => "domain-failed",
            Kind::KernelFailed => "kernel-failed",
            Kind::DigestMissing => "digest-missing",
            Kind::DigestDiffers => "digest-differs",
            Kind::BedsDiffer => "beds-differ",
            Kind::Invalid => "invalid",
            Kind::Refused => "refused",
            Kind::Missing => "missing",
            Kind::BedFailed => "bed-failed",
            Kind::TimeLimit => "time-limit",
            Kind::HypervisorPanic => "hypervisor-panic",
            Kind::MachineReset => "machine-reset",
            Kind::ReportIncomplete => "report-incomplete",
            Kind::FramesLost => "frames-lost",
            Kind::Interrupted => "interrupted",
        }
    }

    /// The exit code of the tool.
    pub const fn exit_code(self) -> u8 {
        match self {
            Kind::Ok => 0,
            Kind::KernelFailed => 1,
            Kind::DomainFailed | Kind::DigestMissing | Kind::DigestDiffers | Kind::BedsDiffer => 1,
            Kind::Invalid => 2,
            Kind::Refused | Kind::Missing | Kind::BedFailed => 3,
            Kind::TimeLimit => 4,
            Kind::HypervisorPanic
            | Kind::MachineReset
            | Kind::ReportIncomplete
            | Kind::FramesLost => 5,
            Kind::Interrupted => 130,
        }
    }
}

/// What became of a run, with one line for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// For machines.
    pub kind: Kind,
    /// What happened and what to do.
    pub text: String,
}

impl Verdict {
    /// A verdict.
    pub fn new(kind: Kind, text: impl Into<String>) -> Self {
        Verdict {
            kind,
            text: text.into(),
        }
    }

    /// Whether everything worked.
    pub fn is_ok(&self) -> bool {
        self.kind == Kind::Ok
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl std::error::Error for Verdict {}
