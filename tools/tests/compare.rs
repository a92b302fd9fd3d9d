//! `nuncio compare` and `--trace` from end to end, with a script in the place of Bochs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

const SEQUENCES: &str = "\
    @sequence name=producer runs=0,8,5,1x320,9.?\n\
    @sequenced name=producer recorded=324 unrecorded=0\n\
    @sequence name=consumer runs=0,5,2,3,2,3,2.11,9.?\n\
    @sequenced name=consumer recorded=8 unrecorded=0\n";

/// A place with fake images, a report, and a Bochs that hands it out.
struct Stage {
    dir: TempDir,
}

impl Stage {
    fn new() -> Self {
        let stage = Stage {
            dir: tempfile::tempdir().unwrap(),
        };
        for image in ["nuncio-hypervisor", "nuncio-guest-kernel", "in"] {
            fs::write(stage.path(image), "some data").unwrap();
        }
        let good = fs::read_to_string(fake().join("stream.report")).unwrap();
        let traced = good.replace("@frames", &format!("{SEQUENCES}@frames"));
        fs::write(stage.path("report"), traced).unwrap();
        stage
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn nuncio(&self, arguments: &[&str]) -> Output {
        let mut search = vec![fake().join("bochs-tools")];
        search.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap()));
        let mut command = Command::new(env!("CARGO_BIN_EXE_nuncio"));
        command.current_dir(self.dir.path()).args(arguments);
        command.args(["--images", ".", "--input", "in", "--json", "json"]);
        command.env("PATH", std::env::join_paths(search).unwrap());
        command.env("FAKE_REPORT", self.path("report"));
        command.env("FAKE_MENU", self.path("menu"));
        command.output().unwrap()
    }

    fn compare(&self, arguments: &[&str]) -> Output {
        let fixed = ["compare", "--bed", "bochs-svm", "--bed", "bochs-vmx"];
        self.nuncio(&[&fixed, arguments].concat())
    }

    fn json(&self) -> Value {
        serde_json::from_str(&fs::read_to_string(self.path("json")).unwrap()).unwrap()
    }
}

fn fake() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fake")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn equal_beds() {
    let stage = Stage::new();
    let output = stage.compare(&[]);
    let shown = text(&output.stdout);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{shown}{}",
        text(&output.stderr)
    );
    assert!(
        shown.contains("calls: hello, query, map, send x320, stop\n"),
        "{shown}"
    );
    assert!(
        shown.contains("[receive, notify] x2, receive: peer-gone, stop"),
        "{shown}"
    );
    let last = "equal: the domains observe the same on bochs-svm, bochs-vmx\n";
    assert!(shown.ends_with(last), "{shown}");
    let menu = fs::read_to_string(stage.path("menu")).unwrap();
    assert!(menu.contains("'trace=calls'"), "{menu}");
    let json = stage.json();
    assert_eq!(json["verdict"]["kind"], "ok");
    assert_eq!(json["differences"].as_array().unwrap().len(), 0);
    assert_eq!(json["beds"][1]["name"], "bochs-vmx");
    let group = &json["beds"][1]["domains"][1]["trace"]["groups"][2];
    assert_eq!(
        (&group["times"], &group["calls"][1]["verb"]),
        (&2.into(), &"notify".into())
    );
}

#[test]
fn what_is_no_run_is_not_compared() {
    let stage = Stage::new();
    let broken = "@panic text=it broke\n@end result=panic\n";
    fs::write(stage.path("report"), broken).unwrap();
    let output = stage.compare(&[]);
    assert_eq!(output.status.code(), Some(5));
    assert!(text(&output.stderr).contains("bochs-svm cannot be compared"));
    assert_eq!(stage.json()["beds"].as_array().unwrap().len(), 0);

    for (arguments, code, says) in [
        (&["compare", "--bed", "bochs-svm"][..], 2, "takes two beds"),
        (
            &["compare", "--bed", "bochs-svm", "--bed", "no"],
            2,
            "there is no test bed \"no\"",
        ),
    ] {
        let output = stage.nuncio(arguments);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{error}");
        assert!(error.contains(says), "{error}");
    }
    let output = stage.compare(&["--expected", "absent.toml"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("absent.toml: cannot read"));
}

#[test]
fn a_run_shows_its_calls_if_asked_to() {
    let stage = Stage::new();
    let output = stage.nuncio(&["--bed", "bochs-svm", "--trace", "--hypervisor-args", "a b"]);
    let shown = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{shown}");
    assert!(
        shown.contains("calls of producer: hello, query, map, send x320, stop\n"),
        "{shown}"
    );
    let menu = fs::read_to_string(stage.path("menu")).unwrap();
    assert!(menu.contains("'a' 'b' 'trace=calls'"), "{menu}");
    let last = &stage.json()["domains"][0]["trace"]["groups"][4]["calls"][0];
    assert_eq!(
        (&last["verb"], &last["status"]),
        (&"stop".into(), &Value::Null)
    );
}
