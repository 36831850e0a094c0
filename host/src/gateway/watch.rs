//! Notices that files have changed which a configuration is made of. It watches directories, not
//! files: editors put another file in place of the old one, and mounted config maps swap a symbolic
//! link above it. What an event says is not believed: the files themselves are looked at.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf, absolute},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode},
};
use tokio::{sync::Notify, time::timeout};

use crate::config::{Files, Stamp};

/// Links that lead to a file; more are a loop.
const MAX_LINKS: usize = 40;

pub struct Watch {
    watcher: RecommendedWatcher,
    shared: Arc<Shared>,
    directories: BTreeSet<PathBuf>,
    stamps: BTreeMap<PathBuf, Stamp>,
}

/// What the watcher's thread needs.
#[derive(Default)]
struct Shared {
    /// Names in watched directories whose events count. Others are many: logs are written beside configs.
    names: Mutex<BTreeSet<PathBuf>>,
    stirred: Notify,
}

impl Watch {
    pub fn start() -> notify::Result<Watch> {
        let shared = Arc::<Shared>::default();
        let told = shared.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            if event.map_or(true, |event| told.concerns(&event)) {
                told.stirred.notify_one();
            }
        })?;
        Ok(Watch { watcher, shared, directories: BTreeSet::new(), stamps: BTreeMap::new() })
    }

    /// Watches these files from now on, and no others; those that do not exist are waited for. No change
    /// is lost: neither one since a file was noted, nor, where it was watched already, one not told yet.
    pub fn files(&mut self, files: &Files) {
        let mut before = std::mem::take(&mut self.stamps);
        for (file, noted) in files.iter() {
            let file = absolute(file).unwrap_or_else(|_| file.clone());
            let known = before.remove(&file).unwrap_or_else(|| noted.clone());
            self.stamps.entry(file).or_insert(known);
        }
        self.follow();
    }

    /// Returns once a file differs from what it was, and none has been touched for a while. May be
    /// dropped at any point and called again.
    pub async fn changed(&mut self, quiet: Duration) {
        while self.stamps.iter().all(|(file, before)| Stamp::of(file) == *before) {
            self.shared.stirred.notified().await;
            self.follow();
        }
        while timeout(quiet, self.shared.stirred.notified()).await.is_ok() {}
        for (file, before) in &mut self.stamps {
            *before = Stamp::of(file);
        }
        self.follow();
    }

    /// Links may lead elsewhere now, and directories may have come and gone.
    fn follow(&mut self) {
        let names: BTreeSet<_> = self.stamps.keys().flat_map(|file| names(file)).collect();
        let wanted: BTreeSet<_> = names.iter().filter_map(|name| name.parent()).map(Path::to_owned).collect();
        *self.shared.names.lock().unwrap_or_else(PoisonError::into_inner) = names;
        for gone in self.directories.difference(&wanted) {
            // A directory that was removed is not watched any more.
            let _ = self.watcher.unwatch(gone);
        }
        for directory in &wanted {
            // Again also what is watched: another directory may have its name now.
            if let Err(error) = self.watcher.watch(directory, RecursiveMode::NonRecursive)
                && !self.directories.contains(directory)
            {
                tracing::warn!("{} is not watched: {error}", directory.display());
            }
        }
        self.directories = wanted;
    }
}

impl Shared {
    /// Whether an event may be the change of a file. Reading one is none.
    fn concerns(&self, event: &Event) -> bool {
        match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => {}
            EventKind::Access(_) => return false,
            _ => {}
        }
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        // Without a path events were lost; of a watched directory itself the path is a parent of names.
        let known = |path: &PathBuf| names.iter().any(|name| name.starts_with(path));
        event.paths.is_empty() || event.paths.iter().any(known)
    }
}

/// The names at which something happens when another file is found under this path: its own and
/// those of all links on the way to it. Where a directory is missing, its name in the nearest one.
fn names(file: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut next = Some(file.to_owned());
    for _ in 0..MAX_LINKS {
        let Some(path) = next.take() else { break };
        let present = |name: &&Path| name.parent().is_some_and(Path::is_dir);
        found.extend(path.ancestors().find(present).map(Path::to_owned));
        // The first link from the root; what follows it lies elsewhere.
        let mut parts: Vec<_> = path.ancestors().collect();
        parts.reverse();
        for part in parts {
            let (Ok(target), Some(parent)) = (fs::read_link(part), part.parent()) else { continue };
            found.insert(part.to_owned());
            let rest = path.strip_prefix(part).unwrap_or(Path::new(""));
            let mut target = parent.join(target);
            if rest != Path::new("") {
                target.push(rest);
            }
            next = Some(target);
            break;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const QUIET: Duration = Duration::from_millis(20);

    fn watched(file: &Path) -> Watch {
        let mut watch = Watch::start().unwrap();
        watch.files(&Files::from_iter([file.to_owned()]));
        watch
    }

    async fn told(watch: &mut Watch) -> bool {
        timeout(Duration::from_secs(5), watch.changed(QUIET)).await.is_ok()
    }

    #[tokio::test]
    async fn a_file_written_in_place_replaced_removed_and_back() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("gateway.toml");
        fs::write(&file, "a").unwrap();
        let mut watch = watched(&file);
        fs::write(&file, "ab").unwrap();
        assert!(told(&mut watch).await);
        let next = folder.path().join("next");
        fs::write(&next, "ab").unwrap();
        fs::rename(&next, &file).unwrap();
        assert!(told(&mut watch).await);
        fs::remove_file(&file).unwrap();
        assert!(told(&mut watch).await);
        fs::write(&file, "ab").unwrap();
        assert!(told(&mut watch).await);
    }

    #[tokio::test]
    async fn a_mounted_config_map_swaps_a_link_above_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for version in ["1", "2"] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("gateway.toml"), "same").unwrap();
        }
        symlink("1", at("..data")).unwrap();
        symlink("..data/gateway.toml", at("gateway.toml")).unwrap();
        let mut watch = watched(&at("gateway.toml"));
        for version in ["2", "1"] {
            symlink(version, at("..next")).unwrap();
            fs::rename(at("..next"), at("..data")).unwrap();
            assert!(told(&mut watch).await);
        }
        fs::write(at("1/gateway.toml"), "other").unwrap();
        assert!(told(&mut watch).await, "behind the link");
    }

    #[tokio::test]
    async fn a_file_is_waited_for_with_its_directories() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("plugins/own/filter.wasm");
        let mut watch = watched(&file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, "").unwrap();
        assert!(told(&mut watch).await);
    }

    #[tokio::test]
    async fn a_change_between_two_calls_is_not_lost_and_other_files_are_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (file, log) = (folder.path().join("gateway.toml"), folder.path().join("access.log"));
        fs::write(&file, "a").unwrap();
        let mut watch = watched(&file);
        fs::write(&log, "line").unwrap();
        assert!(timeout(QUIET * 5, watch.changed(QUIET)).await.is_err());
        fs::write(&file, "ab").unwrap();
        let new = folder.path().join("new");
        watch.files(&Files::from_iter([file, new.clone()]));
        assert!(told(&mut watch).await);
        let noted = Files::from_iter([new.clone()]);
        watch.files(&Files::default());
        fs::write(&new, "since it was noted").unwrap();
        watch.files(&noted);
        assert!(told(&mut watch).await);
    }
}
