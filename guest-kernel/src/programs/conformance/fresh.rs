//! What can only be seen while the domain has never held many handles: it runs first.

use alloc::string::String;

use nuncio_abi::{Error, ObjectKind, Rights, Verb};

use super::messages::{with_handles, Sender, IN_MEMORY};
use super::subject::{Ends, PAGE};
use super::transfers::word;
use super::{behaviour, Subject, Table, Verdict};

pub(super) const TABLE: Table = Table {
    of: "errors",
    cases: &[behaviour(
        "change-nothing-however-many-handles-there-are",
        |subject| {
            let refused = Refused::prepare(subject)?;
            // More than once over every size that a growing table might have by then.
            for _ in 0..140 {
                refused.all(subject)?;
                subject.grant(refused.source, Rights::NONE, 0)?;
            }
            Ok(())
        },
    )],
};

/// What calls need that fail although they need places in the table.
struct Refused {
    source: u64,
    /// A port whose next message has four handles.
    laden: Ends,
    full: Ends,
    /// The sending handle of a port without a receiver.
    deserted: u64,
}

impl Refused {
    fn prepare(subject: &Subject<'_>) -> Result<Self, String> {
        let source = subject.memory(1)?;
        let (laden, full, deserted) = (subject.port(1)?, subject.port(1)?, subject.port(1)?);
        let area = subject.area(0);
        area.fill_handles(&[word(source, Rights::READ); 4]);
        let arguments = [laden.far, IN_MEMORY | with_handles(4), area.address(), 0, 0];
        subject.works(Verb::Send, arguments)?;
        subject.send(full.far, 0, [0; 3])?;
        subject.close(deserted.near)?;
        subject.take_all_frames()?;
        Ok(Refused {
            source,
            laden,
            full,
            deserted: deserted.far,
        })
    }

    fn all(&self, subject: &Subject<'_>) -> Verdict {
        let memory = [ObjectKind::Memory.number(), PAGE, 0, 0, 0];
        subject.refuses(Verb::Create, memory, Error::QuotaExhausted)?;
        let no_buffer = [self.laden.near, 0, 0, 0, 0];
        subject.refuses(Verb::Receive, no_buffer, Error::BufferTooSmall)?;
        let call = |port| Sender {
            verb: Verb::Call,
            port,
            beside: 0,
            last: Some(subject.far_off()),
        };
        call(self.full.far).refuses(subject, 0, [0; 3], Error::QueueFull)?;
        call(self.deserted).refuses(subject, 0, [0; 3], Error::PeerGone)
    }
}
