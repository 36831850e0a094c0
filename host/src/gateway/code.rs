//! A plugin's file: its digest, and its bytes for whoever needs them. A file that looks as it did when it
//! was read is not read again: with many plugins that is most of a reload.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    config::Stamp,
    wasm::compile::{Sha256Digest, digest, hex},
};

/// A file that was read.
#[derive(Clone)]
pub struct Seen {
    pub digest: Sha256Digest,
    file: PathBuf,
    /// None where it had just been changed.
    stamp: Option<Stamp>,
}

pub struct Code {
    pub seen: Seen,
    bytes: Option<Vec<u8>>,
}

impl Code {
    /// `known` is what was read before, if anything was.
    pub fn of(file: &Path, known: Option<&Seen>) -> Result<Code, String> {
        let stamp = Stamp::of(file);
        match known.filter(|known| known.file == file && known.stamp.as_ref() == Some(&stamp)) {
            Some(seen) => Ok(Code { seen: seen.clone(), bytes: None }),
            None => Code::read(file, stamp),
        }
    }

    /// The file of the directory that has this digest.
    pub fn find(wanted: &str, directory: &Path, known: Option<&Seen>) -> Result<Code, String> {
        let entries = fs::read_dir(directory);
        let entries = entries.map_err(|error| format!("{} cannot be read: {error}", directory.display()))?;
        let files = entries.flatten().map(|entry| entry.path());
        let plugins = files.filter(|file| file.extension().is_some_and(|extension| extension == "wasm"));
        let mut codes = plugins.filter_map(|file| Code::of(&file, known).ok());
        let found = codes.find(|code| hex(&code.seen.digest) == wanted);
        found.ok_or_else(|| format!("{} has no file with the SHA-256 {wanted}", directory.display()))
    }

    pub fn file(&self) -> &Path {
        &self.seen.file
    }

    /// The bytes that have its digest.
    pub fn bytes(self) -> Result<Vec<u8>, String> {
        if let Some(bytes) = self.bytes {
            return Ok(bytes);
        }
        let code = Code::read(&self.seen.file, Stamp::of(&self.seen.file))?;
        match code.bytes {
            Some(bytes) if code.seen.digest == self.seen.digest => Ok(bytes),
            _ => Err(format!("{} has changed while it was loaded", self.seen.file.display())),
        }
    }

    fn read(file: &Path, stamp: Stamp) -> Result<Code, String> {
        let settled = stamp.is_settled();
        let bytes = fs::read(file).map_err(|error| format!("{} cannot be read: {error}", file.display()))?;
        let seen = Seen { digest: digest(&bytes), file: file.to_owned(), stamp: settled.then_some(stamp) };
        Ok(Code { seen, bytes: Some(bytes) })
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn a_file_is_read_again_when_it_may_be_another() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("plugin.wasm");
        fs::write(&file, "one").unwrap();
        let fresh = Code::of(&file, None).unwrap();
        fs::write(&file, "two").unwrap();
        let next = Code::of(&file, Some(&fresh.seen)).unwrap();
        assert_ne!(next.seen.digest, fresh.seen.digest, "it had just been changed");

        let long_ago = SystemTime::now() - Duration::from_secs(60);
        fs::File::options().write(true).open(&file).unwrap().set_modified(long_ago).unwrap();
        let settled = Code::of(&file, None).unwrap();
        let again = Code::of(&file, Some(&settled.seen)).unwrap();
        assert!(again.bytes.is_none() && again.seen.digest == settled.seen.digest);
        assert_eq!(again.bytes().unwrap(), b"two");
        fs::write(&file, "six").unwrap();
        assert_ne!(Code::of(&file, Some(&settled.seen)).unwrap().seen.digest, settled.seen.digest);
        fs::remove_file(&file).unwrap();
        assert!(Code::of(&file, Some(&settled.seen)).is_err());
    }
}
