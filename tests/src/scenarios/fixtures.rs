//! Images that were built for a version of the ABI and kept: a hypervisor that serves that version runs
//! them as they are, and any other refuses them. What is kept, and how, says `tests/fixtures/README.md`.

use std::path::{Path, PathBuf};
use std::{fs, io};

use libtest_mimic::Failed;
use nuncio_abi::{Version, VERSION};

use super::examples::console;
use super::{Bed, Scenario};
use crate::image;
use crate::run::{project, Outcome, Run};

pub const SCENARIOS: &[Scenario] = &[
    ("a_later_minor_version_is_refused", |bed| {
        other_minor(bed, 1)
    }),
    ("an_earlier_minor_version_is_refused_or_served", |bed| {
        other_minor(bed, -1)
    }),
];

/// An image that was kept, with all that it takes to run it.
pub struct Fixture {
    directory: PathBuf,
    version: String,
    name: String,
}

/// Every fixture, in the order of their names.
pub fn all() -> io::Result<Vec<Fixture>> {
    let mut fixtures = Vec::new();
    for version in directories(&project().join("tests/fixtures"))? {
        for directory in directories(&version)? {
            fixtures.push(Fixture {
                version: file_name(&version),
                name: file_name(&directory),
                directory,
            });
        }
    }
    Ok(fixtures)
}

fn directories(within: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(within)?.map(|entry| entry.map(|entry| entry.path()));
    let mut found = entries.collect::<io::Result<Vec<_>>>()?;
    found.retain(|path| path.is_dir());
    found.sort();
    Ok(found)
}

fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

impl Fixture {
    /// Its name in the list of tests.
    pub fn name(&self) -> String {
        format!("{}_{}", self.version, self.name)
    }

    fn read(&self, file: &str) -> Result<Vec<u8>, Failed> {
        let path = self.directory.join(file);
        let bytes = fs::read(&path);
        bytes.map_err(|error| format!("cannot read {}: {error}", path.display()).into())
    }

    fn text(&self, file: &str) -> Result<String, Failed> {
        Ok(String::from_utf8(self.read(file)?)?)
    }

    /// The version in its image's note.
    fn built_for(&self) -> Result<Version, Failed> {
        Ok(Version::from_raw(image::version(&self.read("image")?)?))
    }

    fn boot(&self, bed: &Bed, image: &[u8]) -> Result<Outcome, Failed> {
        let run = Run::new(bed)?.file("image", image)?;
        run.manifest(&self.text("manifest.toml")?)?.go()
    }

    /// It did what it did when it was kept.
    fn check(&self, outcome: &Outcome) -> Result<(), Failed> {
        outcome.ends(0, "ok")?.returns_frames()?;
        let lines = console(outcome, &self.name);
        let expected = self.text("console.txt")?;
        let expected: Vec<_> = expected.lines().collect();
        let mut pairs = lines.iter().zip(&expected);
        let is_same = lines.len() == expected.len()
            && pairs.all(|(line, beginning)| line.starts_with(beginning));
        let what = format!("the lines should begin with {expected:?}, not {lines:?}");
        outcome.check(is_same, &what)?;
        Ok(())
    }
}

/// The hypervisor of this tree runs the image if it serves its version, or else refuses it.
pub fn runs_or_is_refused(bed: &Bed, fixture: &Fixture) -> Result<(), Failed> {
    let version = fixture.built_for()?;
    let outcome = fixture.boot(bed, &fixture.read("image")?)?;
    check_version(&outcome, fixture, version)
}

fn check_version(outcome: &Outcome, fixture: &Fixture, version: Version) -> Result<(), Failed> {
    if VERSION.serves(version) {
        return fixture.check(outcome);
    }
    outcome.ends(3, "refused")?;
    outcome.complains(&format!(
        "the image was built for ABI {version}; this hypervisor serves {VERSION}: rebuild it"
    ))?;
    Ok(())
}

/// A fixture that says it was built for the next or the last minor version.
fn other_minor(bed: &Bed, step: i16) -> Result<(), Failed> {
    let fixture = all()?.pop().ok_or("there is no fixture")?;
    let version = Version {
        minor: VERSION.minor.wrapping_add_signed(step),
        ..VERSION
    };
    let mut image = fixture.read("image")?;
    image::set_version(&mut image, version.to_raw())?;
    let outcome = fixture.boot(bed, &image)?;
    check_version(&outcome, &fixture, version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixtures_are_whole_and_lie_where_their_version_says() {
        let fixtures = all().unwrap();
        assert!(!fixtures.is_empty());
        for fixture in fixtures {
            let version = fixture.built_for().unwrap();
            assert_eq!(fixture.version, format!("abi-{version}"));
            let manifest = fixture.text("manifest.toml").unwrap();
            let name = format!("name = \"{}\"", fixture.name);
            assert!(manifest.contains(&name) && manifest.contains("image = \"image\""));
            assert!(!fixture.text("console.txt").unwrap().trim().is_empty());
            assert!(
                fixture.read("image").unwrap().len() < 64 << 10,
                "keep it small"
            );
        }
    }
}
