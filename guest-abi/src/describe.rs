//! Calls as text, for traces and reports: what the table of signatures makes of the registers.

use core::fmt::{self, Formatter};

use crate::message::mask;
use crate::signature::{Argument, Meaning, Register, Signature};
use crate::{
    BudgetChange, Call, CallToken, Handle, Header, ObjectKind, QueryItem, RawCall, Resume, Rights,
    Transfer, Verb, Version, MAX_PRIORITY, PAGE_BYTES, RING_ENTRIES,
};

/// `send port=0x10003 length=5 words=0x6f6c6c6568`: the verb and its arguments, as they were meant.
/// A `?` stands behind each one that is no such thing, and behind a register that should be zero;
/// there is one exactly if [`Call::decode`] refuses the call.
///
/// ```
/// use nuncio_abi::RawCall;
///
/// let text = |verb, arguments| RawCall { verb, arguments }.to_string();
/// assert_eq!(text(4, [u64::MAX, 0, 0, 0, 0]), "wait deadline=never");
/// assert_eq!(text(7, [1 << 32, 0, 9, 0, 0]), "close handle=0x100000000? rdx=0x9?");
/// assert_eq!(text(99, [1, 0, 0, 0, 0]), "verb 99? rdi=0x1");
/// ```
impl fmt::Display for RawCall {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        match Verb::from_number(self.verb) {
            Some(verb) => {
                formatter.write_str(verb.name())?;
                described(self, verb.signature(), formatter)
            }
            None => {
                write!(formatter, "verb {}?", self.verb)?;
                others(self, |_| false, "", formatter)
            }
        }
    }
}

/// As the registers of the call: see [`RawCall`].
///
/// ```
/// use nuncio_abi::{Call, Deadline, Handle};
///
/// let call = Call::Arm { timer: Handle::new(9, 1), deadline: Deadline(500) };
/// assert_eq!(call.to_string(), "arm timer=0x10009 deadline=500ns");
/// ```
impl fmt::Display for Call {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        self.encode().fmt(formatter)
    }
}

fn described(
    call: &RawCall,
    signature: &'static Signature,
    formatter: &mut Formatter<'_>,
) -> fmt::Result {
    let arguments = || signature.arguments_of(call);
    let mut header = Ok(Header::default());
    let mut waits = false;
    for argument in arguments() {
        let word = argument
            .registers
            .first()
            .map_or(0, |register| register.argument(call));
        match argument.meaning {
            Meaning::Words => {
                let (own, deadline) = words_of(argument, waits);
                words(call, own, header, formatter)?;
                if let Some(register) = deadline {
                    formatter.write_str(" deadline=")?;
                    write_deadline(register.argument(call), formatter)?;
                }
            }
            Meaning::Header | Meaning::SendHeader | Meaning::ReplyHeader => {
                let is_reply = argument.meaning == Meaning::ReplyHeader;
                waits = argument.meaning == Meaning::SendHeader && word & Header::WAIT != 0;
                let message = if is_reply {
                    Header::of_reply(word)
                } else if waits {
                    word & !Header::WAIT
                } else {
                    word
                };
                let room = arguments().find(|other| other.meaning == Meaning::Words);
                let room = room.map_or(0, |words| words_of(words, waits).0.len());
                header = Header::from_raw(message)
                    .ok()
                    .filter(|header| header.in_memory || header.words() <= room)
                    .ok_or(());
                let token = CallToken::from_header(word);
                match header {
                    Ok(header) if !is_reply || token.is_some() => {
                        write_header(header, is_reply.then_some(word), formatter)?;
                        if waits {
                            formatter.write_str(" wait")?;
                        }
                    }
                    _ => write!(formatter, " {}={word:#x}?", argument.name)?,
                }
            }
            Meaning::Budget => write_budget(call, argument, formatter)?,
            meaning => {
                write!(formatter, " {}=", argument.name)?;
                let is_bare = word != 0 && lacks_its_other(meaning, call);
                if !write_word(word, meaning, signature, formatter)? || is_bare {
                    formatter.write_str("?")?;
                }
                for register in argument.registers.iter().skip(1) {
                    write!(formatter, ",{:#x}", register.argument(call))?;
                }
            }
        }
    }
    let is_named = |register| {
        let mut arguments = arguments();
        arguments.any(|argument| argument.registers.contains(&register))
    };
    others(call, is_named, "?", formatter)
}

/// Whether the register is missing without which such an argument means nothing.
fn lacks_its_other(meaning: Meaning, call: &RawCall) -> bool {
    match meaning {
        Meaning::BitsOfEvent => Register::R10.argument(call) == 0,
        Meaning::Monitor => Register::R8.argument(call) == 0,
        _ => false,
    }
}

/// The registers that should be zero and are not.
fn others(
    call: &RawCall,
    is_named: impl Fn(Register) -> bool,
    mark: &str,
    formatter: &mut Formatter<'_>,
) -> fmt::Result {
    for register in Register::ARGUMENTS {
        let word = register.argument(call);
        if word != 0 && !is_named(register) {
            write!(formatter, " {}={word:#x}{mark}", register.name())?;
        }
    }
    Ok(())
}

fn write_header(header: Header, reply: Option<u64>, formatter: &mut Formatter<'_>) -> fmt::Result {
    write!(formatter, " length={}", header.length)?;
    if header.handles != 0 {
        write!(formatter, " handles={}", header.handles)?;
    }
    let Some(word) = reply else { return Ok(()) };
    write!(formatter, " token={:#x}", word >> 32)?;
    if word & Header::THEN_RECEIVE != 0 {
        formatter.write_str(" then-receive")?;
    }
    Ok(())
}

/// The registers of the words of a message; in a `send` that waits the last one is its deadline.
fn words_of(argument: &Argument, waits: bool) -> (&'static [Register], Option<Register>) {
    match argument.registers {
        [own @ .., last] if waits => (own, Some(*last)),
        all => (all, None),
    }
}

/// The words of a message; behind a header that is none, as they are.
fn words(
    call: &RawCall,
    registers: &[Register],
    header: Result<Header, ()>,
    formatter: &mut Formatter<'_>,
) -> fmt::Result {
    for (index, register) in registers.iter().enumerate() {
        let word = register.argument(call);
        let Ok(header) = header else {
            write!(formatter, " {}={word:#x}", register.name())?;
            continue;
        };
        let behind = if header.in_memory { 1 } else { header.words() };
        if index >= behind {
            if word != 0 {
                write!(formatter, " {}={word:#x}?", register.name())?;
            }
        } else if header.in_memory {
            write!(formatter, " address={word:#x}")?;
        } else {
            let separator = if index == 0 { " words=" } else { "," };
            let mark = if is_of_message(word, index, header) {
                ""
            } else {
                "?"
            };
            write!(formatter, "{separator}{word:#x}{mark}")?;
        }
    }
    Ok(())
}

/// Whether a word in a register can be what the header makes of it: bytes, or a handle.
fn is_of_message(word: u64, index: usize, header: Header) -> bool {
    let left = usize::from(header.length).saturating_sub(index * 8);
    match u8::try_from(left) {
        Ok(0) | Err(_) => Transfer::from_raw(word).is_ok(),
        Ok(left) => word & !mask(left) == 0,
    }
}

/// Writes what a register holds and gives whether it can be that.
fn write_word(
    word: u64,
    meaning: Meaning,
    signature: &Signature,
    formatter: &mut Formatter<'_>,
) -> Result<bool, fmt::Error> {
    match meaning {
        Meaning::Version => {
            let version = u32::try_from(word).ok().map(Version::from_raw);
            write_if(version, word, formatter)
        }
        Meaning::Handle { .. } | Meaning::Monitor => {
            write!(formatter, "{word:#x}")?;
            Ok(Handle::from_raw(word).is_some())
        }
        Meaning::Item => write_if(QueryItem::from_number(word), word, formatter),
        Meaning::Kind => {
            let is_taken =
                |kind: &ObjectKind| signature.kinds.iter().any(|form| form.kind == *kind);
            let kind = ObjectKind::from_number(word).filter(is_taken);
            write_if(kind, word, formatter)
        }
        Meaning::Resume => write_if(Resume::from_words([word, 0, 0]).ok(), word, formatter),
        Meaning::RightSet => write_if(Rights::from_bits(word), word, formatter),
        Meaning::LengthAndAccess => write_access(word, formatter),
        Meaning::Deadline => write_deadline(word, formatter).map(|()| true),
        Meaning::Priority => write_or_keep(word, word <= u64::from(MAX_PRIORITY), formatter),
        Meaning::Cpu => write_or_keep(word, word <= u64::from(u8::MAX), formatter),
        Meaning::PageTable => {
            write!(formatter, "{word:#x}").map(|()| word.is_multiple_of(PAGE_BYTES))
        }
        Meaning::Entries => {
            write!(formatter, "{word}").map(|()| (1..=RING_ENTRIES as u64).contains(&word))
        }
        Meaning::Code
        | Meaning::Capacity
        | Meaning::Slot
        | Meaning::Interval
        | Meaning::Frames
        | Meaning::KernelBytes => write!(formatter, "{word}").map(|()| true),
        _ => write!(formatter, "{word:#x}").map(|()| true),
    }
}

/// Writes what a word stands for, or else the word, and gives whether it stands for something.
fn write_if(
    meant: Option<impl fmt::Display>,
    word: u64,
    formatter: &mut Formatter<'_>,
) -> Result<bool, fmt::Error> {
    match &meant {
        Some(meant) => write!(formatter, "{meant}")?,
        None => write!(formatter, "{word:#x}")?,
    }
    Ok(meant.is_some())
}

fn write_deadline(word: u64, formatter: &mut Formatter<'_>) -> fmt::Result {
    match word {
        0 => formatter.write_str("now"),
        u64::MAX => formatter.write_str("never"),
        ns => write!(formatter, "{ns}ns"),
    }
}

/// Writes a number that may be one; `u64::MAX` is none. Gives whether it is either.
fn write_or_keep(
    word: u64,
    may_be: bool,
    formatter: &mut Formatter<'_>,
) -> Result<bool, fmt::Error> {
    match word {
        u64::MAX => formatter.write_str("keep")?,
        word => write!(formatter, "{word}")?,
    }
    Ok(may_be || word == u64::MAX)
}

/// Writes a budget and its period, which are in two registers.
fn write_budget(call: &RawCall, argument: &Argument, formatter: &mut Formatter<'_>) -> fmt::Result {
    let mut registers = argument.registers.iter();
    let words = [(); 2].map(|()| {
        let register = registers.next();
        register.map_or(0, |register| register.argument(call))
    });
    write!(formatter, " {}=", argument.name)?;
    match (BudgetChange::decode(words), words) {
        (Ok(BudgetChange::Keep), _) => formatter.write_str("keep"),
        (Ok(BudgetChange::Unlimited), _) => formatter.write_str("none"),
        (Ok(_), [budget_ns, period_ns]) => write!(formatter, "{budget_ns}ns,{period_ns}ns"),
        (Err(_), [budget_ns, period_ns]) => write!(formatter, "{budget_ns},{period_ns}?"),
    }
}

fn write_access(word: u64, formatter: &mut Formatter<'_>) -> Result<bool, fmt::Error> {
    let mask = PAGE_BYTES - 1;
    let access = Rights::from_bits(word & mask).filter(|access| Rights::ACCESS.contains(*access));
    write!(formatter, "{:#x} access=", word & !mask)?;
    match access {
        Some(access) => write!(formatter, "{access}")?,
        None => write!(formatter, "{:#x}", word & mask)?,
    }
    Ok(access.is_some_and(|access| access.contains(Rights::READ)))
}
