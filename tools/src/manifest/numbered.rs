//! Tables that stand for several: `count = N` makes N of a domain, port, memory or event, with the names
//! `NAME-0` to `NAME-(N-1)`. In the wires and the command line of such a domain `{number}` stands for its
//! number, and `{next}` for that of the next one, which is 0 behind the last.

use toml::Spanned;

use super::check::Check;
use super::limits;
use super::schema::{Document, DomainTable, Entries, EventTable, MemoryTable, PortTable};

/// What stands for the number of a domain, and for that of the next one.
const NUMBER: &str = "{number}";
const NEXT: &str = "{next}";

/// The document without any `count`. Values keep their places in the text.
pub fn expand(check: &mut Check<'_>, document: Document) -> Document {
    Document {
        domain: each(document.domain, |table| domains(check, table)),
        port: each(document.port, |table| {
            let count = count(check, table.count.as_ref());
            repeat(count, &table.name, |name| PortTable {
                name,
                count: None,
                capacity: table.capacity.clone(),
            })
        }),
        memory: each(document.memory, |table| {
            let count = count(check, table.count.as_ref());
            repeat(count, &table.name, |name| MemoryTable {
                name,
                count: None,
                size: table.size.clone(),
            })
        }),
        event: each(document.event, |table| {
            let count = count(check, table.count.as_ref());
            repeat(count, &table.name, |name| EventTable { name, count: None })
        }),
        ..document
    }
}

fn each<T>(tables: Vec<T>, expand: impl FnMut(T) -> Vec<T>) -> Vec<T> {
    tables.into_iter().flat_map(expand).collect()
}

/// How many tables one stands for; `None` for one that is only itself.
fn count(check: &mut Check<'_>, count: Option<&Spanned<i64>>) -> Option<usize> {
    let count = count?;
    let value = usize::try_from(*count.get_ref()).unwrap_or(0);
    if (1..=limits::COUNT).contains(&value) {
        return Some(value);
    }
    let text = format!("a count is 1 to {}, not {}", limits::COUNT, count.get_ref());
    check.wrong(Some(count.span()), text);
    Some(1)
}

fn repeat<T>(
    count: Option<usize>,
    name: &Spanned<String>,
    table: impl Fn(Spanned<String>) -> T,
) -> Vec<T> {
    let Some(count) = count else {
        return vec![table(name.clone())];
    };
    let names = (0..count).map(|number| format!("{}-{number}", name.get_ref()));
    names
        .map(|numbered| table(Spanned::new(name.span(), numbered)))
        .collect()
}

fn domains(check: &mut Check<'_>, table: DomainTable) -> Vec<DomainTable> {
    let Some(count) = count(check, table.count.as_ref()) else {
        return vec![table];
    };
    (0..count)
        .map(|number| numbered(&table, number, (number + 1) % count))
        .collect()
}

fn numbered(table: &DomainTable, number: usize, next: usize) -> DomainTable {
    let fill = |text: &Spanned<String>| {
        let filled = text.get_ref().replace(NUMBER, &number.to_string());
        Spanned::new(text.span(), filled.replace(NEXT, &next.to_string()))
    };
    let name = format!("{}-{number}", table.name.get_ref());
    DomainTable {
        name: Spanned::new(table.name.span(), name),
        count: None,
        command_line: table.command_line.as_ref().map(fill),
        ports: wires(&table.ports, fill),
        shared: wires(&table.shared, fill),
        events: wires(&table.events, fill),
        ..table.clone()
    }
}

/// Two ends that come to the same object, as with a count of 1, are one end with both rights.
fn wires(entries: &Entries, fill: impl Fn(&Spanned<String>) -> Spanned<String>) -> Entries {
    let mut filled = Entries::new();
    for (object, rights) in entries {
        let place = filled
            .entry(fill(object))
            .or_insert_with(|| Spanned::new(rights.span(), String::new()));
        if !place.get_ref().is_empty() {
            place.get_mut().push('+');
        }
        place.get_mut().push_str(rights.get_ref());
    }
    filled
}
