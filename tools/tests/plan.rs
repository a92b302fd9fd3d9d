//! The plan between its two ends: what the tool compiles is what the hypervisor's own parser reads,
//! and both have the same limits.

use std::path::Path;

use hypervisor::plan::{self, GrantedObject, Plan};
use nuncio_abi::Rights;
use nuncio_tools::manifest::{self, limits};

fn compiled(text: &str) -> Plan {
    let manifest = manifest::parse(Path::new("m.toml"), text).unwrap();
    let text = manifest::compile(&manifest, Some(9000)).text;
    Plan::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{error:?} in\n{text}"))
}

#[test]
fn the_default_manifest_arrives() {
    let path = nuncio_tools::project::default_manifest();
    let plan = compiled(&std::fs::read_to_string(path).unwrap());
    assert_eq!(plan.limit_ms, Some(9000));
    assert_eq!(plan.domains.len(), 2);
    assert_eq!(plan.domains[0].modules.len(), 1);
    assert_eq!(plan.ports[0].capacity, 32);
    assert_eq!(plan.memories[0].bytes, 1 << 20);
    assert_eq!(plan.grants.len(), 6);
}

#[test]
fn joined_rights_become_one_grant() {
    let plan = compiled(
        r#"
        [[domain]]
        name = "a"
        image = "guest-kernel"
        memory = "4 KiB"
        command_line = " two  spaces = \"kept\" "
        background = true
        ports = { p = "send+receive" }
        shared = { m = "rwx" }
        events = { e = "notify+wait" }
        [[domain]]
        name = "b"
        image = "guest-kernel"
        memory = "4 KiB"
        [[port]]
        name = "p"
        [[memory]]
        name = "m"
        size = "4 KiB"
        [[event]]
        name = "e"
        "#,
    );
    let domain = &plan.domains[0];
    assert!(domain.background && domain.memory_bytes == 4096);
    assert_eq!(domain.command_line, " two  spaces = \"kept\" ");
    let rights = |object| {
        plan.grants
            .iter()
            .find(|grant| grant.object == object)
            .unwrap()
            .rights
    };
    assert_eq!(
        rights(GrantedObject::Port(0)),
        Rights::SEND | Rights::RECEIVE
    );
    assert_eq!(
        rights(GrantedObject::Event(0)),
        Rights::NOTIFY | Rights::WAIT
    );
    assert_eq!(rights(GrantedObject::Memory(0)), Rights::ACCESS);
}

#[test]
fn both_ends_have_the_same_limits() {
    assert_eq!(limits::DOMAINS, plan::MAX_DOMAINS);
    assert_eq!(limits::OBJECTS_OF_A_KIND, plan::MAX_OBJECTS);
    let kernel_bytes = plan::MIN_KERNEL_BYTES..=plan::MAX_KERNEL_BYTES;
    assert_eq!(limits::KERNEL_BYTES, kernel_bytes);
    assert_eq!(limits::DEFAULT_KERNEL_BYTES, plan::DEFAULT_KERNEL_BYTES);
    assert_eq!(limits::WIRES, plan::MAX_GRANTS);
    assert_eq!(
        usize::try_from(limits::PORT_CAPACITY),
        Ok(plan::MAX_PORT_CAPACITY)
    );
    assert_eq!(limits::MEMORY_BYTES, plan::MAX_MEMORY_BYTES);
    assert_eq!(limits::RESERVED_NAMES, plan::RESERVED_NAMES);
}
