//! The rules of the format, checked in another way than the parser does.

use alloc::format;
use std::collections::BTreeSet;

use nuncio_abi::{COMMAND_LINE_BYTES, MAX_MODULES, PAGE_BYTES};

use super::super::*;

/// Every rule that is not in the types.
pub(super) fn assert_rules(plan: &Plan) {
    assert!((1..=MAX_DOMAINS).contains(&plan.domains.len()));
    assert!(plan.limit_ms != Some(0));
    let object_names: Vec<&Name> = (plan.ports.iter().map(|port| &port.name))
        .chain(plan.memories.iter().map(|memory| &memory.name))
        .chain(plan.events.iter().map(|event| &event.name))
        .collect();
    assert_distinct(object_names.iter().map(|name| name.as_str()));
    assert!(object_names
        .iter()
        .all(|name| !RESERVED_NAMES.contains(&name.as_str())));
    assert_distinct(plan.domains.iter().map(|domain| domain.name.as_str()));
    for (index, domain) in plan.domains.iter().enumerate() {
        assert_domain(domain);
        let grants = plan.grants.iter().filter(|grant| grant.domain == index);
        assert!(grants.count() <= MAX_GRANTS);
    }
    for list in [plan.ports.len(), plan.memories.len(), plan.events.len()] {
        assert!(list <= MAX_OBJECTS);
    }
    assert!(plan
        .ports
        .iter()
        .all(|port| (1..=256).contains(&port.capacity)));
    assert!(plan.memories.iter().all(|memory| is_size(memory.bytes)));
    assert_grants(plan);
}

fn assert_domain(domain: &DomainPlan) {
    assert!(is_size(domain.memory_bytes));
    assert!((1..=64).contains(&domain.vcpus));
    assert!(domain.cpus.len() <= domain.vcpus as usize);
    assert!(domain.schedule.priority < 64);
    if let Some(budget) = domain.schedule.budget {
        assert!((1_000_000..=1_000_000_000).contains(&budget.period_ns()));
        assert!((100_000..=budget.period_ns()).contains(&budget.budget_ns()));
    }
    assert!(domain.command_line.len() < COMMAND_LINE_BYTES);
    assert!(domain
        .command_line
        .chars()
        .all(|c| c == ' ' || c.is_ascii_graphic()));
    assert!(domain.modules.len() <= MAX_MODULES);
    assert_distinct(domain.modules.iter().map(|module| module.name.as_str()));
}

fn assert_grants(plan: &Plan) {
    assert_distinct(
        plan.grants
            .iter()
            .map(|grant| format!("{} {:?}", grant.domain, grant.object)),
    );
    for grant in &plan.grants {
        assert!(grant.domain < plan.domains.len());
        let (exists, allowed, single) = match grant.object {
            GrantedObject::Port(index) => (
                index < plan.ports.len(),
                Rights::SEND | Rights::RECEIVE,
                Rights::RECEIVE,
            ),
            GrantedObject::Memory(index) => {
                (index < plan.memories.len(), Rights::ACCESS, Rights::NONE)
            }
            GrantedObject::Event(index) => (
                index < plan.events.len(),
                Rights::NOTIFY | Rights::WAIT,
                Rights::WAIT,
            ),
        };
        assert!(exists && allowed.contains(grant.rights) && grant.rights != Rights::NONE);
        if single != Rights::NONE {
            let same = plan
                .grants
                .iter()
                .filter(|other| other.object == grant.object);
            assert_eq!(
                same.filter(|other| other.rights.contains(single)).count(),
                1
            );
        }
    }
}

fn assert_distinct<T: Ord>(items: impl Iterator<Item = T> + Clone) {
    assert_eq!(items.clone().collect::<BTreeSet<_>>().len(), items.count());
}

fn is_size(bytes: u64) -> bool {
    (1..=1 << 28).contains(&(bytes / PAGE_BYTES)) && bytes.is_multiple_of(PAGE_BYTES)
}
