//! A domain while it is being made.

use alloc::sync::Arc;
use alloc::vec::Vec;

use nuncio_abi::{
    BootInfo, Handle, Module, Name, NamedHandle, ObjectKind, Rights, COMMAND_LINE_BYTES,
    EVENT_SLOTS, VERSION,
};

use crate::image::{Image, Segment};
use crate::mem::{Account, FrameBytes, GuestPhysical, PAGE_BYTES, PAGE_SHIFT};
use crate::object::{Domain, DomainId, Held, Mapping, Memory, Object, Space, Vcpu, VcpuNumber};
use crate::plan::{DomainPlan, ModulePlan, SchedulePlan, DEFAULT_KERNEL_BYTES};
use crate::run::{Launched, Planned, Platform, Runner};
use crate::sched::Priority;
use crate::vt::{StartState, Vendor};

use super::error::Fault;
use super::first_tables::FirstTables;
use super::layout::Layout;
use super::vcpus::Vcpus;
use super::{is_reachable, ram, LoadedModule, Machine, SharedPages};

/// A domain with everything but its vcpu's registers.
pub(super) struct Draft {
    pub(super) domain: Arc<Domain>,
    /// Its first vcpu.
    pub(super) vcpu: Vcpu,
    schedule: SchedulePlan,
    background: bool,
    boot_info_page: Arc<Memory>,
    info: BootInfo,
    layout: Layout,
    entry: GuestPhysical,
    page_table: GuestPhysical,
    next_slot: u8,
}

/// Frames that a domain gets beyond its RAM and modules: its own page tables, its vcpu's control
/// block and pages, and what it maps itself.
const FIXED_SLACK_FRAMES: u64 = 256;
/// One more for each so many frames of RAM, for page tables of 4 KiB pages.
const FRAMES_PER_SLACK_FRAME: u64 = 256;

/// As many for each of its vcpus as one takes at most: its page, its control block and what goes with
/// that.
const FRAMES_PER_VCPU: u64 = 8;

impl Draft {
    pub(super) fn new<V: Vendor, P: Platform>(
        runner: &mut Runner<V, P>,
        machine: &Machine,
        pages: &mut SharedPages,
        plan: &DomainPlan,
        index: usize,
        vcpus_before: usize,
    ) -> Result<Self, Fault> {
        let frames = quota_frames(machine, plan);
        let kernel_bytes = plan.kernel_bytes.unwrap_or(DEFAULT_KERNEL_BYTES);
        let account = Account::with_kernel_limit(machine.pool.clone(), frames, kernel_bytes);
        let format = runner.vendor().entry_format();
        let limit = machine.address_limit;
        let space = Space::new(&account, machine.physical, format, limit)?;
        let ram = Arc::new(Memory::allocate(&account, plan.memory_bytes >> PAGE_SHIFT)?);
        let image = load_image(machine, &ram, plan)?;
        let cpus = runner.cpus();
        let vcpus = Vcpus::make(cpus, machine, plan, vcpus_before, &account)?;
        let boot_info_page = Arc::new(Memory::allocate(&account, 1)?);
        let id = DomainId(index as u32);
        let domain = Domain::new(id, plan.name, vcpus.cpu, account, Arc::new(space));
        let vcpu_pages = vcpus.pages.clone();
        vcpus.add_to(&domain)?;
        let vcpu = domain.take_vcpu(VcpuNumber::FIRST)?;
        let mut draft = Draft {
            domain: Arc::new(domain),
            vcpu,
            schedule: plan.schedule,
            background: plan.background,
            boot_info_page,
            info: BootInfo::EMPTY,
            layout: Layout::new(plan.memory_bytes),
            entry: image.entry,
            page_table: GuestPhysical(0),
            next_slot: 0,
        };
        draft.map_fixed(&ram, pages, &vcpu_pages)?;
        draft.map_modules(machine, pages, &plan.modules)?;
        draft.write_first_tables(machine, &ram, image.end)?;
        draft.describe(plan, limit);
        draft.give_own_handles(pages)?;
        Ok(draft)
    }

    fn map_fixed(
        &mut self,
        ram: &Arc<Memory>,
        pages: &SharedPages,
        vcpu_pages: &[Arc<Memory>],
    ) -> Result<(), Fault> {
        let all = Rights::ACCESS;
        let layout = self.layout;
        self.map(GuestPhysical(0), ram, all)?;
        self.map(layout.boot_info, &self.boot_info_page, Rights::READ)?;
        let mut vcpu_page = layout.vcpu_page;
        for page in vcpu_pages {
            self.map(vcpu_page, page, Rights::READ | Rights::WRITE)?;
            vcpu_page = GuestPhysical(vcpu_page.0.saturating_add(PAGE_BYTES));
        }
        self.map(layout.time_page, &pages.time, Rights::READ)?;
        self.map(
            layout.text_page,
            &pages.text,
            Rights::READ | Rights::EXECUTE,
        )
    }

    fn map(
        &self,
        address: GuestPhysical,
        memory: &Arc<Memory>,
        access: Rights,
    ) -> Result<(), Fault> {
        let mapping = Mapping {
            address,
            offset: 0,
            length: memory.bytes(),
            access,
        };
        Ok(self.domain.space.map(memory, &mapping, &mut |_| ())?)
    }

    fn map_modules(
        &mut self,
        machine: &Machine,
        pages: &mut SharedPages,
        modules: &[ModulePlan],
    ) -> Result<(), Fault> {
        for (plan, entry) in modules.iter().zip(0usize..) {
            let (number, module) = find_module(machine, &plan.boot_module)?;
            let address = self
                .layout
                .place_module(module.start.frame(), module.length);
            if module.length > 0 {
                let memory = match pages.modules.get(&number) {
                    Some(memory) => memory.clone(),
                    None => self.adopt(machine, module, &plan.boot_module)?,
                };
                self.map(address, &memory, Rights::READ)?;
                pages.modules.insert(number, memory);
            }
            *self
                .info
                .modules
                .get_mut(entry)
                .ok_or(Fault::TooManyGrants)? = Module {
                name: plan.name,
                address: address.0,
                length: module.length,
            };
            self.info.module_count = entry as u64 + 1;
        }
        Ok(())
    }

    /// The module's own frames become the domain's: nothing is copied.
    fn adopt(
        &self,
        machine: &Machine,
        module: &LoadedModule,
        name: &Name,
    ) -> Result<Arc<Memory>, Fault> {
        let frames = module.length.div_ceil(PAGE_BYTES);
        let extent = self.domain.account.adopt(module.start.frame(), frames)?;
        let memory = Memory::from_extents(Vec::from([extent]));
        let runs = memory.runs(0, frames).unwrap_or_default();
        if !is_reachable(machine.physical, &runs) {
            return Err(Fault::UnusableModule(*name));
        }
        // Behind the module lies whatever the boot loader left there.
        ram::clear_tail(machine.physical, &memory, module.length)
            .ok_or(Fault::UnusableModule(*name))?;
        Ok(Arc::new(memory))
    }

    fn write_first_tables(
        &mut self,
        machine: &Machine,
        memory: &Memory,
        image_end: GuestPhysical,
    ) -> Result<(), Fault> {
        let base = image_end.0.next_multiple_of(PAGE_BYTES);
        let tables = FirstTables::new(base, self.layout.end())
            .ok_or(Fault::Mapping(nuncio_abi::Error::BadAddress))?;
        let end = base.saturating_add(tables.bytes());
        ram::write_words(machine.physical, memory, base, &tables.words())
            .ok_or(Fault::TooLittleMemory { needed_bytes: end })?;
        self.page_table = GuestPhysical(base);
        self.info.free_start = end;
        Ok(())
    }

    fn describe(&mut self, plan: &DomainPlan, address_limit: u64) {
        let info = &mut self.info;
        info.version = u64::from(VERSION.to_raw());
        info.name = plan.name;
        info.ram_bytes = plan.memory_bytes;
        info.vcpu_page = self.layout.vcpu_page.0;
        info.time_page = self.layout.time_page.0;
        info.text_page = self.layout.text_page.0;
        info.mapped_end = self.layout.end();
        info.address_limit = address_limit;
        let bytes = plan.command_line.bytes().take(COMMAND_LINE_BYTES - 1);
        for (place, byte) in info.command_line.iter_mut().zip(bytes) {
            *place = byte;
        }
    }

    fn give_own_handles(&mut self, pages: &SharedPages) -> Result<(), Fault> {
        let domain = Object::Domain(Arc::downgrade(&self.domain));
        let space = Object::Space(self.domain.space.clone());
        self.give("domain", domain, Rights::STOP, 0)?;
        self.give_vcpus()?;
        self.give("space", space, Rights::MAP, 0)?;
        // For the domains that it makes.
        let time = Object::Memory(pages.time.clone());
        self.give("time-page", time, Rights::READ | Rights::GRANT, 0)?;
        let text = Object::Memory(pages.text.clone());
        let rights = Rights::READ | Rights::EXECUTE | Rights::GRANT;
        self.give("text-page", text, rights, 0)?;
        Ok(())
    }

    /// Handles to its vcpus: it starts all but the first by itself.
    fn give_vcpus(&mut self) -> Result<(), Fault> {
        for (place, id) in self.domain.vcpu_ids().into_iter().enumerate() {
            let number = VcpuNumber(u8::try_from(place).unwrap_or(u8::MAX));
            let vcpu = Object::Vcpu(Arc::downgrade(&self.domain), number);
            let handle = if id == self.vcpu.id() {
                self.give("vcpu", vcpu, Rights::NONE, 0)?
            } else {
                self.insert(vcpu, Rights::START | Rights::STOP)?
            };
            let entry = self.info.vcpus.get_mut(place);
            *entry.ok_or(Fault::TooManyGrants)? = handle.raw();
            self.info.vcpu_count += 1;
        }
        Ok(())
    }

    /// Gives the domain a handle and writes it into its boot-info page.
    pub(super) fn give(
        &mut self,
        name: &str,
        object: Object,
        rights: Rights,
        slot: u8,
    ) -> Result<Handle, Fault> {
        let kind = object.kind();
        let handle = self.insert(object, rights)?;
        let name = Name::new(name).ok_or(Fault::TooManyGrants)?;
        self.list(name, handle, kind, rights, slot)?;
        Ok(handle)
    }

    fn insert(&mut self, object: Object, rights: Rights) -> Result<Handle, Fault> {
        let held = Held {
            object,
            rights,
            // 0 is no badge.
            badge: u64::from(self.domain.id.0).saturating_add(1),
        };
        Ok(self.domain.handles.lock().insert(held)?)
    }

    fn list(
        &mut self,
        name: Name,
        handle: Handle,
        kind: ObjectKind,
        rights: Rights,
        slot: u8,
    ) -> Result<(), Fault> {
        let index = self.info.handle_count as usize;
        let entry = self
            .info
            .handles
            .get_mut(index)
            .ok_or(Fault::TooManyGrants)?;
        *entry = NamedHandle::new(name, handle, kind, rights, slot);
        self.info.handle_count += 1;
        Ok(())
    }

    /// Takes the next slot of the vcpu page.
    pub(super) fn take_slot(&mut self) -> Result<u8, Fault> {
        let slot = self.next_slot;
        if usize::from(slot) >= EVENT_SLOTS {
            return Err(Fault::TooManyGrants);
        }
        self.next_slot += 1;
        Ok(slot)
    }

    /// Writes the boot-info page, makes the vcpu and hands the domain to the loop.
    pub(super) fn finish<V: Vendor, P: Platform>(
        self,
        runner: &mut Runner<V, P>,
        machine: &Machine,
    ) -> Result<(), Fault> {
        let words = self.info.to_words();
        ram::write_words(machine.physical, &self.boot_info_page, 0, &words)
            .ok_or(Fault::TooManyGrants)?;
        let start = StartState {
            nested_root: self.domain.space.root(),
            entry: self.entry,
            page_table: self.page_table,
            // As if called: the return address that is not there lies at the end of the RAM.
            stack: GuestPhysical(self.info.ram_bytes.saturating_sub(8)),
            argument: self.layout.boot_info,
        };
        for id in self.domain.vcpu_ids() {
            runner.plan(Planned {
                id,
                priority: Priority::of_level(self.schedule.priority),
                budget: self.schedule.budget,
            });
        }
        runner.launch(Launched {
            domain: self.domain,
            vcpu: self.vcpu,
            start,
            background: self.background,
        })?;
        Ok(())
    }
}

fn quota_frames(machine: &Machine, plan: &DomainPlan) -> u64 {
    let modules: u64 = plan
        .modules
        .iter()
        .filter_map(|module| find_module(machine, &module.boot_module).ok())
        .map(|(_, module)| module.length.div_ceil(PAGE_BYTES))
        .sum();
    let frames = (plan.memory_bytes >> PAGE_SHIFT) + modules;
    let vcpus = u64::from(plan.vcpus) * FRAMES_PER_VCPU;
    frames + frames / FRAMES_PER_SLACK_FRAME + FIXED_SLACK_FRAMES + vcpus
}

fn find_module<'a>(machine: &'a Machine, name: &Name) -> Result<(usize, &'a LoadedModule), Fault> {
    machine
        .modules
        .iter()
        .enumerate()
        .find(|(_, module)| module.name == name.as_str())
        .ok_or(Fault::NoModule(*name))
}

fn load_image(machine: &Machine, memory: &Memory, plan: &DomainPlan) -> Result<Image, Fault> {
    let (_, module) = find_module(machine, &plan.image)?;
    let file = FrameBytes::new(machine.physical, module.start, module.length as usize);
    let image = Image::parse(&file, plan.memory_bytes)?;
    for segment in &image.segments {
        load_segment(machine, memory, &file, segment).ok_or(Fault::UnusableModule(plan.image))?;
    }
    Ok(image)
}

/// Copies a segment page by page; what the file does not fill is zero already.
fn load_segment(
    machine: &Machine,
    memory: &Memory,
    file: &dyn crate::mem::ByteSource,
    segment: &Segment,
) -> Option<()> {
    let mut buffer = [0; PAGE_BYTES as usize];
    let mut address = segment.address.0;
    let mut position = segment.file.start;
    while position < segment.file.end {
        let length = (segment.file.end - position).min(buffer.len());
        let chunk = buffer.get_mut(..length)?;
        if !file.read(position, chunk) {
            return None;
        }
        ram::write(machine.physical, memory, address, chunk)?;
        address += length as u64;
        position += length;
    }
    Some(())
}
