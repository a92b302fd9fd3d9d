//! `hello`: agree on the version of the ABI.

use nuncio_abi::{Error, Version, VERSION};

use super::Answer;

/// Features beyond the version; none so far.
const FEATURES: u64 = 0;

#[inline(always)]
pub(super) fn hello(version: u32, answer: &mut impl Answer) -> Result<(), Error> {
    if !VERSION.serves(Version::from_raw(version)) {
        return Err(Error::WrongVersion);
    }
    answer.pair(u64::from(VERSION.to_raw()), FEATURES);
    Ok(())
}
