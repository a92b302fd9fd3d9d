//! A plan that grows record by record and never breaks a rule.

use alloc::string::String;
use alloc::vec::Vec;

use nuncio_abi::{
    Budget, Name, Rights, COMMAND_LINE_BYTES, MAX_MODULES, MAX_PRIORITY, MAX_VCPUS, PAGE_BYTES,
};

use super::{
    DomainPlan, EventPlan, Fault, Grant, GrantedObject, Limit, MemoryPlan, ModulePlan, Plan,
    PlanError, PortPlan, SchedulePlan, MAX_CPUS, MAX_DOMAINS, MAX_GRANTS, MAX_KERNEL_BYTES,
    MAX_MEMORY_BYTES, MAX_OBJECTS, MAX_PORT_CAPACITY, MIN_KERNEL_BYTES, RESERVED_NAMES,
};

/// The kinds of object that a plan gives.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Port,
    Memory,
    Event,
}

/// The plan so far.
#[derive(Default)]
pub(super) struct Builder {
    plan: Plan,
    /// Which domains have got their command line.
    command_lines: Vec<usize>,
    /// Which of them have their priority and budget.
    schedules: Vec<usize>,
    /// The line of each port's record.
    port_lines: Vec<u32>,
    /// The line of each event's record.
    event_lines: Vec<u32>,
}

impl Builder {
    pub(super) fn set_limit_ms(&mut self, limit_ms: u64) -> Result<(), Fault> {
        within(limit_ms > 0, Limit::Duration)?;
        match self.plan.limit_ms.replace(limit_ms) {
            None => Ok(()),
            Some(_) => Err(Fault::Repeated),
        }
    }

    pub(super) fn add_domain(&mut self, domain: DomainPlan) -> Result<(), Fault> {
        let vcpus = usize::try_from(domain.vcpus).unwrap_or(usize::MAX);
        within((1..=MAX_VCPUS).contains(&vcpus), Limit::Vcpus)?;
        within(is_size(domain.memory_bytes), Limit::MemoryBytes)?;
        if self.domain_index(domain.name).is_ok() {
            return Err(Fault::TakenName);
        }
        push_within(&mut self.plan.domains, domain, MAX_DOMAINS, Limit::Domains)
    }

    /// The CPU of a domain's next vcpu.
    pub(super) fn add_cpu(&mut self, domain: Name, cpu: u64) -> Result<(), Fault> {
        let domain = self.domain_mut(domain)?;
        if u32::try_from(domain.cpus.len()).is_ok_and(|named| named >= domain.vcpus) {
            return Err(Fault::Repeated);
        }
        within(cpu < MAX_CPUS, Limit::Cpu)?;
        domain.cpus.extend(u8::try_from(cpu));
        Ok(())
    }

    /// A budget and a period of 0 are none.
    pub(super) fn set_schedule(
        &mut self,
        domain: Name,
        [priority, budget_us, period_us]: [u64; 3],
    ) -> Result<(), Fault> {
        let index = self.domain_index(domain)?;
        if self.schedules.contains(&index) {
            return Err(Fault::Repeated);
        }
        let priority = u8::try_from(priority).ok();
        let priority = priority.filter(|priority| *priority <= MAX_PRIORITY);
        let priority = priority.ok_or(Fault::Limit(Limit::Priority))?;
        let budget = match [budget_us, period_us] {
            [0, 0] => None,
            times_us => {
                let [budget_ns, period_ns] = times_us.map(|us| us.saturating_mul(1000));
                let budget = Budget::new(budget_ns, period_ns);
                Some(budget.ok_or(Fault::Limit(Limit::Budget))?)
            }
        };
        self.schedules.push(index);
        self.domain_mut(domain)?.schedule = SchedulePlan { priority, budget };
        Ok(())
    }

    pub(super) fn set_kernel_bytes(&mut self, domain: Name, bytes: u64) -> Result<(), Fault> {
        let domain = self.domain_mut(domain)?;
        if domain.kernel_bytes.is_some() {
            return Err(Fault::Repeated);
        }
        let limits = MIN_KERNEL_BYTES..=MAX_KERNEL_BYTES;
        within(limits.contains(&bytes), Limit::KernelBytes)?;
        domain.kernel_bytes = Some(bytes);
        Ok(())
    }

    pub(super) fn set_command_line(&mut self, domain: Name, line: &str) -> Result<(), Fault> {
        within(line.len() < COMMAND_LINE_BYTES, Limit::CommandLine)?;
        let index = self.domain_index(domain)?;
        if self.command_lines.contains(&index) {
            return Err(Fault::Repeated);
        }
        self.command_lines.push(index);
        self.domain_mut(domain)?.command_line = String::from(line);
        Ok(())
    }

    pub(super) fn add_module(&mut self, domain: Name, module: ModulePlan) -> Result<(), Fault> {
        let modules = &mut self.domain_mut(domain)?.modules;
        if modules.iter().any(|other| other.name == module.name) {
            return Err(Fault::TakenName);
        }
        push_within(modules, module, MAX_MODULES, Limit::Modules)
    }

    pub(super) fn add_port(&mut self, port: PortPlan, line: u32) -> Result<(), Fault> {
        let capacities = 1..=MAX_PORT_CAPACITY;
        within(capacities.contains(&port.capacity), Limit::Capacity)?;
        self.check_object_name(port.name)?;
        self.port_lines.push(line);
        push_within(&mut self.plan.ports, port, MAX_OBJECTS, Limit::Objects)
    }

    pub(super) fn add_memory(&mut self, memory: MemoryPlan) -> Result<(), Fault> {
        within(is_size(memory.bytes), Limit::MemoryBytes)?;
        self.check_object_name(memory.name)?;
        push_within(&mut self.plan.memories, memory, MAX_OBJECTS, Limit::Objects)
    }

    pub(super) fn add_event(&mut self, event: EventPlan, line: u32) -> Result<(), Fault> {
        self.check_object_name(event.name)?;
        self.event_lines.push(line);
        push_within(&mut self.plan.events, event, MAX_OBJECTS, Limit::Objects)
    }

    /// Adds rights to what the domain has; a second grant of the same object widens the first.
    pub(super) fn give(
        &mut self,
        domain: Name,
        kind: Kind,
        object: Name,
        rights: Rights,
    ) -> Result<(), Fault> {
        let grant = Grant {
            domain: self.domain_index(domain)?,
            object: self.object(kind, object)?,
            rights,
        };
        self.check_exclusive(&grant, Rights::RECEIVE, Fault::SecondReceiver)?;
        self.check_exclusive(&grant, Rights::WAIT, Fault::SecondWaiter)?;
        let is_same = |old: &&mut Grant| old.domain == grant.domain && old.object == grant.object;
        match self.plan.grants.iter_mut().find(is_same) {
            Some(old) if old.rights.contains(rights) => return Err(Fault::RepeatedGrant),
            Some(old) => old.rights = old.rights | rights,
            None => {
                let given = self.plan.grants.iter();
                let count = given.filter(|old| old.domain == grant.domain).count();
                within(count < MAX_GRANTS, Limit::Grants)?;
                self.plan.grants.push(grant);
            }
        }
        Ok(())
    }

    /// The plan, if nothing is missing; `last_line` is the number of its last line.
    pub(super) fn finish(self, last_line: u32) -> Result<Plan, PlanError> {
        if self.plan.domains.is_empty() {
            let fault = Fault::NoDomains;
            let line = last_line;
            return Err(PlanError { line, fault });
        }
        let ports = self.plan.ports.iter().zip(&self.port_lines).enumerate();
        for (index, (port, &line)) in ports {
            if self.lacks(GrantedObject::Port(index), Rights::RECEIVE) {
                let fault = Fault::NoReceiver(port.name);
                return Err(PlanError { line, fault });
            }
        }
        let events = self.plan.events.iter().zip(&self.event_lines).enumerate();
        for (index, (event, &line)) in events {
            if self.lacks(GrantedObject::Event(index), Rights::WAIT) {
                let fault = Fault::NoWaiter(event.name);
                return Err(PlanError { line, fault });
            }
        }
        Ok(self.plan)
    }

    /// Whether the object is given to somebody, but to nobody with this right.
    fn lacks(&self, object: GrantedObject, right: Rights) -> bool {
        let mut is_given = false;
        for grant in self
            .plan
            .grants
            .iter()
            .filter(|grant| grant.object == object)
        {
            if grant.rights.contains(right) {
                return false;
            }
            is_given = true;
        }
        is_given
    }

    /// Only one domain may have this right to one object.
    fn check_exclusive(&self, new: &Grant, right: Rights, fault: Fault) -> Result<(), Fault> {
        let rivals = |old: &Grant| {
            old.object == new.object && old.domain != new.domain && old.rights.contains(right)
        };
        if new.rights.contains(right) && self.plan.grants.iter().any(rivals) {
            return Err(fault);
        }
        Ok(())
    }

    /// The guest looks objects up by name alone, so ports, memories and events share their names.
    fn check_object_name(&self, name: Name) -> Result<(), Fault> {
        if RESERVED_NAMES.contains(&name.as_str()) {
            return Err(Fault::ReservedName);
        }
        let kinds = [Kind::Port, Kind::Memory, Kind::Event];
        if kinds.iter().any(|kind| self.object(*kind, name).is_ok()) {
            return Err(Fault::TakenName);
        }
        Ok(())
    }

    fn object(&self, kind: Kind, name: Name) -> Result<GrantedObject, Fault> {
        let plan = &self.plan;
        let object = match kind {
            Kind::Port => {
                let index = plan.ports.iter().position(|port| port.name == name);
                index.map(GrantedObject::Port)
            }
            Kind::Memory => {
                let index = plan.memories.iter().position(|memory| memory.name == name);
                index.map(GrantedObject::Memory)
            }
            Kind::Event => {
                let index = plan.events.iter().position(|event| event.name == name);
                index.map(GrantedObject::Event)
            }
        };
        object.ok_or(Fault::UnknownObject)
    }

    fn domain_index(&self, name: Name) -> Result<usize, Fault> {
        let mut domains = self.plan.domains.iter();
        let found = domains.position(|domain| domain.name == name);
        found.ok_or(Fault::UnknownDomain)
    }

    fn domain_mut(&mut self, name: Name) -> Result<&mut DomainPlan, Fault> {
        let mut domains = self.plan.domains.iter_mut();
        let found = domains.find(|domain| domain.name == name);
        found.ok_or(Fault::UnknownDomain)
    }
}

const fn within(kept: bool, limit: Limit) -> Result<(), Fault> {
    if kept {
        Ok(())
    } else {
        Err(Fault::Limit(limit))
    }
}

fn push_within<T>(list: &mut Vec<T>, item: T, max: usize, limit: Limit) -> Result<(), Fault> {
    within(list.len() < max, limit)?;
    list.push(item);
    Ok(())
}

const fn is_size(bytes: u64) -> bool {
    bytes > 0 && bytes <= MAX_MEMORY_BYTES && bytes.is_multiple_of(PAGE_BYTES)
}
