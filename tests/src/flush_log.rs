//! The log of flushes that the hypervisor writes for `trace=flushes`, and the rules that every one keeps.

use std::collections::BTreeSet;

use libtest_mimic::Failed;

/// A step of the log; ARCHITECTURE.md says what each is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields of the record")]
pub enum Step {
    Changed { space: u64 },
    Told { cpu: u8 },
    Gone { space: u64 },
    Stale { vcpu: u64, space: u64 },
    Done { how: String, identifier: u64 },
}

/// The steps of all CPUs, in their order.
pub struct FlushLog(Vec<(u8, Step)>);

impl FlushLog {
    /// Finds the log among other lines.
    ///
    /// # Errors
    /// A record that cannot be read, and a log that is not whole.
    pub fn read(text: &str) -> Result<Self, Failed> {
        let records = text.lines().filter_map(|line| line.strip_prefix("@flush "));
        let steps = records.map(|record| {
            read_step(record).ok_or_else(|| Failed::from(format!("cannot be read: {record}")))
        });
        let steps = steps.collect::<Result<Vec<_>, _>>()?;
        let end = format!("@flushed recorded={} unrecorded=0", steps.len());
        let is_whole = text.lines().any(|line| line == end);
        is_whole
            .then_some(FlushLog(steps))
            .ok_or_else(|| format!("there should be a line {end:?}").into())
    }

    /// The steps of one CPU.
    pub fn of_cpu(&self, cpu: u8) -> Vec<&Step> {
        let own = self.0.iter().filter(|(by, _)| *by == cpu);
        own.map(|(_, step)| step).collect()
    }

    /// The first space of which one CPU has told another to forget it.
    pub fn told(&self, by: u8, cpu: u8) -> Option<u64> {
        let mut changed = None;
        for step in self.of_cpu(by) {
            match step {
                Step::Changed { space } => changed = Some(*space),
                Step::Told { cpu: told } if *told == cpu => return changed,
                _ => {}
            }
        }
        None
    }

    /// Whether a CPU has found that it must forget that space, and then done so.
    pub fn forgets(&self, cpu: u8, space: u64) -> bool {
        let steps = self.of_cpu(cpu);
        let is_stale =
            |step: &Step| matches!(step, Step::Stale { space: stale, .. } if *stale == space);
        steps
            .windows(2)
            .any(|pair| is_stale(pair[0]) && matches!(pair[1], Step::Done { .. }))
    }

    /// How often a vcpu has begun to run on a CPU, with nothing left behind by others.
    pub fn beginnings(&self, cpu: u8) -> usize {
        let mut is_stale = false;
        let is_beginning = |step: &&Step| {
            let was_stale = std::mem::replace(&mut is_stale, matches!(step, Step::Stale { .. }));
            matches!(step, Step::Done { how, .. } if how != "invvpid-all") && !was_stale
        };
        self.of_cpu(cpu).into_iter().filter(is_beginning).count()
    }

    /// What is wrong with it, whatever the domains have done.
    pub fn flaws(&self) -> Vec<String> {
        let cpus: BTreeSet<u8> = self.0.iter().map(|(cpu, _)| *cpu).collect();
        let flaws = |cpu: u8| {
            let steps = self.of_cpu(cpu);
            let rules = [stale_ones_run, unfinished_changes, used_identifiers];
            let flaws = rules.into_iter().flat_map(move |rule| rule(&steps));
            flaws.map(move |flaw| format!("CPU {cpu}: {flaw}"))
        };
        cpus.into_iter().flat_map(flaws).collect()
    }
}

fn read_step(record: &str) -> Option<(u8, Step)> {
    let field = |key: &str| {
        let mut pairs = record.split(' ').filter_map(|pair| pair.split_once('='));
        pairs.find_map(|(name, value)| (name == key).then_some(value))
    };
    let number = |key: &str| field(key)?.parse().ok();
    let cpu = |key: &str| field(key)?.parse().ok();
    let space = || number("space");
    let step = match field("step")? {
        "changed" => Step::Changed { space: space()? },
        "told" => Step::Told { cpu: cpu("to")? },
        "gone" => Step::Gone { space: space()? },
        "stale" => Step::Stale {
            vcpu: number("vcpu")?,
            space: space()?,
        },
        "done" => Step::Done {
            how: field("how")?.to_owned(),
            identifier: number("identifier")?,
        },
        _ => return None,
    };
    Some((cpu("cpu")?, step))
}

/// Whoever may have cached what is wrong runs only after a flush, if it runs again at all.
fn stale_ones_run(steps: &[&Step]) -> Vec<String> {
    let pairs = steps.windows(2);
    let runs = |pair: &&[&Step]| {
        matches!(pair[0], Step::Stale { .. }) && !matches!(pair[1], Step::Done { .. })
    };
    let flaw = |pair: &[&Step]| format!("{:?} is followed by {:?}", pair[0], pair[1]);
    pairs.filter(runs).map(flaw).collect()
}

/// Who changes a space tells others, and does nothing else until nobody runs with what is wrong.
fn unfinished_changes(steps: &[&Step]) -> Vec<String> {
    let mut flaws = Vec::new();
    let mut changed = None;
    for step in steps {
        let is_right = match step {
            Step::Changed { .. } | Step::Stale { .. } | Step::Done { .. } => changed.is_none(),
            Step::Told { .. } => changed.is_some(),
            Step::Gone { space } => changed == Some(*space),
        };
        if !is_right {
            flaws.push(format!(
                "{step:?} while the space that changes is {changed:?}"
            ));
        }
        changed = match step {
            Step::Changed { space } => Some(*space),
            Step::Gone { .. } => None,
            _ => changed,
        };
    }
    flaws
}

/// A CPU begins with a flush of everything, and gives out an identifier again only after another one.
fn used_identifiers(steps: &[&Step]) -> Vec<String> {
    let mut flaws = Vec::new();
    let mut used: Option<BTreeSet<u64>> = None;
    let mut was_stale = false;
    for step in steps {
        if let Step::Done { how, identifier } = step {
            let is_all = how.ends_with("-all");
            let is_new = !was_stale || how == "new-asid";
            match &mut used {
                _ if is_all => used = Some(BTreeSet::from([*identifier])),
                None => flaws.push(format!("{step:?} comes first")),
                Some(used) => {
                    if is_new && !used.insert(*identifier) {
                        flaws.push(format!("{step:?}, which is in use"));
                    }
                }
            }
        }
        was_stale = matches!(step, Step::Stale { .. });
    }
    flaws
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &[&str] = &[
        "cpu=0 step=done how=tlb-control-all identifier=1",
        "cpu=1 step=done how=invept-all identifier=1",
        "cpu=1 step=done how=invvpid-all identifier=1",
        "cpu=0 step=done how=new-asid identifier=2",
        "cpu=0 step=changed space=7",
        "cpu=0 step=told to=1",
        "cpu=1 step=stale vcpu=4 space=7 version=1",
        "cpu=1 step=done how=invept-single identifier=1",
        "cpu=0 step=gone space=7",
        "cpu=0 step=stale vcpu=0 space=7 version=1",
        "cpu=0 step=done how=new-asid identifier=3",
        "cpu=0 step=done how=tlb-control-all identifier=1",
        "cpu=0 step=done how=new-asid identifier=2",
        "cpu=1 step=changed space=8",
        "cpu=1 step=gone space=8",
    ];

    fn log(records: &[&str]) -> FlushLog {
        let lines = records.iter().map(|record| format!("@flush {record}\n"));
        let text: String = lines.collect();
        let end = format!("@flushed recorded={} unrecorded=0\n", records.len());
        FlushLog::read(&(text + &end)).unwrap()
    }

    #[test]
    fn a_log_is_read() {
        let log = log(GOOD);
        assert_eq!(log.flaws(), [""; 0]);
        assert_eq!(log.told(0, 1), Some(7));
        assert_eq!(log.told(1, 0), None);
        assert!(log.forgets(1, 7) && !log.forgets(1, 8));
        assert_eq!((log.beginnings(0), log.beginnings(1)), (4, 1));
    }

    /// Without any one of these, something is missing.
    #[test]
    fn what_is_missing_is_a_flaw() {
        for missing in [0, 4, 7, 8, 11, 13] {
            let mut records = GOOD.to_vec();
            let record = records.remove(missing);
            assert!(!log(&records).flaws().is_empty(), "without {record}");
        }
        let cut_off = "@flush cpu=0 step=gone space=1\n@flushed recorded=1 unrecorded=1\n";
        assert!(FlushLog::read(cut_off).is_err());
        assert!(FlushLog::read("@flush cpu=0 step=odd\n@flushed recorded=1 unrecorded=0").is_err());
    }
}
