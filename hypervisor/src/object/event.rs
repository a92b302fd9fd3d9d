//! Events: bits that are notified into a word of the waiter's vcpu page.

use alloc::boxed::Box;

use nuncio_abi::{Error, Posted};

use super::{Target, Throttle, Wake};
use crate::lock::{rank, Mutex};
use crate::mem::KernelCharge;
use crate::sched::VcpuId;

/// An event. Its word lies in the memory of the domain that waits for it.
pub struct Event {
    slot: u8,
    state: Mutex<State, rank::Event>,
    _charge: Option<KernelCharge>,
}

struct State {
    /// `None` once the waiter is gone.
    target: Option<Target>,
    /// What holds bits back. It goes with the waiter: there is exactly one handle that waits.
    throttle: Option<Box<Throttle>>,
}

/// What became of bits that were notified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notified {
    /// They were posted to that vcpu.
    Posted(Posted, VcpuId),
    /// A throttle has them; if nothing was held before, somebody has to be told.
    Held(Option<Wake>),
}

/// What became of bits that a throttle held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// They are posted, or there were none. Says whom to wake.
    Done(Option<Wake>),
    /// Their interval is over at that time, in nanoseconds.
    At(u64),
}

impl Event {
    /// An event that announces itself at `target`; `charge` pays for it, if anybody does.
    pub const fn new(target: Target, charge: Option<KernelCharge>) -> Self {
        Self::with(target, charge, None)
    }

    /// An event that announces itself only so often.
    pub fn throttled(target: Target, charge: KernelCharge, throttle: Throttle) -> Self {
        Self::with(target, Some(charge), Some(Box::new(throttle)))
    }

    const fn with(
        target: Target,
        charge: Option<KernelCharge>,
        throttle: Option<Box<Throttle>>,
    ) -> Self {
        Event {
            slot: target.slot,
            state: Mutex::new(State {
                target: Some(target),
                throttle,
            }),
            _charge: charge,
        }
    }

    /// The slot in the waiter's vcpu page.
    pub const fn slot(&self) -> u8 {
        self.slot
    }

    /// Sets bits. Says what became of them.
    ///
    /// # Errors
    /// `PeerGone` if nobody waits for the event any more.
    #[inline]
    pub fn notify(&self, bits: u64) -> Result<Notified, Error> {
        let mut state = self.state.lock();
        let State { target, throttle } = &mut *state;
        let target = target.as_ref().ok_or(Error::PeerGone)?;
        Ok(match throttle {
            None => Notified::Posted(target.post(bits), target.vcpu),
            Some(throttle) => Notified::Held(throttle.hold(bits)),
        })
    }

    /// Sets bits, and says whom to wake if that is news.
    ///
    /// # Errors
    /// As [`Event::notify`].
    pub fn announce(&self, bits: u64) -> Result<Option<Wake>, Error> {
        Ok(match self.notify(bits)? {
            Notified::Posted(posted, vcpu) => Wake::after(posted, vcpu),
            Notified::Held(wake) => wake,
        })
    }

    /// Posts the bits that its throttle holds, if their time has come.
    pub fn release(&self, now_ns: u64) -> Release {
        let mut state = self.state.lock();
        let State {
            target: Some(target),
            throttle: Some(throttle),
        } = &mut *state
        else {
            return Release::Done(None);
        };
        match throttle.let_go(now_ns) {
            Ok(0) => Release::Done(None),
            Ok(bits) => Release::Done(target.announce(bits)),
            Err(next_ns) => Release::At(next_ns),
        }
    }

    /// The waiter is gone: its page must not be touched again. Says whose number is free.
    pub fn detach(&self) -> Option<Wake> {
        let mut state = self.state.lock();
        state.target = None;
        let throttle = state.throttle.take();
        throttle.map(|throttle| Wake::TimerGone(throttle.id()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::arena::Arena;
    use crate::mem::{Frame, PhysicalMemory};
    use nuncio_abi::VcpuPage;

    #[test]
    fn the_second_notification_is_coalesced_and_a_detached_page_is_not_touched() {
        let page = Arena::leak(1, 1).words(Frame(1)).unwrap();
        let vcpu = VcpuId(7);
        let event = Event::new(
            Target {
                vcpu,
                page,
                slot: 2,
            },
            None,
        );
        let word = VcpuPage::new(page).slot(2).unwrap();
        word.enable(u64::MAX);
        assert_eq!(
            event.notify(1),
            Ok(Notified::Posted(Posted::Announced, vcpu))
        );
        assert_eq!(
            event.notify(1),
            Ok(Notified::Posted(Posted::Coalesced, vcpu))
        );
        assert_eq!(word.take(), 1);
        assert_eq!(event.detach(), None);
        assert_eq!(event.notify(1), Err(Error::PeerGone));
        assert_eq!(word.pending(), 0);
    }
}
