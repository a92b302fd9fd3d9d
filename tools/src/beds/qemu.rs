//! The beds in QEMU.
//!
//! `qemu-svm` is AMD SVM with nested paging as QEMU's own interpreter (TCG) offers it. It needs no
//! support from the host's CPU, and with instruction counting two runs are the same to the last
//! instruction.
//!
//! `kvm` is the host's own CPU through the host's KVM, Intel's or AMD's; nothing counts there.

use std::env;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::kvm::Host;
use super::{Counting, Machine, Meaning, Need, TestBed};

/// A bed: QEMU with one of its accelerators.
pub struct Qemu {
    program: PathBuf,
    accelerator: Accelerator,
}

/// Who executes the machine's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// QEMU's interpreter.
    Tcg,
    /// The host's CPU.
    Kvm,
}

/// A write of `value` to QEMU's debug-exit device ends QEMU with this status.
const fn debug_exit_status(value: i32) -> i32 {
    value << 1 | 1
}

/// The hypervisor ends a run that is too long by itself; this much later the machine is killed.
const KILL_AFTER: Duration = Duration::from_secs(5);

const OK: i32 = debug_exit_status(0x10);
const FAILED: i32 = debug_exit_status(0x11);
const REFUSED: i32 = debug_exit_status(0x12);
const PANICKED: i32 = debug_exit_status(0x13);

impl Qemu {
    /// The bed with the binary that `NUNCIO_QEMU` names, or the one on the search path.
    pub fn from_environment(accelerator: Accelerator) -> Self {
        let named = env::var_os("NUNCIO_QEMU").filter(|name| !name.is_empty());
        let program = PathBuf::from(named.unwrap_or_else(|| "qemu-system-x86_64".into()));
        // The command runs in another directory, where a relative path would lead astray.
        let program = match program.components().count() {
            0 | 1 => program,
            _ => std::path::absolute(&program).unwrap_or(program),
        };
        Qemu {
            program,
            accelerator,
        }
    }
}

impl TestBed for Qemu {
    fn name(&self) -> &'static str {
        match self.accelerator {
            Accelerator::Tcg => "qemu-svm",
            Accelerator::Kvm => "kvm",
        }
    }

    fn summary(&self) -> &'static str {
        match self.accelerator {
            Accelerator::Tcg => {
                "AMD SVM in QEMU's interpreter (TCG); counts instructions with --count"
            }
            Accelerator::Kvm => "the host's own CPU, VT-x or SVM, through its KVM; never counts",
        }
    }

    fn program(&self) -> PathBuf {
        self.program.clone()
    }

    fn obstacle(&self) -> Option<String> {
        match self.accelerator {
            Accelerator::Tcg => None,
            Accelerator::Kvm => Host::read().obstacle(),
        }
    }

    fn needs(&self) -> Vec<Need> {
        vec![Need {
            program: self.program.clone(),
            advice:
                "install it with: apt-get install qemu-system-x86, or name the binary in NUNCIO_QEMU",
        }]
    }

    fn counting(&self) -> Counting {
        match self.accelerator {
            Accelerator::Tcg => Counting::OnRequest,
            Accelerator::Kvm => Counting::Never,
        }
    }

    fn wall_limit(&self, limit: Duration) -> Duration {
        limit.saturating_add(KILL_AFTER)
    }

    fn command(&self, machine: &Machine) -> Command {
        let mut command = Command::new(&self.program);
        let (accelerator, own_cpu) = match self.accelerator {
            Accelerator::Tcg => ("tcg", "max"),
            Accelerator::Kvm => ("kvm", "host"),
        };
        let cpu = machine.cpu.as_deref().unwrap_or(own_cpu);
        command.args(["-accel", accelerator, "-cpu", cpu]);
        command.args(["-M", machine.board.name()]);
        command.args(["-m", &machine.memory_mib.to_string()]);
        command.args(["-smp", &machine.cpus.max(1).to_string()]);
        command.args([
            "-nodefaults",
            "-display",
            "none",
            "-monitor",
            "none",
            "-serial",
            "stdio",
        ]);
        command.args([
            "-no-reboot",
            "-device",
            "isa-debug-exit,iobase=0xf4,iosize=0x04",
        ]);
        if machine.count {
            command.args(["-icount", "shift=0,sleep=off"]);
        }
        // QEMU splits this list at commas and each entry at the first space: file, then the name
        // that the hypervisor sees as the last word.
        let modules = machine.modules.iter().map(|name| format!("{name} {name}"));
        let modules: Vec<_> = modules.collect();
        command.args(["-kernel", &machine.image]);
        if !modules.is_empty() {
            command.args(["-initrd", &modules.join(",")]);
        }
        if let Some(words) = &machine.arguments {
            command.args(["-append", words]);
        }
        command
    }

    fn meaning(&self, status: i32, _: &str) -> Meaning {
        match status {
            OK => Meaning::Ok,
            FAILED => Meaning::Failed,
            REFUSED => Meaning::Refused,
            PANICKED => Meaning::Panicked,
            // With -no-reboot a triple fault ends QEMU with 0, as if all were well.
            0 => Meaning::MachineReset,
            1 => Meaning::CannotStart,
            _ => Meaning::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(machine: &Machine) -> Vec<String> {
        arguments_on(Accelerator::Tcg, machine)
    }

    fn arguments_on(accelerator: Accelerator, machine: &Machine) -> Vec<String> {
        let bed = Qemu {
            program: "qemu".into(),
            accelerator,
        };
        let command = bed.command(machine);
        let arguments = command.get_args();
        arguments
            .map(|word| word.to_string_lossy().into_owned())
            .collect()
    }

    #[test]
    fn the_status_of_every_ending() {
        let bed = Qemu::from_environment(Accelerator::Tcg);
        let meanings = [
            (33, Meaning::Ok),
            (35, Meaning::Failed),
            (37, Meaning::Refused),
            (39, Meaning::Panicked),
            (0, Meaning::MachineReset),
            (1, Meaning::CannotStart),
            (2, Meaning::Unknown),
            (255, Meaning::Unknown),
        ];
        for (status, meaning) in meanings {
            assert_eq!(bed.meaning(status, ""), meaning, "{status}");
        }
    }

    #[test]
    fn modules_memory_and_cpu_are_on_the_command_line() {
        let mut machine = Machine {
            memory_mib: 300,
            cpus: 4,
            modules: vec!["nuncio-plan".to_owned(), "input".to_owned()],
            ..Machine::default()
        };
        let plain = arguments(&machine);
        assert!(plain.contains(&"nuncio-plan nuncio-plan,input input".to_owned()));
        assert!(plain.windows(2).any(|pair| pair == ["-m", "300"]));
        assert!(plain.windows(2).any(|pair| pair == ["-smp", "4"]));
        assert!(plain.windows(2).any(|pair| pair == ["-cpu", "max"]));
        assert!(plain.windows(2).any(|pair| pair == ["-M", "q35"]));
        assert!(!plain.contains(&"-icount".to_owned()));
        assert!(!plain.contains(&"-append".to_owned()));

        machine.count = true;
        machine.cpu = Some("max,-svm".to_owned());
        machine.arguments = Some("test=panic a,b".to_owned());
        let counted = arguments(&machine);
        assert!(counted
            .windows(2)
            .any(|pair| pair == ["-icount", "shift=0,sleep=off"]));
        assert!(counted.contains(&"max,-svm".to_owned()));
        assert!(counted
            .windows(2)
            .any(|pair| pair == ["-append", "test=panic a,b"]));
    }

    #[test]
    fn kvm_is_the_cpu_of_the_host() {
        let on_kvm = arguments_on(Accelerator::Kvm, &Machine::default());
        assert!(on_kvm.windows(2).any(|pair| pair == ["-accel", "kvm"]));
        assert!(on_kvm.windows(2).any(|pair| pair == ["-cpu", "host"]));
        assert!(on_kvm.windows(2).any(|pair| pair == ["-smp", "1"]));
        let on_tcg = arguments(&Machine::default());
        assert_eq!(on_kvm.len(), on_tcg.len());
    }
}
