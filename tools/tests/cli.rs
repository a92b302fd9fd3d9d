//! The `nuncio` binary from end to end, with a script in the place of QEMU.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A place with fake images and a fake QEMU.
struct Stage {
    dir: TempDir,
    environment: Vec<(String, String)>,
}

impl Stage {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for image in ["nuncio-hypervisor", "nuncio-guest-kernel"] {
            fs::write(dir.path().join(image), "an image").unwrap();
        }
        fs::write(dir.path().join("in put,1"), "some data").unwrap();
        let mut stage = Stage {
            dir,
            environment: Vec::new(),
        };
        let fake = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fake");
        stage.set("NUNCIO_QEMU", fake.join("qemu").to_str().unwrap());
        stage.set("FAKE_REPORT", fake.join("stream.report").to_str().unwrap());
        stage
    }

    fn set(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Sets the report to the good one with `from` replaced by `to`.
    fn report(&mut self, from: &str, to: &str) {
        let fake = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fake/stream.report");
        let good = fs::read_to_string(fake).unwrap();
        assert!(good.contains(from), "{from}");
        let path = self.path("report");
        fs::write(&path, good.replace(from, to)).unwrap();
        self.set("FAKE_REPORT", path.to_str().unwrap());
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs `nuncio` in the place.
    fn nuncio(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nuncio"));
        command.current_dir(self.dir.path()).args(arguments);
        command.envs(self.environment.iter().cloned());
        command.output().unwrap()
    }

    /// A run with the images of the place on `qemu-svm`, which is not the default of every host.
    fn run(&self, arguments: &[&str]) -> Output {
        self.run_on("qemu-svm", arguments)
    }

    fn run_on(&self, bed: &str, arguments: &[&str]) -> Output {
        let fixed = ["--bed", bed, "--images", ".", "--input", "in put,1"];
        self.nuncio(&[&fixed, arguments].concat())
    }
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The run failed with this code and said why in one line.
#[track_caller]
fn assert_failed(output: &Output, code: i32, text: &str) {
    let error = stderr(output);
    assert_eq!(output.status.code(), Some(code), "{error}");
    assert!(error.contains(text), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(!stdout(output).contains("ok: "));
}

const SHA: &str = "1307990e6ba5ca145eb35e99182a9bec46531bc54ddf656a602c780fa0240dee";

#[test]
fn a_good_run_shows_consoles_tables_and_the_digest() {
    let stage = Stage::new();
    let output = stage.run(&[]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(text.contains("[producer] sending"), "{text}");
    assert!(
        text.contains(&format!(
            "sha256 {SHA} of 9 bytes, as computed by consumer; equal to the host's"
        )),
        "{text}"
    );
    assert!(text.contains("exited, code 0"), "{text}");
    assert!(
        !text.contains("instructions") && !text.contains("log:"),
        "{text}"
    );
    assert!(
        text.ends_with("ok: 2 domains on qemu-svm, all as they should be\n"),
        "{text}"
    );
}

#[test]
fn quiet_and_verbose() {
    let stage = Stage::new();
    let quiet = stage.run(&["--quiet"]);
    assert_eq!(stdout(&quiet).lines().count(), 2, "{}", stdout(&quiet));
    let verbose = stage.run(&["--verbose"]);
    assert!(stderr(&verbose).contains("log: two domains to build"));
    assert!(stderr(&verbose).contains("@end result=ok"));
}

#[test]
fn the_machine_gets_safe_names_the_plan_and_enough_memory() {
    let mut stage = Stage::new();
    let (arguments, plan) = (stage.path("arguments"), stage.path("plan"));
    stage.set("FAKE_ARGUMENTS", arguments.to_str().unwrap());
    stage.set("FAKE_PLAN", plan.to_str().unwrap());
    let output = stage.run(&[
        "--count",
        "--timeout",
        "33",
        "--memory",
        "300",
        "--cpu",
        "max,-svm",
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).contains("instructions"));
    let arguments = fs::read_to_string(arguments).unwrap();
    assert!(arguments.contains("-kernel hypervisor"), "{arguments}");
    assert!(
        arguments.contains("-initrd nuncio-plan nuncio-plan,guest-kernel guest-kernel,input input"),
        "{arguments}"
    );
    assert!(
        arguments.contains("-icount shift=0,sleep=off"),
        "{arguments}"
    );
    assert!(
        arguments.contains("-m 300") && arguments.contains("-cpu max,-svm"),
        "{arguments}"
    );
    assert!(fs::read_to_string(plan)
        .unwrap()
        .starts_with("nuncio-plan 1\nlimit-ms 33000\ndomain producer "));
}

#[test]
fn json_has_the_numbers_and_is_never_stale() {
    let stage = Stage::new();
    let path = stage.path("report.json");
    let read = || -> serde_json::Value {
        serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap()
    };
    stage.run(&["--count", "--json", "report.json"]);
    let report = read();
    assert_eq!(report["verdict"]["kind"], "ok");
    assert_eq!(report["digest"]["sha256"], SHA);
    assert_eq!(report["digest"]["equals_input"], true);
    assert_eq!(report["domains"][0]["stop"]["instructions"], 123_456);
    assert_eq!(report["domains"][1]["calls"]["notify"], 300);
    assert_eq!(report["frames"]["before"], report["frames"]["after"]);
    stage.run(&["--manifest", "none.toml", "--json", "report.json"]);
    assert_eq!(read()["verdict"]["kind"], "invalid");
    assert_failed(
        &stage.run(&["--json", "/none/x"]),
        2,
        "cannot write /none/x",
    );
}

#[test]
fn statuses_and_reports_that_do_not_agree_are_failures() {
    for (status, code, text) in [
        ("0", 5, "triple fault"),
        ("1", 3, "fake: out of order"),
        ("35", 5, "not which"),
        ("99", 5, "status 99"),
    ] {
        let mut stage = Stage::new();
        stage.set("FAKE_STATUS", status);
        assert_failed(&stage.run(&["--quiet"]), code, text);
    }
    for (from, to, code, text) in [
        ("@end result=ok", "", 5, "does not end with result=ok"),
        ("@BYTES@", "10", 1, "the data was changed on its way"),
        ("[consumer] sha", "[consumer] sah", 1, "without printing"),
        ("after=60000", "after=59999", 5, "60000 free frames"),
    ] {
        let mut stage = Stage::new();
        stage.report(from, to);
        assert_failed(&stage.run(&["--quiet"]), code, text);
    }
}

#[test]
fn a_silent_machine_is_killed() {
    let mut stage = Stage::new();
    stage.set("FAKE_SLEEP", "600");
    stage.report("@end result=ok\n", "");
    let start = Instant::now();
    assert_failed(
        &stage.run(&["--timeout", "1"]),
        4,
        "the time limit of 1 s was reached",
    );
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[test]
fn an_interrupt_stops_the_machine_too() {
    let mut stage = Stage::new();
    stage.set("FAKE_SLEEP", "600");
    let pid = stage.path("arguments");
    stage.set("FAKE_ARGUMENTS", pid.to_str().unwrap());
    let mut command = Command::new(env!("CARGO_BIN_EXE_nuncio"));
    command
        .current_dir(stage.dir.path())
        .args(["--images", ".", "--input", "in put,1"]);
    command.envs(stage.environment.iter().cloned());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    while !pid.exists() {
        std::thread::sleep(Duration::from_millis(20));
    }
    let killed = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(killed.success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn wrong_files_and_options_are_named_in_one_line() {
    let stage = Stage::new();
    let run = |arguments: &[&str]| stage.nuncio(&[&["--images", "."], arguments].concat());
    assert_failed(&run(&["--input", "none"]), 2, "cannot read the input none");
    assert_failed(&run(&["--input", "."]), 2, "is a directory");
    assert_failed(&run(&["--bed", "none"]), 2, "the beds are: qemu-svm");
    assert_failed(&run(&["--manifest", "none"]), 2, "cannot read the manifest");
    fs::write(
        stage.path("m.toml"),
        "[[domain]]\nname = \"a\"\ncolour = 1\n",
    )
    .unwrap();
    assert_failed(
        &run(&["--manifest", "m.toml"]),
        2,
        "m.toml:3: unknown key `colour`",
    );
    fs::write(
        stage.path("m.toml"),
        "[[domain]]\nname = \"a\"\nimage = \"guest-kernel\"\nmemory = \"4 MiB\"\n",
    )
    .unwrap();
    assert_failed(
        &stage.run(&["--manifest", "m.toml"]),
        2,
        "no domain of m.toml takes it",
    );
    assert_failed(
        &stage.nuncio(&["--images", "none"]),
        3,
        "build it with ./run.sh",
    );
}

#[test]
fn kvm_is_used_only_where_it_can_be_and_never_counts() {
    let stage = Stage::new();
    let counted = stage.run_on("kvm", &["--count"]);
    assert_failed(&counted, 2, "a bed that can: qemu-svm, bochs-svm");
    let plain = stage.run_on("kvm", &[]);
    let beds = stdout(&stage.nuncio(&["beds"]));
    match nuncio_tools::beds::named("kvm").unwrap().obstacle() {
        Some(obstacle) => {
            assert_failed(&plain, 3, &obstacle);
            assert!(beds.contains(&format!("[cannot be used: {obstacle}]")));
        }
        None => assert_eq!(plain.status.code(), Some(0), "{}", stderr(&plain)),
    }
}

#[test]
fn a_missing_qemu_is_named_with_what_to_do() {
    let mut stage = Stage::new();
    stage.set("NUNCIO_QEMU", "no-such-qemu");
    assert_failed(&stage.run(&[]), 3, "apt-get install qemu-system-x86");
    let beds = stage.nuncio(&["beds"]);
    assert!(stdout(&beds).contains("qemu-svm") && stdout(&beds).contains("not installed"));
}

#[test]
fn manifests_are_checked_and_compiled() {
    let stage = Stage::new();
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/stream.toml");
    let default = default.to_str().unwrap();
    assert!(stdout(&stage.nuncio(&["manifest", "check", default])).contains("ok, 2 domains"));
    assert!(stdout(&stage.nuncio(&["manifest", "plan", default]))
        .contains("give producer event free wait"));
    fs::write(stage.path("m.toml"), "x = 1\n").unwrap();
    assert_failed(
        &stage.nuncio(&["manifest", "check", "m.toml"]),
        2,
        "m.toml:1: unknown key",
    );
}
