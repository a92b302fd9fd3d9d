//! Which offer serves an interface.

use alloc::vec::Vec;
use core::cmp::Reverse;

use super::{Backend, Identity, Offer, Rating, Refusal};

/// An offer, and what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Who offers.
    pub identity: Identity,
    /// How good it is.
    pub rating: Rating,
    /// What became of the offer.
    pub verdict: Verdict,
}

/// What became of an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It serves.
    Serves,
    /// A better one serves, so that nobody has asked it.
    Outranked,
    /// It said what is missing.
    Refused(Refusal),
    /// The command line asks for another backend.
    NotAsked,
}

/// What serves an interface, if anything does, and all that could have.
pub struct Chosen<I: ?Sized + 'static> {
    /// What serves.
    pub server: Option<(Identity, &'static I)>,
    /// All offers, in the order in which they were asked.
    pub candidates: Vec<Candidate>,
}

/// Asks the offers of an interface in the order of their ratings until one stands. Of equal ones the backend
/// that is listed first is asked first.
///
/// If one backend is `forced`, it is asked first, and then the one that is the `fallback`; no other is asked.
pub fn choose<F, I: ?Sized>(
    backends: &[&'static Backend<F>],
    offers_of: impl Fn(&'static Backend<F>) -> &'static [Offer<F, I>],
    forced: Option<&str>,
    fallback: &str,
    facts: &F,
) -> Chosen<I> {
    let offers = backends.iter().flat_map(|backend| {
        let offers = offers_of(backend).iter();
        offers.map(|offer| (backend.name, offer))
    });
    let mut offers: Vec<_> = offers.collect();
    let may_ask =
        |backend: &str| forced.is_none_or(|forced| backend == forced || backend == fallback);
    offers.sort_by_key(|(backend, offer)| {
        let is_forced = forced == Some(*backend);
        (
            Reverse(is_forced),
            Reverse(may_ask(backend)),
            Reverse(offer.rating),
        )
    });
    let mut server = None;
    let candidates = offers.into_iter().map(|(backend, offer)| {
        let identity = Identity {
            backend,
            server: offer.server,
        };
        let verdict = if !may_ask(backend) {
            Verdict::NotAsked
        } else if server.is_some() {
            Verdict::Outranked
        } else {
            match (offer.open)(facts) {
                Ok(opened) => {
                    server = Some((identity, opened));
                    Verdict::Serves
                }
                Err(refusal) => Verdict::Refused(refusal),
            }
        };
        Candidate {
            identity,
            rating: offer.rating,
            verdict,
        }
    });
    let candidates = candidates.collect();
    Chosen { server, candidates }
}

#[cfg(test)]
mod tests;
