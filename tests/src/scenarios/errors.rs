//! What goes wrong before or outside a guest's own code: each has one clear line on standard error
//! and a non-zero exit code.

use std::fs;
use std::process::Command;

use libtest_mimic::Failed;

use super::{Bed, Scenario};
use crate::image::{self, Damage};
use crate::run::{guest_image, noise, project, Run};

pub const SCENARIOS: &[Scenario] = &[
    ("missing_input", missing_input),
    ("input_is_a_directory", input_is_a_directory),
    ("unknown_manifest_key", unknown_manifest_key),
    ("two_domains_of_one_name", two_domains_of_one_name),
    ("image_is_no_elf", |bed| {
        bad_image(bed, image::no_elf, "ELF")
    }),
    ("image_cut_short", |bed| {
        bad_image(bed, image::cut_short, "cut off")
    }),
    ("image_segments_overlap", |bed| {
        bad_image(bed, image::overlapping, "overlaps")
    }),
    ("image_out_of_range", |bed| {
        bad_image(bed, image::out_of_range, "RAM")
    }),
    ("image_of_another_version", |bed| {
        bad_image(bed, image::other_version, "ABI")
    }),
    ("too_little_memory", too_little_memory),
    ("nothing_to_run_it_on", nothing_to_run_it_on),
    ("time_limit", time_limit),
];

/// One domain that is not the streaming pair.
const SINGLE: &str = r#"
[[domain]]
name = "single"
image = "IMAGE"
memory = "16 MiB"
command_line = "program=PROGRAM"
"#;

fn single(image: &str, program: &str) -> String {
    SINGLE.replace("IMAGE", image).replace("PROGRAM", program)
}

fn missing_input(bed: &Bed) -> Result<(), Failed> {
    let outcome = Run::new(bed)?.option("--input", "none.bin").go()?;
    outcome
        .ends(2, "invalid")?
        .complains("cannot read the input none.bin")?;
    Ok(())
}

fn input_is_a_directory(bed: &Bed) -> Result<(), Failed> {
    let outcome = Run::new(bed)?.option("--input", ".").go()?;
    outcome.ends(2, "invalid")?.complains("is a directory")?;
    Ok(())
}

fn unknown_manifest_key(bed: &Bed) -> Result<(), Failed> {
    let text = format!("{}colour = \"red\"\n", single("guest-kernel", "exit-code"));
    let outcome = Run::new(bed)?.manifest(&text)?.go()?;
    outcome
        .ends(2, "invalid")?
        .complains("manifest.toml:7: unknown key `colour`")?;
    Ok(())
}

fn two_domains_of_one_name(bed: &Bed) -> Result<(), Failed> {
    let text = single("guest-kernel", "exit-code").repeat(2);
    let outcome = Run::new(bed)?.manifest(&text)?.go()?;
    outcome
        .ends(2, "invalid")?
        .complains("manifest.toml:9: there is another domain named")?;
    Ok(())
}

/// The image cannot be loaded; the hypervisor says why.
fn bad_image(bed: &Bed, damage: Damage, says: &str) -> Result<(), Failed> {
    let damaged = damage(guest_image()?)?;
    let run = Run::new(bed)?.file("damaged", &damaged)?;
    let outcome = run.manifest(&single("damaged", "exit-code"))?.go()?;
    outcome.check(
        outcome.code.is_some_and(|code| code != 0),
        "the run should fail",
    )?;
    outcome.complains(says)?;
    let kind = &outcome.json["verdict"]["kind"];
    outcome.check(
        kind == "refused" || kind == "domain-failed",
        "the image should be refused",
    )?;
    Ok(())
}

fn too_little_memory(bed: &Bed) -> Result<(), Failed> {
    let outcome = Run::new(bed)?
        .input(&noise(1 << 20))?
        .option("--memory", "24")
        .go()?;
    outcome.ends(3, "refused")?.complains("memory")?;
    Ok(())
}

/// `run.sh` on a machine without an emulator that must not install anything.
fn nothing_to_run_it_on(bed: &Bed) -> Result<(), Failed> {
    let tools = tempfile::tempdir()?;
    for tool in ["bash", "mktemp", "rm", "cat", "env"] {
        let found = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
            .map(|folder| folder.join(tool))
            .find(|path| path.is_file());
        let found = found.ok_or_else(|| format!("{tool} is not on the search path"))?;
        std::os::unix::fs::symlink(found, tools.path().join(tool))?;
    }
    let mut command = Command::new(fs::canonicalize(project().join("run.sh"))?);
    command
        .env("PATH", tools.path())
        .env("NUNCIO_NO_INSTALL", "1")
        .args(["--bed", bed.name]);
    let output = command.env_remove("NUNCIO_QEMU").output()?;
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    let is_clear = error.lines().count() == 1 && error.contains(bed.install_advice);
    if output.status.code() != Some(3) || !is_clear {
        return Err(format!("{:?}, {error:?}", output.status).into());
    }
    Ok(())
}

fn time_limit(bed: &Bed) -> Result<(), Failed> {
    let run = Run::new(bed)?.manifest(&single("guest-kernel", "spin"))?;
    let outcome = run.option("--timeout", "2").go()?;
    outcome
        .ends(4, "time-limit")?
        .complains("the time limit of 2 s was reached")?;
    outcome.stops("single", "time-limit")?.returns_frames()?;
    Ok(())
}
