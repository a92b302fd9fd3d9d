//! The objects of the model, and how a test sets them up.

use core::sync::atomic::AtomicU64;
use std::collections::VecDeque;
use std::string::String;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::vec::Vec;

use nuncio_abi::{Handle, Message, Name, NamedHandle, ObjectKind, Rights, VcpuPage};

use super::FakeMachine;

/// A domain of a [`World`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DomainId(pub(super) usize);

/// An object of a [`World`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectId(pub(super) usize);

/// A hypervisor in memory: a state under a lock, and a clock that moves when everybody waits.
#[derive(Default)]
pub struct World {
    pub(super) state: Mutex<State>,
    pub(super) changed: Condvar,
}

#[derive(Default)]
pub(super) struct State {
    pub now_ns: u64,
    pub objects: Vec<Object>,
    pub domains: Vec<Domain>,
}

pub(super) enum Object {
    Domain(usize),
    Space,
    Port(Port),
    Event { waiter: Option<(usize, usize)> },
    Memory(Arc<Mutex<Vec<u8>>>),
}

impl Object {
    pub fn kind(&self) -> ObjectKind {
        match self {
            Object::Domain(_) => ObjectKind::Domain,
            Object::Space => ObjectKind::Space,
            Object::Port(_) => ObjectKind::Port,
            Object::Event { .. } => ObjectKind::Event,
            Object::Memory(_) => ObjectKind::Memory,
        }
    }
}

pub(super) struct Port {
    pub capacity: usize,
    pub queue: VecDeque<(Message, u64)>,
    pub receiver: Option<(usize, usize)>,
}

pub(super) struct Domain {
    pub handles: Vec<Option<(usize, Rights)>>,
    pub names: Vec<NamedHandle>,
    pub page: Arc<[AtomicU64; 512]>,
    pub mapped: Vec<(u64, u64)>,
    pub next_slot: usize,
    pub exit_code: Option<u64>,
    pub blocked_until_ns: Option<u64>,
    pub console: String,
}

impl Domain {
    pub fn is_alive(&self) -> bool {
        self.exit_code.is_none()
    }

    pub fn post(&self, slot: usize, bits: u64) {
        if let Some(word) = VcpuPage::new(&self.page).slot(slot) {
            word.post(bits);
        }
    }
}

impl World {
    /// A world with nothing in it.
    pub fn new() -> Arc<World> {
        Arc::default()
    }

    /// Adds a domain with its own four objects; what it sends to its console is kept as text.
    pub fn domain(&self) -> DomainId {
        let mut state = self.lock();
        let number = state.domains.len();
        state.domains.push(Domain {
            handles: std::vec![None],
            names: Vec::new(),
            page: Arc::new([const { AtomicU64::new(0) }; 512]),
            mapped: Vec::new(),
            next_slot: 0,
            exit_code: None,
            blocked_until_ns: None,
            console: String::new(),
        });
        let domain = state.add(Object::Domain(number));
        let space = state.add(Object::Space);
        let console = state.add(Object::Port(Port {
            capacity: usize::MAX,
            queue: VecDeque::new(),
            receiver: None,
        }));
        let id = DomainId(number);
        state.give(id, "domain", domain, Rights::STOP);
        state.give(id, "space", space, Rights::MAP);
        state.give(id, "console", console, Rights::SEND);
        id
    }

    /// Adds a port.
    pub fn port(&self, capacity: usize) -> ObjectId {
        self.lock().add(Object::Port(Port {
            capacity,
            queue: VecDeque::new(),
            receiver: None,
        }))
    }

    /// Adds an event.
    pub fn event(&self) -> ObjectId {
        self.lock().add(Object::Event { waiter: None })
    }

    /// Adds memory.
    pub fn memory(&self, bytes: usize) -> ObjectId {
        let memory = Arc::new(Mutex::new(std::vec![0; bytes]));
        self.lock().add(Object::Memory(memory))
    }

    /// Gives an object to a domain under a name.
    pub fn give(&self, domain: DomainId, name: &str, object: ObjectId, rights: Rights) {
        self.lock().give(domain, name, object, rights);
    }

    /// The machine of a domain, with boot modules of these names and contents.
    pub fn machine(self: &Arc<World>, domain: DomainId, modules: &[(&str, &[u8])]) -> FakeMachine {
        FakeMachine::new(self.clone(), domain, modules)
    }

    /// Ends a domain from outside.
    pub fn kill(&self, domain: DomainId) {
        self.lock().end(domain.0, u64::MAX);
        self.changed.notify_all();
    }

    /// What a domain has sent to its console.
    pub fn console_text(&self, domain: DomainId) -> String {
        self.lock().domains[domain.0].console.clone()
    }

    /// The exit code of a domain that has stopped.
    pub fn exit_code(&self, domain: DomainId) -> Option<u64> {
        self.lock().domains[domain.0].exit_code
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test thread panicked")
    }
}

impl State {
    fn add(&mut self, object: Object) -> ObjectId {
        self.objects.push(object);
        ObjectId(self.objects.len() - 1)
    }

    fn give(&mut self, domain: DomainId, name: &str, object: ObjectId, rights: Rights) {
        let receives = rights.contains(Rights::RECEIVE) || rights.contains(Rights::WAIT);
        let target = &mut self.domains[domain.0];
        let slot = if receives { target.next_slot } else { 0 };
        target.next_slot += usize::from(receives);
        let handle = Handle::new(target.handles.len() as u16, 1);
        target.handles.push(Some((object.0, rights)));
        let name = Name::new(name).expect("a short name");
        let kind = self.objects[object.0].kind();
        target
            .names
            .push(NamedHandle::new(name, handle, kind, rights, slot as u8));
        match &mut self.objects[object.0] {
            Object::Port(port) if receives => port.receiver = Some((domain.0, slot)),
            Object::Event { waiter } if receives => *waiter = Some((domain.0, slot)),
            _ => {}
        }
    }

    /// Ends a domain; its handles go with it.
    pub fn end(&mut self, domain: usize, code: u64) {
        self.domains[domain].exit_code.get_or_insert(code);
        self.domains[domain].handles.clear();
        self.wake_all();
    }

    /// Whether a domain that still runs holds that right on the object.
    pub fn is_held(&self, object: usize, right: Rights) -> bool {
        self.domains.iter().any(|domain| {
            let mut held = domain.handles.iter().flatten();
            held.any(|(other, rights)| *other == object && rights.contains(right))
        })
    }

    /// Lets every thread look again; until it has, nobody counts as waiting.
    pub fn wake_all(&mut self) {
        for domain in &mut self.domains {
            domain.blocked_until_ns = None;
        }
    }
}
