//! How the loop of one CPU tells that of another what is new for a vcpu.
//!
//! Every vcpu has a word of news and stands in at most one mailbox, that of the CPU whose it is. So
//! nothing is allocated to tell somebody something, no mailbox overflows, and telling the same twice is
//! telling it once.

use alloc::boxed::Box;
use core::ops::BitOr;
use core::sync::atomic::{AtomicU32, Ordering};

use super::pieces::Pieces;
use super::{CpuIndex, VcpuId};

/// What is new for a vcpu: a set of bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct News(u32);

impl News {
    /// What it is blocked on can go on.
    pub const BLOCKED: News = News(1 << 0);
    /// One of its event words has become pending.
    pub const EVENT: News = News(1 << 1);
    /// The same, which matters only if it sleeps.
    pub const QUIET: News = News(1 << 2);
    /// Somebody who waits for it lends it something.
    pub const LOAN: News = News(1 << 3);

    /// Whether all of these are among them.
    pub const fn contains(self, news: News) -> bool {
        self.0 & news.0 == news.0
    }
}

impl BitOr for News {
    type Output = News;

    fn bitor(self, other: News) -> News {
        News(self.0 | other.0)
    }
}

/// The end of a list.
const NOBODY: u32 = u32::MAX;

/// The mailboxes of all CPUs.
pub struct Mailboxes {
    places: Pieces<Place>,
    /// For each CPU the vcpu that was told something last; the others hang on it.
    first: Box<[AtomicU32]>,
}

/// What belongs to one vcpu.
struct Place {
    cpu: AtomicU32,
    news: AtomicU32,
    /// The next one in the same mailbox.
    next: AtomicU32,
}

impl Default for Place {
    fn default() -> Self {
        Place {
            cpu: AtomicU32::new(NOBODY),
            news: AtomicU32::new(0),
            next: AtomicU32::new(NOBODY),
        }
    }
}

impl Mailboxes {
    /// A mailbox for each of so many CPUs.
    pub fn new(cpus: usize) -> Self {
        Mailboxes {
            places: Pieces::new(),
            first: (0..cpus).map(|_| AtomicU32::new(NOBODY)).collect(),
        }
    }

    /// From now on news for the vcpu go to that CPU; false if there are too many vcpus.
    pub fn open(&self, id: VcpuId, cpu: CpuIndex) -> bool {
        let Some(place) = self.places.make(id) else {
            return false;
        };
        place.cpu.store(u32::from(cpu.0), Ordering::Release);
        true
    }

    /// The vcpu is gone: there are no news for it.
    pub fn close(&self, id: VcpuId) {
        if let Some(place) = self.place(id) {
            place.cpu.store(NOBODY, Ordering::Release);
        }
    }

    /// The CPU to which news for the vcpu go.
    pub fn cpu(&self, id: VcpuId) -> Option<CpuIndex> {
        let cpu = self.place(id)?.cpu.load(Ordering::Acquire);
        u8::try_from(cpu).ok().map(CpuIndex)
    }

    /// Puts news for a vcpu into the mailbox of its CPU. Returns that CPU, if it has to look; news
    /// that stand there already it has been told of.
    pub fn post(&self, id: VcpuId, news: News) -> Option<CpuIndex> {
        let place = self.place(id)?;
        let cpu = self.cpu(id)?;
        // Whoever finds none there puts the vcpu into the mailbox; whoever empties it takes the news
        // after the place of the next one.
        if place.news.fetch_or(news.0, Ordering::AcqRel) != 0 {
            return None;
        }
        let first = self.first.get(cpu.index())?;
        let mut next = first.load(Ordering::Relaxed);
        loop {
            place.next.store(next, Ordering::Relaxed);
            let put = first.compare_exchange(next, id.0, Ordering::AcqRel, Ordering::Relaxed);
            match put {
                Ok(_) => return Some(cpu),
                Err(now) => next = now,
            }
        }
    }

    /// Whether nothing lies in the mailbox of that CPU.
    #[cfg(test)]
    fn is_empty(&self, cpu: CpuIndex) -> bool {
        let first = self.first.get(cpu.index());
        first.is_none_or(|first| first.load(Ordering::Acquire) == NOBODY)
    }

    /// Empties the mailbox of that CPU, which does so itself.
    pub fn collect(&self, cpu: CpuIndex, mut tell: impl FnMut(VcpuId, News)) {
        let Some(first) = self.first.get(cpu.index()) else {
            return;
        };
        let mut number = first.swap(NOBODY, Ordering::AcqRel);
        while let Some(place) = self.place(VcpuId(number)) {
            let id = VcpuId(number);
            number = place.next.load(Ordering::Relaxed);
            let news = News(place.news.swap(0, Ordering::AcqRel));
            tell(id, news);
        }
    }

    fn place(&self, id: VcpuId) -> Option<&Place> {
        self.places.get(id)
    }
}

#[cfg(test)]
mod tests {
    use super::super::MAX_VCPUS;
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;

    const HERE: CpuIndex = CpuIndex(0);
    const THERE: CpuIndex = CpuIndex(1);

    fn collected(mailboxes: &Mailboxes, cpu: CpuIndex) -> Vec<(u32, News)> {
        let mut found = Vec::new();
        mailboxes.collect(cpu, |id, news| found.push((id.0, news)));
        found.sort_by_key(|(id, _)| *id);
        found
    }

    #[test]
    fn news_are_told_once_and_to_the_cpu_whose_the_vcpu_is() {
        let mailboxes = Mailboxes::new(2);
        for (id, cpu) in [(0, HERE), (7, THERE), (700, THERE)] {
            assert!(mailboxes.open(VcpuId(id), cpu));
        }
        assert_eq!(mailboxes.post(VcpuId(7), News::BLOCKED), Some(THERE));
        assert_eq!(mailboxes.post(VcpuId(7), News::EVENT), None);
        assert_eq!(mailboxes.post(VcpuId(700), News::QUIET), Some(THERE));
        assert!(mailboxes.is_empty(HERE) && !mailboxes.is_empty(THERE));
        assert_eq!(collected(&mailboxes, HERE), []);
        let both = News::BLOCKED | News::EVENT;
        assert_eq!(
            collected(&mailboxes, THERE),
            vec![(7, both), (700, News::QUIET)]
        );
        assert_eq!(collected(&mailboxes, THERE), []);
        assert_eq!(mailboxes.post(VcpuId(7), News::BLOCKED), Some(THERE));
    }

    #[test]
    fn vcpus_that_nobody_knows_get_no_news() {
        let mailboxes = Mailboxes::new(1);
        assert_eq!(mailboxes.post(VcpuId(3), News::BLOCKED), None);
        assert!(mailboxes.open(VcpuId(3), HERE));
        assert_eq!(mailboxes.post(VcpuId(4), News::BLOCKED), None);
        assert_eq!(mailboxes.post(VcpuId(u32::MAX), News::BLOCKED), None);
        assert!(!mailboxes.open(VcpuId(MAX_VCPUS as u32), HERE));
    }

    #[test]
    fn no_news_are_lost_between_threads() {
        const VCPUS: u32 = 64;
        const ROUNDS: u32 = 2000;
        let mailboxes = Mailboxes::new(1);
        (0..VCPUS).for_each(|id| assert!(mailboxes.open(VcpuId(id), HERE)));
        let told = std::sync::atomic::AtomicU32::new(0);
        let mut heard = 0;
        std::thread::scope(|scope| {
            for first in 0..2 {
                let (mailboxes, told) = (&mailboxes, &told);
                scope.spawn(move || {
                    for round in 0..ROUNDS {
                        let id = VcpuId((first + round * 7) % VCPUS);
                        if mailboxes.post(id, News::EVENT).is_some() {
                            told.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                });
            }
            for _ in 0..ROUNDS {
                mailboxes.collect(HERE, |_, news| {
                    assert_eq!(news, News::EVENT);
                    heard += 1;
                });
            }
        });
        mailboxes.collect(HERE, |_, _| heard += 1);
        assert_eq!(heard, told.load(Ordering::SeqCst));
    }
}
