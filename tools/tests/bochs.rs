//! The beds on Bochs and the command `image` from end to end, with scripts in the place of Bochs
//! and of GRUB's tools.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

fn fake() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fake")
}

/// Runs `nuncio` with fake images in a directory of its own.
fn nuncio(arguments: &[&str], environment: &[(&str, &str)]) -> (Output, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    for image in ["nuncio-hypervisor", "nuncio-guest-kernel", "in"] {
        fs::write(dir.path().join(image), "some data").unwrap();
    }
    let mut search = vec![fake().join("bochs-tools")];
    search.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap()));
    let mut command = Command::new(env!("CARGO_BIN_EXE_nuncio"));
    command.current_dir(dir.path()).args(arguments);
    command.args(["--images", ".", "--input", "in"]);
    command.env("PATH", std::env::join_paths(search).unwrap());
    command.env("FAKE_REPORT", fake().join("stream.report"));
    command.env("FAKE_MENU", dir.path().join("menu"));
    command.envs(environment.iter().copied());
    (command.output().unwrap(), dir)
}

fn on_bochs(arguments: &[&str], environment: &[(&str, &str)]) -> (Output, TempDir) {
    nuncio(&[&["--bed", "bochs-svm"], arguments].concat(), environment)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_good_run_counts_without_being_asked_to() {
    let (output, dir) = on_bochs(&["--verbose", "--hypervisor-args", "test=x"], &[]);
    let (shown, error) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{shown}{error}");
    assert!(shown.contains("instructions"), "{shown}");
    assert!(shown.ends_with("ok: 2 domains on bochs-svm, all as they should be\n"));
    assert!(!shown.contains("chatter") && !error.contains("chatter"));
    let menu = fs::read_to_string(dir.path().join("menu")).unwrap();
    for line in [
        "guest-kernel\n",
        "hypervisor\n",
        "multiboot2 /boot/hypervisor 'test=x'\n",
        "module2 --nounzip /boot/nuncio-plan nuncio-plan\n",
        "module2 --nounzip /boot/input input\n",
    ] {
        assert!(menu.contains(line), "{line} in {menu}");
    }
}

#[test]
fn a_display_without_a_port_is_tried_again_a_few_times() {
    for (starts, code, says) in [("3", 0, ""), ("99", 3, "could not bind any port")] {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("starts");
        let environment = [
            ("FAKE_LATE", log.to_str().unwrap()),
            ("FAKE_STARTS", starts),
        ];
        let (output, _dir) = on_bochs(&["--quiet"], &environment);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{error}");
        assert!(error.contains(says), "{error}");
        let started = fs::read_to_string(log).unwrap().lines().count();
        assert_eq!(started, if code == 0 { 3 } else { 5 });
    }
}

#[test]
fn a_report_of_success_is_not_enough() {
    for (status, message, code, says) in [
        (
            "1",
            "Shutdown port: shutdown requested",
            5,
            "without success",
        ),
        (
            "1",
            "exception(): 3rd (13) exception with no resolution",
            5,
            "triple fault",
        ),
        (
            "1",
            "cpu directive malformed.",
            3,
            "cpu directive malformed.",
        ),
        ("2", "", 5, "status 2"),
    ] {
        let environment = [("FAKE_STATUS", status), ("FAKE_MESSAGE", message)];
        let (output, _dir) = on_bochs(&["--quiet"], &environment);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{error}");
        assert!(error.contains(says), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn a_status_of_success_is_not_enough() {
    let dir = tempfile::tempdir().unwrap();
    let report = dir.path().join("report");
    fs::write(&report, "@boot vendor=svm abi=0.1\n").unwrap();
    let (output, _dir) = on_bochs(&["--quiet"], &[("FAKE_REPORT", report.to_str().unwrap())]);
    assert_eq!(output.status.code(), Some(5));
    assert!(text(&output.stderr).contains("does not end with result=ok"));
}

#[test]
fn an_image_has_every_file_and_no_time_limit() {
    let (output, dir) = nuncio(&["image", "out.iso"], &[]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("out.iso: a bootable image"));
    let image = fs::read_to_string(dir.path().join("out.iso")).unwrap();
    assert!(image.contains("module2 --nounzip /boot/input input"));
}

#[test]
fn an_image_that_cannot_be_made_is_one_line() {
    let (output, _dir) = nuncio(&["image", "out.iso"], &[("FAKE_MAKER_FAILS", "1")]);
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{error}");
    assert!(error.contains("the disc is round"), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
}
