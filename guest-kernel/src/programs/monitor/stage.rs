//! Where children run: memory that is filled anew for each, a state page, and what is known of a child.

use core::cell::Cell;

use nuncio_abi::{
    CallToken, Deadline, Error, ExitKind, Message, Resume, Rights, StateGroups, StatePage,
    StopReason, VcpuExit, EXIT_WORDS, PAGE_BYTES,
};

use crate::hv::{Child, Client, Machine, Memory, Port, Received, SharedView, Space, Start, Vcpu};
use crate::machine::{Native, WindowView};
use crate::trap::descriptor::{
    interrupt_gate, segments, task_segment, task_state, TASK_STATE, TASK_STATE_BYTES,
};

/// Slots of the vcpu page that manifests do not use.
pub const EVENT_SLOT: usize = 50;
const PORT_SLOT: usize = 51;

/// Frames for a child's page tables and its vcpu, and bytes for its handles and its state.
const CHILD_FRAMES: u64 = 32;
const CHILD_KERNEL_BYTES: u64 = 48 << 10;

// Where a child finds what it has.
const TABLES: u64 = 0x1000;
/// Its code.
pub const CODE: u64 = 0x4000;
const GATES: u64 = 0x5000;
const SEGMENTS: u64 = 0x6000;
/// The task state segment.
pub const TASK: u64 = 0x6100;
const TABLE_POINTERS: u64 = 0x6F00;
/// The end of its stack.
pub const STACK_END: u64 = 0x8000;
/// A page for data.
pub const DATA: u64 = 0x8000;
/// The text page; as many bytes are a child's own.
pub const TEXT: u64 = 0x9000;
/// An interrupt whose gate leads to the handler, as that of the general-protection exception does.
pub const INTERRUPT: u8 = 0x40;
/// The general-protection exception.
pub const PROTECTION: u8 = 13;
const HANDLER: u64 = CODE + 256;

/// Longer than anything here takes.
const PATIENCE_NS: u64 = 20_000_000_000;

/// What went wrong.
#[derive(Debug)]
#[expect(dead_code, reason = "read by people, through Debug")]
pub enum Miss {
    /// A call was refused.
    Refused(Error),
    /// An exit that was not expected.
    Exit(VcpuExit),
    /// A domain ended otherwise.
    Ended(StopReason, u64),
    /// A number is not as it should be.
    Number(&'static str, u64),
    /// More is paid than at the beginning.
    Account { frames: u64, bytes: u64 },
    /// A text is not as it should be.
    Text,
}

impl From<Error> for Miss {
    fn from(error: Error) -> Self {
        Miss::Refused(error)
    }
}

/// A number that must be as expected.
pub fn expect(what: &'static str, found: u64, expected: u64) -> Result<(), Miss> {
    if found == expected {
        Ok(())
    } else {
        Err(Miss::Number(what, found))
    }
}

/// Memory with a view of it.
pub struct Pages<'m> {
    /// The memory.
    pub memory: Memory<'m, Native>,
    view: WindowView,
}

impl<'m> Pages<'m> {
    /// Zeroed pages.
    pub fn new(client: &Client<'m, Native>, bytes: u64) -> Result<Self, Error> {
        let memory = client.create_memory(bytes)?;
        let view = memory.attach(&client.space()?, Rights::READ | Rights::WRITE)?;
        Ok(Pages { memory, view })
    }

    /// Writes words one after the other.
    pub fn write(&self, place: u64, words: &[u64]) -> Result<(), Error> {
        for (word, place) in words.iter().zip((place..).step_by(8)) {
            self.write_bytes(place, &word.to_le_bytes())?;
        }
        Ok(())
    }

    /// Writes bytes.
    pub fn write_bytes(&self, place: u64, bytes: &[u8]) -> Result<(), Error> {
        let is_written = self.view.write(place, bytes);
        is_written.then_some(()).ok_or(Error::BadAddress)
    }

    /// Some bytes.
    pub fn read<const N: usize>(&self, place: u64) -> Result<[u8; N], Error> {
        let mut bytes = [0; N];
        let is_read = self.view.read(place, &mut bytes);
        is_read.then_some(bytes).ok_or(Error::BadAddress)
    }

    /// Fills what a child has below the text page: page tables that map the first 2 MiB to themselves,
    /// for all levels of privilege, its code, and tables of descriptors.
    pub fn load(&self, code: &[u8]) -> Result<(), Error> {
        const ALL: u64 = 0b111;
        const LARGE: u64 = 1 << 7;
        for page in (0..TEXT).step_by(PAGE_BYTES as usize) {
            self.write_bytes(page, &[0; PAGE_BYTES as usize])?;
        }
        self.write(TABLES, &[(TABLES + PAGE_BYTES) | ALL])?;
        self.write(TABLES + PAGE_BYTES, &[(TABLES + 2 * PAGE_BYTES) | ALL])?;
        self.write(TABLES + 2 * PAGE_BYTES, &[LARGE | ALL])?;
        self.write_bytes(CODE, code)?;
        self.write(SEGMENTS, &segments())?;
        self.write(SEGMENTS + u64::from(TASK_STATE), &task_segment(TASK))?;
        for (number, word) in (0..).zip(task_state(STACK_END, STACK_END)) {
            self.write_bytes(TASK + 4 * number, &word.to_le_bytes())?;
        }
        for vector in [PROTECTION, INTERRUPT] {
            let place = GATES + 16 * u64::from(vector);
            self.write(place, &interrupt_gate(HANDLER, 0))?;
        }
        let pointers = [(0, SEGMENT_BYTES, SEGMENTS), (16, GATE_BYTES, GATES)];
        for (offset, bytes, table) in pointers {
            let place = TABLE_POINTERS + offset;
            self.write_bytes(place, &(bytes as u16 - 1).to_le_bytes())?;
            self.write_bytes(place + 2, &table.to_le_bytes())?;
        }
        Ok(())
    }

    /// Maps all that `load` has filled, and the text page, into a space.
    pub fn map(&self, client: &Client<'m, Native>, space: &Space<'m, Native>) -> Result<(), Error> {
        space.map(&self.memory, 0, 0, TEXT, Rights::ACCESS)?;
        let text = client.memory("text-page", Rights::EXECUTE)?;
        let access = Rights::READ | Rights::EXECUTE;
        space.map(&text, TEXT, 0, PAGE_BYTES, access)
    }
}

/// Bytes of the table of segments.
pub const SEGMENT_BYTES: u64 = 56;
const GATE_BYTES: u64 = PAGE_BYTES;
const _: () = assert!(TASK + TASK_STATE_BYTES as u64 <= TABLE_POINTERS);

/// What the children share, one after the other.
pub struct Stage<'m> {
    /// The domain's objects.
    pub client: Client<'m, Native>,
    /// The memory of the child that is there.
    pub pages: Pages<'m>,
    state: Pages<'m>,
}

/// Who is told of exits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// A port.
    Port,
    /// Whoever runs the vcpu.
    Run,
}

impl<'m> Stage<'m> {
    /// Makes what is shared.
    pub fn new(client: Client<'m, Native>) -> Result<Self, Error> {
        let pages = Pages::new(&client, TEXT)?;
        let state = Pages::new(&client, PAGE_BYTES)?;
        Ok(Stage {
            client,
            pages,
            state,
        })
    }

    /// The state page.
    pub fn state(&self) -> Result<StatePage<'_>, Error> {
        let words = self.state.view.words(0).ok_or(Error::BadAddress)?;
        Ok(StatePage::new(words))
    }

    /// A child that executes this code, whose exits of these kinds are told with these groups of
    /// registers.
    pub fn child(
        &self,
        way: Way,
        code: &[u8],
        exits: &[ExitKind],
        save: StateGroups,
    ) -> Result<Guest<'m>, Miss> {
        self.pages.load(code)?;
        self.state.write(0, &[0; 512])?;
        let bits = exits.iter().fold(0, |bits, kind| bits | kind.bit());
        let state = self.state()?;
        state.set_exits(bits);
        state.set_save(save);
        let client = &self.client;
        let child = client.create_domain(CHILD_FRAMES, CHILD_KERNEL_BYTES, None)?;
        self.pages.map(client, &child.space)?;
        let ends = match way {
            Way::Port => Some(client.create_port(2, PORT_SLOT)?),
            Way::Run => None,
        };
        let far = ends.as_ref().map(|ends| &ends.far);
        let vcpu = child.create_vcpu(&self.pages.memory, far, Some(&self.state.memory))?;
        if let Some(far) = far {
            // The monitor has its own.
            far.object().close()?;
        }
        let argument = child.give_itself()?.raw();
        vcpu.start(Start {
            entry: CODE,
            stack: STACK_END,
            argument,
            page_table: TABLES,
        })?;
        Ok(Guest {
            child,
            vcpu,
            port: ends.map(|ends| ends.near),
            unanswered: Cell::new(None),
        })
    }
}

const fn message(resume: Resume) -> Message {
    let [first, second, third] = resume.to_words();
    Message {
        length: (EXIT_WORDS * 8) as u8,
        words: [first, second, third, 0, 0, 0, 0, 0],
    }
}

/// A child that runs.
pub struct Guest<'m> {
    /// The domain.
    pub child: Child<'m, Native>,
    /// Its vcpu.
    pub vcpu: Vcpu<'m, Native>,
    port: Option<Port<'m, Native>>,
    unanswered: Cell<Option<CallToken>>,
}

impl<'m> Guest<'m> {
    /// Lets it go on until it exits. A child that has a port runs from the start: it is only waited for
    /// the first time.
    pub fn go(&self, resume: Resume) -> Result<VcpuExit, Miss> {
        match &self.port {
            None => Ok(self.vcpu.run(None, resume)?),
            Some(port) => match self.unanswered.take() {
                Some(token) => self.exit(port.reply_and_receive(token, &message(resume))?),
                None => self.next(),
            },
        }
    }

    /// Answers the last exit that came from its port.
    pub fn answer(&self, resume: Resume) -> Result<(), Miss> {
        let (Some(port), Some(token)) = (&self.port, self.unanswered.take()) else {
            return Ok(());
        };
        Ok(port.reply(token, &message(resume))?)
    }

    /// The next exit that comes from its port.
    pub fn next(&self) -> Result<VcpuExit, Miss> {
        let port = self.port.as_ref().ok_or(Error::WrongState)?;
        let machine = self.vcpu.object().machine();
        self.exit(port.receive(Deadline(machine.now_ns() + PATIENCE_NS))?)
    }

    fn exit(&self, received: Received) -> Result<VcpuExit, Miss> {
        self.unanswered.set(received.token);
        let [first, second, third, ..] = received.message.words;
        Ok(VcpuExit::from_words([first, second, third]).ok_or(Error::BadArgument)?)
    }

    /// Lets it go on until an exit of that kind, which must be the next.
    pub fn go_until(&self, resume: Resume, kind: ExitKind) -> Result<VcpuExit, Miss> {
        match self.go(resume)? {
            exit if exit.kind() == kind => Ok(exit),
            other => Err(Miss::Exit(other)),
        }
    }

    /// Destroys it.
    pub fn destroy(self) -> Result<(), Miss> {
        self.child.destroy()?;
        self.vcpu.object().close()?;
        match self.port {
            Some(port) => Ok(port.object().close()?),
            None => Ok(()),
        }
    }
}
