//! Why domains could not be launched.

use core::fmt;

use nuncio_abi::{Error, Name};

use crate::image::ImageError;
use crate::mem::OutOfFrames;

/// Why the run cannot begin.
#[derive(Debug)]
pub enum LaunchError {
    /// A domain cannot be made.
    Domain {
        /// Which.
        name: Name,
        /// Why.
        fault: Fault,
    },
    /// The pages that all domains share cannot be made.
    OutOfFrames(OutOfFrames),
}

/// What is wrong with one domain.
#[derive(Debug)]
pub enum Fault {
    /// The boot loader has no module of that name.
    NoModule(Name),
    /// The module does not lie in usable memory.
    UnusableModule(Name),
    /// The image will not do.
    Image(ImageError),
    /// The RAM is too small for the image and the first page tables.
    TooLittleMemory {
        /// Bytes that it needs at the least.
        needed_bytes: u64,
    },
    /// The machine has too little memory for the domain.
    OutOfFrames(OutOfFrames),
    /// The domain's address space cannot hold what it is given.
    Mapping(Error),
    /// The machine has no such CPU, or it could not be brought up.
    NoCpu {
        /// The CPU that was asked for.
        cpu: u8,
        /// How many there are.
        count: usize,
    },
    /// It has more handles, modules or event slots than the boot-info page holds.
    TooManyGrants,
}

impl Fault {
    pub(super) const fn of(self, name: &Name) -> LaunchError {
        LaunchError::Domain {
            name: *name,
            fault: self,
        }
    }
}

impl LaunchError {
    /// The word that stands for it in reports.
    pub const fn code(&self) -> &'static str {
        match self {
            LaunchError::OutOfFrames(_)
            | LaunchError::Domain {
                fault: Fault::OutOfFrames(_) | Fault::TooLittleMemory { .. },
                ..
            } => "too-little-memory",
            LaunchError::Domain {
                fault: Fault::Image(_),
                ..
            } => "bad-image",
            LaunchError::Domain { .. } => "bad-domain",
        }
    }
}

impl From<OutOfFrames> for LaunchError {
    fn from(error: OutOfFrames) -> Self {
        LaunchError::OutOfFrames(error)
    }
}

impl From<OutOfFrames> for Fault {
    fn from(error: OutOfFrames) -> Self {
        Fault::OutOfFrames(error)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Fault::Mapping(error)
    }
}

impl From<ImageError> for Fault {
    fn from(error: ImageError) -> Self {
        Fault::Image(error)
    }
}

impl fmt::Display for LaunchError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LaunchError::Domain { name, fault } => {
                write!(formatter, "domain {}: {fault}", name.as_str())
            }
            LaunchError::OutOfFrames(_) => {
                formatter.write_str("the machine has too little memory; give it more")
            }
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::NoModule(name) => write!(
                formatter,
                "the boot loader has loaded no module named {}; add it to the boot entry",
                name.as_str()
            ),
            Fault::UnusableModule(name) => write!(
                formatter,
                "the module {} lies outside usable memory; give the machine more memory",
                name.as_str()
            ),
            Fault::Image(error) => error.fmt(formatter),
            Fault::TooLittleMemory { needed_bytes } => write!(
                formatter,
                "its memory is too small for its image; give it at least {needed_bytes} bytes"
            ),
            Fault::OutOfFrames(_) => formatter.write_str(
                "the machine has too little memory for it; make it smaller or give the machine more",
            ),
            Fault::Mapping(error) => write!(formatter, "its address space: {}", error.text()),
            Fault::NoCpu { cpu, count } => write!(
                formatter,
                "it is to run on CPU {cpu}, and there are {count}, counted from 0: give the machine \
                 more or name another"
            ),
            Fault::TooManyGrants => formatter
                .write_str("it is given more handles or modules than the ABI allows; give it fewer"),
        }
    }
}
