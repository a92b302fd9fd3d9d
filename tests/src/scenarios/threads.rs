//! The guest kernel with its threads: the same image judges the same behaviours in a domain and on a machine
//! without Nuncio, and says who has served it.

use std::fs::File;
use std::io::{self, Write};
use std::process::{Command, Stdio};

use libtest_mimic::Failed;

use super::{Bed, Scenario};
use crate::run::{binaries, Outcome, Run, TIMEOUT_SECONDS};

/// In a domain.
pub const SCENARIOS: &[Scenario] = &[("two_vcpus_on_two_cpus", |bed| {
    in_a_domain(bed, 2, 2, "[0, 1]")
})];

/// More than Bochs has time for.
pub const MANY: &[Scenario] = &[
    ("on_one_vcpu", |bed| in_a_domain(bed, 1, 1, "0")),
    ("two_vcpus_on_one_cpu", |bed| in_a_domain(bed, 2, 1, "0")),
    ("the_manifest_that_comes_with_it", as_it_comes),
    ("another_backend_is_forced", native_is_forced),
];

/// On QEMU's machine, without Nuncio.
pub const ON_QEMU: &[Scenario] = &[
    ("on_a_bare_pc", |_| on_bare_metal("qemu", "pc", 1)),
    ("on_a_bare_pc_with_four_cpus", |_| {
        on_bare_metal("qemu", "pc", 4)
    }),
    ("on_a_bare_q35", |_| on_bare_metal("qemu", "q35", 1)),
    ("on_a_bare_q35_with_four_cpus", |_| {
        on_bare_metal("qemu", "q35", 4)
    }),
    ("on_bare_metal_with_nuncio_forced", nuncio_is_forced),
    ("shell_on_the_serial_line", commands_are_typed),
];

/// On Bochs's machine, without Nuncio.
pub const ON_BOCHS: &[Scenario] = &[
    ("on_a_bare_pc", |_| on_bare_metal("bochs", "pc", 1)),
    ("on_a_bare_pc_with_four_cpus", |_| {
        on_bare_metal("bochs", "pc", 4)
    }),
];

/// On the CPU of this computer, where there is a KVM that can be used.
pub const ON_KVM: &[Scenario] = &[
    ("on_kvm", |_| on_kvm(1)),
    ("on_kvm_with_two_cpus", |_| on_kvm(2)),
];

/// Why nothing can be run on this computer's KVM, if so.
pub fn kvm_obstacle() -> Option<&'static str> {
    let device = File::options().read(true).write(true).open("/dev/kvm");
    if device.is_err() {
        return Some("/dev/kvm cannot be opened on this computer");
    }
    let is_usable = makes_a_machine().unwrap_or(false);
    (!is_usable).then_some("QEMU cannot use this computer's KVM")
}

/// Whether KVM makes a machine without anything, which is told to quit; a device that can be opened need not.
fn makes_a_machine() -> io::Result<bool> {
    let mut machine = qemu()
        .args(["-accel", "kvm", "-M", "none", "-nodefaults", "-display"])
        .args(["none", "-monitor", "stdio"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    if let Some(mut monitor) = machine.stdin.take() {
        // If it has ended already its status says so.
        let _ = monitor.write_all(b"quit\n");
    }
    Ok(machine.wait()?.success())
}

/// QEMU, ended if it takes too long.
fn qemu() -> Command {
    let named = std::env::var_os("NUNCIO_QEMU").filter(|name| !name.is_empty());
    let mut command = Command::new("timeout");
    command.arg(TIMEOUT_SECONDS);
    command.arg(named.unwrap_or_else(|| "qemu-system-x86_64".into()));
    command
}

/// The exit status of QEMU if the kernel ends with code 0.
const HALTED: i32 = 1;
const README: &str = include_str!("../../../README.md");
const MANIFEST: &str = include_str!("../../../tools/manifests/kernel.toml");
const COMMAND_LINE: &str = "log=info do=why,run,stress,ps,mem,time,why";

/// What the suite says, whoever serves the kernel: the traces are equal if they equal this.
const BEHAVIOURS: [&str; 8] = [
    "clock",
    "order",
    "lateness",
    "preemption",
    "wake-ups",
    "signals",
    "idle",
    "many-threads",
];

const BY_NUNCIO: [(&str, &str); 5] = [
    ("console", "nuncio:port"),
    ("clock-source", "nuncio:time-page"),
    ("irq-chip", "nuncio:event"),
    ("clock-event", "nuncio:timer"),
    ("smp", "nuncio:vcpus"),
];
const BY_MACHINE: [(&str, &str); 5] = [
    ("console", "native:serial"),
    ("clock-source", "native:tsc"),
    ("irq-chip", "native:local-apic"),
    ("clock-event", "native:apic-timer"),
    ("smp", "native:init-sipi"),
];

fn in_a_domain(bed: &Bed, vcpus: u64, cpus: u64, cpu: &str) -> Result<(), Failed> {
    let text = MANIFEST.replace(COMMAND_LINE, "do=run,why");
    let text = text.replace("\ncpus = 4\n", &format!("\ncpus = {cpus}\n"));
    let text = text.replace("\nvcpus = 4\n", &format!("\nvcpus = {vcpus}\n"));
    let text = text.replace("cpu = [0, 1, 2, 3]", &format!("cpu = {cpu}"));
    let outcome = Run::new(bed)?.manifest(&text)?.go()?;
    outcome
        .ends(0, "ok")?
        .returns_frames()?
        .exits("kernel", 0)?;
    behaves(&outcome, vcpus)?;
    let is_vmx = bed.name.starts_with("bochs-vmx");
    let place = if is_vmx {
        "Nuncio on VT-x"
    } else {
        "Nuncio on SVM"
    };
    is_in_readme(&outcome, place, &BY_NUNCIO)?;
    is_served(&outcome, &BY_NUNCIO)
}

fn as_it_comes(bed: &Bed) -> Result<(), Failed> {
    let outcome = Run::new(bed)?.manifest(MANIFEST)?.go()?;
    outcome
        .ends(0, "ok")?
        .returns_frames()?
        .exits("kernel", 0)?;
    behaves(&outcome, 4)?;
    is_served(&outcome, &BY_NUNCIO)
}

/// In a domain there is no device that the native backend could use, and it must not look for one: that would end
/// the domain otherwise.
fn native_is_forced(bed: &Bed) -> Result<(), Failed> {
    let text = MANIFEST.replace(COMMAND_LINE, "pv=native do=why");
    let outcome = Run::new(bed)?.manifest(&text)?.go()?;
    outcome.exits("kernel", 101)?;
    let says_why = outcome.stdout.contains(
        "nothing here serves as clock-source: native:tsc not used: a domain of Nuncio's has no devices;",
    );
    outcome.check(says_why, "the kernel should say what is missing")?;
    Ok(())
}

fn on_bare_metal(host: &str, machine: &str, cpus: u64) -> Result<(), Failed> {
    let run = Run::kernel(host, &["do=run,stress,why"])?;
    let run = run.option("--cpus", &cpus.to_string());
    let outcome = run.option("--machine", machine).go()?;
    outcome.ends(0, "ok")?;
    behaves(&outcome, cpus)?;
    let place = match host {
        "bochs" => "bare metal, Bochs",
        _ => "bare metal, QEMU",
    };
    is_in_readme(&outcome, place, &BY_MACHINE)?;
    is_served(&outcome, &BY_MACHINE)
}

/// QEMU alone, since the host tool gives the machine nothing to read.
fn commands_are_typed(bed: &Bed) -> Result<(), Failed> {
    let image = binaries()?.join("../x86_64-unknown-none/release/nuncio-guest-kernel");
    let mut command = qemu();
    command.args(bed.qemu.into_iter().flatten());
    command.args(["-nodefaults", "-display", "none", "-monitor", "none"]);
    command.args(["-serial", "stdio", "-no-reboot", "-device"]);
    command.args(["isa-debug-exit,iobase=0xf4,iosize=0x04", "-kernel"]);
    command.arg(image).args(["-append", "do=shell exit=qemu"]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut keyboard = child.stdin.take().ok_or("QEMU has no input")?;
    // What is typed before the kernel has looked for its port is lost. Then a command that does not exist, and one
    // with a letter that is taken back.
    keyboard.write_all(b"\r\r\rnonsense\rrun orderr\x7f\rhalt\r")?;
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let expected = [
        "> nonsense",
        "there is no command nonsense; type `help`",
        "> run orderr",
        "suite order ok",
        "> halt",
        "exit code 0",
    ];
    let mut rest = said.as_str();
    for words in expected {
        let (_, behind) = rest
            .split_once(words)
            .ok_or_else(|| format!("the shell should say {words:?} next\n{said}"))?;
        rest = behind;
    }
    match output.status.code() {
        Some(HALTED) => Ok(()),
        status => Err(format!("QEMU should end with {HALTED}, not {status:?}\n{said}").into()),
    }
}

/// Which of its clocks KVM gives depends on the computer; everything else is the machine's.
fn on_kvm(cpus: u64) -> Result<(), Failed> {
    let run = Run::kernel("kvm", &["do=run,stress,why"])?;
    let outcome = run.option("--cpus", &cpus.to_string()).go()?;
    outcome.ends(0, "ok")?;
    behaves(&outcome, cpus)?;
    let is_kvms = is_served(&outcome, &[("clock-source", "kvm:kvmclock")]);
    let says_why = "kvm:kvmclock not used: it is not the same for all CPUs here";
    if is_kvms.is_err() && !outcome.stdout.contains(says_why) {
        return is_kvms;
    }
    is_served(
        &outcome,
        &[
            ("console", "native:serial"),
            ("irq-chip", "native:local-apic"),
            ("smp", "native:init-sipi"),
        ],
    )
}

fn nuncio_is_forced(_: &Bed) -> Result<(), Failed> {
    let outcome = Run::kernel("qemu", &["pv=nuncio", "do=why"])?.go()?;
    outcome.ends(0, "ok")?;
    is_served(&outcome, &BY_MACHINE)?;
    let says_why = outcome
        .stdout
        .contains("nuncio:timer not used: this is no domain of Nuncio's");
    outcome.check(says_why, "the kernel should say why it does without Nuncio")?;
    Ok(())
}

/// Every behaviour is judged once and found good, in the same order.
fn behaves(outcome: &Outcome, cpus: u64) -> Result<(), Failed> {
    let judged = outcome.stdout.lines().filter_map(|line| {
        let (_, judged) = line.split_once("suite ")?;
        Some(judged.split('#').next().unwrap_or(judged).trim_end())
    });
    let expected = BEHAVIOURS.map(|name| format!("{name} ok"));
    outcome.check(
        judged.eq(expected.iter()),
        "all behaviours should be judged, and good",
    )?;
    outcome.check(
        outcome
            .stdout
            .contains(&format!("suite clock ok # {cpus} CPUs")),
        "all CPUs should have come up",
    )?;
    Ok(())
}

/// The row of that place in the README's table says the same.
fn is_in_readme(outcome: &Outcome, place: &str, by: &[(&str, &str)]) -> Result<(), Failed> {
    let servers = by.iter().map(|(_, server)| format!(" `{server}` |"));
    let row = format!("| {place} |{}", servers.collect::<String>());
    outcome.check(
        README.lines().any(|line| line == row),
        &format!("the README should have the row {row}"),
    )?;
    Ok(())
}

fn is_served(outcome: &Outcome, by: &[(&str, &str)]) -> Result<(), Failed> {
    for (interface, server) in by {
        let line = format!("{interface}: {server}, used ");
        outcome.check(
            outcome.stdout.contains(&line),
            &format!("{server} should serve as {interface}"),
        )?;
    }
    Ok(())
}
