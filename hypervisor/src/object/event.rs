//! Events: bits that are notified into a word of the waiter's vcpu page.

use nuncio_abi::{Error, Posted};
use spin::Mutex;

use super::{Target, Wake};
use crate::mem::KernelCharge;
use crate::sched::VcpuId;

/// An event. Its word lies in the memory of the domain that waits for it.
pub struct Event {
    slot: u8,
    /// `None` once the waiter is gone.
    target: Mutex<Option<Target>>,
    _charge: Option<KernelCharge>,
}

impl Event {
    /// An event that announces itself at `target`; `charge` pays for it, if anybody does.
    pub const fn new(target: Target, charge: Option<KernelCharge>) -> Self {
        Event {
            slot: target.slot,
            target: Mutex::new(Some(target)),
            _charge: charge,
        }
    }

    /// The slot in the waiter's vcpu page.
    pub const fn slot(&self) -> u8 {
        self.slot
    }

    /// Sets bits. Says what became of them, and of whose vcpu.
    ///
    /// # Errors
    /// `PeerGone` if nobody waits for the event any more.
    #[inline]
    pub fn notify(&self, bits: u64) -> Result<(Posted, VcpuId), Error> {
        let target = self.target.lock();
        let target = target.as_ref().ok_or(Error::PeerGone)?;
        Ok((target.post(bits), target.vcpu))
    }

    /// Sets bits, and says whom to wake if that is news.
    ///
    /// # Errors
    /// As [`Event::notify`].
    pub fn announce(&self, bits: u64) -> Result<Option<Wake>, Error> {
        let target = self.target.lock();
        let target = target.as_ref().ok_or(Error::PeerGone)?;
        Ok(target.announce(bits))
    }

    /// The waiter is gone: its page must not be touched again.
    pub fn detach(&self) {
        *self.target.lock() = None;
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
        assert_eq!(event.notify(1), Ok((Posted::Announced, vcpu)));
        assert_eq!(event.notify(1), Ok((Posted::Coalesced, vcpu)));
        assert_eq!(word.take(), 1);
        event.detach();
        assert_eq!(event.notify(1), Err(Error::PeerGone));
        assert_eq!(word.pending(), 0);
    }
}
