//! From text to records; what the records mean together is checked by [`Builder`].

use core::str;

use nuncio_abi::Rights;

use super::builder::{Builder, Kind};
use super::line::{problem, Fields};
use super::{
    DomainPlan, EventPlan, Fault, FieldProblem, Limit, MemoryPlan, ModulePlan, Plan, PlanError,
    PortPlan, MAX_PLAN_BYTES,
};

const HEADER: &str = "nuncio-plan 1";

impl Plan {
    /// Reads the text of a plan and checks all of it.
    pub fn parse(bytes: &[u8]) -> Result<Plan, PlanError> {
        let mut builder = Builder::default();
        let mut line = 1;
        if bytes.len() > MAX_PLAN_BYTES {
            let fault = Fault::Limit(Limit::PlanBytes);
            return Err(PlanError { line, fault });
        }
        let mut lines = bytes.split_inclusive(|byte| *byte == b'\n');
        read_header(lines.next()).map_err(|fault| PlanError { line, fault })?;
        for bytes in lines {
            line = line.saturating_add(1);
            let read = read_line(bytes).and_then(|text| read_record(text, line, &mut builder));
            read.map_err(|fault| PlanError { line, fault })?;
        }
        builder.finish(line)
    }
}

fn read_header(line: Option<&[u8]>) -> Result<(), Fault> {
    match line.map(read_line) {
        Some(Ok(HEADER)) => Ok(()),
        _ => Err(Fault::BadHeader),
    }
}

fn read_line(line: &[u8]) -> Result<&str, Fault> {
    let line = line.strip_suffix(b"\n").ok_or(Fault::Unfinished)?;
    let printable = line.iter().all(|byte| matches!(byte, b' '..=b'~'));
    let text = str::from_utf8(line).ok().filter(|_| printable);
    text.ok_or(Fault::NotPrintable)
}

/// Reads one record into the plan.
fn read_record(text: &str, line: u32, builder: &mut Builder) -> Result<(), Fault> {
    let mut fields = Fields::of(text);
    match fields.word("record")? {
        "limit-ms" => builder.set_limit_ms(fields.number("limit-ms")?)?,
        "domain" => builder.add_domain(read_domain(&mut fields)?)?,
        "cpu" => {
            let domain = fields.name("domain")?;
            builder.add_cpu(domain, fields.number("cpu")?)?;
        }
        "schedule" => {
            let domain = fields.name("domain")?;
            builder.set_schedule(domain, read_schedule(&mut fields)?)?;
        }
        "kernel-memory" => {
            let domain = fields.name("domain")?;
            builder.set_kernel_bytes(domain, fields.number("kernel-memory")?)?;
        }
        "command-line" => {
            let domain = fields.name("domain")?;
            builder.set_command_line(domain, fields.remainder("command line")?)?;
        }
        "module" => {
            let domain = fields.name("domain")?;
            builder.add_module(domain, read_module(&mut fields)?)?;
        }
        "port" => builder.add_port(read_port(&mut fields)?, line)?,
        "memory" => builder.add_memory(read_memory(&mut fields)?)?,
        "event" => {
            let name = fields.name("name")?;
            builder.add_event(EventPlan { name }, line)?;
        }
        "give" => read_give(&mut fields, builder)?,
        _ => return Err(Fault::UnknownRecord),
    }
    fields.end()
}

fn read_domain(fields: &mut Fields) -> Result<DomainPlan, Fault> {
    Ok(DomainPlan {
        name: fields.name("name")?,
        image: fields.name_value("image")?,
        memory_bytes: fields.number_value("memory")?,
        vcpus: u32::try_from(fields.number_value("vcpus")?).unwrap_or(u32::MAX),
        cpus: Default::default(),
        schedule: Default::default(),
        kernel_bytes: None,
        background: match fields.value("background")? {
            "yes" => true,
            "no" => false,
            _ => return Err(problem("background", FieldProblem::NoneOf("yes no"))),
        },
        command_line: Default::default(),
        modules: Default::default(),
    })
}

/// Priority, budget and period.
fn read_schedule(fields: &mut Fields) -> Result<[u64; 3], Fault> {
    Ok([
        fields.number_value("priority")?,
        fields.number_value("budget-us")?,
        fields.number_value("period-us")?,
    ])
}

fn read_module(fields: &mut Fields) -> Result<ModulePlan, Fault> {
    Ok(ModulePlan {
        name: fields.name("name")?,
        boot_module: fields.name_value("boot")?,
    })
}

fn read_port(fields: &mut Fields) -> Result<PortPlan, Fault> {
    Ok(PortPlan {
        name: fields.name("name")?,
        capacity: usize::try_from(fields.number_value("capacity")?).unwrap_or(usize::MAX),
    })
}

fn read_memory(fields: &mut Fields) -> Result<MemoryPlan, Fault> {
    Ok(MemoryPlan {
        name: fields.name("name")?,
        bytes: fields.number_value("bytes")?,
    })
}

fn read_give(fields: &mut Fields, builder: &mut Builder) -> Result<(), Fault> {
    let domain = fields.name("domain")?;
    let kind = match fields.word("kind")? {
        "port" => Kind::Port,
        "memory" => Kind::Memory,
        "event" => Kind::Event,
        _ => return Err(problem("kind", FieldProblem::NoneOf("port memory event"))),
    };
    let name = fields.name("name")?;
    let rights = read_rights(kind, fields.word("right")?)?;
    builder.give(domain, kind, name, rights)
}

fn read_rights(kind: Kind, word: &str) -> Result<Rights, Fault> {
    let expected = match (kind, word) {
        (Kind::Port, "send") => return Ok(Rights::SEND),
        (Kind::Port, "receive") => return Ok(Rights::RECEIVE),
        (Kind::Port, _) => "send receive",
        (Kind::Memory, "r") => return Ok(Rights::READ),
        (Kind::Memory, "rw") => return Ok(Rights::READ | Rights::WRITE),
        (Kind::Memory, "rx") => return Ok(Rights::READ | Rights::EXECUTE),
        (Kind::Memory, "rwx") => return Ok(Rights::ACCESS),
        (Kind::Memory, _) => "r rw rx rwx",
        (Kind::Event, "notify") => return Ok(Rights::NOTIFY),
        (Kind::Event, "wait") => return Ok(Rights::WAIT),
        (Kind::Event, _) => "notify wait",
    };
    Err(problem("right", FieldProblem::NoneOf(expected)))
}
