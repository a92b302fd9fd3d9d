//! Messages: what is wrong with them in every verb that sends one, and short ways to send and
//! receive right ones.

use alloc::format;
use alloc::string::String;

use nuncio_abi::{Error, Verb};

use super::subject::{Arguments, Ends, Outcome};
use super::{ensure, Subject, Verdict};

/// Bit 7 of a header: the message lies in memory.
pub(super) const IN_MEMORY: u64 = 1 << 7;

/// Bit 11 of the header of a `send`: wait for room.
pub(super) const WAIT: u64 = 1 << 11;

/// So many handles, in a header.
pub(super) const fn with_handles(count: u64) -> u64 {
    count << 8
}

/// A verb that sends a message, and a handle with which it may.
#[derive(Clone, Copy)]
pub(super) struct Sender {
    pub(super) verb: Verb,
    pub(super) port: u64,
    /// What RSI holds beside the header.
    pub(super) beside: u64,
    /// What R8 holds if it is no word of the message.
    pub(super) last: Option<u64>,
}

impl Sender {
    pub(super) const fn send(port: u64) -> Self {
        Sender {
            verb: Verb::Send,
            port,
            beside: 0,
            last: None,
        }
    }

    /// One that waits for room until a deadline.
    pub(super) const fn waiting(port: u64, deadline: u64) -> Self {
        Sender {
            beside: WAIT,
            last: Some(deadline),
            ..Sender::send(port)
        }
    }

    /// How many words of a message go into registers.
    const fn words(self) -> u64 {
        match self.last {
            Some(_) => 2,
            None => 3,
        }
    }

    pub(super) const fn arguments(self, header: u64, words: [u64; 3]) -> Arguments {
        let [first, second, third] = words;
        let last = match self.last {
            Some(last) => last,
            None => third,
        };
        [self.port, header | self.beside, first, second, last]
    }

    pub(super) fn refuses(
        self,
        subject: &Subject<'_>,
        header: u64,
        words: [u64; 3],
        expected: Error,
    ) -> Verdict {
        subject.refuses(self.verb, self.arguments(header, words), expected)
    }

    /// Headers of no message, as registers show.
    pub(super) fn wants_a_header(self, subject: &Subject<'_>, reserved: &[u64]) -> Verdict {
        let area = subject.area(0).address();
        let most = self.words() * 8;
        for header in [
            most + 1,
            64,
            127,
            with_handles(self.words() + 1),
            8 | with_handles(self.words()),
            most | with_handles(1),
        ] {
            self.refuses(subject, header, [0; 3], Error::BadArgument)?;
        }
        for header in [65, 127, with_handles(5), with_handles(7)] {
            self.refuses(
                subject,
                header | IN_MEMORY,
                [area, 0, 0],
                Error::BadArgument,
            )?;
        }
        for bit in reserved {
            self.refuses(subject, 1 << bit, [0; 3], Error::BadArgument)?;
        }
        Ok(())
    }

    /// Bits past the message in registers.
    pub(super) fn wants_zeros_behind(self, subject: &Subject<'_>) -> Verdict {
        let area = subject.area(0).address();
        for (header, words) in [
            (0, [1, 0, 0]),
            (0, [0, 1, 0]),
            (1, [0x100, 0, 0]),
            (7, [1 << 56, 0, 0]),
            (8, [0, 1 << 63, 0]),
            (9, [0, 0x100, 0]),
            (15, [0, 1 << 63, 0]),
            (IN_MEMORY, [area, 1, 0]),
            (IN_MEMORY | 64, [area, 1 << 63, 0]),
        ] {
            self.refuses(subject, header, words, Error::BadArgument)?;
        }
        if self.last.is_none() {
            for (header, words) in [
                (16, [0, 0, 1]),
                (17, [0, 0, 0x100]),
                (23, [0, 0, 1 << 56]),
                (IN_MEMORY, [area, 0, 1]),
            ] {
                self.refuses(subject, header, words, Error::BadArgument)?;
            }
        }
        Ok(())
    }

    /// Memory that is not there.
    pub(super) fn wants_memory(self, subject: &Subject<'_>) -> Verdict {
        let area = subject.area(0).address();
        for address in [
            area + 1,
            area + 8,
            area + 64,
            area + 127,
            subject.window(super::subject::PAGE)?,
            subject.boot.address_limit,
            subject.boot.address_limit - 128,
            u64::MAX,
            u64::MAX - 127,
            1 << 63,
        ] {
            for header in [IN_MEMORY, IN_MEMORY | 64] {
                self.refuses(subject, header, [address, 0, 0], Error::BadAddress)?;
            }
        }
        Ok(())
    }
}

/// A message as it was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Received {
    /// Bits 0 to 31.
    pub(super) header: u64,
    pub(super) token: u64,
    pub(super) badge: u64,
    pub(super) words: [u64; 3],
}

impl Received {
    pub(super) const fn new([header, badge, first, second, third]: [u64; 5]) -> Self {
        Received {
            header: header & 0xFFFF_FFFF,
            token: header >> 32,
            badge,
            words: [first, second, third],
        }
    }
}

impl Subject<'_> {
    /// Sends words in registers.
    pub(super) fn send(&self, port: u64, length: u64, words: [u64; 3]) -> Verdict {
        let arguments = Sender::send(port).arguments(length, words);
        self.works(Verb::Send, arguments).map(drop)
    }

    /// Sends from memory that is filled to its end.
    pub(super) fn send_memory(&self, port: u64, length: u64, words: &[u64]) -> Verdict {
        let area = self.area(0);
        area.fill(words, u64::MAX);
        let arguments = [port, length | IN_MEMORY, area.address(), 0, 0];
        self.works(Verb::Send, arguments).map(drop)
    }

    /// Receives without waiting and without a buffer.
    pub(super) fn take(&self, port: u64) -> Outcome {
        self.call(Verb::Receive, [port, 0, 0, 0, 0])
    }

    /// Receives into the second area, which is filled with ones before.
    pub(super) fn receive(&self, port: u64, deadline: u64) -> Result<Received, String> {
        let area = self.area(1);
        area.fill(&[], u64::MAX);
        let arguments = [port, deadline, area.address(), 0, 0];
        self.works(Verb::Receive, arguments).map(Received::new)
    }

    /// The next message is of three words in registers, or fewer.
    pub(super) fn takes(&self, port: u64, length: u64, words: [u64; 3]) -> Verdict {
        let received = self.take(port).map(Received::new);
        ensure(
            received.is_ok_and(|found| (found.header, found.words) == (length, words)),
            || format!("{received:x?} instead of {words:x?}"),
        )
    }

    /// Writes 64 bytes to a guest-physical address, by a message to itself.
    pub(super) fn poke(&self, port: Ends, address: u64, words: &[u64; 8]) -> Verdict {
        self.send_memory(port.far, 64, words)?;
        self.works(Verb::Receive, [port.near, 0, address, 0, 0])
            .map(drop)
    }

    /// Reads 64 bytes from a guest-physical address, by a message to itself.
    pub(super) fn peek(&self, port: Ends, address: u64) -> Result<[u64; 8], String> {
        self.works(Verb::Send, [port.far, 64 | IN_MEMORY, address, 0, 0])?;
        self.receive(port.near, 0)?;
        let words = self.area(1).words();
        Ok(core::array::from_fn(|index| {
            words.get(index).copied().unwrap_or(0)
        }))
    }
}
