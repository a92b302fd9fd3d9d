//! `hello`.

use nuncio_abi::{Error, Verb, Version, VERSION};

use super::{behaviour, equal, error, Subject, Table, Verdict};

const HELLO: Verb = Verb::Hello;

pub(super) const TABLE: Table = Table {
    of: HELLO.name(),
    cases: &[
        error(Error::BadArgument, 0, "unused-registers", |subject| {
            subject.wants_zeros(HELLO, with(VERSION.to_raw()), 1)?;
            // Found before the version is looked at.
            subject.wants_zeros(HELLO, with(0xFFFF_0000), 1)
        }),
        error(Error::BadArgument, 0, "bits-past-the-version", |subject| {
            for bit in 32..64 {
                let mut arguments = with(VERSION.to_raw());
                arguments[0] |= 1 << bit;
                subject.refuses(HELLO, arguments, Error::BadArgument)?;
            }
            Ok(())
        }),
        error(Error::WrongVersion, 0, "another-major-number", |subject| {
            for major in [
                VERSION.major.wrapping_add(1),
                VERSION.major ^ 0x8000,
                0xFFFF,
            ] {
                for minor in [0, VERSION.minor, 0xFFFF] {
                    is_wrong(subject, Version { major, minor })?;
                }
            }
            Ok(())
        }),
        error(Error::WrongVersion, 0, "a-larger-minor-number", |subject| {
            for minor in [VERSION.minor + 1, 0x7FFF, 0xFFFF] {
                let major = VERSION.major;
                is_wrong(subject, Version { major, minor })?;
            }
            Ok(())
        }),
        error(
            Error::WrongVersion,
            0,
            "a-smaller-minor-number-while-moving",
            |subject| {
                for minor in 0..VERSION.minor {
                    let major = VERSION.major;
                    is_wrong(subject, Version { major, minor })?;
                }
                Ok(())
            },
        ),
        behaviour("tells-the-version-and-no-features", |subject| {
            for _ in 0..3 {
                let [version, features, ..] = subject.works(HELLO, with(VERSION.to_raw()))?;
                equal("the version", version, u64::from(VERSION.to_raw()))?;
                equal("the features", features, 0)?;
                equal("the boot info's version", subject.boot.version, version)?;
            }
            Ok(())
        }),
    ],
};

const fn with(version: u32) -> [u64; 5] {
    [version as u64, 0, 0, 0, 0]
}

fn is_wrong(subject: &Subject<'_>, version: Version) -> Verdict {
    subject.refuses(HELLO, with(version.to_raw()), Error::WrongVersion)
}
