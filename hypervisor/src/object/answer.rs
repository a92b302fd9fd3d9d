//! Where the answer to a vcpu's call is put while the vcpu sleeps.

use alloc::sync::Arc;
use alloc::vec::Vec;

use nuncio_abi::{CallToken, Message};
use spin::Mutex;

use crate::sched::VcpuId;

use super::{Held, Port};

/// The answer to the one call that a vcpu can be waiting for.
#[derive(Default)]
pub struct AnswerCell(Mutex<Answer>);

/// What has become of a call.
#[derive(Default)]
pub enum Answer {
    /// There is none.
    #[default]
    Nothing,
    /// It is queued, or received and not answered yet.
    Awaited {
        /// Where it was sent.
        port: Arc<Port>,
        /// Its place among the port's calls.
        token: CallToken,
    },
    /// It was answered.
    Here(Message, Vec<Held>),
    /// Nobody will answer it: the receiver is gone.
    Never,
}

/// Who waits for the answer to a call, and what can be delivered there.
#[derive(Clone)]
pub struct CallingVcpu {
    /// The vcpu to wake.
    pub vcpu: VcpuId,
    /// Where its answer goes.
    pub cell: Arc<AnswerCell>,
    /// Whether it has named memory for an answer that does not fit into registers.
    pub has_buffer: bool,
}

impl AnswerCell {
    /// The vcpu waits for an answer from now on.
    pub fn await_from(&self, port: Arc<Port>, token: CallToken) {
        *self.0.lock() = Answer::Awaited { port, token };
    }

    /// Whether there is a call that has not come to its end.
    pub fn is_in_use(&self) -> bool {
        !matches!(*self.0.lock(), Answer::Nothing)
    }

    /// Whether the answer has not come yet.
    pub fn is_awaited(&self) -> bool {
        matches!(*self.0.lock(), Answer::Awaited { .. })
    }

    /// Takes whatever there is; the call has come to its end.
    pub fn take(&self) -> Answer {
        core::mem::take(&mut self.0.lock())
    }

    /// Puts the end of the call there, if it is still waited for; the answer comes back if not.
    pub(super) fn put(&self, answer: Answer) -> Result<(), Answer> {
        let mut place = self.0.lock();
        if !matches!(*place, Answer::Awaited { .. }) {
            return Err(answer);
        }
        *place = answer;
        Ok(())
    }
}
