//! What a vcpu page says of the vcpu's turn on its CPU: whether it runs, waits for the CPU or sleeps, and how
//! long it has waited.

use core::sync::atomic::Ordering;

use crate::table::abi_table;
use crate::VcpuPage;

abi_table! {
    /// What a vcpu does at the moment, as word 4 of its page has it.
    pub enum RunState {
        0 Running "running" "It has a CPU.",
        1 Ready "ready" "It could run, and waits for a CPU.",
        2 Asleep "asleep" "It waits for something else, or stands still for its monitor.",
        3 Stopped "stopped" "It has not been started, or has come to its end.",
    }
}

/// How often a reader looks again at words that do not belong together.
const MOST_LOOKS: u32 = 1 << 12;

impl VcpuPage<'_> {
    /// The word with the [`RunState`].
    pub const RUN_STATE: usize = 4;
    /// The word with the nanoseconds for which the vcpu has been ready, up to when it last ceased to be.
    pub const STOLEN: usize = 5;
    /// The word with the time since which it is ready, in nanoseconds; 0 if it is not.
    pub const READY_SINCE: usize = 6;

    /// What the vcpu does; `None` for a number that is no state.
    #[inline]
    pub fn run_state(self) -> Option<RunState> {
        RunState::from_number(self.words()[Self::RUN_STATE].load(Ordering::Acquire))
    }

    /// For how many nanoseconds in all the vcpu has waited for a CPU, up to the time that `now_ns` tells.
    ///
    /// May be asked from any CPU; `now_ns` is called for a vcpu that waits. Never goes back. `None` if the
    /// words do not fit together however often they are read: somebody else writes to the page.
    ///
    /// ```
    /// use core::sync::atomic::AtomicU64;
    /// use nuncio_abi::{RunState, VcpuPage};
    ///
    /// let words: [AtomicU64; 512] = core::array::from_fn(|_| AtomicU64::new(0));
    /// let page = VcpuPage::new(&words);
    /// page.become_ready(1_000);
    /// assert_eq!(page.stolen_ns(|| 1_250), Some(250));
    /// page.cease_to_be_ready(300, RunState::Running);
    /// assert_eq!(page.stolen_ns(|| 2_000), Some(300));
    /// ```
    pub fn stolen_ns(self, mut now_ns: impl FnMut() -> u64) -> Option<u64> {
        let load = |word: usize| self.words()[word].load(Ordering::Acquire);
        let look = || (load(Self::RUN_STATE), load(Self::READY_SINCE));
        for _ in 0..MOST_LOOKS {
            let before @ (state, since_ns) = look();
            let stolen_ns = load(Self::STOLEN);
            // Between the looks: whoever is interrupted behind them would count time in which the vcpu ran.
            let waits_ns = match since_ns {
                0 => 0,
                since_ns => now_ns().saturating_sub(since_ns),
            };
            let is_ready = state == RunState::Ready.number();
            if look() == before && is_ready == (since_ns != 0) {
                return Some(stolen_ns.saturating_add(waits_ns));
            }
            core::hint::spin_loop();
        }
        None
    }

    /// The vcpu goes from one state to another, neither of which is ready (the hypervisor's side).
    #[inline]
    pub fn set_run_state(self, state: RunState) {
        self.words()[Self::RUN_STATE].store(state.number(), Ordering::Release);
    }

    /// The vcpu waits for a CPU from that time on, which is not 0 (the hypervisor's side).
    pub fn become_ready(self, since_ns: u64) {
        self.words()[Self::READY_SINCE].store(since_ns, Ordering::Release);
        self.set_run_state(RunState::Ready);
    }

    /// It has waited for so long in all, and waits no longer (the hypervisor's side).
    ///
    /// First the state goes, then the time is added, then the mark that it is not added yet goes: whoever
    /// reads in between sees that.
    pub fn cease_to_be_ready(self, stolen_ns: u64, next: RunState) {
        self.set_run_state(next);
        self.words()[Self::STOLEN].store(stolen_ns, Ordering::Release);
        self.words()[Self::READY_SINCE].store(0, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::AtomicU64;

    fn words() -> [AtomicU64; 512] {
        core::array::from_fn(|_| AtomicU64::new(0))
    }

    #[test]
    fn words_that_do_not_fit_together_are_no_answer() {
        let words = words();
        let page = VcpuPage::new(&words);
        assert_eq!(page.run_state(), Some(RunState::Running));
        page.set_run_state(RunState::Ready);
        assert_eq!(page.stolen_ns(|| 9), None, "ready since never");
        page.set_run_state(RunState::Asleep);
        words[VcpuPage::READY_SINCE].store(5, Ordering::Relaxed);
        assert_eq!(
            page.stolen_ns(|| 9),
            None,
            "not ready any more, and not added"
        );
        words[VcpuPage::RUN_STATE].store(77, Ordering::Relaxed);
        assert_eq!(page.run_state(), None);
    }

    /// The reader is interrupted where it reads the clock; meanwhile the vcpu has run.
    #[test]
    fn time_that_passes_while_one_reads_is_not_counted_twice() {
        let words = words();
        let page = VcpuPage::new(&words);
        page.become_ready(100);
        let mut clock = [150, 5200].into_iter();
        let stolen = page.stolen_ns(|| {
            let now_ns = clock.next().unwrap();
            if now_ns == 150 {
                page.cease_to_be_ready(60, RunState::Running);
                page.become_ready(5160);
            }
            now_ns
        });
        assert_eq!(stolen, Some(100));
    }

    /// A reader between any two of the hypervisor's writes is told the same or later, never less.
    #[test]
    fn nobody_sees_time_go_back_between_the_writes() {
        let words = words();
        let page = VcpuPage::new(&words);
        let mut last = 0;
        let mut see = |now: u64| {
            if let Some(stolen) = page.stolen_ns(|| now) {
                assert!(stolen >= last && stolen <= now, "{stolen} after {last}");
                last = stolen;
            }
        };
        let writes = |words: &[(usize, u64)]| words.to_vec();
        let steps = [
            writes(&[(VcpuPage::READY_SINCE, 100), (VcpuPage::RUN_STATE, 1)]),
            writes(&[
                (VcpuPage::RUN_STATE, 0),
                (VcpuPage::STOLEN, 50),
                (VcpuPage::READY_SINCE, 0),
            ]),
            writes(&[(VcpuPage::RUN_STATE, 2)]),
            writes(&[(VcpuPage::READY_SINCE, 400), (VcpuPage::RUN_STATE, 1)]),
        ];
        for (step, now) in steps.iter().zip([120, 150, 300, 460]) {
            for (word, value) in step {
                words[*word].store(*value, Ordering::Relaxed);
                see(now);
            }
        }
        assert_eq!(last, 110);
    }
}
