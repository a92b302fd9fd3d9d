//! What serves each interface, and how often it has.

use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use super::{
    choose, Backend, Candidate, Chosen, ClockEvent, ClockSource, Console, Identity, InterfaceKind,
    IrqChip, Offer, Smp, Verdict,
};

/// An interface, and what serves it.
pub struct Served<I: ?Sized + 'static> {
    chosen: Chosen<I>,
    uses: AtomicU64,
}

impl<I: ?Sized> Served<I> {
    const fn new(chosen: Chosen<I>) -> Self {
        Served {
            chosen,
            uses: AtomicU64::new(0),
        }
    }

    /// What serves it, counted as a use.
    #[inline]
    pub fn get(&self) -> Option<&'static I> {
        let (_, server) = self.chosen.server?;
        self.uses.fetch_add(1, Ordering::Relaxed);
        Some(server)
    }

    /// Who serves it.
    pub fn identity(&self) -> Option<Identity> {
        self.chosen.server.map(|(identity, _)| identity)
    }

    /// Everybody who could have.
    pub fn candidates(&self) -> &[Candidate] {
        &self.chosen.candidates
    }

    /// How often it was used.
    pub fn uses(&self) -> u64 {
        self.uses.load(Ordering::Relaxed)
    }
}

/// Nobody can serve an interface that the kernel cannot do without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The interface.
    pub kind: InterfaceKind,
    /// Who was asked, and what was said.
    pub candidates: Vec<Candidate>,
}

impl fmt::Display for Missing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "nothing here serves as {}:", self.kind)?;
        self.candidates
            .iter()
            .try_for_each(|candidate| write!(formatter, " {candidate};"))
    }
}

impl fmt::Display for Candidate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ", self.identity)?;
        match self.verdict {
            Verdict::Serves => formatter.write_str("serves"),
            Verdict::Outranked => formatter.write_str("not used: there is a better one"),
            Verdict::Refused(refusal) => write!(formatter, "not used: {refusal}"),
            Verdict::NotAsked => formatter.write_str("not used: the command line forces another"),
        }
    }
}

/// Everything that the kernel uses of the place where it runs.
pub struct Services {
    /// Where text goes; the kernel can do without.
    pub console: Served<dyn Console>,
    /// The clock.
    pub clock_source: Served<dyn ClockSource>,
    /// Interrupts.
    pub irq_chip: Served<dyn IrqChip>,
    /// The clock that interrupts.
    pub clock_event: Served<dyn ClockEvent>,
    /// The other CPUs; without it there is one.
    pub smp: Served<dyn Smp>,
}

/// Which backend `pv=NAME` asks for, and which one fills in.
#[derive(Clone, Copy, Debug)]
pub struct Forced<'a> {
    /// The one that is asked for, if any is.
    pub backend: Option<&'a str>,
    /// The one that serves what that cannot.
    pub fallback: &'a str,
}

/// What backends look at, while the choice goes on.
pub trait Facts: Sized {
    /// What brings interrupts has been chosen: clocks that interrupt and signals depend on it.
    fn with_irq_chip(&self, irq_chip: Identity) -> Self;
}

impl Services {
    /// Chooses what serves each interface.
    ///
    /// # Errors
    /// If nobody serves the clock, interrupts, or the clock that interrupts.
    pub fn open<F: Facts>(
        backends: &[&'static Backend<F>],
        forced: Forced<'_>,
        facts: &F,
    ) -> Result<Self, Missing> {
        let console = pick(backends, |backend| backend.consoles, forced, facts);
        let clock_source = pick(backends, |backend| backend.clock_sources, forced, facts);
        let clock_source = needed(InterfaceKind::ClockSource, clock_source)?;
        let irq_chip = pick(backends, |backend| backend.irq_chips, forced, facts);
        let irq_chip = needed(InterfaceKind::IrqChip, irq_chip)?;
        let with_chip = irq_chip
            .identity()
            .map(|identity| facts.with_irq_chip(identity));
        let facts = with_chip.as_ref().unwrap_or(facts);
        let clock_event = pick(backends, |backend| backend.clock_events, forced, facts);
        let clock_event = needed(InterfaceKind::ClockEvent, clock_event)?;
        let smp = pick(backends, |backend| backend.smps, forced, facts);
        Ok(Services {
            console,
            clock_source,
            irq_chip,
            clock_event,
            smp,
        })
    }

    /// Each interface with who serves it, everybody who could, and the number of uses.
    pub fn all(&self) -> [(InterfaceKind, Option<Identity>, &[Candidate], u64); 5] {
        fn row<I: ?Sized>(
            kind: InterfaceKind,
            served: &Served<I>,
        ) -> (InterfaceKind, Option<Identity>, &[Candidate], u64) {
            (kind, served.identity(), served.candidates(), served.uses())
        }
        [
            row(InterfaceKind::Console, &self.console),
            row(InterfaceKind::ClockSource, &self.clock_source),
            row(InterfaceKind::IrqChip, &self.irq_chip),
            row(InterfaceKind::ClockEvent, &self.clock_event),
            row(InterfaceKind::Smp, &self.smp),
        ]
    }
}

fn pick<F, I: ?Sized>(
    backends: &[&'static Backend<F>],
    offers_of: impl Fn(&'static Backend<F>) -> &'static [Offer<F, I>],
    forced: Forced<'_>,
    facts: &F,
) -> Served<I> {
    let Forced { backend, fallback } = forced;
    Served::new(choose(backends, offers_of, backend, fallback, facts))
}

fn needed<I: ?Sized>(kind: InterfaceKind, served: Served<I>) -> Result<Served<I>, Missing> {
    if served.identity().is_some() {
        return Ok(served);
    }
    Err(Missing {
        kind,
        candidates: served.chosen.candidates,
    })
}

#[cfg(test)]
mod tests;
