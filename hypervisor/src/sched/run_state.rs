//! How long each vcpu has waited for its CPU, and what its page says of that.
//!
//! Invariant: nothing is read back from a page. What a guest writes there is gone with the next change.

use alloc::vec::Vec;

use nuncio_abi::{RunState, VcpuPage};

use super::{Numbered, VcpuId};

/// The vcpus of one physical CPU, by number.
#[derive(Default)]
pub struct RunStates {
    vcpus: Vec<Turns>,
}

/// What is known of one vcpu, and goes with it to another CPU.
#[derive(Clone, Copy, Default)]
pub struct Turns {
    /// `None` for a vcpu of another CPU, or of none.
    page: Option<VcpuPage<'static>>,
    /// Since when it is ready; 0 if it is not.
    since_ns: u64,
    /// For how long it has been, up to then.
    stolen_ns: u64,
}

impl RunStates {
    /// Makes room for a vcpu of that number.
    pub fn reserve(&mut self, id: VcpuId) {
        let numbers = id.index().saturating_add(1);
        if self.vcpus.len() < numbers {
            self.vcpus.resize(numbers, Turns::default());
        }
    }

    /// A vcpu with that page is on this CPU from now on, and ready.
    pub fn open(&mut self, id: VcpuId, page: VcpuPage<'static>, now_ns: u64) {
        self.reserve(id);
        if let Some(vcpu) = self.vcpus.get_mut(id.index()) {
            *vcpu = Turns {
                page: Some(page),
                ..Turns::default()
            };
            page.cease_to_be_ready(0, RunState::Stopped);
            vcpu.become_ready(now_ns);
        }
    }

    /// It waits for the CPU, unless it did already.
    pub fn become_ready(&mut self, id: VcpuId, now_ns: u64) {
        if let Some(vcpu) = self.vcpus.get_mut(id.index()) {
            vcpu.become_ready(now_ns);
        }
    }

    /// Whether it waits for the CPU.
    #[inline]
    pub fn is_ready(&self, id: VcpuId) -> bool {
        self.vcpus
            .get(id.index())
            .is_some_and(|vcpu| vcpu.since_ns != 0)
    }

    /// It has the CPU.
    pub fn run(&mut self, id: VcpuId, now_ns: u64) {
        if let Some(vcpu) = self.vcpus.get_mut(id.index()) {
            vcpu.cease(now_ns, RunState::Running);
        }
    }

    /// It was to sleep before it had the CPU.
    pub fn suspend(&mut self, id: VcpuId, now_ns: u64) {
        if let Some(vcpu) = self.vcpus.get_mut(id.index()) {
            vcpu.cease(now_ns, RunState::Asleep);
        }
    }

    /// It is another CPU's from now on; what it waits for goes on counting.
    pub fn depart(&mut self, id: VcpuId) -> Turns {
        self.vcpus
            .get_mut(id.index())
            .map(core::mem::take)
            .unwrap_or_default()
    }

    /// A vcpu that has departed elsewhere is this CPU's from now on.
    pub fn arrive(&mut self, id: VcpuId, turns: Turns) {
        self.reserve(id);
        if let Some(vcpu) = self.vcpus.get_mut(id.index()) {
            *vcpu = turns;
        }
    }

    /// It never runs again, and its page is left alone.
    pub fn close(&mut self, id: VcpuId, now_ns: u64) {
        if let Some(vcpu) = self.vcpus.get_mut(id.index()) {
            vcpu.cease(now_ns, RunState::Stopped);
            vcpu.page = None;
        }
    }
}

impl Turns {
    fn become_ready(&mut self, now_ns: u64) {
        if let (Some(page), 0) = (self.page, self.since_ns) {
            // 0 stands for never.
            self.since_ns = now_ns.max(1);
            page.become_ready(self.since_ns);
        }
    }

    fn cease(&mut self, now_ns: u64, next: RunState) {
        if self.since_ns != 0 {
            let waited_ns = now_ns.saturating_sub(self.since_ns);
            self.stolen_ns = self.stolen_ns.saturating_add(waited_ns);
            self.since_ns = 0;
        }
        if let Some(page) = self.page {
            page.cease_to_be_ready(self.stolen_ns, next);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::{AtomicU64, Ordering};
    use proptest::prelude::*;
    use std::boxed::Box;

    const ID: VcpuId = VcpuId(3);

    fn page() -> (VcpuPage<'static>, &'static [AtomicU64; 512]) {
        let words = Box::leak(Box::new(core::array::from_fn(|_| AtomicU64::new(!0))));
        (VcpuPage::new(words), words)
    }

    #[test]
    fn only_waiting_counts() {
        let (page, _) = page();
        let mut states = RunStates::default();
        states.open(ID, page, 100);
        assert_eq!(page.run_state(), Some(RunState::Ready));
        assert_eq!(page.stolen_ns(|| 130), Some(30));
        states.run(ID, 150);
        assert_eq!(page.stolen_ns(|| 900), Some(50));
        page.set_run_state(RunState::Asleep);
        states.become_ready(ID, 1000);
        states.become_ready(ID, 1005);
        assert_eq!(page.stolen_ns(|| 1007), Some(57));
        states.suspend(ID, 1010);
        assert_eq!(page.run_state(), Some(RunState::Asleep));
        assert!(!states.is_ready(ID));
        states.run(ID, 1500);
        assert_eq!(page.run_state(), Some(RunState::Running));
        states.become_ready(ID, 2000);
        states.close(ID, 2001);
        assert_eq!(page.run_state(), Some(RunState::Stopped));
        assert_eq!(page.stolen_ns(|| 9999), Some(61));
    }

    #[test]
    fn a_closed_vcpus_page_is_not_touched_and_a_new_one_begins_anew() {
        let (old, words) = page();
        let mut states = RunStates::default();
        states.open(ID, old, 100);
        states.close(ID, 200);
        let before: std::vec::Vec<u64> =
            words.iter().map(|it| it.load(Ordering::Relaxed)).collect();
        states.become_ready(ID, 300);
        states.run(ID, 400);
        states.suspend(ID, 500);
        let after: std::vec::Vec<u64> = words.iter().map(|it| it.load(Ordering::Relaxed)).collect();
        assert_eq!(before, after);
        let (new, _) = page();
        states.open(ID, new, 600);
        assert_eq!(new.stolen_ns(|| 600), Some(0));
        // A vcpu of another CPU.
        states.run(VcpuId(1000), 0);
        states.become_ready(VcpuId(1000), 1);
    }

    #[test]
    fn a_vcpu_that_moves_takes_along_what_has_been_stolen_from_it() {
        let (page, words) = page();
        let (mut here, mut there) = (RunStates::default(), RunStates::default());
        here.open(ID, page, 100);
        here.run(ID, 130);
        here.become_ready(ID, 200);
        there.arrive(ID, here.depart(ID));
        assert_eq!(page.run_state(), Some(RunState::Ready));
        assert_eq!(page.stolen_ns(|| 240), Some(70), "the way there counts");
        let before: std::vec::Vec<u64> =
            words.iter().map(|it| it.load(Ordering::Relaxed)).collect();
        here.run(ID, 300);
        here.close(ID, 300);
        let after: std::vec::Vec<u64> = words.iter().map(|it| it.load(Ordering::Relaxed)).collect();
        assert_eq!(before, after, "it is not this CPU's any more");
        assert!(there.is_ready(ID) && !here.is_ready(ID));
        there.run(ID, 250);
        assert_eq!(page.stolen_ns(|| 900), Some(80));
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Ready,
        Run,
        Suspend,
        Scribble(usize, u64),
    }

    fn steps() -> impl Strategy<Value = std::vec::Vec<(Step, u64)>> {
        let step = prop_oneof![
            Just(Step::Ready),
            Just(Step::Run),
            Just(Step::Suspend),
            (4usize..7, any::<u64>()).prop_map(|(word, value)| Step::Scribble(word, value)),
        ];
        prop::collection::vec((step, 1u64..1000), 0..60)
    }

    proptest! {
        /// Whatever the guest writes into its page.
        #[test]
        fn stolen_is_exactly_the_time_in_the_ready_state(steps in steps()) {
            let (page, words) = page();
            let mut states = RunStates::default();
            let (mut now, mut stolen, mut is_ready) = (1u64, 0u64, true);
            states.open(ID, page, now);
            for (step, passed) in steps {
                now += passed;
                if is_ready {
                    stolen += passed;
                }
                match step {
                    Step::Ready => {
                        // The guest's scribbles stay until something changes.
                        states.run(ID, now);
                        states.become_ready(ID, now);
                        is_ready = true;
                    }
                    Step::Run => {
                        states.suspend(ID, now);
                        states.run(ID, now);
                        is_ready = false;
                    }
                    Step::Suspend => {
                        states.suspend(ID, now);
                        is_ready = false;
                    }
                    Step::Scribble(word, value) => {
                        words[word].store(value, Ordering::Relaxed);
                        continue;
                    }
                }
                let seen = page.stolen_ns(|| now);
                // A number that was written over the time is there until it is written anew.
                states.become_ready(ID, now);
                states.suspend(ID, now);
                prop_assert_eq!(page.stolen_ns(|| now), Some(stolen), "{:?}", seen);
                if is_ready {
                    states.become_ready(ID, now);
                }
            }
        }
    }
}
