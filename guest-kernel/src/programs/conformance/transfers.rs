//! Handles in messages: what cannot be passed on, in every verb that sends a message.

use nuncio_abi::{Error, Rights};

use super::messages::{with_handles, Sender, IN_MEMORY};
use super::{Subject, Verdict};

/// A word that stands for a handle in a message.
pub(super) const fn word(handle: u64, rights: Rights) -> u64 {
    handle | rights.bits() << 32
}

impl Sender {
    /// The same word in a register, in memory, and behind one that is right.
    fn refuses_word(self, subject: &Subject<'_>, bad: u64, expected: Error) -> Verdict {
        self.refuses(subject, with_handles(1), [bad, 0, 0], expected)?;
        self.refuses(subject, 1 | with_handles(1), [7, bad, 0], expected)?;
        self.refuses_word_in_memory(subject, bad, expected)
    }

    fn refuses_word_in_memory(self, subject: &Subject<'_>, bad: u64, expected: Error) -> Verdict {
        let area = subject.area(0);
        let good = word(subject.memory(1)?, Rights::READ);
        area.fill(&[], 0);
        for words in [
            [bad, 0, 0, 0].as_slice(),
            &[good, bad],
            &[good, good, good, bad],
        ] {
            area.fill_handles(words);
            let count = match words.len() {
                2 => 2,
                // The three words behind the first are of no message.
                _ if words.first() == Some(&bad) => 1,
                _ => 4,
            };
            let header = 64 | IN_MEMORY | with_handles(count);
            self.refuses(subject, header, [area.address(), 0, 0], expected)?;
        }
        Ok(())
    }

    /// A bit that is no right, in a register: found before anything is looked up.
    pub(super) fn wants_rights_in_registers(self, subject: &Subject<'_>) -> Verdict {
        for bit in [15, 16, 31] {
            let bad = 1 << (32 + bit) | 1 << 32;
            self.refuses(subject, with_handles(1), [bad, 0, 0], Error::BadArgument)?;
        }
        Ok(())
    }

    /// Rights that are bound to their domain stay; in memory a bit that is no right is found here.
    pub(super) fn wants_rights_that_can_go(self, subject: &Subject<'_>) -> Verdict {
        let memory = subject.memory(1)?;
        for rights in [
            Rights::RECEIVE,
            Rights::WAIT,
            Rights::REVOKE,
            Rights::BUILD,
            Rights::READ | Rights::WAIT,
        ] {
            let bad = word(memory, rights);
            self.refuses_word(subject, bad, Error::BadArgument)?;
        }
        let port = subject.port(1)?;
        self.refuses_word(
            subject,
            word(port.near, Rights::RECEIVE),
            Error::BadArgument,
        )?;
        for bit in [15, 31] {
            let bad = memory | 1 << (32 + bit);
            self.refuses_word_in_memory(subject, bad, Error::BadArgument)?;
        }
        Ok(())
    }

    /// A word that names nothing.
    pub(super) fn wants_handles_in_the_message(self, subject: &Subject<'_>) -> Verdict {
        let closed = subject.closed()?;
        for handle in [0, 0xFFFF, 0x1_FFFF, 0xFFFF_FFFF, closed] {
            self.refuses_word(subject, word(handle, Rights::READ), Error::BadHandle)?;
        }
        // What names nothing is told before rights that cannot go.
        self.refuses_word(subject, word(closed, Rights::WAIT), Error::BadHandle)
    }

    /// Without `grant`, or with more than the sender has.
    pub(super) fn wants_rights_of_the_handle(self, subject: &Subject<'_>) -> Verdict {
        let memory = subject.memory(1)?;
        let own = subject.grant(memory, Rights::READ, 0)?;
        let reader = subject.grant(memory, Rights::READ | Rights::GRANT, 0)?;
        for (handle, rights) in [
            (own, Rights::READ),
            (own, Rights::NONE),
            (reader, Rights::WRITE),
            (reader, Rights::READ | Rights::EXECUTE),
            (reader, Rights::SEND),
            (subject.given("orders", Rights::NONE)?, Rights::SEND),
            (subject.given("domain", Rights::NONE)?, Rights::NONE),
        ] {
            self.refuses_word(subject, word(handle, rights), Error::MissingRight)?;
        }
        Ok(())
    }
}
