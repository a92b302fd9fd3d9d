//! A hypervisor that expects certain calls in a certain order.

use core::sync::atomic::{AtomicU64, Ordering};
use std::collections::VecDeque;
use std::sync::Mutex;
use std::vec::Vec;

use nuncio_abi::{Call, Error, Module, RawCall, Reply, Rights, VcpuPage};

use super::FakeView;
use crate::hv::{Gate, Machine, Memory, MessageBuffers, Space};

/// Checks each call against the script and gives the reply that stands there.
///
/// Its clock counts how often it is read, and moves on when a wait times out.
pub struct Script {
    steps: Mutex<VecDeque<(Call, Reply)>>,
    posts: Mutex<Vec<(usize, u64)>>,
    page: [AtomicU64; 512],
    buffers: MessageBuffers,
    now_ns: AtomicU64,
}

impl Script {
    /// A script of calls and their replies.
    pub fn new(steps: impl IntoIterator<Item = (Call, Reply)>) -> Self {
        Script {
            steps: Mutex::new(steps.into_iter().collect()),
            posts: Mutex::default(),
            page: [const { AtomicU64::new(0) }; 512],
            buffers: MessageBuffers::new(),
            now_ns: AtomicU64::new(0),
        }
    }

    /// Adds a step.
    ///
    /// # Panics
    /// If another thread panicked while it used the script.
    pub fn expect(&self, call: Call, reply: Reply) {
        self.steps.lock().unwrap().push_back((call, reply));
    }

    /// Sets bits of a slot while the next call is being made.
    ///
    /// # Panics
    /// As [`Script::expect`].
    pub fn post_during_next_call(&self, slot: usize, bits: u64) {
        self.posts.lock().unwrap().push((slot, bits));
    }

    /// Checks that every step has been used.
    ///
    /// # Panics
    /// If one has not.
    pub fn assert_finished(&self) {
        let steps = self.steps.lock().unwrap();
        assert!(steps.is_empty(), "calls that were not made: {steps:?}");
    }
}

impl Gate for Script {
    fn call(&self, raw: RawCall) -> Reply {
        let call = Call::decode(&raw);
        let step = self.steps.lock().unwrap().pop_front();
        let (expected, reply) = step.unwrap_or_else(|| panic!("unexpected {call:?}"));
        assert_eq!(call, Ok(expected));
        for (slot, bits) in self.posts.lock().unwrap().drain(..) {
            self.vcpu_page().slot(slot).unwrap().post(bits);
        }
        if let (Call::Wait { deadline }, Reply::Error(Error::TimedOut)) = (expected, reply) {
            self.now_ns.fetch_max(deadline.0, Ordering::Relaxed);
        }
        reply
    }
}

impl Machine for Script {
    type View = FakeView;

    fn vcpu_page(&self) -> VcpuPage<'_> {
        VcpuPage::new(&self.page)
    }

    fn now_ns(&self) -> u64 {
        self.now_ns.fetch_add(1, Ordering::Relaxed)
    }

    fn buffers(&self) -> &MessageBuffers {
        &self.buffers
    }

    fn collected_by_upcall(&self, _slot: usize, _mask: u64) -> u64 {
        0
    }

    fn attach(
        &self,
        _space: &Space<'_, Self>,
        _memory: &Memory<'_, Self>,
        _access: Rights,
    ) -> Result<FakeView, Error> {
        Err(Error::QuotaExhausted)
    }

    fn module_bytes(&self, _module: &Module) -> Option<&[u8]> {
        None
    }
}
