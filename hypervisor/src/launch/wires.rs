//! The objects that connect domains, and who gets which handle.

use alloc::sync::Arc;
use alloc::vec::Vec;

use nuncio_abi::Rights;

use crate::mem::PAGE_SHIFT;
use crate::object::{Event, Memory, Object, Port, Sleeper, Target};
use crate::plan::{Grant, GrantedObject, Plan};

use super::draft::Draft;
use super::error::LaunchError;
use super::Machine;

/// The shared objects of a plan, in the order of their lists.
pub(super) struct Wires {
    /// An object that nobody receives from has nowhere to announce itself and does not exist.
    ports: Vec<Option<(Arc<Port>, u8)>>,
    events: Vec<Option<(Arc<Event>, u8)>>,
    memories: Vec<Arc<Memory>>,
    console: Arc<Port>,
}

impl Wires {
    pub(super) fn make(
        machine: &Machine,
        plan: &Plan,
        drafts: &mut [Draft],
    ) -> Result<Self, LaunchError> {
        let memories = plan
            .memories
            .iter()
            .map(|memory| {
                Memory::allocate(&machine.account, memory.bytes >> PAGE_SHIFT).map(Arc::new)
            })
            .collect::<Result<_, _>>()?;
        let mut wires = Wires {
            ports: Vec::new(),
            events: Vec::new(),
            memories,
            console: Arc::new(Port::console()),
        };
        for (index, port) in plan.ports.iter().enumerate() {
            let object = GrantedObject::Port(index);
            let receiver = receiver(plan, drafts, object, Rights::RECEIVE)?;
            let port = receiver.map(|(target, sleeper)| {
                let port = Port::new(port.capacity, target, None).served_by(&sleeper);
                (Arc::new(port), target.slot)
            });
            wires.ports.push(port);
        }
        for index in 0..plan.events.len() {
            let object = GrantedObject::Event(index);
            let waiter = receiver(plan, drafts, object, Rights::WAIT)?;
            let event = waiter.map(|(target, _)| (Arc::new(Event::new(target, None)), target.slot));
            wires.events.push(event);
        }
        Ok(wires)
    }

    /// Gives every domain its console and what the plan grants it.
    pub(super) fn connect(&self, plan: &Plan, drafts: &mut [Draft]) -> Result<(), LaunchError> {
        for draft in drafts.iter_mut() {
            let console = Object::Port(self.console.clone());
            draft
                .give("console", console, Rights::SEND | Rights::GRANT, 0)
                .map_err(|fault| fault.of(&draft.domain.name))?;
        }
        for grant in &plan.grants {
            self.give(plan, grant, drafts)?;
        }
        Ok(())
    }

    fn give(&self, plan: &Plan, grant: &Grant, drafts: &mut [Draft]) -> Result<(), LaunchError> {
        let (name, object, slot) = match grant.object {
            GrantedObject::Port(index) => {
                let Some(Some((port, slot))) = self.ports.get(index) else {
                    return Ok(());
                };
                let name = plan.ports.get(index).map(|port| port.name);
                (name, Object::Port(port.clone()), *slot)
            }
            GrantedObject::Event(index) => {
                let Some(Some((event, slot))) = self.events.get(index) else {
                    return Ok(());
                };
                let name = plan.events.get(index).map(|event| event.name);
                (name, Object::Event(event.clone()), *slot)
            }
            GrantedObject::Memory(index) => {
                let Some(memory) = self.memories.get(index) else {
                    return Ok(());
                };
                let name = plan.memories.get(index).map(|memory| memory.name);
                (name, Object::Memory(memory.clone()), 0)
            }
        };
        let (Some(name), Some(draft)) = (name, drafts.get_mut(grant.domain)) else {
            return Ok(());
        };
        // Only the receiver's page has the slot; to anybody else the number means nothing.
        let receives =
            grant.rights.contains(Rights::RECEIVE) || grant.rights.contains(Rights::WAIT);
        let slot = if receives { slot } else { 0 };
        draft
            .give(name.as_str(), object, grant.rights, slot)
            .map(|_| ())
            .map_err(|fault| fault.of(&draft.domain.name))
    }
}

/// The vcpu page, and a fresh slot in it, of the domain that the plan gives this right.
fn receiver(
    plan: &Plan,
    drafts: &mut [Draft],
    object: GrantedObject,
    right: Rights,
) -> Result<Option<(Target, Arc<Sleeper>)>, LaunchError> {
    let grant = plan
        .grants
        .iter()
        .find(|grant| grant.object == object && grant.rights.contains(right));
    let Some(draft) = grant.and_then(|grant| drafts.get_mut(grant.domain)) else {
        return Ok(None);
    };
    let slot = draft
        .take_slot()
        .map_err(|fault| fault.of(&draft.domain.name))?;
    let sleeper = draft.vcpu.sleeper().clone();
    Ok(Some((draft.vcpu.target(slot), sleeper)))
}
