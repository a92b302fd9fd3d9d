//! Bootable images: the ISO file that `nuncio image` writes, booted by the firmware of a PC.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use libtest_mimic::Failed;

use super::{Bed, Scenario};
use crate::run::{binaries, noise, sha256, TIMEOUT_SECONDS};

pub const SCENARIOS: &[Scenario] = &[
    ("bios", |bed| boots(bed, &[], 1)),
    ("bios_with_three_cpus", |bed| boots(bed, &[], 3)),
    ("uefi", |bed| boots_by_uefi(bed, 1)),
    // There the tables are found by what GRUB says of them alone.
    ("uefi_with_three_cpus", |bed| boots_by_uefi(bed, 3)),
    ("cannot_be_written", cannot_be_written),
];

/// What a write of 0x10 to QEMU's debug-exit device ends it with.
const OK: i32 = 33;

/// Where distributions keep OVMF.
fn uefi_firmware() -> Option<PathBuf> {
    let places = [
        "/usr/share/OVMF/OVMF_CODE_4M.fd",
        "/usr/share/OVMF/OVMF_CODE.fd",
        "/usr/share/edk2/ovmf/OVMF_CODE.fd",
    ];
    places.iter().map(PathBuf::from).find(|path| path.is_file())
}

fn image(input: &Path, target: &Path) -> Result<std::process::Output, Failed> {
    let mut command = Command::new(binaries()?.join("nuncio"));
    command.arg("image").arg(target).arg("--input").arg(input);
    Ok(command.output()?)
}

fn boots_by_uefi(bed: &Bed, cpus: u64) -> Result<(), Failed> {
    let firmware = uefi_firmware().ok_or("no UEFI firmware; apt-get install ovmf")?;
    let drive = format!(
        "if=pflash,format=raw,readonly=on,file={}",
        firmware.display()
    );
    boots(bed, &["-drive", &drive], cpus)
}

/// The machine boots from the image alone, all its CPUs come up, and the consumer computes the right digest.
fn boots(bed: &Bed, firmware: &[&str], cpus: u64) -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    let (input, iso) = (dir.path().join("input"), dir.path().join("out.iso"));
    let bytes = noise(100_000);
    std::fs::write(&input, &bytes)?;
    let written = image(&input, &iso)?;
    if !written.status.success() || !iso.is_file() {
        return Err(String::from_utf8_lossy(&written.stderr).into_owned().into());
    }
    let qemu = std::env::var_os("NUNCIO_QEMU").filter(|name| !name.is_empty());
    // A firmware that finds nothing to boot waits for ever.
    let mut command = Command::new("timeout");
    command.arg(TIMEOUT_SECONDS);
    command.arg(qemu.unwrap_or_else(|| "qemu-system-x86_64".into()));
    command.args(bed.qemu.into_iter().flatten());
    command.args(["-M", "q35", "-m", "256", "-smp", &cpus.to_string()]);
    command.args(["-nodefaults", "-display", "none", "-monitor", "none"]);
    command.args(["-serial", "stdio", "-no-reboot", "-device"]);
    command.arg("isa-debug-exit,iobase=0xf4,iosize=0x04");
    command.args(firmware).arg("-cdrom").arg(&iso);
    let output = command.stdin(Stdio::null()).output()?;
    let serial = String::from_utf8_lossy(&output.stdout);
    let digest = format!("[consumer] sha256 {} 100000 bytes", sha256(&bytes));
    let has = |wanted: &str| serial.lines().any(|line| line == wanted);
    let counted = format!(" cpus={cpus} ");
    let is_boot = |line: &str| line.starts_with("@boot ") && line.contains(&counted);
    let have_come = serial.lines().any(is_boot);
    if output.status.code() == Some(OK) && has(&digest) && has("@end result=ok") && have_come {
        return Ok(());
    }
    let error = String::from_utf8_lossy(&output.stderr);
    Err(format!(
        "{:?}, {digest:?} was expected\n--- serial line\n{serial}\n--- standard error\n{error}",
        output.status
    )
    .into())
}

fn cannot_be_written(_: &Bed) -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    let input = dir.path().join("input");
    std::fs::write(&input, b"x")?;
    let output = image(&input, &dir.path().join("none/out.iso"))?;
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    let is_clear = error.lines().count() == 1 && error.contains("could not write");
    if output.status.code() == Some(3) && is_clear {
        return Ok(());
    }
    Err(format!("{:?}, {error:?}", output.status).into())
}
