//! The wires of a manifest: every end must be tied to an object, with a right that fits it, and
//! whatever must have exactly one receiver has exactly one.

use std::collections::BTreeMap;

use toml::Spanned;

use super::check::Check;
use super::schema::{Document, DomainTable, Entries};
use super::{limits, Wire, WireKind};

/// A kind of wire: its key in `[[domain]]`, the table that declares its objects, its rights.
struct Kind {
    key: &'static str,
    table: &'static str,
    rights: &'static [&'static str],
    /// The right that exactly one domain must have.
    single: Option<&'static str>,
}

const PORT: Kind = Kind {
    key: "ports",
    table: "port",
    rights: &["send", "receive"],
    single: Some("receive"),
};

const MEMORY: Kind = Kind {
    key: "shared",
    table: "memory",
    rights: &["r", "rw", "rx", "rwx"],
    single: None,
};

const EVENT: Kind = Kind {
    key: "events",
    table: "event",
    rights: &["notify", "wait"],
    single: Some("wait"),
};

/// The wires of one domain, in the order ports, memories, events.
pub fn of(table: &DomainTable) -> Vec<Wire> {
    let ports = ends(WireKind::Port, &table.ports);
    let memories = ends(WireKind::Memory, &table.shared);
    let events = ends(WireKind::Event, &table.events);
    ports.chain(memories).chain(events).collect()
}

fn ends(kind: WireKind, entries: &Entries) -> impl Iterator<Item = Wire> + '_ {
    let each = move |(object, text): (&'_ Spanned<String>, &'_ Spanned<String>)| Wire {
        kind,
        object: object.get_ref().clone(),
        rights: rights(text).map(str::to_owned).collect(),
    };
    entries.iter().map(each)
}

/// The rights in `send+receive`.
fn rights(text: &Spanned<String>) -> impl Iterator<Item = &str> {
    text.get_ref().split('+').map(str::trim)
}

/// Checks the wires of all domains.
pub fn check(check: &mut Check<'_>, document: &Document) {
    for domain in &document.domain {
        let count = domain.ports.len() + domain.shared.len() + domain.events.len();
        if count > limits::WIRES {
            let text = format!("{count} wires, and a domain has at most {}", limits::WIRES);
            check.wrong(Some(domain.name.span()), text);
        }
    }
    let port_names = document.port.iter().map(|port| &port.name);
    let memory_names = document.memory.iter().map(|memory| &memory.name);
    let event_names = document.event.iter().map(|event| &event.name);
    check_kind(check, &PORT, document, |domain| &domain.ports, port_names);
    check_kind(
        check,
        &MEMORY,
        document,
        |domain| &domain.shared,
        memory_names,
    );
    check_kind(
        check,
        &EVENT,
        document,
        |domain| &domain.events,
        event_names,
    );
}

fn check_kind<'d>(
    check: &mut Check<'_>,
    kind: &Kind,
    document: &'d Document,
    entries: impl Fn(&DomainTable) -> &Entries,
    declared: impl Iterator<Item = &'d Spanned<String>>,
) {
    let mut holders: BTreeMap<&str, Holders> = BTreeMap::new();
    let declared: Vec<_> = declared.collect();
    for name in &declared {
        holders.insert(name.get_ref(), Holders::default());
    }
    for domain in &document.domain {
        for (object, right) in entries(domain) {
            check_rights(check, kind, right);
            match holders.get_mut(object.get_ref().as_str()) {
                Some(holders) => check_end(check, kind, domain, (object, right), holders),
                None => no_such_object(check, kind, object),
            }
        }
    }
    for name in declared {
        if let Some(holders) = holders.get(name.get_ref().as_str()) {
            check_holders(check, kind, name, holders);
        }
    }
}

/// Who holds an object.
#[derive(Default)]
struct Holders {
    any: bool,
    single: Option<String>,
}

fn check_rights(check: &mut Check<'_>, kind: &Kind, text: &Spanned<String>) {
    let mut seen = Vec::new();
    for right in rights(text) {
        // Access to memory is one word; the others can be joined.
        let is_joined = kind.single.is_none() && !seen.is_empty();
        if !kind.rights.contains(&right) || seen.contains(&right) || is_joined {
            let advice = match kind.single {
                Some(_) => format!("{}, or {}", kind.rights.join(", "), kind.rights.join("+")),
                None => kind.rights.join(", "),
            };
            let message = format!(
                "{:?} is not a right of a {}; use one of {advice}",
                text.get_ref(),
                kind.table
            );
            return check.wrong(Some(text.span()), message);
        }
        seen.push(right);
    }
}

fn no_such_object(check: &mut Check<'_>, kind: &Kind, object: &Spanned<String>) {
    let text = format!(
        "{} names {:?}, but there is no such {}; add a [[{}]] table with that name",
        kind.key,
        object.get_ref(),
        kind.table,
        kind.table
    );
    check.wrong(Some(object.span()), text);
}

fn check_end(
    check: &mut Check<'_>,
    kind: &Kind,
    domain: &DomainTable,
    (object, right): (&Spanned<String>, &Spanned<String>),
    holders: &mut Holders,
) {
    holders.any = true;
    let Some(single) = kind
        .single
        .filter(|single| rights(right).any(|one| one == *single))
    else {
        return;
    };
    if let Some(first) = &holders.single {
        let text = format!(
            "{} {:?} has two domains with {single:?}, {first} and {}; exactly one may have it",
            kind.table,
            object.get_ref(),
            domain.name.get_ref()
        );
        check.wrong(Some(right.span()), text);
    } else {
        holders.single = Some(domain.name.get_ref().clone());
    }
}

fn check_holders(check: &mut Check<'_>, kind: &Kind, name: &Spanned<String>, holders: &Holders) {
    if let (Some(single), None) = (kind.single, &holders.single) {
        let text = format!(
            "no domain has {single:?} on {} {:?}; give it to one in `{}`",
            kind.table,
            name.get_ref(),
            kind.key
        );
        check.wrong(Some(name.span()), text);
    } else if !holders.any {
        let text = format!(
            "no domain uses {} {:?}; name it in a domain's `{}` or remove it",
            kind.table,
            name.get_ref(),
            kind.key
        );
        check.wrong(Some(name.span()), text);
    }
}
