//! The book of consumers, their credentials and plans. It has two layers: what the config says, replaced as a whole with each
//! reload, and what the store has. A consumer of the config comes before one of the store with the same name.
//!
//! What holds is what is found at that moment: who is asked keeps nothing, so what was revoked or has expired is no good with
//! the next request on any worker.

mod changes;
mod contact;
mod declared;
mod embedded;
mod memory;
mod record;
mod remote;
mod store;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use tokio::sync::Mutex;

use super::redis::Redis;
use crate::{
    api_key::{Digest, Form, LONGEST, form},
    config::{Consumer, ConsumerStore, Consumers, Quota},
};
pub use changes::{Entry, Issued, KeyFacts, Origin, Refused, State, Terms};
use declared::Declared;
pub use embedded::Embedded;
pub use remote::Remote;
pub use store::{Store, Unavailable};

#[derive(Default)]
pub struct Book {
    pages: ArcSwap<Pages>,
    /// One change at a time.
    turn: Mutex<()>,
}

/// Both layers.
#[derive(Default)]
pub struct Pages {
    declared: Declared,
    store: Option<Arc<Store>>,
    /// How long what is known of a store elsewhere is good without a word from there.
    stale: Duration,
    /// How long a key is good when another one takes its place.
    grace: Duration,
}

/// Whose a credential is.
#[derive(Clone, Debug, PartialEq)]
pub struct Verified {
    pub id: Arc<str>,
    pub consumer: Arc<Consumer>,
}

impl Book {
    /// What the config says, with the store that it names, which may be in this Redis; one that is open already stays open.
    /// The error is the reason why the store cannot be used.
    pub fn prepare(&self, config: &Consumers, redis: Option<Arc<Redis>>) -> Result<Pages, String> {
        let before = self.pages.load().store.clone();
        let store = match (&config.store, redis) {
            (Some(ConsumerStore::File(path)), _) => match before.filter(|store| store.is_at(path)) {
                Some(store) => Some(store),
                None => Some(Arc::new(Store::Embedded(Embedded::open(path)?))),
            },
            (Some(ConsumerStore::Redis(_)), Some(redis)) => {
                match before.filter(|store| store.is_in(&redis)) {
                    Some(store) => Some(store),
                    None => Some(Arc::new(Store::Remote(Remote::new(redis)))),
                }
            }
            _ => None,
        };
        Ok(Pages { store, ..Pages::without_store(config) })
    }

    /// Whether their store is read. One that is elsewhere may not be there.
    pub async fn read(&self, pages: &Pages) -> Result<(), Unavailable> {
        let _turn = self.turn.lock().await;
        match &pages.store {
            Some(store) => store.refresh().await,
            None => Ok(()),
        }
    }

    /// From now on it says this.
    pub fn put(&self, pages: Pages) {
        if let Some(store) = &pages.store {
            store.keep_for(pages.stale);
        }
        self.pages.store(Arc::new(pages));
    }

    /// Whose key it is, if it is good now.
    pub async fn verify(&self, key: &str, now: SystemTime) -> Result<Option<Verified>, Unavailable> {
        if key.is_empty() || key.len() > LONGEST {
            return Ok(None);
        }
        let id = match form(key) {
            Form::Mistyped => return Ok(None),
            Form::Own(id) => Some(id),
            Form::Other => None,
        };
        let digest = Digest::of(key);
        let pages = self.pages.load();
        if let Some((credential, consumer)) = pages.declared.key(&digest) {
            let is_good = credential.enabled && credential.term.includes(now);
            let found = || Verified { id: credential.id.clone(), consumer: consumer.clone() };
            return Ok(is_good.then(found));
        }
        let (Some(store), Some(id)) = (&pages.store, id) else { return Ok(None) };
        let Some(key) = store.key(id).await? else { return Ok(None) };
        if !key.digest.is(&digest) || !key.term.includes(now) {
            return Ok(None);
        }
        let consumer = pages.named(&key.consumer).await?;
        Ok(consumer.map(|consumer| Verified { id: key.id.clone(), consumer }))
    }

    pub async fn named(&self, name: &str) -> Result<Option<Arc<Consumer>>, Unavailable> {
        self.pages.load().named(name).await
    }

    pub async fn by_custom_id(&self, id: &str) -> Result<Option<Arc<Consumer>>, Unavailable> {
        self.pages.load().by_custom_id(id).await
    }

    pub fn plan(&self, name: &str) -> Option<Arc<[Quota]>> {
        self.pages.load().declared.plan(name)
    }
}

impl Pages {
    /// What the config says by itself.
    pub fn without_store(config: &Consumers) -> Self {
        Pages { declared: Declared::new(config), store: None, stale: config.stale, grace: config.grace }
    }

    async fn named(&self, name: &str) -> Result<Option<Arc<Consumer>>, Unavailable> {
        match (self.declared.named(name), &self.store) {
            (None, Some(store)) => store.named(name).await,
            (found, _) => Ok(found),
        }
    }

    async fn by_custom_id(&self, id: &str) -> Result<Option<Arc<Consumer>>, Unavailable> {
        match (self.declared.by_custom_id(id), &self.store) {
            (None, Some(store)) => {
                let found = store.by_custom_id(id).await?;
                // The config's consumer of that name is not called so.
                Ok(found.filter(|consumer| self.declared.named(&consumer.name).is_none()))
            }
            (found, _) => Ok(found),
        }
    }
}

#[cfg(test)]
mod tests;
