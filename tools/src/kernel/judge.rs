//! Whether a kernel that was started alone has worked.

use super::Host;
use crate::beds::Meaning;
use crate::run::watch::Followed;
use crate::run::Ending;
use crate::verdict::{Kind, Verdict};

/// The code in the kernel's last line.
pub fn exit_code(line: &str) -> Option<u64> {
    line.strip_prefix("exit code ")?.parse().ok()
}

/// The verdict: the kernel has said a code, the host agrees, and it is 0.
pub fn judge(
    host: &dyn Host,
    followed: &Followed,
    code: Option<u64>,
    limit_seconds: u64,
) -> Verdict {
    let name = host.name();
    match &followed.ending {
        Ending::Exited(status) => exited(host, *status, &followed.bed_error, code),
        Ending::Signalled(signal) => Verdict::new(
            Kind::BedFailed,
            format!("{name} was killed by signal {signal}; run it again"),
        ),
        Ending::TimedOut | Ending::Silent(_) => Verdict::new(
            Kind::TimeLimit,
            format!("the time limit of {limit_seconds} s was reached and the machine was stopped; allow more with --timeout"),
        ),
        Ending::Interrupted => {
            Verdict::new(Kind::Interrupted, "interrupted; the machine was stopped")
        }
    }
}

fn exited(host: &dyn Host, status: i32, said: &str, code: Option<u64>) -> Verdict {
    let name = host.name();
    match code {
        Some(code) if host.agrees(code, status, said) => match code {
            0 => Verdict::new(Kind::Ok, format!("ok: the kernel ended well on {name}")),
            _ => Verdict::new(
                Kind::KernelFailed,
                format!("the kernel ended with exit code {code} on {name}; its last lines say why"),
            ),
        },
        Some(code) => Verdict::new(
            Kind::ReportIncomplete,
            format!("the kernel says exit code {code}, but {name} ended with status {status}"),
        ),
        None => silent(host, status, said),
    }
}

/// It has ended without the kernel's last line.
fn silent(host: &dyn Host, status: i32, said: &str) -> Verdict {
    let name = host.name();
    match host.bed().meaning(status, said) {
        Meaning::CannotStart => Verdict::new(
            Kind::BedFailed,
            format!("{name} could not start the machine (status {status}): {said}"),
        ),
        Meaning::MachineReset | Meaning::TripleFault => Verdict::new(
            Kind::MachineReset,
            format!("the machine was reset on {name}: a triple fault of the kernel"),
        ),
        _ => Verdict::new(
            Kind::ReportIncomplete,
            format!("{name} ended with status {status}, and the kernel has not said its exit code"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::host;
    use std::time::Duration;

    fn kind(ending: Ending, code: Option<u64>) -> Kind {
        let qemu = host::named("qemu").unwrap();
        let followed = Followed {
            ending,
            bed_error: String::new(),
        };
        judge(qemu.as_ref(), &followed, code, 1).kind
    }

    #[test]
    fn the_last_line_is_told_from_others() {
        assert_eq!(exit_code("exit code 142"), Some(142));
        for line in ["exit code", "exit code 1 2", " exit code 1", "exit code -1"] {
            assert_eq!(exit_code(line), None, "{line}");
        }
    }

    #[test]
    fn a_good_end_needs_the_line_and_the_status() {
        assert_eq!(kind(Ending::Exited(1), Some(0)), Kind::Ok);
        assert_eq!(kind(Ending::Exited(29), Some(142)), Kind::KernelFailed);
        assert_eq!(kind(Ending::Exited(0), Some(0)), Kind::ReportIncomplete);
        assert_eq!(kind(Ending::Exited(1), None), Kind::BedFailed);
        assert_eq!(kind(Ending::Exited(0), None), Kind::MachineReset);
        assert_eq!(kind(Ending::Exited(33), None), Kind::ReportIncomplete);
        assert_eq!(kind(Ending::TimedOut, Some(0)), Kind::TimeLimit);
        assert_eq!(kind(Ending::Signalled(9), None), Kind::BedFailed);
        assert_eq!(kind(Ending::Interrupted, None), Kind::Interrupted);
        let silent = Ending::Silent(Duration::from_secs(1));
        assert_eq!(kind(silent, None), Kind::TimeLimit);
    }
}
