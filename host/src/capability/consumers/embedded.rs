//! A store in this process: all of it in memory, and in a file, which tells it to the next process. The file is open only while
//! it is read or written, so that a successor can read it while this process still serves; what the one writes, the other reads
//! anew.

use std::{
    fs::OpenOptions,
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use redb::{
    Builder, Database, DatabaseError, ReadOnlyDatabase, ReadableDatabase, ReadableTable, TableDefinition,
    WriteTransaction, backends::FileBackend,
};
use tokio::sync::oneshot;

use super::{
    memory::Memory,
    record::{Kind, Record},
    store::{Change, NotChanged, Unavailable},
};
use crate::config::Stamp;

/// Records by name, a table for each kind.
const CONSUMERS: TableDefinition<&str, &[u8]> = TableDefinition::new("consumers");
const KEYS: TableDefinition<&str, &[u8]> = TableDefinition::new("keys");
const CREDENTIALS: TableDefinition<&str, &[u8]> = TableDefinition::new("credentials");

/// How long another process may be at the file.
const WAIT: Duration = Duration::from_secs(2);

/// Pages of the file that are kept in memory while it is open.
const CACHE: usize = 1 << 20;

pub struct Embedded {
    path: PathBuf,
    memory: Memory,
    /// The file as it was when it was last read or written; none where it has to be read anew.
    seen: Mutex<Option<Stamp>>,
}

impl Embedded {
    /// Reads the file, or makes one. The error is the reason why it cannot be used.
    pub fn open(path: &Path) -> Result<Self, String> {
        let store = Embedded { path: path.to_owned(), memory: Memory::default(), seen: Mutex::default() };
        let changes = database(path).and_then(|database| {
            make_tables(&database)?;
            read(&database)
        });
        let changes = changes.map_err(|error| format!("{} cannot be used: {error}", path.display()))?;
        changes.into_iter().for_each(|change| store.memory.follow(change));
        *store.seen() = Some(Stamp::of(path));
        Ok(store)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    pub async fn apply(&self, changes: Vec<Change>) -> Result<(), NotChanged> {
        let (path, written) = (self.path.clone(), changes.clone());
        let write = move || {
            let before = Stamp::of(&path);
            write(&path, &written)?;
            Ok((before, Stamp::of(&path)))
        };
        let (before, after) = beside(write).await.map_err(|error| {
            NotChanged::Unavailable(format!("{} cannot be written: {error}", self.path.display()))
        })?;
        changes.into_iter().for_each(|change| self.memory.follow(change));
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
        self.memory.become_like(rows);
        *self.seen() = Some(now);
        Ok(())
    }

    fn seen(&self) -> MutexGuard<'_, Option<Stamp>> {
        // Nothing panics while it is held.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
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

/// A new file has none yet, and one of an older gateway not all.
fn make_tables(database: &Database) -> io::Result<()> {
    let begun = database.begin_write().map_err(io::Error::other)?;
    for kind in Kind::ALL {
        begun.open_table(table(kind)).map_err(io::Error::other)?;
    }
    begun.commit().map_err(io::Error::other)
}

fn read(database: &impl ReadableDatabase) -> io::Result<Vec<Change>> {
    let mut changes = Vec::new();
    let begun = database.begin_read().map_err(io::Error::other)?;
    for kind in Kind::ALL {
        let rows = begun.open_table(table(kind)).map_err(io::Error::other)?;
        for row in rows.iter().map_err(io::Error::other)? {
            let (name, json) = row.map_err(io::Error::other)?;
            changes.push(Change::of(kind, name.value(), Some(json.value()))?);
        }
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
    let Record { kind, name, json } = change.record()?;
    let mut table = begun.open_table(table(kind)).map_err(io::Error::other)?;
    match json {
        Some(json) => table.insert(&*name, json.as_slice()).map(drop),
        None => table.remove(&*name).map(drop),
    }
    .map_err(io::Error::other)
}

fn table(kind: Kind) -> TableDefinition<'static, &'static str, &'static [u8]> {
    match kind {
        Kind::Consumer => CONSUMERS,
        Kind::Key => KEYS,
        Kind::Credential => CREDENTIALS,
    }
}
