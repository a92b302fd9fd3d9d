//! Numbers that are no verb.

use alloc::format;

use nuncio_abi::{Error, RawCall, Verb};

use super::{behaviour, ensure, equal, error, Subject, Table, Verdict};

pub(super) const TABLE: Table = Table {
    of: "verb",
    cases: &[
        error(Error::UnknownVerb, 0, "one-past-the-last", |subject| {
            refuses(subject, Verb::ALL.len() as u64)
        }),
        error(Error::UnknownVerb, 0, "any-other-number", |subject| {
            for bit in 5..64 {
                refuses(subject, 1 << bit)?;
                refuses(subject, 1 << bit | 1)?;
            }
            [255, 1 << 32 | 0xFFFF_FFFF, u64::MAX]
                .into_iter()
                .try_for_each(|verb| refuses(subject, verb))
        }),
        behaviour("the-last-number-is-known", |subject| {
            let verb = Verb::ALL.last().ok_or("no verbs")?;
            let refused = subject.call(*verb, [0; 5]);
            ensure(refused != Err(Error::UnknownVerb), || {
                format!("{refused:?}")
            })
        }),
    ],
};

/// Whatever the other registers hold, and they keep it.
fn refuses(subject: &Subject<'_>, verb: u64) -> Verdict {
    for arguments in [[0; 5], [1, 2, 3, 4, 5], [u64::MAX; 5]] {
        let (status, values) = subject.ground.call(RawCall { verb, arguments });
        equal("the status", status, Error::UnknownVerb.number())?;
        let [rdi, rsi, rdx, r10, r8] = arguments;
        equal("the registers", values, [rdx, r10, r8, rdi, rsi])?;
        subject.saw(Error::UnknownVerb);
    }
    Ok(())
}
