//! The images with assertions: no lock out of order and none held in a guest, no number that overflows,
//! whatever the domains do and on however many CPUs.

use libtest_mimic::Failed;
use nuncio_tools::project::default_images;

use super::{Bed, Scenario};
use crate::run::{noise, Run};

/// For QEMU: there is nothing of the bed in it.
pub const SCENARIOS: &[Scenario] = &[
    ("conformance_on_one", |bed| holds(bed, CONFORMANCE, 1)),
    ("conformance_on_four", |bed| holds(bed, CONFORMANCE, 4)),
    ("children", |bed| holds(bed, CHILDREN, 1)),
    ("monitor", |bed| holds(bed, MONITOR, 1)),
    ("revocation", |bed| holds(bed, REVOKE, 4)),
    ("several_vcpus_on_one", |bed| holds(bed, SMP, 1)),
    ("several_vcpus_on_four", |bed| holds(bed, SMP, 4)),
    ("stream", |bed| holds(bed, STREAM, 2)),
];

const CHILDREN: &str = include_str!("../../../tools/manifests/children.toml");
const CONFORMANCE: &str = include_str!("../../../tools/manifests/conformance.toml");
const MONITOR: &str = include_str!("../../../tools/manifests/monitor.toml");
const REVOKE: &str = include_str!("../../../tools/manifests/revoke.toml");
const SMP: &str = include_str!("../../../tools/manifests/smp.toml");
const STREAM: &str = include_str!("../../../tools/manifests/stream.toml");

fn holds(bed: &Bed, manifest: &str, cpus: u64) -> Result<(), Failed> {
    let manifest = &manifest.replace("cpu = [0, 1, 2, 3]\n", "");
    let release = std::path::absolute(default_images())?;
    let images = release.with_file_name("checked");
    let images = images.to_str().ok_or("the path of the images is no text")?;
    let run = Run::new(bed)?.manifest(manifest)?;
    let run = if manifest.contains("{input}") {
        run.input(&noise(100_000))?
    } else {
        run
    };
    let run = run.option("--cpus", &cpus.to_string());
    let run = run.option("--images", images);
    let run = if bed.counts() { run.count() } else { run };
    let outcome = run.go()?;
    outcome.ends(0, "ok")?.returns_frames()?;
    Ok(())
}
