//! Calls with their arguments typed, and both directions of the conversion from registers.

use crate::{
    CallToken, Create, Error, Handle, Outgoing, QueryItem, RawCall, Rights, Verb, MAX_ARGUMENTS,
    PAGE_BYTES, REGISTER_WORDS, VERSION,
};

/// A point on the system clock in nanoseconds: 0 never waits, `u64::MAX` waits for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub struct Deadline(pub u64);

impl Deadline {
    /// Do not wait.
    pub const NOW: Deadline = Deadline(0);
    /// Wait for ever.
    pub const NEVER: Deadline = Deadline(u64::MAX);

    /// Whether the clock has reached the deadline.
    #[inline]
    pub const fn has_passed(self, now_ns: u64) -> bool {
        self.0 != u64::MAX && self.0 <= now_ns
    }
}

/// One call. What a field may hold beyond what its type says is checked by the hypervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Agree on the version.
    Hello {
        /// The version for which the caller was built, as [`crate::Version::to_raw`] gives it.
        version: u32,
    },
    /// Put a message on a port.
    Send {
        /// A port with [`Rights::SEND`].
        port: Handle,
        /// Where the message is.
        message: Outgoing,
    },
    /// Take a message from a port.
    Receive {
        /// A port with [`Rights::RECEIVE`].
        port: Handle,
        /// How long to wait for a message.
        deadline: Deadline,
        /// Guest-physical address for a message that does not fit into registers, a multiple of
        /// 64; 0 for no buffer.
        buffer: u64,
    },
    /// Set bits of an event.
    Notify {
        /// An event with [`Rights::NOTIFY`].
        event: Handle,
        /// The bits.
        bits: u64,
    },
    /// Sleep until an event is pending.
    Wait {
        /// How long.
        deadline: Deadline,
    },
    /// Put memory into a space.
    Map {
        /// A space with [`Rights::MAP`].
        space: Handle,
        /// Memory with the rights that `access` asks for.
        memory: Handle,
        /// Guest-physical address of the first page.
        address: u64,
        /// Offset of the first page in the memory, in bytes.
        offset: u64,
        /// Length in bytes.
        length: u64,
        /// Read, and any of write and execute.
        access: Rights,
    },
    /// Take memory out of a space.
    Unmap {
        /// A space with [`Rights::MAP`].
        space: Handle,
        /// Guest-physical address of the first page.
        address: u64,
        /// Length in bytes.
        length: u64,
    },
    /// Drop a handle.
    Close {
        /// The handle.
        handle: Handle,
    },
    /// Ask about a handle.
    Query {
        /// The handle.
        handle: Handle,
        /// What to ask.
        item: QueryItem,
    },
    /// End a domain.
    Stop {
        /// A domain with [`Rights::STOP`].
        domain: Handle,
        /// The exit code; 0 is success.
        code: u64,
    },
    /// Make an object.
    Create(Create),
    /// Copy a handle.
    Grant {
        /// A handle with [`Rights::GRANT`].
        handle: Handle,
        /// The rights of the copy: some of the handle's, none of [`Rights::BOUND`].
        rights: Rights,
        /// The badge of the copy, or 0 to keep the handle's.
        badge: u64,
    },
    /// Set the time of a timer.
    Arm {
        /// A timer with [`Rights::ARM`].
        timer: Handle,
        /// When it is due: [`Deadline::NOW`] at once, [`Deadline::NEVER`] not at all.
        deadline: Deadline,
    },
    /// Send a message and wait for the answer.
    Call {
        /// A port with [`Rights::SEND`].
        port: Handle,
        /// Where the message is; in registers it has two words at most.
        message: Outgoing,
        /// How long to wait.
        deadline: Deadline,
    },
    /// Answer a call.
    Reply {
        /// The port from which the call was received.
        port: Handle,
        /// Which call.
        token: CallToken,
        /// Where the answer is.
        message: Outgoing,
        /// Receive the port's next message afterwards, waiting for it without a deadline.
        then_receive: bool,
    },
}

/// Words of a message that a `call` can have in registers.
const CALL_WORDS: usize = REGISTER_WORDS - 1;

const ACCESS_MASK: u64 = PAGE_BYTES - 1;

/// In the header of a `reply`: the next message is asked for too.
const THEN_RECEIVE: u64 = 1 << 11;

impl Call {
    /// The call that says hello for the version of this crate.
    pub const HELLO: Call = Call::Hello {
        version: VERSION.to_raw(),
    };

    /// Which verb it is.
    pub const fn verb(&self) -> Verb {
        match self {
            Call::Hello { .. } => Verb::Hello,
            Call::Send { .. } => Verb::Send,
            Call::Receive { .. } => Verb::Receive,
            Call::Notify { .. } => Verb::Notify,
            Call::Wait { .. } => Verb::Wait,
            Call::Map { .. } => Verb::Map,
            Call::Unmap { .. } => Verb::Unmap,
            Call::Close { .. } => Verb::Close,
            Call::Query { .. } => Verb::Query,
            Call::Stop { .. } => Verb::Stop,
            Call::Create(_) => Verb::Create,
            Call::Grant { .. } => Verb::Grant,
            Call::Arm { .. } => Verb::Arm,
            Call::Call { .. } => Verb::Call,
            Call::Reply { .. } => Verb::Reply,
        }
    }

    /// The registers of this call.
    ///
    /// ```
    /// use nuncio_abi::{Call, Handle};
    ///
    /// let call = Call::Notify { event: Handle::new(3, 1), bits: 0b100 };
    /// assert_eq!(Call::decode(&call.encode()), Ok(call));
    /// ```
    pub fn encode(&self) -> RawCall {
        let arguments = match *self {
            Call::Hello { version } => [u64::from(version), 0, 0, 0, 0],
            Call::Send { port, message } => {
                let (header, [first, second, third]) = message.encode();
                [port.raw(), header.to_raw(), first, second, third]
            }
            Call::Receive {
                port,
                deadline,
                buffer,
            } => [port.raw(), deadline.0, buffer, 0, 0],
            Call::Notify { event, bits } => [event.raw(), bits, 0, 0, 0],
            Call::Wait { deadline } => [deadline.0, 0, 0, 0, 0],
            Call::Map {
                space,
                memory,
                address,
                offset,
                length,
                access,
            } => [
                space.raw(),
                memory.raw(),
                address,
                offset,
                length | access.bits(),
            ],
            Call::Unmap {
                space,
                address,
                length,
            } => [space.raw(), address, length, 0, 0],
            Call::Close { handle } => [handle.raw(), 0, 0, 0, 0],
            Call::Query { handle, item } => [handle.raw(), item.number(), 0, 0, 0],
            Call::Stop { domain, code } => [domain.raw(), code, 0, 0, 0],
            Call::Create(create) => create.encode(),
            Call::Grant {
                handle,
                rights,
                badge,
            } => [handle.raw(), rights.bits(), badge, 0, 0],
            Call::Arm { timer, deadline } => [timer.raw(), deadline.0, 0, 0, 0],
            Call::Call {
                port,
                message,
                deadline,
            } => {
                let (header, [first, second, _]) = message.encode();
                [port.raw(), header.to_raw(), first, second, deadline.0]
            }
            Call::Reply {
                port,
                token,
                message,
                then_receive,
            } => {
                let (header, [first, second, third]) = message.encode();
                let then_receive = if then_receive { THEN_RECEIVE } else { 0 };
                let header = header.to_raw() | then_receive | token.to_header();
                [port.raw(), header, first, second, third]
            }
        };
        RawCall {
            verb: self.verb().number(),
            arguments,
        }
    }

    /// Reads the registers of a call.
    ///
    /// # Errors
    /// `UnknownVerb`; `BadHandle` for a handle with upper bits set; `BadArgument` for a reserved
    /// bit, an unused register that is not zero or a number outside its table.
    #[inline(always)]
    pub fn decode(raw: &RawCall) -> Result<Call, Error> {
        let verb = Verb::from_number(raw.verb).ok_or(Error::UnknownVerb)?;
        let [first, second, third, ..] = raw.arguments;
        match verb {
            Verb::Hello => unused(raw, 1).and_then(|()| {
                let version = u32::try_from(first).map_err(|_| Error::BadArgument)?;
                Ok(Call::Hello { version })
            }),
            Verb::Send => {
                let [port, header, words @ ..] = raw.arguments;
                Ok(Call::Send {
                    message: Outgoing::decode(header, words)?,
                    port: handle(port)?,
                })
            }
            Verb::Receive => unused(raw, 3).and_then(|()| {
                Ok(Call::Receive {
                    port: handle(first)?,
                    deadline: Deadline(second),
                    buffer: third,
                })
            }),
            Verb::Notify => unused(raw, 2).and_then(|()| {
                Ok(Call::Notify {
                    event: handle(first)?,
                    bits: second,
                })
            }),
            Verb::Wait => unused(raw, 1).map(|()| Call::Wait {
                deadline: Deadline(first),
            }),
            Verb::Map => decode_map(&raw.arguments),
            Verb::Unmap => unused(raw, 3).and_then(|()| {
                Ok(Call::Unmap {
                    space: handle(first)?,
                    address: second,
                    length: third,
                })
            }),
            Verb::Close => unused(raw, 1).and_then(|()| {
                Ok(Call::Close {
                    handle: handle(first)?,
                })
            }),
            Verb::Query => unused(raw, 2).and_then(|()| {
                let item = QueryItem::from_number(second).ok_or(Error::BadArgument)?;
                Ok(Call::Query {
                    handle: handle(first)?,
                    item,
                })
            }),
            Verb::Stop => unused(raw, 2).and_then(|()| {
                Ok(Call::Stop {
                    domain: handle(first)?,
                    code: second,
                })
            }),
            Verb::Create => Create::decode(&raw.arguments).map(Call::Create),
            Verb::Grant => unused(raw, 3).and_then(|()| {
                let rights = Rights::from_bits(second).ok_or(Error::BadArgument)?;
                Ok(Call::Grant {
                    handle: handle(first)?,
                    rights,
                    badge: third,
                })
            }),
            Verb::Arm => unused(raw, 2).and_then(|()| {
                Ok(Call::Arm {
                    timer: handle(first)?,
                    deadline: Deadline(second),
                })
            }),
            Verb::Call => {
                let [port, header, first, second, deadline] = raw.arguments;
                let message = Outgoing::decode(header, [first, second, 0])?;
                // The deadline has the register in which a third word would be.
                if message.register_words() > CALL_WORDS {
                    return Err(Error::BadArgument);
                }
                Ok(Call::Call {
                    message,
                    port: handle(port)?,
                    deadline: Deadline(deadline),
                })
            }
            Verb::Reply => {
                let [port, header, words @ ..] = raw.arguments;
                let message = header & u64::from(u32::MAX) & !THEN_RECEIVE;
                Ok(Call::Reply {
                    message: Outgoing::decode(message, words)?,
                    token: CallToken::from_header(header).ok_or(Error::BadArgument)?,
                    port: handle(port)?,
                    then_receive: header & THEN_RECEIVE != 0,
                })
            }
        }
    }
}

#[inline(always)]
fn decode_map(arguments: &[u64; MAX_ARGUMENTS]) -> Result<Call, Error> {
    let [space, memory, address, offset, length_and_access] = *arguments;
    let access = Rights::from_bits(length_and_access & ACCESS_MASK)
        .filter(|access| Rights::ACCESS.contains(*access) && access.contains(Rights::READ))
        .ok_or(Error::BadArgument)?;
    Ok(Call::Map {
        space: handle(space)?,
        memory: handle(memory)?,
        address,
        offset,
        length: length_and_access & !ACCESS_MASK,
        access,
    })
}

#[inline]
pub(crate) fn handle(raw: u64) -> Result<Handle, Error> {
    Handle::from_raw(raw).ok_or(Error::BadHandle)
}

/// Checks that the arguments from `used` on are zero.
#[inline(always)]
fn unused(raw: &RawCall, used: usize) -> Result<(), Error> {
    let rest = raw.arguments.iter().skip(used);
    if rest.fold(0, |bits, argument| bits | argument) == 0 {
        Ok(())
    } else {
        Err(Error::BadArgument)
    }
}

const _: () = assert!(REGISTER_WORDS + 2 == MAX_ARGUMENTS);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn raw_calls() -> impl Strategy<Value = RawCall> {
        let word = prop_oneof![
            Just(0u64),
            Just(1),
            Just(u64::MAX),
            0u64..256,
            0u64..=u64::from(u32::MAX),
            any::<u64>()
        ];
        (
            0u64..Verb::ALL.len() as u64 + 2,
            proptest::array::uniform5(word),
        )
            .prop_map(|(verb, arguments)| RawCall { verb, arguments })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        /// Whatever decodes encodes to the very same registers: no bit is ever dropped silently.
        #[test]
        fn decoding_loses_nothing(raw in raw_calls()) {
            if let Ok(call) = Call::decode(&raw) {
                prop_assert_eq!(call.encode(), raw);
            }
        }
    }

    #[test]
    fn verbs_outside_the_table_are_unknown() {
        for verb in [Verb::ALL.len() as u64, 1 << 32, u64::MAX] {
            let raw = RawCall {
                verb,
                arguments: [0; MAX_ARGUMENTS],
            };
            assert_eq!(Call::decode(&raw), Err(Error::UnknownVerb));
        }
    }

    #[test]
    fn every_unused_register_is_checked() {
        let calls = [
            Call::HELLO,
            Call::Wait {
                deadline: Deadline::NEVER,
            },
            Call::Close {
                handle: Handle::new(1, 1),
            },
            Call::Notify {
                event: Handle::new(1, 1),
                bits: 1,
            },
        ];
        for call in calls {
            for argument in 2..MAX_ARGUMENTS {
                let mut raw = call.encode();
                raw.arguments[argument] = 1;
                assert_eq!(Call::decode(&raw), Err(Error::BadArgument), "{call:?}");
            }
        }
    }

    #[test]
    fn a_call_has_no_third_word() {
        for (header, is_good) in [(16, true), (17, false), (8 | 1 << 8, true), (3 << 8, false)] {
            let raw = RawCall {
                verb: Verb::Call.number(),
                arguments: [0x1_0001, header, 0, 0, 5],
            };
            assert_eq!(Call::decode(&raw).is_ok(), is_good, "{header:#x}");
        }
    }

    #[test]
    fn map_wants_read_and_no_right_that_is_no_access() {
        let good = Call::Map {
            space: Handle::new(1, 1),
            memory: Handle::new(2, 1),
            address: 0x1000,
            offset: 0,
            length: 0x2000,
            access: Rights::READ | Rights::WRITE,
        };
        assert_eq!(Call::decode(&good.encode()), Ok(good));
        for access in [
            0,
            Rights::WRITE.bits(),
            1 | Rights::SEND.bits(),
            1 << 11 | 1,
        ] {
            let mut raw = good.encode();
            raw.arguments[4] = 0x2000 | access;
            assert_eq!(Call::decode(&raw), Err(Error::BadArgument));
        }
    }

    #[test]
    fn bits_past_a_short_message_are_zero() {
        let send = |length: u64, words: [u64; 3]| {
            let [first, second, third] = words;
            Call::decode(&RawCall {
                verb: Verb::Send.number(),
                arguments: [Handle::new(1, 1).raw(), length, first, second, third],
            })
        };
        assert!(send(1, [0xFF, 0, 0]).is_ok());
        assert!(send(17, [u64::MAX, u64::MAX, 0xFF]).is_ok());
        for (length, words) in [
            (0, [1, 0, 0]),
            (1, [0x100, 0, 0]),
            (8, [1, 0, 1]),
            (17, [1, 1, 0x100]),
        ] {
            assert_eq!(send(length, words), Err(Error::BadArgument), "{length}");
        }
    }

    #[test]
    fn deadlines() {
        assert!(Deadline::NOW.has_passed(0));
        assert!(!Deadline::NEVER.has_passed(u64::MAX));
        assert!(Deadline(5).has_passed(5));
        assert!(!Deadline(6).has_passed(5));
    }
}
