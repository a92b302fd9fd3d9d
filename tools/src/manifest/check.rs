//! Turns the tables of a manifest into the checked form, collecting every mistake on the way.

use std::collections::BTreeMap;
use std::ops::Range;

use nuncio_abi::{Budget, MAX_PERIOD_NS, MIN_BUDGET_NS, MIN_PERIOD_NS};
use toml::Spanned;

use super::problem::{Problem, Problems, Source};
use super::schema::{Document, DomainTable, Entries, EventTable, MemoryTable, PortTable};
use super::{limits, numbered, size, wires};
use super::{
    Domain, File, Manifest, Memory, Module, Port, Schedule, BUNDLED_IMAGE, IMAGES_WORD, INPUT_WORD,
};

/// Checks a whole manifest.
pub fn manifest(source: &Source<'_>, document: Document) -> Result<Manifest, Problems> {
    let mut check = Check {
        source,
        problems: Vec::new(),
    };
    let document = numbered::expand(&mut check, document);
    check.object_names(&document);
    check.domain_names(&document.domain);
    check.digest(&document);
    wires::check(&mut check, &document);
    let manifest = Manifest {
        cpus: check.cpus(&document),
        digest: document.digest.map(Spanned::into_inner),
        ports: document.port.iter().map(|port| check.port(port)).collect(),
        memories: document
            .memory
            .iter()
            .map(|memory| check.memory(memory))
            .collect(),
        events: document.event.into_iter().map(name_of).collect(),
        domains: document
            .domain
            .iter()
            .map(|domain| check.domain(domain))
            .collect(),
    };
    if check.problems.is_empty() {
        return Ok(manifest);
    }
    check.problems.sort_by_key(|problem| problem.line);
    check
        .problems
        .dedup_by_key(|problem| (problem.line, without_numbers(&problem.text)));
    Err(Problems(check.problems))
}

/// The copies of a table that stands for many have the same mistake, with other numbers in it.
fn without_numbers(text: &str) -> String {
    text.chars()
        .filter(|letter| !letter.is_ascii_digit())
        .collect()
}

fn name_of(event: EventTable) -> String {
    event.name.into_inner()
}

/// The mistakes so far.
pub struct Check<'a> {
    source: &'a Source<'a>,
    problems: Vec<Problem>,
}

impl Check<'_> {
    /// Records a mistake.
    pub fn wrong(&mut self, at: Option<Range<usize>>, text: impl Into<String>) {
        let problem = self.source.problem(at, text);
        self.problems.push(problem);
    }

    fn object_names(&mut self, document: &Document) {
        let ports: Vec<_> = document.port.iter().map(|port| &port.name).collect();
        let memories: Vec<_> = document.memory.iter().map(|memory| &memory.name).collect();
        let events: Vec<_> = document.event.iter().map(|event| &event.name).collect();
        for (kind, names) in [
            ("ports", &ports),
            ("memories", &memories),
            ("events", &events),
        ] {
            self.at_most(names.len(), limits::OBJECTS_OF_A_KIND, kind, names.last());
        }
        let all: Vec<_> = ports.into_iter().chain(memories).chain(events).collect();
        for name in &all {
            if limits::RESERVED_NAMES.contains(&name.get_ref().as_str()) {
                let text = format!(
                    "{:?} is the name of an object that every domain has; choose another",
                    name.get_ref()
                );
                self.wrong(Some(name.span()), text);
            }
        }
        self.unique("object", all.into_iter());
    }

    fn domain_names(&mut self, domains: &[DomainTable]) {
        if domains.is_empty() {
            self.wrong(None, "there is no domain; add a [[domain]] table");
        }
        if let (true, Some(first)) = (
            domains.iter().all(|domain| domain.background),
            domains.first(),
        ) {
            let text = "every domain is in the background, so the run would end before it began; \
                        take `background` from one";
            self.wrong(Some(first.name.span()), text);
        }
        let last = domains.last().map(|domain| &domain.name);
        self.at_most(domains.len(), limits::DOMAINS, "domains", last.as_ref());
        self.unique("domain", domains.iter().map(|domain| &domain.name));
    }

    fn at_most(&mut self, count: usize, limit: usize, what: &str, last: Option<&&Spanned<String>>) {
        if count > limit {
            let at = last.map(|name| name.span());
            let text = format!("{count} {what}, and the limit is {limit}; remove some");
            self.wrong(at, text);
        }
    }

    /// Checks the form of names and that no two are equal.
    fn unique<'d>(&mut self, what: &str, names: impl Iterator<Item = &'d Spanned<String>>) {
        let mut seen: BTreeMap<&str, Range<usize>> = BTreeMap::new();
        for name in names {
            self.name(name);
            if let Some(first) = seen.get(name.get_ref().as_str()) {
                let line = self.source.problem(Some(first.clone()), "").line;
                let text = format!(
                    "there is another {what} named {:?} (line {}); names must differ",
                    name.get_ref(),
                    line.unwrap_or(0)
                );
                self.wrong(Some(name.span()), text);
            } else {
                seen.insert(name.get_ref(), name.span());
            }
        }
    }

    fn name(&mut self, name: &Spanned<String>) {
        let text = name.get_ref();
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let starts_well = text.bytes().next().is_some_and(inner);
        let fits = text.len() <= limits::NAME;
        if !starts_well
            || !fits
            || !text
                .bytes()
                .all(|byte| inner(byte) || b"._-".contains(&byte))
        {
            let text = format!(
                "{text:?} is not a name; use 1 to {} of a-z 0-9 . _ - and begin with a letter or digit",
                limits::NAME
            );
            self.wrong(Some(name.span()), text);
        }
    }

    fn digest(&mut self, document: &Document) {
        let Some(digest) = &document.digest else {
            return;
        };
        let mut names = document.domain.iter().map(|domain| domain.name.get_ref());
        if !names.any(|name| name == digest.get_ref()) {
            let text = format!(
                "digest names {:?}, but there is no such domain",
                digest.get_ref()
            );
            self.wrong(Some(digest.span()), text);
        }
        let mut files = document.domain.iter().flat_map(|d| d.modules.values());
        if !files.any(|file| file.get_ref() == INPUT_WORD) {
            let text = format!(
                "digest is of the input, but no domain is handed it; give one modules = {{ input = \"{INPUT_WORD}\" }}"
            );
            self.wrong(Some(digest.span()), text);
        }
    }

    fn cpus(&mut self, document: &Document) -> u64 {
        let Some(cpus) = &document.cpus else { return 1 };
        let value = *cpus.get_ref();
        match u64::try_from(value) {
            Ok(count) if (1..=limits::CPUS).contains(&count) => count,
            _ => {
                let text = format!("a machine has 1 to {} CPUs, not {value}", limits::CPUS);
                self.wrong(Some(cpus.span()), text);
                1
            }
        }
    }

    fn port(&mut self, port: &PortTable) -> Port {
        let capacity = match &port.capacity {
            None => limits::DEFAULT_PORT_CAPACITY,
            Some(capacity) => {
                let value = *capacity.get_ref();
                if !(1..=limits::PORT_CAPACITY).contains(&value) {
                    let text = format!(
                        "a port holds 1 to {} messages, not {value}",
                        limits::PORT_CAPACITY
                    );
                    self.wrong(Some(capacity.span()), text);
                }
                value
            }
        };
        Port {
            name: port.name.get_ref().clone(),
            capacity,
        }
    }

    fn memory(&mut self, memory: &MemoryTable) -> Memory {
        Memory {
            name: memory.name.get_ref().clone(),
            bytes: self.pages(&memory.size),
        }
    }

    fn pages(&mut self, text: &Spanned<String>) -> u64 {
        size::parse_pages(text.get_ref()).unwrap_or_else(|problem| {
            self.wrong(Some(text.span()), problem);
            0
        })
    }

    fn domain(&mut self, table: &DomainTable) -> Domain {
        Domain {
            name: table.name.get_ref().clone(),
            image: self.image(&table.image),
            memory_bytes: self.pages(&table.memory),
            kernel_bytes: self.kernel_bytes(table),
            vcpus: self.vcpus(table),
            cpus: self.named_cpus(table),
            schedule: self.schedule(table),
            command_line: self.command_line(table),
            background: table.background,
            modules: self.modules(table),
            wires: wires::of(table),
        }
    }

    fn kernel_bytes(&mut self, table: &DomainTable) -> Option<u64> {
        let text = table.kernel_memory.as_ref()?;
        let bytes = size::parse(text.get_ref())
            .and_then(|bytes| match limits::KERNEL_BYTES.contains(&bytes) {
                true => Ok(bytes),
                false => Err(format!(
                    "{:?} is not {} KiB to {} MiB, which a domain may take of the hypervisor's memory",
                    text.get_ref(),
                    limits::KERNEL_BYTES.start() >> 10,
                    limits::KERNEL_BYTES.end() >> 20
                )),
            })
            .map_err(|problem| self.wrong(Some(text.span()), problem));
        bytes.ok()
    }

    fn image(&mut self, text: &Spanned<String>) -> File {
        let Some(name) = text.get_ref().strip_prefix(IMAGES_WORD) else {
            return self.file(text, BUNDLED_IMAGE, File::BundledImage);
        };
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if name.is_empty() || name.starts_with('.') || !name.bytes().all(is_plain) {
            let message = format!(
                "{name:?} is no name of a file in the directory of the images; use letters, \
                 digits, '.', '_' and '-'"
            );
            self.wrong(Some(text.span()), message);
        }
        File::Built(name.to_owned())
    }

    fn vcpus(&mut self, table: &DomainTable) -> i64 {
        let Some(vcpus) = &table.vcpus else { return 1 };
        let value = *vcpus.get_ref();
        if !(1..=limits::VCPUS).contains(&value) {
            let text = format!("a domain has 1 to {} vcpus, not {value}", limits::VCPUS);
            self.wrong(Some(vcpus.span()), text);
        }
        value
    }

    fn named_cpus(&mut self, table: &DomainTable) -> Vec<i64> {
        let Some(named) = &table.cpu else {
            return Vec::new();
        };
        let cpus = named.get_ref().numbers().to_vec();
        if !cpus.iter().all(|cpu| (0..limits::NAMED_CPUS).contains(cpu)) {
            let text = format!("CPUs have numbers from 0 to {}", limits::NAMED_CPUS - 1);
            self.wrong(Some(named.span()), text);
        }
        let vcpus = table.vcpus.as_ref().map_or(1, |vcpus| *vcpus.get_ref());
        if cpus.is_empty() || cpus.len() as i64 > vcpus {
            let text = format!(
                "name one CPU for all vcpus or up to one for each: 1 to {vcpus}, not {}",
                cpus.len()
            );
            self.wrong(Some(named.span()), text);
        }
        cpus
    }

    fn schedule(&mut self, table: &DomainTable) -> Option<Schedule> {
        let keys = [&table.priority, &table.budget_us, &table.period_us];
        if keys.iter().all(|key| key.is_none()) {
            return None;
        }
        let value = |key: &Option<Spanned<i64>>| key.as_ref().map(|value| *value.get_ref());
        let priority = value(&table.priority).unwrap_or(limits::DEFAULT_PRIORITY);
        if !(0..=limits::PRIORITY).contains(&priority) {
            let span = table.priority.as_ref().map(Spanned::span);
            let text = format!("priorities are 0 to {}, not {priority}", limits::PRIORITY);
            self.wrong(span, text);
        }
        let times_us = [value(&table.budget_us), value(&table.period_us)];
        let ns = |us: Option<i64>| u64::try_from(us?).ok()?.checked_mul(1000);
        let budget = match times_us.map(ns) {
            [Some(budget_ns), Some(period_ns)] => Budget::new(budget_ns, period_ns),
            _ => None,
        };
        if times_us != [None; 2] && budget.is_none() {
            let given = table.budget_us.as_ref().or(table.period_us.as_ref());
            let text = format!(
                "a budget has both keys: budget_us, from {} to period_us, and period_us, {} to {}",
                MIN_BUDGET_NS / 1000,
                MIN_PERIOD_NS / 1000,
                MAX_PERIOD_NS / 1000
            );
            self.wrong(given.map(Spanned::span), text);
        }
        let [budget_us, period_us] = times_us.map(|us| us.unwrap_or(0));
        Some(Schedule {
            priority,
            budget_us,
            period_us,
        })
    }

    fn command_line(&mut self, table: &DomainTable) -> String {
        let Some(line) = &table.command_line else {
            return String::new();
        };
        let text = line.get_ref();
        let printable = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        if !printable || text.len() > limits::COMMAND_LINE {
            let text = format!(
                "a command line is at most {} printable ASCII characters",
                limits::COMMAND_LINE
            );
            self.wrong(Some(line.span()), text);
        }
        text.clone()
    }

    fn modules(&mut self, table: &DomainTable) -> Vec<Module> {
        let last = table.modules.keys().last();
        self.at_most(
            table.modules.len(),
            limits::MODULES,
            "modules",
            last.as_ref(),
        );
        self.entries(&table.modules, |check, name, file| Module {
            name: name.get_ref().clone(),
            file: check.file(file, INPUT_WORD, File::Input),
        })
    }

    fn entries<T>(
        &mut self,
        entries: &Entries,
        convert: impl Fn(&mut Self, &Spanned<String>, &Spanned<String>) -> T,
    ) -> Vec<T> {
        let mut converted = Vec::new();
        for (name, value) in entries {
            self.name(name);
            converted.push(convert(self, name, value));
        }
        converted
    }

    /// The file that `text` names: `special` if it is that word, else a path that must exist.
    fn file(&mut self, text: &Spanned<String>, word: &str, special: File) -> File {
        if text.get_ref() == word {
            return special;
        }
        let folder = self.source.file.parent().unwrap_or("".as_ref());
        let path = folder.join(text.get_ref());
        match std::fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() => {}
            Ok(_) => {
                let message = format!("{} is not a file; name one", path.display());
                self.wrong(Some(text.span()), message);
            }
            Err(error) => {
                let message = format!(
                    "cannot read {}: {error}; paths are relative to the manifest",
                    path.display()
                );
                self.wrong(Some(text.span()), message);
            }
        }
        File::Path(path)
    }
}
