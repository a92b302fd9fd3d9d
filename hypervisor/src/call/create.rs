//! `create`: make an object from the domain's own quota.

use alloc::sync::Arc;

use nuncio_abi::{
    Create, Error, Handle, Rights, EVENT_SLOTS, MAP_LIMIT_BYTES, MAX_INTERVAL_NS,
    MAX_PORT_CAPACITY, PAGE_BYTES,
};

use crate::mem::OutOfFrames;
use crate::object::{
    Domain, Event, HandleTable, Held, Made as MadeBy, Memory, Monitor, Object, Port, Space, Target,
    Throttle, Timer, Vcpu,
};

use super::{Answer, Caller, Effects};

/// Handles that one call can make.
const MOST_HANDLES: usize = 2;

/// What the loop keeps of a domain and of a vcpu beside their objects: places in lists.
const DOMAIN_PLACE_BYTES: usize = 64;
const VCPU_PLACE_BYTES: usize = 256;

/// What the loop keeps of a timer, or of an event with an interval: its place in the queue of deadlines
/// and in the list of their owners.
const TIMER_PLACE_BYTES: usize = 128;

#[inline(never)]
pub(super) fn create(
    caller: Caller<'_>,
    create: Create,
    answer: &mut impl Answer,
    effects: &mut impl Effects,
) -> Result<(), Error> {
    let mut table = caller.domain.handles.lock();
    let (first, second) = match create {
        Create::Memory { bytes } => memory(caller, &mut table, bytes)?,
        Create::Port { capacity, slot } => port(caller, &mut table, capacity, slot)?,
        Create::Event { slot, interval_ns } => {
            event(caller, &mut table, slot, interval_ns, effects)?
        }
        Create::Timer { event, bits } => timer(caller, &mut table, event, bits, effects)?,
        Create::Domain {
            frames,
            kernel_bytes,
            event,
            bits,
        } => {
            let watcher = match event {
                Some(event) => Some((table.event(event, Rights::NOTIFY)?.clone(), bits)),
                None => None,
            };
            domain(caller, &mut table, frames, kernel_bytes, watcher, effects)?
        }
        Create::Space => space(caller, &mut table)?,
        Create::Vcpu {
            domain,
            page,
            monitor,
            state,
        } => {
            let handles = VcpuHandles {
                domain,
                page,
                monitor,
                state,
            };
            vcpu(caller, &mut table, handles, effects)?
        }
    };
    answer.pair(first.raw(), second.map_or(0, Handle::raw));
    Ok(())
}

/// What is made is paid first, and room in the table is made last: a table that has grown stays so,
/// and a call that fails changes nothing.
type Made = Result<(Handle, Option<Handle>), Error>;

fn memory(caller: Caller<'_>, table: &mut HandleTable, bytes: u64) -> Made {
    if bytes == 0 || !bytes.is_multiple_of(PAGE_BYTES) || bytes > MAP_LIMIT_BYTES {
        return Err(Error::BadArgument);
    }
    let memory = Memory::create(&caller.domain.account, bytes / PAGE_BYTES).map_err(exhausted)?;
    table.ensure(MOST_HANDLES)?;
    let rights = Rights::ACCESS | Rights::GRANT | Rights::REVOKE;
    let handle = table.insert(held(Object::Memory(Arc::new(memory)), rights))?;
    Ok((handle, None))
}

fn port(caller: Caller<'_>, table: &mut HandleTable, capacity: u64, slot: u64) -> Made {
    if capacity == 0 || capacity > MAX_PORT_CAPACITY {
        return Err(Error::BadArgument);
    }
    let target = target(caller, slot)?;
    let capacity = capacity as usize;
    let charge = Port::charge(&caller.domain.account, capacity).map_err(exhausted)?;
    table.ensure(MOST_HANDLES)?;
    let port = Port::new(capacity, target, Some(charge));
    let port = Arc::new(port.served_by(caller.vcpu.sleeper()));
    let receiver = table.insert(held(Object::Port(port.clone()), Rights::RECEIVE))?;
    let sender = table.insert(held(Object::Port(port), Rights::SEND | Rights::GRANT))?;
    Ok((receiver, Some(sender)))
}

fn event(
    caller: Caller<'_>,
    table: &mut HandleTable,
    slot: u64,
    interval_ns: u64,
    effects: &mut impl Effects,
) -> Made {
    if interval_ns > MAX_INTERVAL_NS {
        return Err(Error::BadArgument);
    }
    let target = target(caller, slot)?;
    let has_interval = interval_ns != 0;
    let pieces = [size_of::<Event>(), size_of::<Throttle>(), TIMER_PLACE_BYTES];
    let pieces = if has_interval {
        &pieces[..]
    } else {
        &pieces[..1]
    };
    let charge = caller.domain.account.charge_kernel(pieces);
    let charge = charge.map_err(exhausted)?;
    table.ensure(MOST_HANDLES)?;
    let event = if has_interval {
        let event = effects.add_event(target, interval_ns, charge);
        event.ok_or(Error::QuotaExhausted)?
    } else {
        Arc::new(Event::new(target, Some(charge)))
    };
    let waiter = table.insert(held(Object::Event(event.clone()), Rights::WAIT))?;
    let notifier = table.insert(held(Object::Event(event), Rights::NOTIFY | Rights::GRANT))?;
    Ok((waiter, Some(notifier)))
}

fn timer(
    caller: Caller<'_>,
    table: &mut HandleTable,
    event: Handle,
    bits: u64,
    effects: &mut impl Effects,
) -> Made {
    let event = table.event(event, Rights::NOTIFY)?.clone();
    let pieces = [size_of::<Timer>(), TIMER_PLACE_BYTES];
    let charge = caller
        .domain
        .account
        .charge_kernel(&pieces)
        .map_err(exhausted)?;
    table.ensure(MOST_HANDLES)?;
    let timer = effects.add_timer(event, bits, charge);
    let timer = timer.ok_or(Error::QuotaExhausted)?;
    let handle = table.insert(held(Object::Timer(timer), Rights::ARM | Rights::GRANT))?;
    Ok((handle, None))
}

fn domain(
    caller: Caller<'_>,
    table: &mut HandleTable,
    frames: u64,
    kernel_bytes: u64,
    watcher: Option<(Arc<Event>, u64)>,
    effects: &mut impl Effects,
) -> Made {
    let parent = caller.domain;
    let account = parent
        .account
        .divide(frames, kernel_bytes)
        .map_err(exhausted)?;
    let pieces = [size_of::<Domain>(), size_of::<Space>(), DOMAIN_PLACE_BYTES];
    let charge = account.charge_kernel(&pieces).map_err(exhausted)?;
    let space = Arc::new(parent.space.sibling(&account).map_err(exhausted)?);
    table.ensure(MOST_HANDLES)?;
    let id = effects.new_domain_id();
    let made = MadeBy { watcher, charge };
    let name = parent.name_of_next(id);
    let cpu = effects.cpu();
    let domain = Arc::new(Domain::made(id, name, cpu, account, space.clone(), made));
    effects.keep_domain(domain.clone());
    let rights = Rights::STOP | Rights::BUILD | Rights::GRANT;
    let handle = table.insert(held(Object::Domain(Arc::downgrade(&domain)), rights))?;
    let rights = Rights::MAP | Rights::GRANT;
    let space = table.insert(held(Object::Space(space), rights))?;
    Ok((handle, Some(space)))
}

fn space(caller: Caller<'_>, table: &mut HandleTable) -> Made {
    let own = caller.domain;
    let charge = own.account.charge_kernel(&[size_of::<Space>()]);
    let charge = charge.map_err(exhausted)?;
    let space = own.space.sibling(&own.account).map_err(exhausted)?;
    table.ensure(MOST_HANDLES)?;
    let space = Arc::new(space.paid_by(charge));
    let handle = table.insert(held(Object::Space(space), Rights::MAP | Rights::GRANT))?;
    Ok((handle, None))
}

/// What a vcpu is made of.
struct VcpuHandles {
    domain: Handle,
    page: Handle,
    monitor: Option<Handle>,
    state: Option<Handle>,
}

fn vcpu(
    caller: Caller<'_>,
    table: &mut HandleTable,
    handles: VcpuHandles,
    effects: &mut impl Effects,
) -> Made {
    let page_rights = Rights::READ | Rights::WRITE;
    // That it no longer exists counts after the other handles.
    let domain = match table.domain(handles.domain, Rights::BUILD) {
        Err(error) if error != Error::PeerGone => return Err(error),
        domain => domain,
    };
    let page = table.memory(handles.page, page_rights)?.clone();
    let port = match handles.monitor {
        Some(monitor) => {
            let (port, badge) = table.port(monitor, Rights::SEND)?;
            let (object, rights) = (Object::Port(port.clone()), Rights::SEND);
            Some(Held {
                object,
                rights,
                badge,
            })
        }
        None => None,
    };
    let state = match handles.state {
        Some(state) => Some(table.memory(state, page_rights)?.clone()),
        None => None,
    };
    let domain = domain?;
    if !domain.has_room_for_vcpu() {
        return Err(Error::WrongState);
    }
    let charge =
        domain
            .account
            .charge_kernel(&[size_of::<Vcpu>(), size_of::<Monitor>(), VCPU_PLACE_BYTES]);
    let charge = charge.map_err(exhausted)?;
    let physical = caller.domain.space.physical();
    table.ensure(MOST_HANDLES)?;
    let monitor = state.map(|state| Monitor::new(state, port, physical));
    let vcpu = monitor
        .transpose()
        .and_then(|monitor| Vcpu::made(page, monitor, physical, charge))
        .map_err(exhausted)?;
    // Another CPU may have ended it meanwhile.
    let number = domain.add_vcpu(|| {
        let id = effects.new_vcpu_id().ok_or(Error::QuotaExhausted)?;
        Ok(vcpu.numbered(id))
    })?;
    let rights = Rights::START | Rights::STOP | Rights::SCHEDULE | Rights::GRANT;
    let handle = table.insert(held(Object::Vcpu(Arc::downgrade(&domain), number), rights))?;
    Ok((handle, None))
}

/// A slot of the calling vcpu's page.
fn target(caller: Caller<'_>, slot: u64) -> Result<Target, Error> {
    match u8::try_from(slot) {
        Ok(number) if usize::from(number) < EVENT_SLOTS => Ok(caller.vcpu.target(number)),
        _ => Err(Error::BadArgument),
    }
}

/// Nobody has had the handle before, so it has no badge yet.
const fn held(object: Object, rights: Rights) -> Held {
    Held {
        object,
        rights,
        badge: 0,
    }
}

fn exhausted(_: OutOfFrames) -> Error {
    Error::QuotaExhausted
}
