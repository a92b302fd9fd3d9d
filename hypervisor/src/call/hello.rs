//! `hello`: agree on the version of the ABI.

use nuncio_abi::{Error, Reply, Version, VERSION};

/// Features beyond the version; none so far.
const FEATURES: u64 = 0;

#[inline]
pub(super) fn hello(version: u32) -> Result<Reply, Error> {
    if !VERSION.serves(Version::from_raw(version)) {
        return Err(Error::WrongVersion);
    }
    Ok(Reply::Pair(VERSION.to_raw() as u64, FEATURES))
}
