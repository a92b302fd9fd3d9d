//! An event: bits that somebody sets and one domain waits for.

use nuncio_abi::{Call, Deadline, Error, EventWord};

use super::object::typed_object;
use super::pause::sleep;
use super::{Machine, Object};

typed_object! {
    /// A word of bits.
    Event slot
}

impl<M: Machine> Event<'_, M> {
    /// Sets bits. What is already pending stays pending; nothing is lost.
    ///
    /// # Errors
    /// `PeerGone` if nobody is left who waits for the event.
    #[inline]
    pub fn notify(&self, bits: u64) -> Result<(), Error> {
        let event = self.object.handle();
        self.object.invoke(Call::Notify { event, bits }).map(|_| ())
    }

    /// Takes what is pending of the bits in `mask`, without waiting and without a call.
    ///
    /// # Errors
    /// `BadArgument` if the slot of the event lies outside the vcpu page.
    pub fn take(&self, mask: u64) -> Result<u64, Error> {
        let word = self.word()?;
        word.enable(mask);
        let bits = self.collect(word, mask);
        disarm(word);
        Ok(bits)
    }

    /// Waits until one of the bits in `mask` is pending and takes those that are.
    ///
    /// The bits are enabled only while this waits, so that nobody pays for waking a vcpu that is
    /// busy. The wait verb returns at once when a bit was posted before it, so a bit that comes
    /// between the look at the word and the call is not lost.
    ///
    /// # Errors
    /// `TimedOut`; `Interrupted` if another event that is enabled becomes pending first;
    /// `BadArgument` as [`Event::take`].
    pub fn wait(&self, mask: u64, deadline: Deadline) -> Result<u64, Error> {
        let word = self.word()?;
        word.enable(mask);
        let outcome = self.wait_while_enabled(word, mask, deadline);
        disarm(word);
        outcome
    }

    /// Waits until so many postings have come to the event's slot, or the deadline has passed, and takes
    /// what is pending of the bits in `mask` then.
    ///
    /// Those that are pending already are taken with the others, and do not count.
    ///
    /// # Errors
    /// As [`Event::wait`]; `TimedOut` and `Interrupted` only if none of the bits is pending.
    pub fn wait_for_postings(
        &self,
        mask: u64,
        postings: u64,
        deadline: Deadline,
    ) -> Result<u64, Error> {
        let word = self.word()?;
        // In this order: what pends already would be announced by enabling it.
        word.batch(postings);
        word.enable(mask);
        let mut slept = Ok(());
        while slept.is_ok() && !word.has_come() {
            slept = sleep(self.object.machine(), deadline);
        }
        word.wake_at(0);
        let bits = self.collect(word, mask);
        disarm(word);
        if bits == 0 {
            // With the last posting came other bits.
            return Err(slept.err().unwrap_or(Error::Interrupted));
        }
        Ok(bits)
    }

    /// The event's word in the vcpu page.
    ///
    /// # Errors
    /// `BadArgument` as [`Event::take`].
    pub fn word(&self) -> Result<EventWord<'_>, Error> {
        let page = self.object.machine().vcpu_page();
        page.slot(self.slot).ok_or(Error::BadArgument)
    }

    fn wait_while_enabled(
        &self,
        word: EventWord<'_>,
        mask: u64,
        deadline: Deadline,
    ) -> Result<u64, Error> {
        loop {
            let bits = self.collect(word, mask);
            if bits != 0 {
                return Ok(bits);
            }
            let slept = sleep(self.object.machine(), deadline);
            let bits = self.collect(word, mask);
            if bits != 0 {
                return Ok(bits);
            }
            slept?;
        }
    }

    fn collect(&self, word: EventWord<'_>, mask: u64) -> u64 {
        word.take() | self.object.machine().collected_by_upcall(self.slot, mask)
    }
}

/// Disables all bits. What pends stays, and `take` of nothing withdraws the announcement.
fn disarm(word: EventWord<'_>) {
    word.enable(0);
    word.take();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hv::fake::Script;
    use nuncio_abi::{Handle, Reply};

    const WAIT: Call = Call::Wait {
        deadline: Deadline(1_000_000),
    };

    fn event(machine: &Script) -> Event<'_, Script> {
        Event::new(Object::new(machine, Handle::new(3, 1)), 2)
    }

    #[test]
    fn bits_that_pend_already_need_no_call() {
        let machine = Script::new([]);
        let event = event(&machine);
        event.word().unwrap().post(0b110);
        assert_eq!(event.wait(0b010, Deadline::NEVER), Ok(0b010));
        assert_eq!(event.take(u64::MAX), Ok(0b100));
        assert_eq!(event.take(u64::MAX), Ok(0));
    }

    #[test]
    fn a_bit_that_comes_during_the_call_is_taken() {
        let machine = Script::new([(WAIT, Reply::Done)]);
        machine.post_during_next_call(2, 0b1);
        assert_eq!(event(&machine).wait(u64::MAX, Deadline(1_000_000)), Ok(0b1));
        machine.assert_finished();
    }

    #[test]
    fn a_bit_that_comes_with_the_deadline_is_not_lost() {
        let machine = Script::new([(WAIT, Reply::Error(Error::TimedOut))]);
        machine.post_during_next_call(2, 0b1);
        assert_eq!(event(&machine).wait(u64::MAX, Deadline(1_000_000)), Ok(0b1));
    }

    #[test]
    fn a_wake_up_for_nothing_waits_again() {
        let machine = Script::new([
            (WAIT, Reply::Done),
            (WAIT, Reply::Error(Error::Interrupted)),
            (WAIT, Reply::Error(Error::TimedOut)),
        ]);
        let waited = event(&machine).wait(1, Deadline(1_000_000));
        assert_eq!(waited, Err(Error::TimedOut));
        machine.assert_finished();
    }

    #[test]
    fn a_masked_bit_does_not_wake() {
        let machine = Script::new([(WAIT, Reply::Error(Error::TimedOut))]);
        let event = event(&machine);
        event.word().unwrap().post(0b10);
        let waited = event.wait(0b01, Deadline(1_000_000));
        assert_eq!(waited, Err(Error::TimedOut));
        assert_eq!(event.take(0b10), Ok(0b10));
    }

    #[test]
    fn another_event_interrupts_and_keeps_its_bits() {
        let machine = Script::new([]);
        let other = machine.vcpu_page().slot(9).unwrap();
        other.enable(1);
        other.post(1);
        let waited = event(&machine).wait(1, Deadline::NEVER);
        assert_eq!(waited, Err(Error::Interrupted));
        assert_eq!(other.take(), 1);
    }

    #[test]
    fn a_stale_announcement_of_a_disabled_event_is_withdrawn() {
        let machine = Script::new([(WAIT, Reply::Error(Error::TimedOut))]);
        let other = machine.vcpu_page().slot(9).unwrap();
        other.enable(1);
        other.post(1);
        other.enable(0);
        let waited = event(&machine).wait(1, Deadline(1_000_000));
        assert_eq!(waited, Err(Error::TimedOut));
        assert_eq!(other.pending(), 1);
    }

    #[test]
    fn many_postings_end_one_wait() {
        let machine = Script::new([(WAIT, Reply::Done)]);
        let event = event(&machine);
        event.word().unwrap().post(0b1000);
        for bits in [0b1, 0b1, 0b10] {
            machine.post_during_next_call(2, bits);
        }
        let deadline = Deadline(1_000_000);
        assert_eq!(event.wait_for_postings(u64::MAX, 3, deadline), Ok(0b1011));
        machine.assert_finished();
        assert_eq!(machine.vcpu_page().ready(), 0);
        event.word().unwrap().post(0b1);
        assert_eq!(event.word().unwrap().count(), 3, "counted only meanwhile");
    }

    #[test]
    fn the_deadline_ends_a_wait_for_many_postings() {
        let steps = [
            (WAIT, Reply::Done),
            (WAIT, Reply::Error(Error::TimedOut)),
            (WAIT, Reply::Error(Error::TimedOut)),
        ];
        let machine = Script::new(steps);
        machine.post_during_next_call(2, 0b1);
        let event = event(&machine);
        let deadline = Deadline(1_000_000);
        assert_eq!(event.wait_for_postings(u64::MAX, 3, deadline), Ok(0b1));
        let waited = event.wait_for_postings(u64::MAX, 1, deadline);
        assert_eq!(waited, Err(Error::TimedOut));
        machine.assert_finished();
    }

    #[test]
    fn a_slot_outside_the_page_is_refused() {
        let machine = Script::new([]);
        let event = Event::new(Object::new(&machine, Handle::new(3, 1)), 64);
        assert_eq!(event.take(1), Err(Error::BadArgument));
    }
}
