//! The table of signatures: a row for each verb, with the registers and errors of the specification.

use super::Meaning::{self, *};
use super::{Argument, KindArguments, Register, Signature, Value};
use crate::{Error, ObjectKind, Rights, Verb};

/// Declares [`Verb::signature`]. A verb without a row does not compile.
macro_rules! signatures {
    (
        $( $verb:ident {
            in $( $($register:ident)+ $name:literal $meaning:expr ),*;
            $( kind $kind:ident
                $( $($kind_register:ident)+ $kind_name:literal $kind_meaning:expr ),*; )*
            out $( $($value_register:ident)+ $value_name:literal ),*;
            $( may return $nothing:ident; )?
            errors $( $error:ident )+;
        } )+
    ) => {
        impl Verb {
            /// What the verb takes, gives and refuses.
            pub const fn signature(self) -> &'static Signature {
                match self {
                    $( Verb::$verb => const { &Signature {
                        arguments: &[ $( Argument {
                            name: $name,
                            registers: &[ $( Register::$register ),+ ],
                            meaning: $meaning,
                        }, )* ],
                        kinds: &[ $( KindArguments {
                            kind: ObjectKind::$kind,
                            arguments: &[ $( Argument {
                                name: $kind_name,
                                registers: &[ $( Register::$kind_register ),+ ],
                                meaning: $kind_meaning,
                            }, )* ],
                        }, )* ],
                        values: &[ $( Value {
                            name: $value_name,
                            registers: &[ $( Register::$value_register ),+ ],
                        }, )* ],
                        may_return_nothing: is_given!( $($nothing)? ),
                        errors: &[ $( Error::$error ),+ ],
                    } }, )+
                }
            }
        }
    };
}

macro_rules! is_given {
    () => {
        false
    };
    ($word:ident) => {
        true
    };
}

/// A handle of an object of that kind, with that right.
const fn handle(kind: ObjectKind, rights: Rights) -> Meaning {
    let kinds = match kind {
        ObjectKind::Domain => &[ObjectKind::Domain],
        ObjectKind::Vcpu => &[ObjectKind::Vcpu],
        ObjectKind::Space => &[ObjectKind::Space],
        ObjectKind::Memory => &[ObjectKind::Memory],
        ObjectKind::Port => &[ObjectKind::Port],
        ObjectKind::Event => &[ObjectKind::Event],
        ObjectKind::Timer => &[ObjectKind::Timer],
    };
    Meaning::Handle { kinds, rights }
}

/// A handle of any object, with that right.
const fn any(rights: Rights) -> Meaning {
    Meaning::Handle { kinds: &[], rights }
}

/// What can be stopped.
const STOPPABLE: Meaning = Meaning::Handle {
    kinds: &[ObjectKind::Domain, ObjectKind::Vcpu],
    rights: Rights::STOP,
};

/// What the memory of a vcpu page must allow.
const PAGE_RIGHTS: Rights = Rights::from_set(&[Rights::READ, Rights::WRITE]);

signatures! {
    Hello {
        in Rdi "version" Version;
        out Rdx "version", R10 "features";
        errors BadArgument WrongVersion;
    }
    Send {
        in Rdi "port" handle(ObjectKind::Port, Rights::SEND),
            Rsi "header" SendHeader,
            Rdx R10 R8 "words" Words;
        out;
        errors BadArgument BadHandle WrongKind MissingRight BadAddress
            BadArgument BadHandle MissingRight PeerGone QueueFull Interrupted TimedOut;
    }
    Receive {
        in Rdi "port" handle(ObjectKind::Port, Rights::RECEIVE),
            Rsi "deadline" Deadline,
            Rdx "buffer" Address;
        out Rdx "header", R10 "badge", R8 Rdi Rsi "words";
        errors BadArgument BadHandle WrongKind MissingRight BadAddress WrongState
            BufferTooSmall QuotaExhausted PeerGone QueueEmpty Interrupted TimedOut;
    }
    Notify {
        in Rdi "event" handle(ObjectKind::Event, Rights::NOTIFY),
            Rsi "bits" Bits;
        out;
        errors BadArgument BadHandle WrongKind MissingRight PeerGone;
    }
    Wait {
        in Rdi "deadline" Deadline;
        out;
        errors BadArgument TimedOut;
    }
    Map {
        in Rdi "space" handle(ObjectKind::Space, Rights::MAP),
            Rsi "memory" handle(ObjectKind::Memory, Rights::NONE),
            Rdx "address" Address,
            R10 "offset" Offset,
            R8 "length" LengthAndAccess;
        out;
        errors BadArgument BadHandle WrongKind MissingRight BadAddress QuotaExhausted
            AlreadyMapped PeerGone QuotaExhausted;
    }
    Unmap {
        in Rdi "space" handle(ObjectKind::Space, Rights::MAP),
            Rsi "address" Address,
            Rdx "length" Length;
        out;
        errors BadArgument BadHandle WrongKind MissingRight BadAddress NotMapped QuotaExhausted;
    }
    Close {
        in Rdi "handle" any(Rights::NONE);
        out;
        errors BadArgument BadHandle;
    }
    Query {
        in Rdi "handle" any(Rights::NONE),
            Rsi "item" Item;
        out Rdx "first", R10 "second";
        errors BadArgument BadHandle WrongKind PeerGone;
    }
    Stop {
        in Rdi "object" STOPPABLE,
            Rsi "code" Code;
        out;
        errors BadArgument BadHandle WrongKind MissingRight BadArgument PeerGone WrongState
            QueueFull;
    }
    Create {
        in Rdi "kind" Kind;
        kind Domain Rsi "frames" Frames,
            Rdx "kernel-bytes" KernelBytes,
            R10 "event" handle(ObjectKind::Event, Rights::NOTIFY),
            R8 "bits" BitsOfEvent;
        kind Vcpu Rsi "domain" handle(ObjectKind::Domain, Rights::BUILD),
            Rdx "page" handle(ObjectKind::Memory, PAGE_RIGHTS),
            R10 "monitor" Monitor,
            R8 "state" handle(ObjectKind::Memory, PAGE_RIGHTS);
        kind Space;
        kind Memory Rsi "length" Length;
        kind Port Rsi "capacity" Capacity, Rdx "slot" Slot;
        kind Event Rsi "slot" Slot, Rdx "interval" Interval;
        kind Timer Rsi "event" handle(ObjectKind::Event, Rights::NOTIFY), Rdx "bits" Bits;
        out Rdx "first", R10 "second";
        errors BadArgument BadHandle WrongKind MissingRight PeerGone WrongState QuotaExhausted;
    }
    Grant {
        in Rdi "handle" any(Rights::GRANT),
            Rsi "rights" RightSet,
            Rdx "badge" Badge,
            R10 "to" handle(ObjectKind::Domain, Rights::BUILD);
        out Rdx "copy", R10 "zero";
        errors BadArgument BadHandle BadHandle WrongKind MissingRight PeerGone
            BadArgument MissingRight PeerGone QuotaExhausted;
    }
    Arm {
        in Rdi "timer" handle(ObjectKind::Timer, Rights::ARM),
            Rsi "deadline" Deadline;
        out;
        errors BadArgument BadHandle WrongKind MissingRight;
    }
    Call {
        in Rdi "port" handle(ObjectKind::Port, Rights::SEND),
            Rsi "header" Header,
            Rdx R10 "words" Words,
            R8 "deadline" Deadline;
        out Rdx "header", R10 "zero", R8 Rdi Rsi "words";
        errors BadArgument BadHandle WrongKind MissingRight BadAddress
            BadArgument BadHandle MissingRight WrongState QuotaExhausted PeerGone QueueFull TimedOut BadAddress;
    }
    Reply {
        in Rdi "port" handle(ObjectKind::Port, Rights::RECEIVE),
            Rsi "header" ReplyHeader,
            Rdx R10 R8 "words" Words;
        out Rdx "header", R10 "badge", R8 Rdi Rsi "words";
        may return nothing;
        errors BadArgument BadHandle WrongKind MissingRight BadAddress
            BadArgument BadHandle MissingRight PeerGone BadArgument;
    }
    Start {
        in Rdi "vcpu" handle(ObjectKind::Vcpu, Rights::START),
            Rsi "entry" Address,
            Rdx "stack" StackPointer,
            R10 "argument" FirstArgument,
            R8 "page-table" PageTable;
        out;
        errors BadArgument BadHandle WrongKind MissingRight PeerGone WrongState QuotaExhausted;
    }
    Run {
        in Rdi "vcpu" handle(ObjectKind::Vcpu, Rights::START),
            Rsi "space" handle(ObjectKind::Space, Rights::MAP),
            Rdx "resume" Resume,
            R10 R8 "results" Results;
        out Rdx "exit", R10 "where", R8 "value", Rdi Rsi "zero";
        errors BadArgument BadHandle WrongKind MissingRight BadHandle WrongKind MissingRight
            PeerGone WrongState BadArgument Interrupted PeerGone;
    }
    Schedule {
        in Rdi "vcpu" handle(ObjectKind::Vcpu, Rights::SCHEDULE),
            Rsi "priority" Priority,
            Rdx R10 "budget" Budget,
            R8 "cpu" Cpu;
        out;
        errors BadArgument BadHandle WrongKind MissingRight PeerGone BadArgument WrongState
            WrongState;
    }
    Submit {
        in Rdi "ring" Address,
            Rsi "entries" Entries;
        out Rdx "done", R10 "zero";
        errors BadArgument BadAddress BadArgument;
    }
}
