//! The machine of one domain in the model.

use core::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::vec::Vec;

use nuncio_abi::{BootInfo, Call, Error, Module, Name, RawCall, Reply, Rights, VcpuPage};

use super::world::{DomainId, Object, World};
use crate::hv::{Gate, Machine, Memory, MessageBuffers, SharedView, Space};

/// What a program in a domain of a [`World`] runs on.
pub struct FakeMachine {
    pub(super) world: Arc<World>,
    pub(super) domain: usize,
    pub(super) page: Arc<[AtomicU64; 512]>,
    pub(super) buffers: MessageBuffers,
    boot: BootInfo,
    modules: Vec<Vec<u8>>,
}

impl FakeMachine {
    pub(super) fn new(world: Arc<World>, domain: DomainId, modules: &[(&str, &[u8])]) -> Self {
        let (page, names) = {
            let state = world.lock();
            let own = &state.domains[domain.0];
            (own.page.clone(), own.names.clone())
        };
        let mut boot = super::boot_info(&names);
        for (index, (name, bytes)) in modules.iter().enumerate() {
            boot.modules[index] = Module {
                name: Name::new(name).expect("a short name"),
                address: index as u64,
                length: bytes.len() as u64,
            };
        }
        boot.module_count = modules.len() as u64;
        FakeMachine {
            world,
            domain: domain.0,
            page,
            buffers: MessageBuffers::new(),
            boot,
            modules: modules.iter().map(|(_, bytes)| bytes.to_vec()).collect(),
        }
    }

    /// The boot info of the domain.
    pub const fn boot_info(&self) -> &BootInfo {
        &self.boot
    }

    /// Ends the domain as its program would.
    pub fn exit(&self, code: u64) {
        self.world.lock().end(self.domain, code);
        self.world.changed.notify_all();
    }
}

impl Gate for FakeMachine {
    fn call(&self, raw: RawCall) -> Reply {
        match Call::decode(&raw).and_then(|call| self.perform(call)) {
            Ok(reply) => reply,
            Err(error) => Reply::Error(error),
        }
    }
}

impl Machine for FakeMachine {
    type View = FakeView;

    fn vcpu_page(&self) -> VcpuPage<'_> {
        VcpuPage::new(&self.page)
    }

    fn now_ns(&self) -> u64 {
        let mut state = self.world.lock();
        state.now_ns += 100;
        state.now_ns
    }

    fn buffers(&self) -> &MessageBuffers {
        &self.buffers
    }

    fn collected_by_upcall(&self, _slot: usize, _mask: u64) -> u64 {
        0
    }

    fn attach(
        &self,
        space: &Space<'_, Self>,
        memory: &Memory<'_, Self>,
        access: Rights,
    ) -> Result<FakeView, Error> {
        let length = memory.bytes()?;
        space.map(memory, 1 << 32, 0, length, access)?;
        let state = self.world.lock();
        let place = usize::from(memory.object().handle().index());
        let entry = state.domains[self.domain]
            .handles
            .get(place)
            .copied()
            .flatten();
        let (number, rights) = entry.ok_or(Error::BadHandle)?;
        let Object::Memory(bytes) = &state.objects[number] else {
            return Err(Error::WrongKind);
        };
        if !rights.contains(access) {
            return Err(Error::MissingRight);
        }
        Ok(FakeView {
            bytes: bytes.clone(),
            is_writable: access.contains(Rights::WRITE),
        })
    }

    fn module_bytes(&self, module: &Module) -> Option<&[u8]> {
        let index = usize::try_from(module.address).ok()?;
        self.modules.get(index).map(Vec::as_slice)
    }
}

/// Shared memory of the model.
pub struct FakeView {
    bytes: Arc<Mutex<Vec<u8>>>,
    is_writable: bool,
}

impl SharedView for FakeView {
    fn length(&self) -> u64 {
        self.bytes.lock().expect("unpoisoned").len() as u64
    }

    fn read(&self, offset: u64, bytes: &mut [u8]) -> bool {
        let memory = self.bytes.lock().expect("unpoisoned");
        let start = offset as usize;
        let found = start.checked_add(bytes.len());
        match found.and_then(|end| memory.get(start..end)) {
            Some(source) => {
                bytes.copy_from_slice(source);
                true
            }
            None => false,
        }
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> bool {
        let mut memory = self.bytes.lock().expect("unpoisoned");
        let start = offset as usize;
        let found = start.checked_add(bytes.len());
        match found.and_then(|end| memory.get_mut(start..end)) {
            Some(target) if self.is_writable => {
                target.copy_from_slice(bytes);
                true
            }
            _ => false,
        }
    }
}
