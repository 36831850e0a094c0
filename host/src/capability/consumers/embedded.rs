//! A store in this process: all of it in memory, where it is found without a lock, and in a file, which tells it to the next
//! process. The file is open only while it is read or written, so that a successor can read it while this process still serves;
//! what the one writes, the other reads anew.

use std::{
    collections::HashSet,
    fs::OpenOptions,
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant, SystemTime},
};

use papaya::HashMap;
use redb::{
    Builder, Database, DatabaseError, ReadOnlyDatabase, ReadableDatabase, ReadableTable, TableDefinition,
    WriteTransaction, backends::FileBackend,
};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::store::{Change, Key, Unavailable};
use crate::{
    api_key::Digest,
    config::{Consumer, Stamp, Term},
};

/// JSON by name, and by id.
const CONSUMERS: TableDefinition<&str, &[u8]> = TableDefinition::new("consumers");
const KEYS: TableDefinition<&str, &[u8]> = TableDefinition::new("keys");

/// How long another process may be at the file.
const WAIT: Duration = Duration::from_secs(2);

/// Pages of the file that are kept in memory while it is open.
const CACHE: usize = 1 << 20;

pub struct Embedded {
    path: PathBuf,
    consumers: HashMap<Box<str>, Arc<Consumer>>,
    custom_ids: HashMap<Box<str>, Arc<Consumer>>,
    keys: HashMap<Box<str>, Arc<Key>>,
    /// The file as it was when it was last read or written; none where it has to be read anew.
    seen: Mutex<Option<Stamp>>,
}

/// A key in the file; times in milliseconds since 1970.
#[derive(Deserialize, Serialize)]
struct Row {
    consumer: String,
    sha256: String,
    created: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    not_before: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires: Option<u64>,
    #[serde(default)]
    replaced: bool,
}

impl Embedded {
    /// Reads the file, or makes one. The error is the reason why it cannot be used.
    pub fn open(path: &Path) -> Result<Self, String> {
        let store = Embedded {
            path: path.to_owned(),
            consumers: HashMap::new(),
            custom_ids: HashMap::new(),
            keys: HashMap::new(),
            seen: Mutex::default(),
        };
        let changes = database(path).and_then(|database| {
            make_tables(&database)?;
            read(&database)
        });
        let changes = changes.map_err(|error| format!("{} cannot be used: {error}", path.display()))?;
        changes.into_iter().for_each(|change| store.follow(change));
        *store.seen() = Some(Stamp::of(path));
        Ok(store)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn key(&self, id: &str) -> Option<Arc<Key>> {
        self.keys.pin().get(id).cloned()
    }

    pub fn named(&self, name: &str) -> Option<Arc<Consumer>> {
        self.consumers.pin().get(name).cloned()
    }

    pub fn by_custom_id(&self, id: &str) -> Option<Arc<Consumer>> {
        self.custom_ids.pin().get(id).cloned()
    }

    pub fn consumers(&self) -> Vec<Arc<Consumer>> {
        self.consumers.pin().values().cloned().collect()
    }

    pub fn keys_of(&self, consumer: &str) -> Vec<Arc<Key>> {
        let keys = self.keys.pin();
        keys.values().filter(|key| *key.consumer == *consumer).cloned().collect()
    }

    pub async fn apply(&self, changes: Vec<Change>) -> Result<(), Unavailable> {
        let (path, written) = (self.path.clone(), changes.clone());
        let write = move || {
            let before = Stamp::of(&path);
            write(&path, &written)?;
            Ok((before, Stamp::of(&path)))
        };
        let (before, after) = beside(write)
            .await
            .map_err(|error| Unavailable(format!("{} cannot be written: {error}", self.path.display())))?;
        changes.into_iter().for_each(|change| self.follow(change));
        let mut seen = self.seen();
        // What another process wrote before is still to be read.
        *seen = seen.take().filter(|seen| *seen == before).map(|_| after);
        Ok(())
    }

    /// Reads what another process has written.
    pub async fn refresh(&self) -> Result<(), Unavailable> {
        let (path, now) = (self.path.clone(), Stamp::of(&self.path));
        if self.seen().as_ref() == Some(&now) {
            return Ok(());
        }
        let rows = beside(move || read(&ReadOnlyDatabase::open(path).map_err(io::Error::other)?))
            .await
            .map_err(|error| Unavailable(format!("{} cannot be read anew: {error}", self.path.display())))?;
        self.become_like(rows);
        *self.seen() = Some(now);
        Ok(())
    }

    /// These and no others.
    fn become_like(&self, rows: Vec<Change>) {
        let (mut names, mut ids) = (HashSet::new(), HashSet::new());
        for row in &rows {
            match row {
                Change::Consumer(consumer) => _ = names.insert(consumer.name.clone()),
                Change::Key(key) => _ = ids.insert(key.id.clone()),
                Change::NoConsumer(_) | Change::NoKey(_) => {}
            }
        }
        let keys: Vec<_> = self.keys.pin().values().map(|key| key.id.clone()).collect();
        keys.into_iter().filter(|id| !ids.contains(id)).for_each(|id| self.follow(Change::NoKey(id)));
        let gone = self.consumers().into_iter().filter(|consumer| !names.contains(&consumer.name));
        gone.for_each(|consumer| self.follow(Change::NoConsumer(consumer.name.as_str().into())));
        rows.into_iter().for_each(|row| self.follow(row));
    }

    fn seen(&self) -> MutexGuard<'_, Option<Stamp>> {
        // Nothing panics while it is held.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does in memory what the file says.
    fn follow(&self, change: Change) {
        let (consumers, custom_ids) = (self.consumers.pin(), self.custom_ids.pin());
        match change {
            Change::Consumer(consumer) => {
                let id = consumer.custom_id.clone();
                if let Some(id) = &id {
                    custom_ids.insert(id.as_str().into(), consumer.clone());
                }
                let before = consumers.insert(consumer.name.as_str().into(), consumer);
                let before = before.and_then(|before| before.custom_id.clone());
                if let Some(before) = before.filter(|before| Some(before) != id.as_ref()) {
                    custom_ids.remove(before.as_str());
                }
            }
            Change::NoConsumer(name) => {
                let before = consumers.remove(&*name).and_then(|before| before.custom_id.clone());
                if let Some(before) = before {
                    custom_ids.remove(before.as_str());
                }
            }
            Change::Key(key) => _ = self.keys.pin().insert((&*key.id).into(), key),
            Change::NoKey(id) => _ = self.keys.pin().remove(&*id),
        }
    }
}

/// On a thread: the disk may take its time.
async fn beside<T: Send + 'static>(act: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    let (tell, told) = oneshot::channel();
    thread::Builder::new().name("consumers".to_owned()).spawn(move || _ = tell.send(act()))?;
    told.await.unwrap_or_else(|_| Err(io::Error::other("the thread panicked")))
}

/// Opened for nobody else, neither another user nor another process.
fn database(path: &Path) -> io::Result<Database> {
    let end = Instant::now() + WAIT;
    loop {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let opened = FileBackend::new(file)
            .and_then(|file| Builder::new().set_cache_size(CACHE).create_with_backend(file));
        match opened {
            Err(DatabaseError::DatabaseAlreadyOpen) if Instant::now() < end => {
                thread::sleep(Duration::from_millis(5));
            }
            opened => return opened.map_err(io::Error::other),
        }
    }
}

/// A new file has none yet.
fn make_tables(database: &Database) -> io::Result<()> {
    let begun = database.begin_write().map_err(io::Error::other)?;
    begun.open_table(CONSUMERS).map_err(io::Error::other)?;
    begun.open_table(KEYS).map_err(io::Error::other)?;
    begun.commit().map_err(io::Error::other)
}

fn read(database: &impl ReadableDatabase) -> io::Result<Vec<Change>> {
    let mut changes = Vec::new();
    let begun = database.begin_read().map_err(io::Error::other)?;
    let consumers = begun.open_table(CONSUMERS).map_err(io::Error::other)?;
    for row in consumers.iter().map_err(io::Error::other)? {
        let (_, json) = row.map_err(io::Error::other)?;
        changes.push(Change::Consumer(Arc::new(serde_json::from_slice(json.value())?)));
    }
    let keys = begun.open_table(KEYS).map_err(io::Error::other)?;
    for row in keys.iter().map_err(io::Error::other)? {
        let (id, json) = row.map_err(io::Error::other)?;
        let row: Row = serde_json::from_slice(json.value())?;
        let malformed = || io::Error::other(format!("key {} has no digest", id.value()));
        changes.push(Change::Key(Arc::new(row.key(id.value()).ok_or_else(malformed)?)));
    }
    Ok(changes)
}

fn write(path: &Path, changes: &[Change]) -> io::Result<()> {
    let database = database(path)?;
    let begun = database.begin_write().map_err(io::Error::other)?;
    for change in changes {
        write_one(&begun, change)?;
    }
    begun.commit().map_err(io::Error::other)
}

fn write_one(begun: &WriteTransaction, change: &Change) -> io::Result<()> {
    let (table, name, row) = match change {
        Change::Consumer(consumer) => (CONSUMERS, &*consumer.name, Some(serde_json::to_vec(&**consumer)?)),
        Change::NoConsumer(name) => (CONSUMERS, &**name, None),
        Change::Key(key) => (KEYS, &*key.id, Some(serde_json::to_vec(&Row::of(key))?)),
        Change::NoKey(id) => (KEYS, &**id, None),
    };
    let mut table = begun.open_table(table).map_err(io::Error::other)?;
    match row {
        Some(row) => table.insert(name, row.as_slice()).map(drop),
        None => table.remove(name).map(drop),
    }
    .map_err(io::Error::other)
}

impl Row {
    fn of(key: &Key) -> Self {
        Row {
            consumer: key.consumer.as_ref().to_owned(),
            sha256: key.digest.hex(),
            created: millis(key.created),
            not_before: key.term.not_before.map(millis),
            expires: key.term.expires.map(millis),
            replaced: key.replaced,
        }
    }

    fn key(&self, id: &str) -> Option<Key> {
        Some(Key {
            id: id.into(),
            consumer: self.consumer.as_str().into(),
            digest: Digest::from_hex(&self.sha256)?,
            created: time(self.created),
            term: Term { not_before: self.not_before.map(time), expires: self.expires.map(time) },
            replaced: self.replaced,
        })
    }
}

fn millis(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

fn time(millis: u64) -> SystemTime {
    // What no clock can show is as good as the beginning: a key that expired then.
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(millis)).unwrap_or(SystemTime::UNIX_EPOCH)
}
