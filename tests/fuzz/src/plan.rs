//! Manifests and plans.

use std::path::Path;

use hypervisor::plan::{GrantedObject, Plan, MAX_DOMAINS, MAX_OBJECTS};
use nuncio_abi::Rights;
use nuncio_tools::manifest;

/// Allowed: problems, at least one, each with a text of one line; or a manifest whose compiled plan
/// the hypervisor accepts, with as many domains.
pub fn manifest(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else {
        return false;
    };
    match manifest::parse(Path::new("fuzz.toml"), text) {
        Ok(manifest) => {
            let text = manifest::compile(&manifest, None).text;
            match Plan::parse(text.as_bytes()) {
                Ok(plan) => assert_eq!(plan.domains.len(), manifest.domains.len()),
                Err(error) => panic!("the tool and the hypervisor differ: {error}\n{text}"),
            }
            true
        }
        Err(problems) => {
            assert!(!problems.to_string().is_empty());
            false
        }
    }
}

/// Allowed: an error with a text; or a plan that keeps the promises of its type.
pub fn plan(data: &[u8]) -> bool {
    let plan = match Plan::parse(data) {
        Ok(plan) => plan,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return false;
        }
    };
    assert!((1..=MAX_DOMAINS).contains(&plan.domains.len()));
    for count in [plan.ports.len(), plan.memories.len(), plan.events.len()] {
        assert!(count <= MAX_OBJECTS);
    }
    for grant in &plan.grants {
        assert!(grant.domain < plan.domains.len());
        match grant.object {
            GrantedObject::Port(index) => assert!(index < plan.ports.len()),
            GrantedObject::Memory(index) => assert!(index < plan.memories.len()),
            GrantedObject::Event(index) => assert!(index < plan.events.len()),
        }
        let bound = match grant.object {
            GrantedObject::Port(_) => Rights::RECEIVE,
            GrantedObject::Event(_) => Rights::WAIT,
            GrantedObject::Memory(_) => continue,
        };
        let same = plan
            .grants
            .iter()
            .filter(|other| other.object == grant.object);
        assert_eq!(same.filter(|other| other.rights.contains(bound)).count(), 1);
    }
    true
}
