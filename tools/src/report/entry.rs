//! Why the CPU refused to enter a domain, as the hypervisor explains it.

use super::fields::Fields;

/// Broken rules that are kept for a domain; the hypervisor names fewer.
const MAX_RULES: usize = 16;
/// Values that are kept without a rule.
const MAX_VALUES: usize = 256;

/// Fields of the CPU's control structure with their values.
pub type Values = Vec<(String, u64)>;

/// A refused entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EntryFailure {
    /// What the CPU says is wrong: `controls`, `host-state`, `guest-state`, `msr-list` or `any`.
    pub class: String,
    /// The CPU's number for it.
    pub code: u64,
    /// The exit qualification.
    pub qualification: u64,
    /// How many rules are broken.
    pub broken: u64,
    /// A sentence for people.
    pub text: String,
    /// The broken rules that the hypervisor names.
    pub rules: Vec<BrokenRule>,
    /// If no rule is broken: the fields in question.
    pub values: Values,
}

/// A rule of the CPU's manual that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokenRule {
    /// A word that stands for it.
    pub name: String,
    /// The section of the manual.
    pub section: String,
    /// What it says, and in which manual.
    pub text: String,
    /// The fields that it speaks of.
    pub values: Values,
}

impl EntryFailure {
    /// Reads `@entry`.
    pub fn read(fields: &Fields<'_>) -> Option<Self> {
        Some(EntryFailure {
            class: fields.get("class")?.to_owned(),
            code: fields.number("code")?,
            qualification: fields.number("qualification").unwrap_or(0),
            broken: fields.number("rules").unwrap_or(0),
            text: fields.get("text")?.to_owned(),
            ..EntryFailure::default()
        })
    }

    /// Takes in `@rule`.
    pub fn add_rule(&mut self, fields: &Fields<'_>) -> Option<()> {
        let rule = BrokenRule {
            name: fields.get("rule")?.to_owned(),
            section: fields.get("section")?.to_owned(),
            text: fields.get("text")?.to_owned(),
            values: values(fields).collect(),
        };
        (self.rules.len() < MAX_RULES).then(|| self.rules.push(rule))
    }

    /// Takes in `@fields`.
    pub fn add_values(&mut self, fields: &Fields<'_>) -> Option<()> {
        let room = MAX_VALUES.saturating_sub(self.values.len());
        self.values.extend(values(fields).take(room));
        (room > 0).then_some(())
    }

    /// The lines for people.
    pub fn lines(&self) -> Vec<String> {
        let EntryFailure {
            text,
            code,
            qualification,
            ..
        } = self;
        let mut lines = vec![format!(
            "{text} (code {code:#x}, qualification {qualification:#x})"
        )];
        for rule in &self.rules {
            let BrokenRule { name, text, .. } = rule;
            let values = listed(&rule.values);
            lines.push(format!("broken: {name}: {text} Here: {values}."));
        }
        let not_named = self.broken.saturating_sub(self.rules.len() as u64);
        if not_named > 0 {
            lines.push(format!("broken, too: {not_named} more rules"));
        }
        if !self.values.is_empty() {
            lines.push(format!("fields: {}", listed(&self.values)));
        }
        lines
    }
}

/// What says more than to which domain and rule a record belongs.
fn values<'a>(fields: &'a Fields<'_>) -> impl Iterator<Item = (String, u64)> + 'a {
    let numbers = fields.numbers();
    numbers
        .filter(|(key, _)| !["name", "rule", "section"].contains(key))
        .map(|(key, value)| (key.to_owned(), value))
}

fn listed(values: &Values) -> String {
    let each = values
        .iter()
        .map(|(name, value)| format!("{name} {value:#x}"));
    each.collect::<Vec<_>>().join(", ")
}
