//! What can be wrong with a plan, and what to do about it.

use core::fmt;

use nuncio_abi::{
    Name, COMMAND_LINE_BYTES, MAX_MODULES, MAX_PERIOD_NS, MAX_PRIORITY, MAX_VCPUS, MIN_BUDGET_NS,
    MIN_PERIOD_NS,
};

use super::{
    MAX_CPUS, MAX_DOMAINS, MAX_GRANTS, MAX_KERNEL_BYTES, MAX_MEMORY_BYTES, MAX_OBJECTS,
    MAX_PLAN_BYTES, MAX_PORT_CAPACITY, MIN_KERNEL_BYTES,
};

/// Where a plan is wrong, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanError {
    /// The line, counted from 1.
    pub line: u32,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What is wrong with a line of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The first line is not the one that names the format and its version.
    BadHeader,
    /// The line has no end.
    Unfinished,
    /// The line has bytes that are no printable ASCII.
    NotPrintable,
    /// The line begins with a word that is no record.
    UnknownRecord,
    /// The line goes on after its last field.
    TrailingField,
    /// A field is wrong.
    Field {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        problem: FieldProblem,
    },
    /// Something is too large, too small or too many.
    Limit(Limit),
    /// The record may be there only once.
    Repeated,
    /// The name belongs to something that every domain has.
    ReservedName,
    /// The name is taken.
    TakenName,
    /// No domain of that name has been declared.
    UnknownDomain,
    /// No object of that kind and name has been declared.
    UnknownObject,
    /// The domain has been given this right to the object already.
    RepeatedGrant,
    /// Another domain receives from the port.
    SecondReceiver,
    /// Another domain waits for the event.
    SecondWaiter,
    /// The port is given to somebody, but nobody receives from it.
    NoReceiver(Name),
    /// The event is given to somebody, but nobody waits for it.
    NoWaiter(Name),
    /// There is no domain.
    NoDomains,
}

/// What is wrong with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldProblem {
    /// The line ends before it.
    Missing,
    /// Something else stands in its place.
    Displaced,
    /// It does not hold a name.
    NoName,
    /// It does not hold a decimal number.
    NoNumber,
    /// It holds none of these words.
    NoneOf(&'static str),
}

/// A limit that a plan does not keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// The length of the text.
    PlanBytes,
    /// The time limit of the run.
    Duration,
    /// The number of domains.
    Domains,
    /// The number of ports, memories or events.
    Objects,
    /// The number of a domain's modules.
    Modules,
    /// The number of objects that a domain is given.
    Grants,
    /// The number of a domain's vcpus.
    Vcpus,
    /// The number of a CPU.
    Cpu,
    /// A priority.
    Priority,
    /// A budget or its period.
    Budget,
    /// The size of a domain's or a shared memory.
    MemoryBytes,
    /// What a domain may take of the hypervisor's memory.
    KernelBytes,
    /// The capacity of a port.
    Capacity,
    /// The length of a command line.
    CommandLine,
}

impl fmt::Display for PlanError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "plan, line {}: {}", self.line, self.fault)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Fault::BadHeader => {
                "the first line is not `nuncio-plan 1`: \
                 use the host tool that belongs to this hypervisor"
            }
            Fault::Unfinished => "the line does not end in a line feed: is the plan cut off?",
            Fault::NotPrintable => "only printable ASCII may stand here",
            Fault::UnknownRecord => {
                "no record begins like this; there are limit-ms, domain, cpu, schedule, \
                 command-line, module, port, memory, event and give"
            }
            Fault::TrailingField => "the line goes on after its last field: remove the rest",
            Fault::Field { field, problem } => return write!(formatter, "`{field}` {problem}"),
            Fault::Limit(limit) => return limit.fmt(formatter),
            Fault::Repeated => "this record may be there only once: remove one of them",
            Fault::ReservedName => "every domain has a handle of this name: choose another",
            Fault::TakenName => "this name is taken: choose another",
            Fault::UnknownDomain => "no line above declares a domain of this name",
            Fault::UnknownObject => "no line above declares an object of this kind and name",
            Fault::RepeatedGrant => "a line above gives the domain this right: remove one of them",
            Fault::SecondReceiver => {
                "another domain receives from this port: let this one send, or use two ports"
            }
            Fault::SecondWaiter => {
                "another domain waits for this event: let this one notify, or use two events"
            }
            Fault::NoReceiver(port) => {
                let port = port.as_str();
                return write!(
                    formatter,
                    "nobody may receive from {port}: give it to somebody"
                );
            }
            Fault::NoWaiter(event) => {
                let event = event.as_str();
                return write!(
                    formatter,
                    "nobody may wait for {event}: give it to somebody"
                );
            }
            Fault::NoDomains => "there is no domain: declare one",
        })
    }
}

impl fmt::Display for FieldProblem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            FieldProblem::Missing => "is missing at the end of the line",
            FieldProblem::Displaced => "belongs where something else stands",
            FieldProblem::NoName => {
                "needs a name: a letter or digit, then at most 30 of a-z, 0-9, dot, underscore \
                 and hyphen"
            }
            FieldProblem::NoNumber => {
                "needs a decimal number that fits into 64 bits, without leading zeros"
            }
            FieldProblem::NoneOf(words) => return write!(formatter, "needs one of: {words}"),
        })
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Limit::PlanBytes => write!(formatter, "a plan has at most {MAX_PLAN_BYTES} bytes"),
            Limit::Duration => write!(formatter, "a time limit has at least 1 ms"),
            Limit::Domains => write!(formatter, "a plan has at most {MAX_DOMAINS} domains"),
            Limit::Objects => write!(
                formatter,
                "a plan has at most {MAX_OBJECTS} each of ports, memories and events"
            ),
            Limit::Priority => write!(formatter, "priorities are 0 to {MAX_PRIORITY}"),
            Limit::Budget => write!(
                formatter,
                "a budget is {} us or more in a period of {} to {} us, or both are 0",
                MIN_BUDGET_NS / 1000,
                MIN_PERIOD_NS / 1000,
                MAX_PERIOD_NS / 1000
            ),
            Limit::Modules => write!(formatter, "a domain has at most {MAX_MODULES} modules"),
            Limit::Grants => write!(formatter, "a domain is given at most {MAX_GRANTS} objects"),
            Limit::Vcpus => write!(formatter, "a domain has 1 to {MAX_VCPUS} vcpus"),
            Limit::Cpu => write!(
                formatter,
                "CPUs have numbers from 0 to {}",
                MAX_CPUS.saturating_sub(1)
            ),
            Limit::MemoryBytes => write!(
                formatter,
                "a memory has a multiple of 4096 bytes, at least 4096 and at most \
                 {MAX_MEMORY_BYTES}"
            ),
            Limit::KernelBytes => write!(
                formatter,
                "a domain may take {MIN_KERNEL_BYTES} to {MAX_KERNEL_BYTES} bytes of the \
                 hypervisor's memory"
            ),
            Limit::Capacity => write!(formatter, "a port holds 1 to {MAX_PORT_CAPACITY} messages"),
            Limit::CommandLine => write!(
                formatter,
                "a command line has fewer than {COMMAND_LINE_BYTES} bytes"
            ),
        }
    }
}
