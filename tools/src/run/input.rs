//! Takes a copy of a file into the run directory, with its size checked and its digest computed
//! from the very bytes that were copied.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::manifest::limits;
use crate::verdict::{Kind, Verdict};

/// A file that was copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Its length.
    pub bytes: u64,
    /// Its digest, 64 hexadecimal digits.
    pub sha256: String,
}

/// Copies `from` to `to`. `what` names the file in messages.
pub fn copy(what: &str, from: &Path, to: &Path) -> Result<Copied, Verdict> {
    // One byte more than the limit, to see that there is more.
    let mut source = open(what, from)?.take(limits::FILE_BYTES + 1);
    let mut target = File::create(to).map_err(|error| cannot_write(to, &error))?;
    let (mut hash, mut bytes, mut buffer) = (Sha256::new(), 0, vec![0; 1 << 16]);
    loop {
        let count = source.read(&mut buffer);
        let count = count.map_err(|error| cannot_read(what, from, &error))?;
        let chunk = buffer.get(..count).unwrap_or_default();
        if chunk.is_empty() {
            break;
        }
        hash.update(chunk);
        let written = target.write_all(chunk);
        written.map_err(|error| cannot_write(to, &error))?;
        bytes += chunk.len() as u64;
    }
    if bytes > limits::FILE_BYTES {
        return Err(wrong(format!(
            "{what} {} is larger than {} MiB, the limit; use a smaller file",
            from.display(),
            limits::FILE_BYTES >> 20
        )));
    }
    let sha256 = hex(&hash.finalize());
    Ok(Copied { bytes, sha256 })
}

fn open(what: &str, path: &Path) -> Result<File, Verdict> {
    let metadata = fs::metadata(path).map_err(|error| cannot_read(what, path, &error))?;
    // A pipe or a device could keep the tool waiting for ever.
    if !metadata.is_file() {
        let sort = if metadata.is_dir() {
            "a directory"
        } else {
            "no regular file"
        };
        return Err(wrong(format!(
            "{what} {} is {sort}; name a file",
            path.display()
        )));
    }
    File::open(path).map_err(|error| cannot_read(what, path, &error))
}

fn wrong(text: String) -> Verdict {
    Verdict::new(Kind::Invalid, text)
}

fn cannot_read(what: &str, path: &Path, error: &io::Error) -> Verdict {
    wrong(format!(
        "cannot read {what} {}: {error}; check the path and its permissions",
        path.display()
    ))
}

fn cannot_write(path: &Path, error: &io::Error) -> Verdict {
    let path = path.display();
    wrong(format!(
        "cannot write {path}: {error}; make room in the directory for temporary files (TMPDIR)"
    ))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy_of(path: &Path) -> Result<Copied, String> {
        let folder = tempfile::tempdir().unwrap();
        copy("the input", path, &folder.path().join("input")).map_err(|verdict| verdict.text)
    }

    #[test]
    fn the_digest_is_of_the_bytes() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let empty = copy_of(file.path()).unwrap();
        assert_eq!(empty.bytes, 0);
        assert!(empty.sha256.starts_with("e3b0c442"));
        fs::write(file.path(), "abc").unwrap();
        let copied = copy_of(file.path()).unwrap();
        assert_eq!(copied.bytes, 3);
        assert_eq!(
            copied.sha256,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        assert!(copy_of(Path::new("/none"))
            .unwrap_err()
            .contains("cannot read the input /none"));
        assert!(copy_of(Path::new("/"))
            .unwrap_err()
            .contains("is a directory"));
        assert!(copy_of(Path::new("/dev/zero"))
            .unwrap_err()
            .contains("no regular file"));
    }

    #[test]
    fn the_limit_is_exact() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(limits::FILE_BYTES).unwrap();
        assert_eq!(copy_of(file.path()).unwrap().bytes, limits::FILE_BYTES);
        file.as_file().set_len(limits::FILE_BYTES + 1).unwrap();
        assert!(copy_of(file.path())
            .unwrap_err()
            .contains("larger than 64 MiB"));
    }
}
