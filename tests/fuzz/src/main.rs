//! The targets under libFuzzer: `nuncio-fuzz CORPUS_DIRECTORY [LIBFUZZER OPTIONS]`, with the name of
//! the target in `NUNCIO_FUZZ_TARGET`. `./run.sh fuzz` builds and starts it.

#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use nuncio_fuzz::{Target, TARGETS};

static TARGET: OnceLock<&Target> = OnceLock::new();

fuzz_target!(
    init: {
        let name = std::env::var("NUNCIO_FUZZ_TARGET").unwrap_or_default();
        let target = TARGETS.iter().find(|target| target.name == name);
        let Some(target) = target else {
            let names = TARGETS.map(|target| target.name).join(", ");
            eprintln!("there is no fuzz target {name:?}; there are {names}");
            std::process::exit(2);
        };
        let _ = TARGET.set(target);
        // libFuzzer begins with what lies in its folder.
        if let Some(folder) = std::env::var_os("NUNCIO_FUZZ_CORPUS") {
            let folder = std::path::PathBuf::from(folder);
            let inputs = (target.corpus)().into_iter().chain(nuncio_fuzz::regressions(name.as_str()));
            for (number, input) in inputs.enumerate() {
                let _ = std::fs::write(folder.join(format!("good-{number}")), input);
            }
        }
    },
    |data: &[u8]| {
        if let Some(target) = TARGET.get() {
            (target.run)(data);
        }
    }
);
