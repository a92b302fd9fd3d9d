//! What the specification says there is: domains, handles, objects. Plain maps and lists; nothing
//! here is taken from the hypervisor's own code.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;

use nuncio_abi::{Error, RawCall, StopReason};

use crate::mem::arena::Arena;
use crate::mem::{Frame, PhysicalMemory};

pub const READ: u64 = 1 << 0;
pub const WRITE: u64 = 1 << 1;
pub const EXECUTE: u64 = 1 << 2;
pub const SEND: u64 = 1 << 3;
pub const RECEIVE: u64 = 1 << 4;
pub const NOTIFY: u64 = 1 << 5;
pub const WAIT: u64 = 1 << 6;
pub const MAP: u64 = 1 << 7;
pub const STOP: u64 = 1 << 8;
pub const GRANT: u64 = 1 << 9;
pub const ARM: u64 = 1 << 10;
pub const REVOKE: u64 = 1 << 11;
pub const BUILD: u64 = 1 << 12;
pub const START: u64 = 1 << 13;
pub const SCHEDULE: u64 = 1 << 14;
pub const ALL_RIGHTS: u64 = (1 << 15) - 1;
/// The priority of all vcpus here, and the highest that they may give.
pub const PRIORITY: u64 = 32;
/// Pages of all mappings of a memory that can be taken back.
pub const MOST_LENT_PAGES: u64 = 1 << 16;
/// Spaces in which such a memory is mapped.
pub const MOST_LENT_SPACES: usize = 64;

/// Handles in a table.
pub const MOST_HANDLES: usize = 1024;
pub const PAGE: u64 = 4096;
pub const NEVER: u64 = u64::MAX;

/// An object, by its place in [`Model::objects`].
pub type Id = usize;

#[derive(Clone, Debug)]
pub struct Held {
    pub object: Id,
    pub rights: u64,
    pub badge: u64,
}

#[derive(Debug)]
pub enum Object {
    Domain(usize),
    Vcpu(usize),
    /// By its place in [`Model::spaces`].
    Space(usize),
    Memory(Memory),
    Port(Port),
    Event {
        waiter: Option<(usize, u64)>,
        slot: u64,
        throttle: Throttle,
    },
    Timer(Timer),
}

#[derive(Debug)]
pub struct Memory {
    /// Whose account has paid.
    pub owner: usize,
    pub pages: u64,
    /// Where each page is in the machine; learned when the memory is made.
    pub frames: Vec<u64>,
    /// Words that are not zero.
    pub words: BTreeMap<u64, u64>,
    pub handles: usize,
    pub mappings: usize,
    /// Its maker has taken it back.
    pub is_revoked: bool,
    /// A vcpu's page, which counts as a handle: nobody here may map it.
    pub is_page: bool,
}

impl Memory {
    /// Whether nobody can have written to it.
    pub fn is_fresh(&self) -> bool {
        !self.is_page && self.mappings == 0 && self.words.is_empty()
    }
}

#[derive(Debug, Default)]
pub struct Port {
    pub is_console: bool,
    pub capacity: usize,
    pub queue: VecDeque<Message>,
    /// Calls that wait for an answer: who made them, and whether there is memory for the answer.
    pub calls: BTreeMap<u64, (usize, bool)>,
    /// Which call a token stands for; learned when the message is received.
    pub tokens: BTreeMap<u64, u64>,
    pub receiver: Option<(usize, u64)>,
    /// Senders that wait for room, in their order.
    pub line: VecDeque<usize>,
    /// The receiver sleeps in `receive` and nothing has come for it.
    pub is_waited_for: bool,
    pub senders: usize,
}

/// What an event does not post yet.
#[derive(Clone, Copy, Debug, Default)]
pub struct Throttle {
    pub interval: u64,
    /// When bits were posted last.
    pub posted: Option<u64>,
    pub held: u64,
}

impl Throttle {
    /// When held bits are posted.
    pub fn due(&self) -> Option<u64> {
        let posted = self.posted.map_or(0, |posted| posted + self.interval);
        Some(posted).filter(|_| self.held != 0)
    }
}

#[derive(Debug)]
pub struct Timer {
    pub event: Id,
    pub bits: u64,
    pub due: Option<u64>,
    pub handles: usize,
}

#[derive(Clone, Debug, Default)]
pub struct Message {
    pub length: u64,
    pub words: [u64; 8],
    pub handles: Vec<Held>,
    pub badge: u64,
    pub call: Option<u64>,
}

/// What is mapped where.
#[derive(Debug)]
pub struct Space {
    /// Whose account pays.
    pub owner: usize,
    /// The domain that lives in it.
    pub of: Option<usize>,
    /// By the first page.
    pub mappings: BTreeMap<u64, Mapping>,
    /// Frames of page tables, as counted in the machine; 0 for one that is gone.
    pub table_frames: u64,
    /// The first table in the machine; learned when the space is made.
    pub root: Option<u64>,
    pub handles: usize,
}

impl Space {
    pub fn new(owner: usize, of: Option<usize>) -> Self {
        Space {
            owner,
            of,
            mappings: BTreeMap::new(),
            table_frames: 0,
            root: None,
            handles: 0,
        }
    }
}

#[derive(Clone, Debug)]
pub struct Mapping {
    pub pages: u64,
    pub memory: Id,
    /// First page of the memory.
    pub offset: u64,
    pub access: u64,
}

/// The page through which events come.
#[derive(Debug)]
pub struct VcpuPage {
    pub ready: u64,
    pub vector: u64,
    pub pending: [u64; 64],
    pub enabled: [u64; 64],
    pub count: [u64; 64],
    pub wake_at: [u64; 64],
}

impl VcpuPage {
    /// What the guest does to a slot after writing which of its postings matter.
    pub fn look(&mut self, slot: usize) {
        if self.pending[slot] & self.enabled[slot] != 0 && self.has_come(slot) {
            self.ready |= 1 << slot;
        }
    }

    fn has_come(&self, slot: usize) -> bool {
        let (count, wake_at) = (self.count[slot], self.wake_at[slot]);
        wake_at == 0 || count.wrapping_sub(wake_at) < 1 << 63
    }

    /// Sets bits of a slot; whether the vcpu has to be told.
    pub fn post(&mut self, slot: usize, bits: u64) -> bool {
        let fresh = bits & !self.pending[slot];
        self.pending[slot] |= bits;
        let is_ready = self.ready >> slot & 1 != 0;
        let is_news = if bits == 0 {
            false
        } else if self.wake_at[slot] == 0 {
            fresh & self.enabled[slot] != 0
        } else {
            self.count[slot] = self.count[slot].wrapping_add(1);
            let pends = self.pending[slot] & self.enabled[slot] != 0;
            pends && self.has_come(slot) && !is_ready
        };
        self.ready |= u64::from(is_news) << slot;
        is_news
    }
}

/// What a vcpu sleeps in.
#[derive(Clone, Debug)]
pub enum Sleep {
    Wait {
        deadline: u64,
    },
    Receive {
        port: Id,
        deadline: u64,
        buffer: u64,
    },
    Send {
        port: Id,
        deadline: u64,
        raw: RawCall,
    },
    Call {
        port: Id,
        call: u64,
        deadline: u64,
        buffer: Option<u64>,
    },
    Halt,
}

/// The end of the call that a vcpu waits for.
#[derive(Debug)]
pub enum Answer {
    Awaited,
    /// It has handles, or there is no memory for it: the caller delivers it when it runs.
    Here(Message),
    /// It is delivered.
    Values(Vec<u64>),
    Never,
}

/// How far the vcpu of a domain has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vcpu {
    None,
    Made,
    Started,
}

#[derive(Debug)]
pub struct Domain {
    pub ending: Option<(StopReason, u64)>,
    /// Who has made it; nobody if it is from the manifest.
    pub maker: Option<usize>,
    /// The event that is told of its end, and the bits.
    pub watcher: Option<(Id, u64)>,
    /// Its maker has given it up.
    pub is_destroyed: bool,
    /// What it may use is taken from its maker; when that ends after it was destroyed is learned from the
    /// machine, since what it has made can be with others.
    pub is_paid: bool,
    /// It has made objects.
    pub has_made: bool,
    /// Where it lives, by its place in [`Model::spaces`].
    pub space: usize,
    pub vcpu: Vcpu,
    /// The memory of the vcpu's page, if the model knows it.
    pub page_memory: Option<Id>,
    pub handles: BTreeMap<u64, Held>,
    /// Every handle that it has ever had.
    pub ever: BTreeSet<u64>,
    pub page: VcpuPage,
    /// An upcall is due and the vcpu has not run since.
    pub upcall_due: bool,
    /// An upcall was handed to the CPU and has not arrived.
    pub upcall_on_its_way: bool,
    pub sleeps: Option<Sleep>,
    pub answer: Option<Answer>,
    /// The message that has come while it slept in `receive`, already delivered.
    pub arrived: Option<Message>,
    pub frames_limit: u64,
    pub kernel_limit: u64,
    pub last_status: u64,
    /// Of the hypervisor's memory, as the machine says; the specification names no exact sizes.
    pub kernel_used: u64,
}

#[derive(Default)]
pub struct Model {
    /// For the numbers of handles in memory, which the machine chooses.
    pub arena: Option<&'static Arena>,
    pub now: u64,
    pub domains: Vec<Domain>,
    pub objects: Vec<Object>,
    pub spaces: Vec<Space>,
    pub address_limit: u64,
    pub calls_made: u64,
    /// Who must run next, in the same exit.
    pub runs_next: Option<usize>,
    /// What the machine has done that the specification does not allow.
    pub complaints: Vec<String>,
}

impl Port {
    pub fn has_room(&self) -> bool {
        self.queue.len() < self.capacity
    }
}

impl Domain {
    /// A domain from the manifest, which runs.
    pub fn new(frames_limit: u64, kernel_limit: u64, space: usize) -> Self {
        Domain {
            ending: None,
            maker: None,
            watcher: None,
            is_destroyed: false,
            is_paid: false,
            has_made: false,
            space,
            vcpu: Vcpu::Started,
            page_memory: None,
            handles: BTreeMap::new(),
            ever: BTreeSet::new(),
            page: VcpuPage {
                ready: 0,
                vector: 0,
                pending: [0; 64],
                enabled: [0; 64],
                count: [0; 64],
                wake_at: [0; 64],
            },
            upcall_due: false,
            upcall_on_its_way: false,
            sleeps: None,
            answer: None,
            arrived: None,
            frames_limit,
            kernel_limit,
            kernel_used: 0,
            last_status: 0,
        }
    }

    pub fn is_alive(&self) -> bool {
        self.ending.is_none()
    }

    /// Whether handles to it name something: one that was made does until it is destroyed.
    pub fn exists(&self) -> bool {
        match self.maker {
            Some(_) => !self.is_destroyed,
            None => self.is_alive(),
        }
    }
}

impl Model {
    pub fn add(&mut self, object: Object) -> Id {
        self.objects.push(object);
        self.objects.len() - 1
    }

    pub fn complain(&mut self, what: String) {
        self.complaints.push(what);
    }

    pub fn port(&mut self, id: Id) -> &mut Port {
        match &mut self.objects[id] {
            Object::Port(port) => port,
            other => panic!("not a port: {other:?}"),
        }
    }

    pub fn memory(&mut self, id: Id) -> &mut Memory {
        match &mut self.objects[id] {
            Object::Memory(memory) => memory,
            other => panic!("not a memory: {other:?}"),
        }
    }

    pub fn kind(&self, id: Id) -> u64 {
        match &self.objects[id] {
            Object::Domain(_) => 1,
            Object::Vcpu(_) => 2,
            Object::Space(_) => 3,
            Object::Memory(_) => 4,
            Object::Port(_) => 5,
            Object::Event { .. } => 6,
            Object::Timer(_) => 7,
        }
    }

    /// `bad-handle`, `wrong-kind`, `missing-right`, in this order.
    pub fn find(&self, me: usize, handle: u64, kind: u64, rights: u64) -> Result<&Held, Error> {
        let held = self.domains[me]
            .handles
            .get(&handle)
            .ok_or(Error::BadHandle)?;
        if self.kind(held.object) != kind {
            return Err(Error::WrongKind);
        }
        if held.rights & rights != rights {
            return Err(Error::MissingRight);
        }
        Ok(held)
    }

    /// Frames that the domain's account pays for.
    pub fn frames_used(&self, who: usize) -> u64 {
        let memories = self.objects.iter().filter_map(|object| match object {
            Object::Memory(memory) if memory.owner == who => Some(memory),
            _ => None,
        });
        let alive = memories.filter(|memory| memory.handles + memory.mappings > 0);
        let pages: u64 = alive.map(|memory| memory.pages).sum();
        // The page of its vcpu is its own as long as it lives, if it is from the manifest.
        let domain = &self.domains[who];
        let own = u64::from(domain.is_alive() && domain.maker.is_none());
        let made = self
            .domains
            .iter()
            .filter(|domain| domain.maker == Some(who));
        let given: u64 = made
            .filter(|domain| domain.is_paid)
            .map(|domain| domain.frames_limit)
            .sum();
        let spaces = self.spaces.iter().filter(|space| space.owner == who);
        let tables: u64 = spaces.map(|space| space.table_frames).sum();
        pages + own + tables + given
    }

    /// The space in which a domain lives.
    pub fn own_space(&self, who: usize) -> &Space {
        &self.spaces[self.domains[who].space]
    }

    /// The memory at a guest-physical address: which, and the word's number in it.
    pub fn at(&self, who: usize, address: u64, access: u64) -> Option<(Id, u64)> {
        let page = address / PAGE;
        let (start, mapping) = self.own_space(who).mappings.range(..=page).next_back()?;
        let inside = page - start;
        let is_there = inside < mapping.pages && mapping.access & access == access;
        let word = (mapping.offset + inside) * 512 + address % PAGE / 8;
        is_there.then_some((mapping.memory, word))
    }

    pub fn load(&mut self, (memory, word): (Id, u64)) -> u64 {
        self.memory(memory).words.get(&word).copied().unwrap_or(0)
    }

    pub fn store(&mut self, (memory, word): (Id, u64), value: u64) {
        self.memory(memory).words.insert(word, value);
    }

    /// What the machine has in a word of memory.
    pub fn machine_word(&self, (memory, word): (Id, u64)) -> Option<u64> {
        let Object::Memory(memory) = &self.objects[memory] else {
            return None;
        };
        let frame = Frame(*memory.frames.get(word as usize / 512)?);
        let words = self.arena?.words(frame)?;
        Some(words[word as usize % 512].load(core::sync::atomic::Ordering::SeqCst))
    }
}
