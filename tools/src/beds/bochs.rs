//! The beds on Bochs, an interpreter of whole PCs that checks what guests are entered with far more
//! strictly than QEMU does. They boot an ISO image by GRUB, and always count instructions: the
//! time-stamp counter goes up by 1 with each.
//!
//! Bochs says little by its exit status, 0 or 1: the last message on its standard error tells an
//! end that the hypervisor asked for from others.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::{Counting, Machine, Meaning, Need, TestBed};
use crate::iso;
use crate::verdict::{Kind, Verdict};

/// A bed: a CPU model of Bochs.
#[derive(Clone, Copy)]
pub struct Bochs {
    name: &'static str,
    summary: &'static str,
    model: &'static str,
}

/// Every bed on Bochs.
pub const BEDS: &[Bochs] = &[
    Bochs {
        name: "bochs-svm",
        summary: "AMD SVM in Bochs; slower, stricter, counts instructions always",
        model: "ryzen",
    },
    Bochs {
        name: "bochs-vmx",
        summary: "Intel VT-x in Bochs, with all that its newest model offers",
        model: "corei7_skylake_x",
    },
    Bochs {
        name: "bochs-vmx-min",
        summary: "Intel VT-x in Bochs, with the least that Nuncio needs",
        model: "corei7_sandy_bridge_2600k",
    },
];

const ISO: &str = "boot.iso";
const CONFIGURATION: &str = "bochsrc";
const DEBUGGER_SCRIPT: &str = "debugger.rc";

/// Instructions in a second of the machine's time. On a host of today it is about a second of the
/// host's time, too; with fewer, time limits would come too early, with more, what waits for a
/// device (firmware, boot loader, serial line) would take longer.
const INSTRUCTIONS_PER_SECOND: u64 = 50_000_000;
/// A loaded host is slower than that by up to this factor.
const SLOWNESS: u32 = 2;
/// Firmware and boot loader, which reads a disc of up to some hundred MiB by programmed I/O.
const BOOT: Duration = Duration::from_secs(60);
/// Above that Bochs has no memory that could be used.
const MOST_MEMORY_MIB: u64 = 2048;
/// With 8 CPUs Bochs 2.7 works; with 16 it dies of a bad address of its own.
const MOST_CPUS: u64 = 8;

/// Bochs's words for an end by its shutdown port, and for a triple fault.
const SHUTDOWN: &str = "shutdown requested";
const TRIPLE_FAULT: &str = "exception with no resolution";
/// Bochs's words for a display without a port. Two that are started at the same moment can both bind
/// one; the second to listen there gives up instead of going on to the next.
const NO_DISPLAY: &str = "could not bind any port";

/// Starts Bochs with the serial line on standard output, and what Bochs itself prints there in a
/// file. Bochs opens the serial line by name, hence the descriptor's.
const START: &str = "exec bochs -q -f bochsrc -rc debugger.rc 3>&1 >bochs.out";
const SERIAL_LINE: &str = "/dev/fd/3";

impl Bochs {
    /// The first of them.
    pub const FIRST: Bochs = BEDS[0];

    fn configuration(&self, machine: &Machine) -> String {
        let memory = machine.memory_mib;
        let cpus = machine.cpus.max(1);
        let model = machine.cpu.as_deref().unwrap_or(self.model);
        format!(
            "config_interface: textconfig\n\
             display_library: rfb, options=\"timeout=0\"\n\
             memory: guest={memory}, host={memory}\n\
             romimage: file=/usr/share/bochs/BIOS-bochs-latest, options=fastboot\n\
             vgaromimage: file=/usr/share/vgabios/vgabios.bin\n\
             cpu: model={model}, count={cpus}, ips={INSTRUCTIONS_PER_SECOND}, \
             reset_on_triple_fault=0, ignore_bad_msrs=0\n\
             clock: sync=none, time0=1700000000\n\
             ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14\n\
             ata0-master: type=cdrom, path={ISO}, status=inserted\n\
             boot: cdrom\n\
             com1: enabled=1, mode=file, dev={SERIAL_LINE}\n\
             log: bochs.log\n\
             panic: action=fatal\n\
             error: action=report\n\
             info: action=ignore\n\
             debug: action=ignore\n\
             sound: waveoutdrv=dummy, waveindrv=dummy, midioutdrv=dummy\n\
             speaker: enabled=0\n\
             mouse: enabled=0\n"
        )
    }
}

impl TestBed for Bochs {
    fn name(&self) -> &'static str {
        self.name
    }

    fn summary(&self) -> &'static str {
        self.summary
    }

    fn program(&self) -> PathBuf {
        "bochs".into()
    }

    fn needs(&self) -> Vec<Need> {
        vec![
            Need {
                program: self.program(),
                advice: "install it with: apt-get install bochs bochs-term bochsbios vgabios",
            },
            iso::need(),
        ]
    }

    fn counting(&self) -> Counting {
        Counting::Always
    }

    fn wall_limit(&self, limit: Duration) -> Duration {
        limit.saturating_mul(SLOWNESS).saturating_add(BOOT)
    }

    fn prepare(&self, machine: &Machine) -> Result<(), Verdict> {
        if machine.memory_mib > MOST_MEMORY_MIB {
            return Err(Verdict::new(
                Kind::Invalid,
                format!(
                    "{} has at most {MOST_MEMORY_MIB} MiB of memory, and {} MiB are needed; use a smaller manifest or another bed",
                    self.name, machine.memory_mib
                ),
            ));
        }
        if machine.cpus > MOST_CPUS {
            return Err(Verdict::new(
                Kind::Invalid,
                format!(
                    "{} has at most {MOST_CPUS} CPUs, and {} are wanted; use fewer or another bed",
                    self.name, machine.cpus
                ),
            ));
        }
        let dir = &machine.run_dir;
        // Bochs stops in its debugger at the start and at the end: go on, then quit.
        for (name, text) in [
            (CONFIGURATION, self.configuration(machine)),
            (DEBUGGER_SCRIPT, "continue\nquit\n".to_owned()),
        ] {
            let path = dir.join(name);
            fs::write(&path, text).map_err(|error| {
                let text = format!("cannot write {}: {error}; make room there", path.display());
                Verdict::new(Kind::Missing, text)
            })?;
        }
        let arguments = machine.arguments.as_deref();
        iso::write(
            dir,
            &machine.image,
            &machine.modules,
            arguments,
            &dir.join(ISO),
        )
    }

    fn command(&self, _: &Machine) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", START]);
        command
    }

    fn is_message(&self, line: &str) -> bool {
        // Lines of its log begin with the time, and its last message stands between two rules.
        !line.is_empty() && !line.starts_with(|first: char| first.is_ascii_digit() || first == '=')
    }

    fn may_start_again(&self, status: i32, said: &str) -> bool {
        status == 1 && said.contains(NO_DISPLAY)
    }

    fn meaning(&self, status: i32, said: &str) -> Meaning {
        match status {
            0 => Meaning::Ok,
            1 if said.contains(SHUTDOWN) => Meaning::Ended,
            1 if said.contains(TRIPLE_FAULT) => Meaning::TripleFault,
            1 => Meaning::CannotStart,
            _ => Meaning::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_of_1_means_what_bochs_says() {
        for (status, said, meaning) in [
            (0, "", Meaning::Ok),
            (
                1,
                "[UNMAP ] Shutdown port: shutdown requested",
                Meaning::Ended,
            ),
            (
                1,
                "[CPU0  ] exception(): 3rd (13) exception with no resolution",
                Meaning::TripleFault,
            ),
            (1, "[BIOS  ] No bootable device.", Meaning::CannotStart),
            (1, "", Meaning::CannotStart),
            (127, "sh: bochs: not found", Meaning::Unknown),
        ] {
            assert_eq!(BEDS[0].meaning(status, said), meaning, "{status} {said}");
        }
    }

    #[test]
    fn the_last_message_is_told_from_the_log() {
        let lines = [
            "00000000000i[PLUGIN] loaded plugin libbx_rfb_gui.so",
            "========================================",
            "Bochs is exiting with the following message:",
            "[      ] bochsrc:6: cpu directive malformed.",
            "========================================",
            "00000000000i[SIM   ] quit_sim called with exit code 1",
            "",
        ];
        let last = lines.iter().rfind(|line| BEDS[0].is_message(line));
        assert_eq!(last, Some(&lines[3]));
    }

    #[test]
    fn model_and_memory_are_in_the_configuration() {
        let mut machine = Machine {
            memory_mib: 300,
            ..Machine::default()
        };
        let plain = BEDS[0].configuration(&machine);
        assert!(plain.contains("memory: guest=300, host=300\n"));
        assert!(plain.contains("cpu: model=ryzen, count=1,"));
        machine.cpus = 4;
        let several = BEDS[0].configuration(&machine);
        assert!(several.contains("cpu: model=ryzen, count=4,"));
        machine.cpu = Some("athlon64_venice".to_owned());
        assert!(BEDS[0]
            .configuration(&machine)
            .contains("cpu: model=athlon64_venice,"));
    }

    #[test]
    fn more_cpus_than_bochs_has_are_refused() {
        let machine = Machine {
            cpus: MOST_CPUS + 1,
            ..Machine::default()
        };
        let verdict = BEDS[0].prepare(&machine).unwrap_err();
        assert_eq!(verdict.kind, Kind::Invalid, "{verdict}");
    }

    #[test]
    fn more_memory_than_bochs_has_is_refused() {
        let machine = Machine {
            memory_mib: MOST_MEMORY_MIB + 1,
            ..Machine::default()
        };
        let verdict = BEDS[0].prepare(&machine).unwrap_err();
        assert_eq!(verdict.kind, Kind::Invalid, "{verdict}");
    }
}
