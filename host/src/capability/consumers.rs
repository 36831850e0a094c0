//! The book of consumers, their credentials and plans. It has two layers: what the config says, replaced as a whole with each
//! reload, and what the store has. A consumer of the config comes before one of the store with the same name.
//!
//! What holds is what is found at that moment: who is asked keeps nothing, so what was revoked or has expired is no good with
//! the next request on any worker.

mod changes;
mod contact;
mod credentials;
mod declared;
mod embedded;
mod find;
mod memory;
mod record;
mod remote;
mod standing;
mod store;

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use tokio::sync::Mutex;
use wasmgate_crypto::Sealer;

use super::redis::Redis;
use crate::{
    api_key::{Digest, Form, LONGEST, form},
    config::{Consumer, ConsumerStore, Consumers, Quota},
};
pub use changes::{Entry, Issued, KeyFacts, Refused, Terms};
pub use credentials::{CredentialFacts, Offer};
use declared::Declared;
pub use embedded::Embedded;
pub use find::Found;
use find::StandIns;
pub use remote::Remote;
pub use standing::{Origin, Standing, State};
pub use store::{Store, Unavailable};

#[derive(Default)]
pub struct Book {
    pages: ArcSwap<Pages>,
    /// One change at a time.
    turn: Mutex<()>,
    stand_ins: StandIns,
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
    /// For secrets of the store; none where the config has no key for it.
    sealer: Option<Sealer>,
    /// Whether it was told that this is not enough.
    told_of_seals: AtomicBool,
}

/// Whose a credential is.
#[derive(Clone, Debug, PartialEq)]
pub struct Verified {
    pub id: Arc<str>,
    pub consumer: Arc<Consumer>,
}

/// Why a key is no good. It is for the operator, and neither for plugins nor for clients.
#[derive(Clone, Debug, PartialEq)]
pub struct Unfit {
    /// "mistyped", "unknown_key", "wrong_key", "disabled", "not_yet", "expired" or "unknown_consumer".
    pub why: &'static str,
    /// The credential that the key names.
    pub id: Option<Arc<str>>,
    /// Whose it is, where the key is the right one.
    pub consumer: Option<Arc<str>>,
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
    pub fn verify(&self, key: &str, now: SystemTime) -> Result<Result<Verified, Unfit>, Unavailable> {
        let unfit = |why| Ok(Err(Unfit { why, id: None, consumer: None }));
        if key.is_empty() || key.len() > LONGEST {
            return unfit("unknown_key");
        }
        let id = match form(key) {
            Form::Mistyped => return unfit("mistyped"),
            Form::Own(id) => Some(id),
            Form::Other => None,
        };
        let digest = Digest::of(key);
        let pages = self.pages.load();
        if let Some((credential, consumer)) = pages.declared.key(&digest) {
            return Ok(match credential.fault(now) {
                None => Ok(Verified { id: credential.id.clone(), consumer: consumer.clone() }),
                Some(why) => {
                    let consumer = Some(consumer.name.as_str().into());
                    Err(Unfit { why, id: Some(credential.id.clone()), consumer })
                }
            });
        }
        let (Some(store), Some(id)) = (&pages.store, id) else { return unfit("unknown_key") };
        let Some(key) = store.key(id)? else { return unfit("unknown_key") };
        let unfit = |why, consumer| Unfit { why, id: Some(key.id.clone()), consumer };
        if !key.digest.is(&digest) {
            return Ok(Err(unfit("wrong_key", None)));
        }
        if let Some(why) = key.term.fault(now) {
            return Ok(Err(unfit(why, Some(key.consumer.clone()))));
        }
        let consumer = pages.named(&key.consumer)?;
        let verified = consumer.map(|consumer| Verified { id: key.id.clone(), consumer });
        Ok(verified.ok_or_else(|| unfit("unknown_consumer", Some(key.consumer.clone()))))
    }

    pub fn named(&self, name: &str) -> Result<Option<Arc<Consumer>>, Unavailable> {
        self.pages.load().named(name)
    }

    pub fn by_custom_id(&self, id: &str) -> Result<Option<Arc<Consumer>>, Unavailable> {
        self.pages.load().by_custom_id(id)
    }

    pub fn plan(&self, name: &str) -> Option<Arc<[Quota]>> {
        self.pages.load().declared.plan(name)
    }
}

impl Pages {
    /// What the config says by itself.
    pub fn without_store(config: &Consumers) -> Self {
        let sealer = Sealer::new(&config.seal_keys.0).ok();
        Pages {
            declared: Declared::new(config),
            store: None,
            stale: config.stale,
            grace: config.grace,
            sealer,
            told_of_seals: AtomicBool::default(),
        }
    }

    /// Plans that the config does not have, each with one of the consumers of the store that have it.
    pub fn unknown_plans(&self) -> BTreeMap<String, String> {
        let consumers = self.store.as_ref().and_then(|store| store.consumers().ok()).unwrap_or_default();
        let plans =
            consumers.iter().filter_map(|consumer| Some((consumer.plan.clone()?, consumer.name.clone())));
        plans.filter(|(plan, _)| self.declared.plan(plan).is_none()).collect()
    }

    fn named(&self, name: &str) -> Result<Option<Arc<Consumer>>, Unavailable> {
        match (self.declared.named(name), &self.store) {
            (None, Some(store)) => store.named(name),
            (found, _) => Ok(found),
        }
    }

    fn by_custom_id(&self, id: &str) -> Result<Option<Arc<Consumer>>, Unavailable> {
        match (self.declared.by_custom_id(id), &self.store) {
            (None, Some(store)) => {
                let found = store.by_custom_id(id)?;
                // The config's consumer of that name is not called so.
                Ok(found.filter(|consumer| self.declared.named(&consumer.name).is_none()))
            }
            (found, _) => Ok(found),
        }
    }
}

#[cfg(test)]
mod tests;
