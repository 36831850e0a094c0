//! Which files a configuration is made of, and in what state they were read.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// What is written so soon after another change need not look different.
const SETTLED: Duration = Duration::from_millis(100);

/// Files, each with its state when it was noted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Files(BTreeMap<PathBuf, Stamp>);

/// What tells one state of a file from another.
#[derive(Clone, Debug, PartialEq)]
pub struct Stamp(Option<(u64, u64, u64, Option<SystemTime>)>);

impl Files {
    /// Comes before the file is read, so that whatever is written later shows. The file may be missing.
    pub fn note(&mut self, file: PathBuf) {
        self.0.entry(file).or_insert_with_key(|file| Stamp::of(file));
    }

    /// Of files that both have, the state noted here stays.
    pub fn extend(&mut self, others: &Files) {
        for (file, stamp) in others.iter() {
            self.0.entry(file.clone()).or_insert_with(|| stamp.clone());
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (&PathBuf, &Stamp)> {
        self.0.iter()
    }
}

impl FromIterator<PathBuf> for Files {
    fn from_iter<I: IntoIterator<Item = PathBuf>>(files: I) -> Self {
        let mut noted = Files::default();
        files.into_iter().for_each(|file| noted.note(file));
        noted
    }
}

impl Stamp {
    /// The state of the file now; all that cannot be looked at are alike.
    pub fn of(file: &Path) -> Self {
        let state = |of: fs::Metadata| (of.dev(), of.ino(), of.len(), of.modified().ok());
        Stamp(fs::metadata(file).ok().map(state))
    }

    /// Whether whatever is written from now on makes it look different: it was not changed just now.
    pub fn is_settled(&self) -> bool {
        let modified = self.0.and_then(|(.., modified)| modified);
        modified.is_some_and(|modified| modified + SETTLED < SystemTime::now())
    }
}
