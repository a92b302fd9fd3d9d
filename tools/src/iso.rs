//! Makes a bootable image (ISO 9660) of a run directory, for machines that start from a disc or a
//! stick: GRUB loads an image and its boot modules by the second multiboot protocol.
//!
//! `grub-mkrescue` makes the image bootable by every firmware that it has files for: BIOS, UEFI or
//! both.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use crate::beds::Need;
use crate::verdict::{Kind, Verdict};

/// The program that makes the image.
const MAKER: &str = "grub-mkrescue";
const INSTALL_ADVICE: &str =
    "install it with: apt-get install grub-common grub-pc-bin xorriso mtools";

/// The directory of the image's files, inside the run directory.
const TREE: &str = "iso";
/// GRUB's modules that go onto the image: those that the menu needs, and those that GRUB looks for
/// under UEFI whatever the disc is like. What reads the disc comes by itself.
const GRUB_MODULES: &str = "--install-modules=normal multiboot2 iso9660 part_acorn part_amiga \
    part_bsd part_dfly part_dvh part_plan part_sun part_sunpc";

/// What has to be installed.
pub fn need() -> Need {
    Need {
        program: MAKER.into(),
        advice: INSTALL_ADVICE,
    }
}

/// Writes to `target` an image of `run_dir`: the file `image` in it, which is booted and handed `arguments`,
/// and the boot modules of these names.
pub fn write(
    run_dir: &Path,
    image: &str,
    modules: &[String],
    arguments: Option<&str>,
    target: &Path,
) -> Result<(), Verdict> {
    fill_tree(run_dir, image, modules, arguments).map_err(|error| {
        failed(format!(
            "cannot write {}: {error}; make room there, or name another directory for temporary files in TMPDIR",
            run_dir.display()
        ))
    })?;
    let mut maker = Command::new(MAKER);
    maker.current_dir(run_dir).arg("-o").arg(target);
    maker.args([TREE, GRUB_MODULES, "--locales=", "--fonts=", "--themes="]);
    let output = maker
        .output()
        .map_err(|error| failed(format!("cannot start {MAKER}: {error}; {INSTALL_ADVICE}")))?;
    if output.status.success() && target.is_file() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    // Its tools say a lot; the line that counts is this one.
    let said = said.lines().find(|line| line.contains("FAILURE"));
    Err(failed(format!(
        "{MAKER} could not write {} ({}): {}; make sure that it can be written, and of the tools: {INSTALL_ADVICE}",
        target.display(),
        output.status,
        said.unwrap_or("it said nothing")
    )))
}

fn failed(text: String) -> Verdict {
    Verdict::new(Kind::Missing, text)
}

fn fill_tree(
    run_dir: &Path,
    image: &str,
    modules: &[String],
    arguments: Option<&str>,
) -> io::Result<()> {
    let boot = run_dir.join(TREE).join("boot");
    fs::create_dir_all(boot.join("grub"))?;
    let names = modules.iter().map(String::as_str);
    for name in std::iter::once(image).chain(names) {
        // The same file system: no byte is copied.
        fs::hard_link(run_dir.join(name), boot.join(name))?;
    }
    fs::write(boot.join("grub/grub.cfg"), menu(image, modules, arguments))
}

/// GRUB's script: no menu, nothing but the boot. Its output goes to the screen, never to the serial
/// line, which is the image's.
fn menu(image: &str, modules: &[String], arguments: Option<&str>) -> String {
    let mut text = format!("terminal_output console\nmultiboot2 /boot/{image}");
    for word in arguments.unwrap_or_default().split(' ') {
        if !word.is_empty() {
            let _ = write!(text, " {}", quoted(word));
        }
    }
    text.push('\n');
    for name in modules {
        // GRUB would unpack files that look compressed. Unlike QEMU it leaves the path away, so
        // that the name is the only word of the module's text.
        let _ = writeln!(text, "module2 --nounzip /boot/{name} {name}");
    }
    text.push_str("boot\n");
    text
}

/// A word that GRUB's shell takes as it is.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_menu_names_every_module_last() {
        let modules = ["nuncio-plan".to_owned(), "input".to_owned()];
        assert_eq!(
            menu("hypervisor", &modules, None),
            "terminal_output console\n\
             multiboot2 /boot/hypervisor\n\
             module2 --nounzip /boot/nuncio-plan nuncio-plan\n\
             module2 --nounzip /boot/input input\n\
             boot\n"
        );
    }

    #[test]
    fn words_for_the_hypervisor_are_no_commands_of_grub() {
        let text = menu("hypervisor", &[], Some("test=panic  $x; it's"));
        let line = "multiboot2 /boot/hypervisor 'test=panic' '$x;' 'it'\\''s'\n";
        assert!(text.contains(line), "{text}");
    }

    #[test]
    fn the_tree_has_the_very_files() {
        let run_dir = tempfile::tempdir().unwrap();
        for name in ["hypervisor", "nuncio-plan"] {
            fs::write(run_dir.path().join(name), name).unwrap();
        }
        fill_tree(
            run_dir.path(),
            "hypervisor",
            &["nuncio-plan".to_owned()],
            None,
        )
        .unwrap();
        let boot = run_dir.path().join("iso/boot");
        for name in ["hypervisor", "nuncio-plan"] {
            assert_eq!(fs::read_to_string(boot.join(name)).unwrap(), name);
        }
        assert!(boot.join("grub/grub.cfg").is_file());
        assert!(fill_tree(run_dir.path(), "none", &[], None).is_err());
    }
}
