//! The plan parser against good plans and bad ones.

mod noise;
mod rules;

use alloc::format;
use alloc::string::ToString;

use super::*;
use rules::assert_rules;

const EXAMPLE: &str = "\
nuncio-plan 1
limit-ms 60000
domain producer image=guest-kernel memory=16777216 vcpus=1 background=no
domain consumer image=guest-kernel memory=8388608 vcpus=1 background=yes
command-line producer program=producer  peer=consumer
module producer input boot=input.txt
port descriptors capacity=16
memory stream bytes=1048576
event free
give producer port descriptors send
give consumer port descriptors receive
give producer memory stream rw
give consumer memory stream r
give consumer event free notify
give producer event free wait
";

const DOMAIN: &str = "domain a image=i memory=4096 vcpus=1 background=no\n";

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// A plan with one domain, `a`, and these lines.
fn with(lines: &str) -> Result<Plan, PlanError> {
    Plan::parse(format!("nuncio-plan 1\n{DOMAIN}{lines}").as_bytes())
}

fn fault_of(lines: &str) -> Option<(u32, Fault)> {
    with(lines).err().map(|error| (error.line, error.fault))
}

fn field(field: &'static str, problem: FieldProblem) -> Fault {
    Fault::Field { field, problem }
}

#[test]
fn the_example_says_what_it_says() {
    let plan = Plan::parse(EXAMPLE.as_bytes()).unwrap();
    assert_eq!(plan.limit_ms, Some(60_000));
    let producer = DomainPlan {
        name: name("producer"),
        image: name("guest-kernel"),
        memory_bytes: 16 << 20,
        vcpus: 1,
        cpus: Vec::new(),
        schedule: Default::default(),
        kernel_bytes: None,
        background: false,
        command_line: "program=producer  peer=consumer".to_string(),
        modules: [ModulePlan {
            name: name("input"),
            boot_module: name("input.txt"),
        }]
        .to_vec(),
    };
    assert_eq!(plan.domains[0], producer);
    assert!(plan.domains[1].background);
    assert_eq!(plan.ports[0].capacity, 16);
    assert_eq!(plan.memories[0].bytes, 1 << 20);
    let read_write = Grant {
        domain: 0,
        object: GrantedObject::Memory(0),
        rights: Rights::READ | Rights::WRITE,
    };
    assert_eq!(plan.grants[2], read_write);
    assert_eq!(plan.grants.len(), 6);
    assert_rules(&plan);
}

#[test]
fn a_second_grant_widens_the_first() {
    let plan = with("port p capacity=1\ngive a port p send\ngive a port p receive\n").unwrap();
    let both = Grant {
        domain: 0,
        object: GrantedObject::Port(0),
        rights: Rights::SEND | Rights::RECEIVE,
    };
    assert_eq!(plan.grants, [both]);
}

#[test]
fn objects_that_nobody_has_need_no_other_side() {
    with("port p capacity=1\nevent e\nmemory m bytes=4096\n").unwrap();
}

#[test]
fn an_empty_command_line_is_one() {
    assert_eq!(
        with("command-line a \n").unwrap().domains[0].command_line,
        ""
    );
}

#[test]
fn the_whole_text_has_to_be_right() {
    let cases: [(&[u8], u32, Fault); 7] = [
        (b"", 1, Fault::BadHeader),
        (b"nuncio-plan 2\n", 1, Fault::BadHeader),
        (b"nuncio-plan 1", 1, Fault::BadHeader),
        (b"nuncio-plan 1\n", 1, Fault::NoDomains),
        (b"nuncio-plan 1\nevent e\nevent f", 3, Fault::Unfinished),
        (b"nuncio-plan 1\nevent e\r\n", 2, Fault::NotPrintable),
        (b"nuncio-plan 1\nevent \xFF\n", 2, Fault::NotPrintable),
    ];
    for (text, line, fault) in cases {
        assert_eq!(Plan::parse(text), Err(PlanError { line, fault }));
    }
    let long = std::vec![b'\n'; MAX_PLAN_BYTES + 1];
    let error = Plan::parse(&long).unwrap_err();
    assert_eq!(error.fault, Fault::Limit(Limit::PlanBytes));
}

#[test]
fn a_line_has_its_fields_and_no_others() {
    let cases = [
        ("\n", Fault::UnknownRecord),
        ("# comment\n", Fault::UnknownRecord),
        ("event  e\n", field("name", FieldProblem::NoName)),
        ("event e \n", Fault::TrailingField),
        ("event e f\n", Fault::TrailingField),
        ("event\n", field("name", FieldProblem::Missing)),
        ("event -e\n", field("name", FieldProblem::NoName)),
        ("event E\n", field("name", FieldProblem::NoName)),
        ("event e/f\n", field("name", FieldProblem::NoName)),
        (
            "command-line a\n",
            field("command line", FieldProblem::Missing),
        ),
        ("port p 4\n", field("capacity", FieldProblem::Displaced)),
        (
            "port p capacity=\n",
            field("capacity", FieldProblem::NoNumber),
        ),
        (
            "port p capacity=+4\n",
            field("capacity", FieldProblem::NoNumber),
        ),
        (
            "port p capacity=04\n",
            field("capacity", FieldProblem::NoNumber),
        ),
        (
            "port p capacity=0x4\n",
            field("capacity", FieldProblem::NoNumber),
        ),
        (
            "limit-ms 18446744073709551616\n",
            field("limit-ms", FieldProblem::NoNumber),
        ),
        (
            "give a space s\n",
            field("kind", FieldProblem::NoneOf("port memory event")),
        ),
        (
            "domain b memory=4096 image=i vcpus=1 background=no\n",
            field("image", FieldProblem::Displaced),
        ),
        (
            "domain b image=i memory=4096 vcpus=1 background=maybe\n",
            field("background", FieldProblem::NoneOf("yes no")),
        ),
    ];
    for (line, fault) in cases {
        assert_eq!(fault_of(line), Some((3, fault)), "{line}");
    }
    let longest = "n".repeat(31);
    with(&format!("event {longest}\n")).unwrap();
    let too_long = fault_of(&format!("event {longest}n\n"));
    assert_eq!(too_long, Some((3, field("name", FieldProblem::NoName))));
}

#[test]
fn records_have_to_agree_with_those_above() {
    let second_domain = "domain b image=i memory=4096 vcpus=1 background=no\n";
    let cases = [
        (DOMAIN, Fault::TakenName),
        ("limit-ms 1\nlimit-ms 2\n", Fault::Repeated),
        ("command-line a \ncommand-line a x\n", Fault::Repeated),
        ("module a m boot=x\nmodule a m boot=y\n", Fault::TakenName),
        ("event e\nport e capacity=1\n", Fault::TakenName),
        ("event console\n", Fault::ReservedName),
        ("memory space bytes=4096\n", Fault::ReservedName),
        ("module b m boot=x\n", Fault::UnknownDomain),
        ("event e\ngive b event e wait\n", Fault::UnknownDomain),
        ("event e\ngive a port e send\n", Fault::UnknownObject),
        ("give a event e wait\nevent e\n", Fault::UnknownObject),
        (
            "event e\ngive a event e wait\ngive a event e wait\n",
            Fault::RepeatedGrant,
        ),
        (
            "memory m bytes=4096\ngive a memory m rwx\ngive a memory m rx\n",
            Fault::RepeatedGrant,
        ),
    ];
    for (lines, fault) in cases {
        let last = 2 + lines.lines().count() as u32;
        let last = if lines.starts_with("give") { 3 } else { last };
        assert_eq!(fault_of(lines), Some((last, fault)), "{lines}");
    }
    let receivers = "port p capacity=1\ngive a port p receive\ngive b port p receive\n";
    let found = fault_of(&format!("{second_domain}{receivers}"));
    assert_eq!(found, Some((6, Fault::SecondReceiver)));
    let waiters = "event e\ngive a event e wait\ngive b event e wait\n";
    let found = fault_of(&format!("{second_domain}{waiters}"));
    assert_eq!(found, Some((6, Fault::SecondWaiter)));
}

#[test]
fn what_is_sent_has_a_receiver() {
    let found = fault_of("event f\nport p capacity=1\ngive a port p send\n");
    assert_eq!(found, Some((4, Fault::NoReceiver(name("p")))));
    let found = fault_of("event e\ngive a event e notify\n");
    assert_eq!(found, Some((3, Fault::NoWaiter(name("e")))));
}

/// As many lines as asked for, with `#` replaced by 0, 1, 2 ...
fn lines(count: usize, pattern: &str) -> String {
    (0..count)
        .map(|n| pattern.replace('#', &n.to_string()))
        .collect()
}

#[test]
fn the_limits_are_kept_exactly() {
    let domain = "domain d# image=i memory=4096 vcpus=1 background=no\n";
    let gives =
        |count| lines(256, "memory m# bytes=4096\n") + &lines(count, "give a memory m# r\n");
    let command_line = |length| format!("command-line a {}\n", "x".repeat(length));
    let memory = |bytes: u64| format!("memory m bytes={bytes}\n");
    let schedule = |priority: u64, budget: u64, period: u64| {
        format!("schedule a priority={priority} budget-us={budget} period-us={period}\n")
    };
    let vcpus = |count: u32| format!("domain b image=i memory=4096 vcpus={count} background=no\n");
    let cases = [
        (
            Limit::Domains,
            lines(MAX_DOMAINS - 1, domain),
            lines(MAX_DOMAINS, domain),
        ),
        (
            Limit::Objects,
            lines(MAX_OBJECTS, "event e#\n"),
            lines(MAX_OBJECTS + 1, "event e#\n"),
        ),
        (
            Limit::Modules,
            lines(16, "module a m# boot=x\n"),
            lines(17, "module a m# boot=x\n"),
        ),
        (Limit::Grants, gives(33), gives(34)),
        (Limit::CommandLine, command_line(511), command_line(512)),
        (
            Limit::Capacity,
            "port p capacity=256\n".into(),
            "port p capacity=257\n".into(),
        ),
        (
            Limit::Capacity,
            "port p capacity=1\n".into(),
            "port p capacity=0\n".into(),
        ),
        (
            Limit::MemoryBytes,
            memory(1 << 40),
            memory((1 << 40) + 4096),
        ),
        (Limit::MemoryBytes, memory(8192), memory(8191)),
        (Limit::MemoryBytes, memory(4096), memory(0)),
        (
            Limit::Duration,
            "limit-ms 1\n".into(),
            "limit-ms 0\n".into(),
        ),
        (Limit::Cpu, "cpu a 255\n".into(), "cpu a 256\n".into()),
        (Limit::Priority, schedule(63, 0, 0), schedule(64, 0, 0)),
        (Limit::Budget, schedule(0, 100, 1000), schedule(0, 99, 1000)),
        (
            Limit::Budget,
            schedule(0, 1000, 1000),
            schedule(0, 1001, 1000),
        ),
        (Limit::Budget, schedule(0, 100, 1000), schedule(0, 100, 999)),
        (
            Limit::Budget,
            schedule(0, 100, 1_000_000),
            schedule(0, 100, 1_000_001),
        ),
        (Limit::Budget, schedule(0, 0, 0), schedule(0, 0, 1000)),
        (Limit::Vcpus, vcpus(64), vcpus(65)),
        (Limit::Vcpus, vcpus(1), vcpus(0)),
    ];
    for (limit, kept, broken) in cases {
        assert_rules(&with(&kept).unwrap());
        let fault = with(&broken).unwrap_err().fault;
        assert_eq!(fault, Fault::Limit(limit));
    }
}

#[test]
fn an_error_names_its_line_and_a_way_out() {
    let error = with("port p capacity=1\ngive a port p send\n").unwrap_err();
    let expected = "plan, line 3: nobody may receive from p: give it to somebody";
    assert_eq!(error.to_string(), expected);
    let error = with("event e\ngive a event e read\n").unwrap_err();
    assert_eq!(
        error.to_string(),
        "plan, line 4: `right` needs one of: notify wait"
    );
}

#[test]
fn a_domain_may_take_more_or_less_of_the_hypervisors_memory() {
    let plan = with("kernel-memory a 1048576\n").unwrap();
    assert_eq!(plan.domains[0].kernel_bytes, Some(1 << 20));
    for bytes in [MIN_KERNEL_BYTES - 1, MAX_KERNEL_BYTES + 1] {
        let refused = with(&format!("kernel-memory a {bytes}\n")).unwrap_err();
        assert_eq!(refused.fault, Fault::Limit(Limit::KernelBytes));
    }
    let twice = with("kernel-memory a 65536\nkernel-memory a 65536\n").unwrap_err();
    assert_eq!(twice.fault, Fault::Repeated);
}

#[test]
fn a_domain_has_a_priority_and_a_budget_once() {
    let plan = with("schedule a priority=40 budget-us=20000 period-us=100000\n").unwrap();
    let schedule = plan.domains[0].schedule;
    assert_eq!(schedule.priority, 40);
    assert_eq!(schedule.budget, Budget::new(20_000_000, 100_000_000));
    let plan = with("schedule a priority=0 budget-us=0 period-us=0\n").unwrap();
    assert_eq!(plan.domains[0].schedule.budget, None);
    assert_eq!(with("").unwrap().domains[0].schedule.priority, 32);
    let line = "schedule a priority=1 budget-us=0 period-us=0\n";
    let twice = with(&format!("{line}{line}")).unwrap_err();
    assert_eq!(twice.fault, Fault::Repeated);
    let unknown = with(&line.replace(" a ", " b ")).unwrap_err();
    assert_eq!(unknown.fault, Fault::UnknownDomain);
    let missing = with("schedule a priority=1 budget-us=0\n").unwrap_err();
    assert_eq!(missing.fault, field("period-us", FieldProblem::Missing));
}

#[test]
fn each_vcpu_can_be_bound_to_a_cpu_once() {
    let plan = with("cpu a 3\n").unwrap();
    assert_eq!(plan.domains[0].cpus, [3]);
    let twice = with("cpu a 0\ncpu a 0\n").unwrap_err();
    assert_eq!(twice.fault, Fault::Repeated);
    assert_eq!(with("cpu b 0\n").unwrap_err().fault, Fault::UnknownDomain);
}
