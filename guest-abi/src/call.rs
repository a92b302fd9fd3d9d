//! Calls with their arguments typed, and both directions of the conversion from registers.

use crate::create::handle_or_zero;
use crate::schedule::{decode_or_keep, KEEP};
use crate::{
    BudgetChange, CallToken, Create, Error, Handle, Header, Outgoing, QueryItem, RawCall, Resume,
    Rights, Verb, MAX_ARGUMENTS, MAX_PRIORITY, PAGE_BYTES, REGISTER_WORDS, RING_ENTRIES, VERSION,
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
    ///
    /// ```
    /// use nuncio_abi::{Call, VERSION};
    ///
    /// let call = Call::Hello { version: VERSION.to_raw() };
    /// assert_eq!(call, Call::HELLO);
    /// assert_eq!(call.to_string(), format!("hello version={VERSION}"));
    /// ```
    Hello {
        /// The version for which the caller was built, as [`crate::Version::to_raw`] gives it.
        version: u32,
    },
    /// Put a message on a port.
    ///
    /// ```
    /// use nuncio_abi::{Call, Handle, Outgoing};
    ///
    /// let port = Handle::new(3, 1);
    /// let words = [u64::from_le_bytes(*b"hello\0\0\0"), 0, 0];
    /// let call = Call::Send { port, message: Outgoing::registers(5, words) };
    /// assert_eq!(call.encode().arguments, [0x1_0003, 5, 0x6F_6C6C_6568, 0, 0]);
    /// assert_eq!(call.to_string(), "send port=0x10003 length=5 words=0x6f6c6c6568");
    /// ```
    Send {
        /// A port with [`Rights::SEND`].
        port: Handle,
        /// Where the message is.
        message: Outgoing,
    },
    /// Put a message on a port, waiting for room: the same verb with [`Header::WAIT`].
    ///
    /// ```
    /// use nuncio_abi::{Call, Deadline, Handle, Outgoing};
    ///
    /// let port = Handle::new(3, 1);
    /// let message = Outgoing::registers(8, [17, 0, 0]);
    /// let call = Call::SendWaiting { port, message, deadline: Deadline(2_000_000) };
    /// assert_eq!(call.encode().arguments, [0x1_0003, 0x808, 17, 0, 2_000_000]);
    /// assert_eq!(call.to_string(), "send port=0x10003 length=8 wait words=0x11 deadline=2000000ns");
    /// ```
    SendWaiting {
        /// A port with [`Rights::SEND`].
        port: Handle,
        /// Where the message is; in registers it has two words at most.
        message: Outgoing,
        /// How long to wait.
        deadline: Deadline,
    },
    /// Take a message from a port.
    ///
    /// ```
    /// use nuncio_abi::{Call, Deadline, Handle, Header, Reply};
    ///
    /// let port = Handle::new(4, 1);
    /// let call = Call::Receive { port, deadline: Deadline::NEVER, buffer: 0x20_0080 };
    /// assert_eq!(call.encode().arguments, [0x1_0004, u64::MAX, 0x20_0080, 0, 0]);
    ///
    /// // What comes back: two bytes, from the sender with badge 7.
    /// let reply = Reply::from_registers(0, [2, 7, 0x6968, 0, 0]);
    /// let [header, badge, first, ..] = reply.result().unwrap();
    /// assert_eq!(Header::from_raw(header), Ok(Header::new(2, false)));
    /// assert_eq!((badge, &first.to_le_bytes()[..2]), (7, b"hi".as_slice()));
    /// ```
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
    ///
    /// ```
    /// use nuncio_abi::{Call, Error, Handle, Reply};
    ///
    /// let call = Call::Notify { event: Handle::new(5, 1), bits: 0b100 };
    /// assert_eq!(call.to_string(), "notify event=0x10005 bits=0x4");
    /// assert_eq!(Reply::from_registers(11, [0; 5]), Reply::Error(Error::PeerGone));
    /// ```
    Notify {
        /// An event with [`Rights::NOTIFY`].
        event: Handle,
        /// The bits.
        bits: u64,
    },
    /// Sleep until an event is pending.
    ///
    /// ```
    /// use nuncio_abi::{Call, Deadline};
    ///
    /// let now_ns = 5_000;
    /// let call = Call::Wait { deadline: Deadline(now_ns + 1_000_000) };
    /// assert_eq!(call.to_string(), "wait deadline=1005000ns");
    /// ```
    Wait {
        /// How long.
        deadline: Deadline,
    },
    /// Put memory into a space.
    ///
    /// ```
    /// use nuncio_abi::{Call, Handle, Rights};
    ///
    /// let call = Call::Map {
    ///     space: Handle::new(2, 1),
    ///     memory: Handle::new(6, 1),
    ///     address: 0x4000_0000,
    ///     offset: 0,
    ///     length: 0x2000,
    ///     access: Rights::READ | Rights::WRITE,
    /// };
    /// assert_eq!(call.encode().arguments, [0x1_0002, 0x1_0006, 0x4000_0000, 0, 0x2003]);
    /// ```
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
    ///
    /// ```
    /// use nuncio_abi::{Call, Handle};
    ///
    /// let call = Call::Unmap { space: Handle::new(2, 1), address: 0x4000_0000, length: 0x2000 };
    /// assert_eq!(call.to_string(), "unmap space=0x10002 address=0x40000000 length=0x2000");
    /// ```
    Unmap {
        /// A space with [`Rights::MAP`].
        space: Handle,
        /// Guest-physical address of the first page.
        address: u64,
        /// Length in bytes.
        length: u64,
    },
    /// Drop a handle.
    ///
    /// ```
    /// use nuncio_abi::{Call, Handle};
    ///
    /// let call = Call::Close { handle: Handle::new(6, 1) };
    /// assert_eq!(call.to_string(), "close handle=0x10006");
    /// ```
    Close {
        /// The handle.
        handle: Handle,
    },
    /// Ask about a handle.
    ///
    /// ```
    /// use nuncio_abi::{Call, Handle, ObjectKind, QueryItem, Reply, Rights};
    ///
    /// let call = Call::Query { handle: Handle::new(3, 1), item: QueryItem::Kind };
    /// assert_eq!(call.to_string(), "query handle=0x10003 item=kind");
    ///
    /// let [kind, rights, ..] = Reply::Pair(5, 8).result().unwrap();
    /// assert_eq!(ObjectKind::from_number(kind), Some(ObjectKind::Port));
    /// assert_eq!(Rights::from_bits(rights), Some(Rights::SEND));
    /// ```
    Query {
        /// The handle.
        handle: Handle,
        /// What to ask.
        item: QueryItem,
    },
    /// End a domain, or stop a vcpu.
    ///
    /// ```
    /// use nuncio_abi::{Call, Handle};
    ///
    /// let call = Call::Stop { object: Handle::new(0, 1), code: 0 };
    /// assert_eq!(call.encode().arguments, [0x1_0000, 0, 0, 0, 0]);
    /// ```
    Stop {
        /// A domain or a vcpu with [`Rights::STOP`].
        object: Handle,
        /// The exit code of a domain, of which 0 is success; 0 for a vcpu.
        code: u64,
    },
    /// Make an object.
    ///
    /// ```
    /// use nuncio_abi::{Call, Create, Handle, Reply};
    ///
    /// let call = Call::Create(Create::Port { capacity: 16, slot: 3 });
    /// assert_eq!(call.to_string(), "create kind=port capacity=16 slot=3");
    ///
    /// // The handle that receives, and the one for giving away.
    /// let [receives, sends, ..] = Reply::Pair(0x1_0007, 0x1_0008).result().unwrap();
    /// assert_eq!(Handle::from_raw(receives), Some(Handle::new(7, 1)));
    /// assert_eq!(Handle::from_raw(sends), Some(Handle::new(8, 1)));
    /// ```
    Create(Create),
    /// Copy a handle.
    ///
    /// ```
    /// use nuncio_abi::{Call, Handle, Rights};
    ///
    /// let (handle, to) = (Handle::new(8, 1), None);
    /// let call = Call::Grant { handle, rights: Rights::SEND, badge: 42, to };
    /// assert_eq!(call.to_string(), "grant handle=0x10008 rights=send badge=0x2a to=0x0");
    /// ```
    Grant {
        /// A handle with [`Rights::GRANT`].
        handle: Handle,
        /// The rights of the copy: some of the handle's, none of [`Rights::BOUND`].
        rights: Rights,
        /// The badge of the copy, or 0 to keep the handle's.
        badge: u64,
        /// The domain, with [`Rights::BUILD`], in whose table the copy is put; the caller's own if
        /// there is none.
        to: Option<Handle>,
    },
    /// Run a vcpu until it needs its runner.
    ///
    /// ```
    /// use nuncio_abi::{Call, ExitKind, Handle, Reply, Resume, VcpuExit};
    ///
    /// let (vcpu, space) = (Handle::new(9, 1), Some(Handle::new(4, 1)));
    /// let call = Call::Run { vcpu, space, resume: Resume::GO };
    /// assert_eq!(call.to_string(), "run vcpu=0x10009 space=0x10004 resume=go results=0x0,0x0");
    ///
    /// // What comes back: it has executed HLT at 0x1000.
    /// let reply = Reply::from_registers(0, [5 | 1 << 16, 0, 0x1000, 0, 0]);
    /// let [first, second, third, ..] = reply.result().unwrap();
    /// let exit = VcpuExit::from_words([first, second, third]).unwrap();
    /// assert_eq!(exit.kind(), ExitKind::Halt);
    /// ```
    Run {
        /// A vcpu with [`Rights::START`].
        vcpu: Handle,
        /// The space, with [`Rights::MAP`], in which it runs; its domain's if there is none.
        space: Option<Handle>,
        /// What becomes of the instruction at which it stopped, and what arrives.
        resume: Resume,
    },
    /// Let a vcpu run.
    ///
    /// ```
    /// use nuncio_abi::{Call, Handle};
    ///
    /// let vcpu = Handle::new(9, 1);
    /// let (entry, stack, argument, page_table) = (0x4000, 0x8000, 7, 0x1000);
    /// let call = Call::Start { vcpu, entry, stack, argument, page_table };
    /// assert_eq!(call.encode().arguments, [0x1_0009, 0x4000, 0x8000, 7, 0x1000]);
    /// ```
    Start {
        /// A vcpu with [`Rights::START`].
        vcpu: Handle,
        /// Guest-physical address of its first instruction.
        entry: u64,
        /// Its stack pointer.
        stack: u64,
        /// What it finds in its first argument register.
        argument: u64,
        /// Guest-physical address of its first page tables, a multiple of 4096.
        page_table: u64,
    },
    /// Set the priority, the budget and the CPU of a vcpu.
    ///
    /// ```
    /// use nuncio_abi::{Budget, BudgetChange, Call, Handle};
    ///
    /// let budget = BudgetChange::Limited(Budget::new(20_000_000, 100_000_000).unwrap());
    /// let call = Call::Schedule { vcpu: Handle::new(9, 1), priority: Some(20), budget, cpu: None };
    /// assert_eq!(
    ///     call.encode().arguments,
    ///     [0x1_0009, 20, 20_000_000, 100_000_000, u64::MAX]
    /// );
    /// assert_eq!(
    ///     call.to_string(),
    ///     "schedule vcpu=0x10009 priority=20 budget=20000000ns,100000000ns cpu=keep"
    /// );
    /// ```
    Schedule {
        /// A vcpu with [`Rights::SCHEDULE`].
        vcpu: Handle,
        /// Its new priority, up to [`crate::MAX_PRIORITY`].
        priority: Option<u8>,
        /// What becomes of its budget.
        budget: BudgetChange,
        /// Its new CPU.
        cpu: Option<u8>,
    },
    /// Set the time of a timer.
    ///
    /// ```
    /// use nuncio_abi::{Call, Deadline, Handle};
    ///
    /// let call = Call::Arm { timer: Handle::new(9, 1), deadline: Deadline::NEVER };
    /// assert_eq!(call.to_string(), "arm timer=0x10009 deadline=never");
    /// ```
    Arm {
        /// A timer with [`Rights::ARM`].
        timer: Handle,
        /// When it is due: [`Deadline::NOW`] at once, [`Deadline::NEVER`] not at all.
        deadline: Deadline,
    },
    /// Send a message and wait for the answer.
    ///
    /// ```
    /// use nuncio_abi::{Call, Deadline, Handle, Outgoing};
    ///
    /// let call = Call::Call {
    ///     port: Handle::new(3, 1),
    ///     message: Outgoing::registers(8, [17, 0, 0]),
    ///     deadline: Deadline(2_000_000),
    /// };
    /// assert_eq!(call.encode().arguments, [0x1_0003, 8, 17, 0, 2_000_000]);
    /// ```
    Call {
        /// A port with [`Rights::SEND`].
        port: Handle,
        /// Where the message is; in registers it has two words at most.
        message: Outgoing,
        /// How long to wait.
        deadline: Deadline,
    },
    /// Answer a call.
    ///
    /// ```
    /// use nuncio_abi::{Call, CallToken, Handle, Outgoing};
    ///
    /// // The header that came with the call names it.
    /// let token = CallToken::from_header(0x1_0002_0000_0008).unwrap();
    /// let call = Call::Reply {
    ///     port: Handle::new(4, 1),
    ///     token,
    ///     message: Outgoing::registers(0, [0; 3]),
    ///     then_receive: true,
    /// };
    /// assert_eq!(call.to_string(), "reply port=0x10004 length=0 token=0x10002 then-receive");
    /// ```
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
    /// Make the calls that stand in a ring.
    ///
    /// ```
    /// use nuncio_abi::{Call, Reply};
    ///
    /// let call = Call::Submit { ring: 0x20_0000, entries: 31 };
    /// assert_eq!(call.to_string(), "submit ring=0x200000 entries=31");
    ///
    /// // What comes back: there were two entries.
    /// let [done, ..] = Reply::Pair(2, 0).result().unwrap();
    /// assert_eq!(done, 2);
    /// ```
    Submit {
        /// Guest-physical address of the ring, a multiple of 4096.
        ring: u64,
        /// How many entries at most, 1 to [`RING_ENTRIES`].
        entries: u8,
    },
}

const ACCESS_MASK: u64 = PAGE_BYTES - 1;

impl Call {
    /// The call that says hello for the version of this crate.
    pub const HELLO: Call = Call::Hello {
        version: VERSION.to_raw(),
    };

    /// Which verb it is.
    pub const fn verb(&self) -> Verb {
        match self {
            Call::Hello { .. } => Verb::Hello,
            Call::Send { .. } | Call::SendWaiting { .. } => Verb::Send,
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
            Call::Start { .. } => Verb::Start,
            Call::Run { .. } => Verb::Run,
            Call::Submit { .. } => Verb::Submit,
            Call::Schedule { .. } => Verb::Schedule,
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
    #[inline(always)]
    pub fn encode(&self) -> RawCall {
        let arguments = match *self {
            Call::Hello { version } => [u64::from(version), 0, 0, 0, 0],
            Call::Send { port, message } => {
                let (header, [first, second, third]) = message.encode();
                [port.raw(), header.to_raw(), first, second, third]
            }
            Call::SendWaiting {
                port,
                message,
                deadline,
            } => {
                let (header, [first, second, _]) = message.encode();
                let header = header.to_raw() | Header::WAIT;
                [port.raw(), header, first, second, deadline.0]
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
            Call::Stop { object, code } => [object.raw(), code, 0, 0, 0],
            Call::Create(create) => create.encode(),
            Call::Grant {
                handle,
                rights,
                badge,
                to,
            } => {
                let to = to.map_or(0, Handle::raw);
                [handle.raw(), rights.bits(), badge, to, 0]
            }
            Call::Start {
                vcpu,
                entry,
                stack,
                argument,
                page_table,
            } => [vcpu.raw(), entry, stack, argument, page_table],
            Call::Run {
                vcpu,
                space,
                resume,
            } => {
                let [first, second, third] = resume.to_words();
                let space = space.map_or(0, Handle::raw);
                [vcpu.raw(), space, first, second, third]
            }
            Call::Arm { timer, deadline } => [timer.raw(), deadline.0, 0, 0, 0],
            Call::Schedule {
                vcpu,
                priority,
                budget,
                cpu,
            } => {
                let [budget, period] = budget.encode();
                let or_keep = |number: Option<u8>| number.map_or(KEEP, u64::from);
                [vcpu.raw(), or_keep(priority), budget, period, or_keep(cpu)]
            }
            Call::Submit { ring, entries } => [ring, u64::from(entries), 0, 0, 0],
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
                let then_receive = if then_receive {
                    Header::THEN_RECEIVE
                } else {
                    0
                };
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
    #[inline]
    pub fn decode(raw: &RawCall) -> Result<Call, Error> {
        if raw.verb >= Self::FIRST_RARE || Self::is_rare_send(raw) {
            Self::decode_rare(raw)
        } else {
            Self::decode_frequent(raw)
        }
    }

    /// The first verb that costs much more than the way to it.
    pub const FIRST_RARE: u64 = Verb::Create.number();

    /// Whether it is a `send` that waits for room, which is decoded apart: to the others its header is
    /// none, so that they need not be asked.
    #[inline]
    pub fn is_rare_send(raw: &RawCall) -> bool {
        let [_, header, ..] = raw.arguments;
        raw.verb == Verb::Send.number() && header & Header::WAIT != 0
    }

    /// As [`Call::decode`], for verbs below [`Call::FIRST_RARE`] but a `send` that waits, which is
    /// refused: what a hypervisor inlines into its path of calls.
    ///
    /// # Errors
    /// As [`Call::decode`], and `UnknownVerb` for the others.
    #[inline(always)]
    pub fn decode_frequent(raw: &RawCall) -> Result<Call, Error> {
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
                    object: handle(first)?,
                    code: second,
                })
            }),
            _ => Err(Error::UnknownVerb),
        }
    }

    /// As [`Call::decode`], for verbs from [`Call::FIRST_RARE`] on and a `send` that waits.
    ///
    /// # Errors
    /// As [`Call::decode`], and `UnknownVerb` for the others.
    #[inline(always)]
    pub fn decode_rare(raw: &RawCall) -> Result<Call, Error> {
        let verb = Verb::from_number(raw.verb).ok_or(Error::UnknownVerb)?;
        let [first, second, third, ..] = raw.arguments;
        match verb {
            Verb::Send if Self::is_rare_send(raw) => {
                let [port, header, first, second, deadline] = raw.arguments;
                Ok(Call::SendWaiting {
                    message: Outgoing::decode_two_words(header & !Header::WAIT, [first, second])?,
                    port: handle(port)?,
                    deadline: Deadline(deadline),
                })
            }
            Verb::Create => Create::decode(&raw.arguments).map(Call::Create),
            Verb::Grant => unused(raw, 4).and_then(|()| {
                let rights = Rights::from_bits(second).ok_or(Error::BadArgument)?;
                let [.., to, _] = raw.arguments;
                Ok(Call::Grant {
                    handle: handle(first)?,
                    rights,
                    badge: third,
                    to: handle_or_zero(to)?,
                })
            }),
            Verb::Start => {
                let [_, _, _, argument, page_table] = raw.arguments;
                if !page_table.is_multiple_of(PAGE_BYTES) {
                    return Err(Error::BadArgument);
                }
                Ok(Call::Start {
                    vcpu: handle(first)?,
                    entry: second,
                    stack: third,
                    argument,
                    page_table,
                })
            }
            Verb::Run => {
                let [vcpu, space, words @ ..] = raw.arguments;
                Ok(Call::Run {
                    resume: Resume::from_words(words)?,
                    vcpu: handle(vcpu)?,
                    space: handle_or_zero(space)?,
                })
            }
            Verb::Arm => unused(raw, 2).and_then(|()| {
                Ok(Call::Arm {
                    timer: handle(first)?,
                    deadline: Deadline(second),
                })
            }),
            Verb::Schedule => {
                let [vcpu, priority, budget, period, cpu] = raw.arguments;
                Ok(Call::Schedule {
                    priority: decode_or_keep(priority, MAX_PRIORITY)?,
                    budget: BudgetChange::decode([budget, period])?,
                    cpu: decode_or_keep(cpu, u8::MAX)?,
                    vcpu: handle(vcpu)?,
                })
            }
            Verb::Submit => unused(raw, 2).and_then(|()| {
                let is_good = |entries: &u8| (1..=RING_ENTRIES).contains(&usize::from(*entries));
                let entries = u8::try_from(second).ok().filter(is_good);
                Ok(Call::Submit {
                    ring: first,
                    entries: entries.ok_or(Error::BadArgument)?,
                })
            }),
            Verb::Call => {
                let [port, header, first, second, deadline] = raw.arguments;
                Ok(Call::Call {
                    message: Outgoing::decode_two_words(header, [first, second])?,
                    port: handle(port)?,
                    deadline: Deadline(deadline),
                })
            }
            Verb::Reply => {
                let [port, header, words @ ..] = raw.arguments;
                Ok(Call::Reply {
                    message: Outgoing::decode(Header::of_reply(header), words)?,
                    token: CallToken::from_header(header).ok_or(Error::BadArgument)?,
                    port: handle(port)?,
                    then_receive: header & Header::THEN_RECEIVE != 0,
                })
            }
            _ => Err(Error::UnknownVerb),
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
    use std::string::ToString;

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

        /// The text of a call marks what decoding refuses, and nothing else.
        #[test]
        fn text_marks_what_is_refused(raw in raw_calls()) {
            let text = raw.to_string();
            prop_assert_eq!(text.contains('?'), Call::decode(&raw).is_err(), "{}", text);
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

    /// `call` has two registers for a message, the others have three.
    #[test]
    fn a_call_carries_two_words() {
        let decode = |verb: Verb, header: u64| {
            Call::decode(&RawCall {
                verb: verb.number(),
                arguments: [Handle::new(1, 1).raw(), header, 0, 0, 0],
            })
        };
        let handles = |count: u64| count << 8;
        for header in [0, 1, 16, handles(2), 8 | handles(1)] {
            assert!(decode(Verb::Call, header).is_ok(), "{header:#x}");
        }
        for header in [17, 24, handles(3), 8 | handles(2), 16 | handles(1)] {
            let refused = decode(Verb::Call, header);
            assert_eq!(refused, Err(Error::BadArgument), "{header:#x}");
            assert!(decode(Verb::Send, header).is_ok(), "{header:#x}");
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
