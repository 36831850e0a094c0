//! What a store of consumers is asked and told. It may be elsewhere: then what is known of it is in memory, too, so only whoever
//! tells it something waits.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use super::{Embedded, Remote, credentials::Kept, memory::Memory};
use crate::{
    api_key::Digest,
    capability::redis::Redis,
    config::{Consumer, CredentialKind, Term},
};

pub enum Store {
    /// In this process, kept in a file.
    Embedded(Embedded),
    /// In a Redis, for several gateways.
    Remote(Remote),
}

/// The store cannot be asked, or not be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unavailable(pub String);

/// Why nothing was changed.
#[derive(Debug)]
pub enum NotChanged {
    /// Somebody else has changed the store since it was last read: what this was made for may be another way.
    Outdated,
    Unavailable(String),
    /// Perhaps it was: the answer did not come.
    Unknown(String),
}

/// A key as a store has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    pub id: Arc<str>,
    /// Name of its consumer, which may be the config's.
    pub consumer: Arc<str>,
    pub digest: Digest,
    pub created: SystemTime,
    pub term: Term,
    /// Another one has taken its place.
    pub replaced: bool,
}

/// What is to be another way.
#[derive(Clone, Debug)]
pub enum Change {
    /// In the place of the one with the same name.
    Consumer(Arc<Consumer>),
    /// In the place of the one with the same id.
    Key(Arc<Key>),
    /// By name; its keys stay.
    NoConsumer(Arc<str>),
    /// By id.
    NoKey(Arc<str>),
    /// In the place of the one with the same kind and id.
    Credential(Arc<Kept>),
    NoCredential(CredentialKind, Arc<str>),
}

impl Store {
    /// Whether it is the one in this file.
    pub fn is_at(&self, path: &Path) -> bool {
        matches!(self, Store::Embedded(store) if store.path() == path)
    }

    /// Whether it is the one in this Redis.
    pub fn is_in(&self, redis: &Arc<Redis>) -> bool {
        matches!(self, Store::Remote(store) if store.is_in(redis))
    }

    /// Where it is elsewhere, how long what is known of it is good without a word from there.
    pub fn keep_for(&self, time: Duration) {
        match self {
            Store::Embedded(_) => {}
            Store::Remote(store) => store.keep_for(time),
        }
    }

    pub fn key(&self, id: &str) -> Result<Option<Arc<Key>>, Unavailable> {
        Ok(self.memory()?.key(id))
    }

    pub fn named(&self, name: &str) -> Result<Option<Arc<Consumer>>, Unavailable> {
        Ok(self.memory()?.named(name))
    }

    pub fn by_custom_id(&self, id: &str) -> Result<Option<Arc<Consumer>>, Unavailable> {
        Ok(self.memory()?.by_custom_id(id))
    }

    pub fn consumers(&self) -> Result<Vec<Arc<Consumer>>, Unavailable> {
        Ok(self.memory()?.consumers())
    }

    pub fn keys_of(&self, consumer: &str) -> Result<Vec<Arc<Key>>, Unavailable> {
        Ok(self.memory()?.keys_of(consumer))
    }

    /// One that is no key.
    pub fn credential(&self, kind: CredentialKind, id: &str) -> Result<Option<Arc<Kept>>, Unavailable> {
        Ok(self.memory()?.credential(kind, id))
    }

    pub fn credentials_of(&self, consumer: &str) -> Result<Vec<Arc<Kept>>, Unavailable> {
        Ok(self.memory()?.credentials_of(consumer))
    }

    /// Learns what others have told it, where it does not know.
    pub async fn refresh(&self) -> Result<(), Unavailable> {
        match self {
            Store::Embedded(store) => store.refresh().await,
            Store::Remote(store) => store.refresh().await,
        }
    }

    /// All of them or none. They hold once this returns, here and after a restart.
    pub async fn apply(&self, changes: Vec<Change>) -> Result<(), NotChanged> {
        match self {
            Store::Embedded(store) => store.apply(changes).await,
            Store::Remote(store) => store.apply(changes).await,
        }
    }

    fn memory(&self) -> Result<&Memory, Unavailable> {
        match self {
            Store::Embedded(store) => Ok(store.memory()),
            Store::Remote(store) => store.memory(Instant::now()),
        }
    }
}
