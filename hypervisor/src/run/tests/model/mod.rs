//! The object system against a model of it, which was written from the specification of the ABI.
//!
//! [`state`] and [`verbs`] are the model, with a file each for how things come and go, who is woken,
//! messages, mappings and `create`. [`driver`] plays guests: whenever the loop enters a vcpu,
//! the driver looks at what has happened, lets the guest do something, and does the same to the
//! model; `comparing` puts both side by side. Everything between the world switch and the clock is the real code. After each call the
//! status and all registers, who runs or sleeps, the vcpu pages, and the frames are compared, and
//! every few calls all handles, queues, page tables and contents of memory.
//!
//! The environment variable `NUNCIO_MODEL_CALLS` says how many calls each test makes, and
//! `NUNCIO_MODEL_SEED` from which number the sequences are made.

mod choose;
mod comparing;
mod creating;
mod driver;
mod lifetimes;
mod mapping;
mod messages;
mod puppet;
mod state;
mod tests;
mod verbs;
mod waking;

use alloc::rc::Rc;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::RefCell;

use nuncio_abi::{Name, Rights, StopReason};

use crate::mem::arena::Arena;
use crate::mem::{Account, Frame, FramePool, GuestPhysical};
use crate::nested::NPT;
use crate::object::{
    Domain as RealDomain, DomainId, Event as RealEvent, Held as RealHeld, Mapping as RealMapping,
    Memory as RealMemory, Object as RealObject, Port as RealPort, Space as RealSpace,
    Vcpu as RealVcpu, VcpuNumber,
};
use crate::run::{Cpus, Runner};
use crate::sched::CpuIndex;
use crate::sched::VcpuId;

use choose::Taste;
use driver::{Driver, Real};
use puppet::{Machine, Puppet, Puppets};
use state::*;

const FIRST_FRAME: u64 = 0x200;
const FRAMES: u64 = 8192;
const ADDRESS_LIMIT: u64 = 1 << 39;
const RAM_PAGES: u64 = 8;

std::thread_local! {
    static ARENA: &'static Arena = Arena::leak(FIRST_FRAME, FRAMES);
}

/// What is the same for a whole sequence.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    pub domains: usize,
    pub slack_frames: u64,
    pub kernel_bytes: u64,
    pub taste: Taste,
}

/// What a sequence has done.
#[derive(Default)]
pub struct Played {
    pub calls: u64,
    pub seen: alloc::collections::BTreeMap<(u64, u64), u64>,
    /// Domains that domains have made, and calls that those have made.
    pub made: (u64, u64),
}

/// The machine and the model with the same domains in them.
struct Stage {
    model: Model,
    real: Vec<Real>,
    accounts: Vec<Arc<Account>>,
    domains: Vec<(Arc<RealDomain>, RealVcpu)>,
}

/// Plays a sequence; the error says where machine and model differ.
pub fn play(setting: &Setting, steps: &[u64]) -> Result<Played, String> {
    let arena = ARENA.with(|arena| *arena);
    let pool = FramePool::new(arena);
    pool.add(Frame(FIRST_FRAME), FRAMES);
    let free_before = pool.free_frames();
    let shared = Account::new(pool.clone(), u64::MAX);
    let Stage {
        model,
        real,
        accounts,
        domains,
    } = Stage::new(setting, arena, &pool, &shared);
    let driver = Rc::new(RefCell::new(Driver::new(
        model,
        real,
        arena,
        setting.taste,
        steps,
    )));
    let clock = driver.borrow().clock.clone();
    let machine = Machine {
        clock,
        driver: driver.clone(),
    };
    let mut runner = Runner::new(
        Cpus::new(1),
        CpuIndex::BOOT,
        Puppets(driver.clone()),
        machine,
        None,
    );
    for (number, (domain, vcpu)) in domains.into_iter().enumerate() {
        let id = runner.cpus().new_vcpu_id(CpuIndex::BOOT);
        assert_eq!(id, Some(vcpu.id()));
        runner.add(domain, vcpu, Puppet::new(number), (), false);
    }
    let reports = runner.run();
    drop(runner);
    let driver = Rc::try_unwrap(driver).map_err(|_| "the driver is still in use")?;
    let mut driver = driver.into_inner();
    driver.finish();
    if let Some(failure) = driver.failure.take() {
        return Err(failure);
    }
    for (report, domain) in reports.iter().zip(&driver.model.domains) {
        let real = (report.ending.reason, report.ending.detail);
        let expected = domain.ending.unwrap_or((StopReason::Deadlock, 0));
        if real != expected {
            return Err(alloc::format!("ended with {real:?}, not {expected:?}"));
        }
    }
    for account in &accounts {
        let left = (account.used(), account.kernel_bytes_used());
        if left != (0, 0) {
            return Err(alloc::format!(
                "{left:?} frames and bytes are left of a domain"
            ));
        }
    }
    if pool.free_frames() != free_before {
        return Err("frames are lost".into());
    }
    Ok(Played {
        calls: driver.calls,
        seen: driver.seen,
        made: (
            (driver.real.len() - setting.domains) as u64,
            driver.calls_of_made,
        ),
    })
}

impl Stage {
    fn new(
        setting: &Setting,
        arena: &'static Arena,
        pool: &Arc<FramePool>,
        shared: &Arc<Account>,
    ) -> Self {
        let mut stage = Stage {
            model: Model {
                arena: Some(arena),
                address_limit: ADDRESS_LIMIT,
                ..Model::default()
            },
            real: Vec::new(),
            accounts: Vec::new(),
            domains: Vec::new(),
        };
        for number in 0..setting.domains {
            stage.add_domain(number, setting, arena, pool);
        }
        stage.connect(setting.domains, shared);
        for (domain, real) in stage.model.domains.iter_mut().zip(&stage.real) {
            domain.kernel_used = real.kernel_used();
        }
        stage
    }

    fn add_domain(
        &mut self,
        number: usize,
        setting: &Setting,
        arena: &'static Arena,
        pool: &Arc<FramePool>,
    ) {
        let frames = RAM_PAGES + 5 + setting.slack_frames;
        let account = Account::with_kernel_limit(pool.clone(), frames, setting.kernel_bytes);
        let space = Arc::new(RealSpace::new(&account, arena, &NPT, ADDRESS_LIMIT).unwrap());
        let ram = Arc::new(RealMemory::allocate(&account, RAM_PAGES).unwrap());
        let page = Arc::new(RealMemory::allocate(&account, 1).unwrap());
        let vcpu = RealVcpu::new(VcpuId(number as u32), page.clone(), arena).unwrap();
        let mapping = RealMapping {
            address: GuestPhysical(0),
            offset: 0,
            length: RAM_PAGES * PAGE,
            access: Rights::ACCESS,
        };
        space.map(&ram, &mapping, &mut |_| ()).unwrap();
        let root = space.root();
        let name = Name::new("guest").unwrap();
        let id = DomainId(number as u32);
        let domain = Arc::new(RealDomain::new(
            id,
            name,
            CpuIndex::BOOT,
            account.clone(),
            space,
        ));
        self.real.push(Real {
            domain: Arc::downgrade(&domain),
            account: Arc::downgrade(&account),
            page: crate::mem::PhysicalMemory::words(arena, page.frame(0).unwrap()).unwrap(),
        });
        self.accounts.push(account);
        let first = domain.add_vcpu(|| Ok(vcpu)).unwrap();
        let vcpu = domain.take_vcpu(first).unwrap();
        self.domains.push((domain, vcpu));
        let domain = Domain::new(frames, setting.kernel_bytes, number);
        let memory = self.memory(&ram, number);
        self.model.memory(memory).mappings = 1;
        let mapping = Mapping {
            pages: RAM_PAGES,
            memory,
            offset: 0,
            access: READ | WRITE | EXECUTE,
        };
        let mut space = Space::new(number, Some(number));
        space.mappings.insert(0, mapping);
        space.table_frames = 4;
        space.root = Some(root.0);
        self.model.spaces.push(space);
        self.model.domains.push(domain);
    }

    fn memory(&mut self, real: &RealMemory, owner: usize) -> Id {
        let frames = (0..real.pages()).filter_map(|page| real.frame(page));
        self.model.add(Object::Memory(Memory {
            owner,
            pages: real.pages(),
            frames: frames.map(|frame| frame.0).collect(),
            words: Default::default(),
            handles: 0,
            mappings: 0,
            is_revoked: false,
            is_page: false,
        }))
    }

    /// The handles that every domain has, and objects between them as a manifest makes them. More
    /// than there: handles to the other domains, and `grant` on some.
    fn connect(&mut self, domains: usize, shared: &Arc<Account>) {
        let console = Arc::new(RealPort::console());
        let model_console = self.model.add(Object::Port(Port {
            is_console: true,
            ..Port::default()
        }));
        let pages = Arc::new(RealMemory::allocate(shared, 3).unwrap());
        let model_pages = self.memory(&pages, usize::MAX);
        for me in 0..domains {
            let (domain, _) = &self.domains[me];
            let own = [
                (
                    RealObject::Space(domain.space.clone()),
                    Object::Space(me),
                    MAP,
                ),
                (
                    RealObject::Vcpu(Arc::downgrade(domain), VcpuNumber::FIRST),
                    Object::Vcpu(me),
                    0,
                ),
            ];
            for (real, object, rights) in own {
                let object = self.model.add(object);
                self.give(me, real, object, rights);
            }
            self.give(me, RealObject::Port(console.clone()), model_console, SEND);
            let rights = if me == 0 { READ | GRANT } else { READ | WRITE };
            self.give(me, RealObject::Memory(pages.clone()), model_pages, rights);
        }
        for me in 0..domains {
            let domain = self.model.add(Object::Domain(me));
            let real = RealObject::Domain(Arc::downgrade(&self.domains[me].0));
            self.give(me, real.clone(), domain, STOP);
            self.give(
                (me + 1) % domains,
                real,
                domain,
                if me == 1 { STOP } else { 0 },
            );
            let vcpu = self.model.add(Object::Vcpu(me));
            let real = RealObject::Vcpu(Arc::downgrade(&self.domains[me].0), VcpuNumber::FIRST);
            let rights = START | STOP | SCHEDULE | GRANT;
            self.give((me + 1) % domains, real, vcpu, rights);
            self.wire(me, (me + 1) % domains);
        }
    }

    /// A port and an event from one domain to another.
    fn wire(&mut self, from: usize, to: usize) {
        let receiver = &self.domains[to].1;
        let port = RealPort::new(2, receiver.target(0), None);
        let port = Arc::new(port.served_by(receiver.sleeper()));
        let model = self.model.add(Object::Port(Port {
            capacity: 2,
            receiver: Some((to, 0)),
            ..Port::default()
        }));
        self.give(to, RealObject::Port(port.clone()), model, RECEIVE);
        self.give(from, RealObject::Port(port), model, SEND | GRANT);
        let target = self.domains[to].1.target(1);
        let event = Arc::new(RealEvent::new(target, None));
        let model = self.model.add(Object::Event {
            waiter: Some((to, 1)),
            slot: 1,
            throttle: Throttle::default(),
        });
        self.give(to, RealObject::Event(event.clone()), model, WAIT);
        self.give(from, RealObject::Event(event), model, NOTIFY | GRANT);
    }

    fn give(&mut self, me: usize, real: RealObject, object: Id, rights: u64) {
        let badge = me as u64 + 1;
        let held = RealHeld {
            object: real,
            rights: Rights::from_bits(rights).unwrap(),
            badge,
        };
        let handle = self.domains[me].0.handles.lock().insert(held).unwrap();
        self.model.give(me, object, rights, badge, handle.raw());
    }
}
