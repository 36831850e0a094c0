//! What a store of consumers is asked and told. It may be elsewhere, so whoever asks waits.

use std::{path::Path, sync::Arc, time::SystemTime};

use super::Embedded;
use crate::{
    api_key::Digest,
    config::{Consumer, Term},
};

pub enum Store {
    /// In this process, kept in a file.
    Embedded(Embedded),
}

/// The store cannot be asked, or not be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unavailable(pub String);

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
}

impl Store {
    /// Whether it is the one at this place.
    pub fn is_at(&self, path: &Path) -> bool {
        match self {
            Store::Embedded(store) => store.path() == path,
        }
    }

    pub async fn key(&self, id: &str) -> Result<Option<Arc<Key>>, Unavailable> {
        match self {
            Store::Embedded(store) => Ok(store.key(id)),
        }
    }

    pub async fn named(&self, name: &str) -> Result<Option<Arc<Consumer>>, Unavailable> {
        match self {
            Store::Embedded(store) => Ok(store.named(name)),
        }
    }

    pub async fn by_custom_id(&self, id: &str) -> Result<Option<Arc<Consumer>>, Unavailable> {
        match self {
            Store::Embedded(store) => Ok(store.by_custom_id(id)),
        }
    }

    pub async fn consumers(&self) -> Result<Vec<Arc<Consumer>>, Unavailable> {
        match self {
            Store::Embedded(store) => Ok(store.consumers()),
        }
    }

    pub async fn keys_of(&self, consumer: &str) -> Result<Vec<Arc<Key>>, Unavailable> {
        match self {
            Store::Embedded(store) => Ok(store.keys_of(consumer)),
        }
    }

    /// Learns what others have told it, where it does not know.
    pub async fn refresh(&self) -> Result<(), Unavailable> {
        match self {
            Store::Embedded(store) => store.refresh().await,
        }
    }

    /// All of them or none. They hold once this returns, here and after a restart.
    pub async fn apply(&self, changes: Vec<Change>) -> Result<(), Unavailable> {
        match self {
            Store::Embedded(store) => store.apply(changes).await,
        }
    }
}
