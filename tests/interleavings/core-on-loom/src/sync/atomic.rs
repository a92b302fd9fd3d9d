//! 64-bit atomics as loom explores them, with sequentially consistent accesses as x86-64 makes them.
//!
//! Loom takes such an access for one with acquire and release alone, but knows sequentially consistent
//! fences. So there is one behind each store, and one on either side of what reads and writes: on
//! x86-64 a store of this kind is XCHG and the others are locked instructions, which nothing passes.

pub use ::core::sync::atomic::Ordering;
pub use loom::sync::atomic::fence;

/// As in the core library.
#[derive(Debug)]
pub struct AtomicU64(Option<loom::sync::atomic::AtomicU64>);

#[allow(missing_docs, reason = "as in the core library")]
impl AtomicU64 {
    pub fn new(value: u64) -> Self {
        AtomicU64(Some(loom::sync::atomic::AtomicU64::new(value)))
    }

    /// A word of a page that must not be accessed. Loom takes time for each one that could be.
    pub const fn untouched() -> Self {
        AtomicU64(None)
    }

    #[track_caller]
    fn word(&self) -> &loom::sync::atomic::AtomicU64 {
        self.0.as_ref().expect("a word that nobody should touch")
    }

    pub fn load(&self, ordering: Ordering) -> u64 {
        self.word().load(match ordering {
            Ordering::SeqCst => Ordering::Acquire,
            weaker => weaker,
        })
    }

    pub fn store(&self, value: u64, ordering: Ordering) {
        match ordering {
            Ordering::SeqCst => {
                self.word().store(value, Ordering::Release);
                fence(Ordering::SeqCst);
            }
            weaker => self.word().store(value, weaker),
        }
    }

    pub fn fetch_or(&self, bits: u64, ordering: Ordering) -> u64 {
        self.update(ordering, |word, ordering| word.fetch_or(bits, ordering))
    }

    pub fn fetch_and(&self, bits: u64, ordering: Ordering) -> u64 {
        self.update(ordering, |word, ordering| word.fetch_and(bits, ordering))
    }

    pub fn fetch_add(&self, value: u64, ordering: Ordering) -> u64 {
        self.update(ordering, |word, ordering| word.fetch_add(value, ordering))
    }

    fn update(
        &self,
        ordering: Ordering,
        update: impl FnOnce(&loom::sync::atomic::AtomicU64, Ordering) -> u64,
    ) -> u64 {
        if ordering != Ordering::SeqCst {
            return update(self.word(), ordering);
        }
        fence(Ordering::SeqCst);
        let before = update(self.word(), Ordering::AcqRel);
        fence(Ordering::SeqCst);
        before
    }
}
