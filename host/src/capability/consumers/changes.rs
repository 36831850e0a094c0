//! What an operator sees of the book, and changes in its store. Each change is told in the log, without its secret.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{
    Book, Pages,
    standing::{Origin, Standing, is_forgotten},
    store::{Change, Key, NotChanged, Store, Unavailable},
};
use crate::{
    api_key::{self, Digest, Form},
    config::{Consumer, Term},
};

/// How often a change is tried when others change the store at the same time.
const ATTEMPTS: usize = 100;

/// A consumer, and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub consumer: Arc<Consumer>,
    pub origin: Origin,
}

/// What is told of a key.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyFacts {
    pub id: Arc<str>,
    pub standing: Standing,
}

/// How one key takes the place of another one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Terms {
    /// Of the new one. None: it is good for as long as the old one was made for.
    pub expires: Option<SystemTime>,
    /// How long the old one is good yet. None: as the config has it.
    pub grace: Option<Duration>,
}

/// A new key. Nothing else knows it.
pub struct Issued {
    pub id: Arc<str>,
    pub key: String,
    pub expires: Option<SystemTime>,
}

/// Why something was not changed.
#[derive(Debug, PartialEq)]
pub enum Refused {
    NoStore,
    UnknownConsumer,
    UnknownKey,
    UnknownPlan,
    /// It stands in the config.
    OfConfig,
    TakenCustomId,
    UnknownCredential,
    /// Another consumer is known by the same.
    TakenCredential,
    /// The config has no key to seal secrets with.
    NoSealKeys,
    /// The key has expired.
    Expired,
    /// Another key has taken its place already.
    Replaced,
    /// What is wrong with what was given.
    Faulty(String),
    Unavailable(String),
    /// Perhaps it was changed: the store's answer did not come.
    Unknown(String),
}

impl From<Unavailable> for Refused {
    fn from(Unavailable(reason): Unavailable) -> Self {
        Refused::Unavailable(reason)
    }
}

impl Book {
    /// Learns what another process has changed in the store.
    pub async fn refresh(&self) -> Result<(), Refused> {
        Ok(self.read(&self.pages.load_full()).await?)
    }

    /// Makes the changes that `plan` finds by what is known, which is the last that there is: where somebody else changes the
    /// store before, it is asked again.
    pub(super) async fn change<T>(
        &self,
        plan: impl Fn(&Pages) -> Result<(Vec<Change>, T), Refused>,
    ) -> Result<T, Refused> {
        let _turn = self.turn.lock().await;
        let pages = self.pages.load_full();
        for _ in 0..ATTEMPTS {
            if let Some(store) = &pages.store {
                store.refresh().await?;
            }
            let (changes, told) = plan(&pages)?;
            let store = pages.store.as_ref().ok_or(Refused::NoStore)?;
            match store.apply(changes).await {
                Ok(()) => return Ok(told),
                Err(NotChanged::Outdated) => {}
                Err(NotChanged::Unavailable(reason)) => return Err(Refused::Unavailable(reason)),
                Err(NotChanged::Unknown(reason)) => return Err(Refused::Unknown(reason)),
            }
        }
        Err(Refused::Unavailable("others change the store all the time".to_owned()))
    }

    /// All consumers, by name.
    pub fn entries(&self) -> Result<Vec<Entry>, Refused> {
        let pages = self.pages.load_full();
        let declared = pages.declared.consumers();
        let entry = |consumer: &Arc<Consumer>| Entry { consumer: consumer.clone(), origin: Origin::Config };
        let mut entries: Vec<_> = declared.map(entry).collect();
        if let Some(store) = &pages.store {
            let stored = store.consumers()?.into_iter();
            let stored = stored.filter(|consumer| pages.declared.named(&consumer.name).is_none());
            entries.extend(stored.map(|consumer| Entry { consumer, origin: Origin::Store }));
        }
        entries.sort_by(|a, b| a.consumer.name.cmp(&b.consumer.name));
        Ok(entries)
    }

    pub fn entry(&self, name: &str) -> Result<Entry, Refused> {
        let pages = self.pages.load_full();
        let consumer = pages.named(name)?.ok_or(Refused::UnknownConsumer)?;
        let origin = match pages.declared.named(name) {
            Some(_) => Origin::Config,
            None => Origin::Store,
        };
        Ok(Entry { consumer, origin })
    }

    /// In the place of the one with its name, if there is one.
    pub async fn set(&self, consumer: Consumer) -> Result<(), Refused> {
        let faults = consumer.faults().into_iter().map(|(path, fault)| format!("{path} {fault}"));
        let faults: Vec<_> = faults.map(|fault| fault.trim_start().to_owned()).collect();
        if !faults.is_empty() {
            return Err(Refused::Faulty(faults.join("; ")));
        }
        let name = consumer.name.clone();
        let consumer = Arc::new(consumer);
        self.change(|pages| {
            let store = pages.writable(&consumer.name)?;
            if consumer.plan.as_deref().is_some_and(|plan| pages.declared.plan(plan).is_none()) {
                return Err(Refused::UnknownPlan);
            }
            if let Some(id) = &consumer.custom_id {
                let stored = store.by_custom_id(id)?;
                let is_another = stored.is_some_and(|other| other.name != consumer.name);
                if is_another || pages.declared.by_custom_id(id).is_some() {
                    return Err(Refused::TakenCustomId);
                }
            }
            let mut changes = Vec::new();
            if store.named(&consumer.name)?.is_none() {
                // Keys of one with this name that the config had were not issued to this one.
                changes = left_of(store, &consumer.name)?;
            }
            changes.push(Change::Consumer(consumer.clone()));
            Ok((changes, ()))
        })
        .await?;
        tracing::info!(consumer = name, "a consumer was set");
        Ok(())
    }

    /// With its keys and credentials.
    pub async fn remove(&self, name: &str) -> Result<(), Refused> {
        self.change(|pages| {
            let store = pages.writable(name)?;
            let mut changes = left_of(store, name)?;
            if changes.is_empty() && store.named(name)?.is_none() {
                return Err(Refused::UnknownConsumer);
            }
            changes.push(Change::NoConsumer(name.into()));
            Ok((changes, ()))
        })
        .await?;
        tracing::info!(consumer = name, "a consumer was removed");
        Ok(())
    }

    /// The config's first, then the oldest.
    pub fn keys(&self, name: &str, now: SystemTime) -> Result<Vec<KeyFacts>, Refused> {
        let pages = self.pages.load_full();
        let is_known = pages.named(name)?.is_some();
        let declared = pages.declared.keys_of(name);
        let declared =
            declared.map(|key| KeyFacts { id: key.id.clone(), standing: Standing::declared(key, now) });
        let mut keys: Vec<_> = declared.collect();
        if let Some(store) = &pages.store {
            let stored = store.keys_of(name)?;
            keys.extend(stored.iter().map(|key| KeyFacts {
                id: key.id.clone(),
                standing: Standing::stored(key.created, key.term, key.replaced, now),
            }));
        }
        // What one that the config had has left in the store is told, so that it can be revoked.
        if keys.is_empty() && !is_known {
            return Err(Refused::UnknownConsumer);
        }
        keys.sort_by(|a, b| (a.standing.created, &a.id).cmp(&(b.standing.created, &b.id)));
        Ok(keys)
    }

    /// A new key for a consumer, of the config or of the store.
    pub async fn issue(
        &self,
        name: &str,
        expires: Option<SystemTime>,
        now: SystemTime,
    ) -> Result<Issued, Refused> {
        let plan = |pages: &Pages| {
            let store = pages.store.as_ref().ok_or(Refused::NoStore)?;
            pages.named(name)?.ok_or(Refused::UnknownConsumer)?;
            let (issued, key) = new_key(name, expires, now)?;
            let mut changes = vec![Change::Key(Arc::new(key))];
            changes.extend(forgotten(&store.keys_of(name)?, now));
            Ok((changes, issued))
        };
        let issued = self.change(plan).await?;
        tracing::info!(consumer = name, key = &*issued.id, "a key was issued");
        Ok(issued)
    }

    /// A new key in the place of this one, which is still good for a while.
    pub async fn rotate(
        &self,
        name: &str,
        id: &str,
        terms: Terms,
        now: SystemTime,
    ) -> Result<Issued, Refused> {
        let plan = |pages: &Pages| {
            let old = pages.current_key(name, id, now)?;
            let life = old.term.expires.and_then(|end| end.duration_since(old.created).ok());
            let expires = terms.expires.or_else(|| now.checked_add(life?));
            let (issued, key) = new_key(name, expires, now)?;
            let grace = now.checked_add(terms.grace.unwrap_or(pages.grace));
            let term = Term { expires: old.term.expires.into_iter().chain(grace).min(), ..old.term };
            let old = Key { term, replaced: true, ..(*old).clone() };
            let store = pages.store.as_ref().ok_or(Refused::NoStore)?;
            let mut changes = vec![Change::Key(Arc::new(key)), Change::Key(Arc::new(old))];
            changes.extend(forgotten(&store.keys_of(name)?, now));
            Ok((changes, issued))
        };
        let issued = self.change(plan).await?;
        tracing::info!(consumer = name, key = &*issued.id, replaces = id, "a key was issued");
        Ok(issued)
    }

    /// Another end for a key, in the place of the one that it had.
    pub async fn set_end(
        &self,
        name: &str,
        id: &str,
        expires: Option<SystemTime>,
        now: SystemTime,
    ) -> Result<KeyFacts, Refused> {
        let facts = self
            .change(|pages| {
                let old = pages.current_key(name, id, now)?;
                let term = Term { expires, ..old.term };
                if term.is_over(now) {
                    return Err(Refused::Faulty("expires is over".to_owned()));
                }
                let standing = Standing::stored(old.created, term, false, now);
                let facts = KeyFacts { id: old.id.clone(), standing };
                Ok((vec![Change::Key(Arc::new(Key { term, ..(*old).clone() }))], facts))
            })
            .await?;
        tracing::info!(consumer = name, key = id, "a key has another end");
        Ok(facts)
    }

    pub async fn revoke(&self, name: &str, id: &str) -> Result<(), Refused> {
        self.change(|pages| {
            let key = pages.stored_key(name, id)?;
            Ok((vec![Change::NoKey(key.id.clone())], ()))
        })
        .await?;
        tracing::info!(consumer = name, key = id, "a key was revoked");
        Ok(())
    }
}

impl Pages {
    /// The store, where it and not the config has the word about this consumer.
    fn writable(&self, name: &str) -> Result<&Store, Refused> {
        match (self.declared.named(name), &self.store) {
            (Some(_), _) => Err(Refused::OfConfig),
            (None, Some(store)) => Ok(store),
            (None, None) => Err(Refused::NoStore),
        }
    }

    fn stored_key(&self, name: &str, id: &str) -> Result<Arc<Key>, Refused> {
        if self.declared.keys_of(name).any(|key| *key.id == *id) {
            return Err(Refused::OfConfig);
        }
        let store = self.store.as_ref().ok_or(Refused::NoStore)?;
        let key = store.key(id)?.filter(|key| *key.consumer == *name);
        key.ok_or(Refused::UnknownKey)
    }

    /// One of the store that has not come to its end, and whose place no other has taken.
    fn current_key(&self, name: &str, id: &str, now: SystemTime) -> Result<Arc<Key>, Refused> {
        let key = self.stored_key(name, id)?;
        if key.term.is_over(now) {
            return Err(Refused::Expired);
        }
        if key.replaced { Err(Refused::Replaced) } else { Ok(key) }
    }
}

/// Nothing that this consumer is known by.
fn left_of(store: &Store, name: &str) -> Result<Vec<Change>, Refused> {
    let keys = store.keys_of(name)?.into_iter().map(|key| Change::NoKey(key.id.clone()));
    let credentials = store.credentials_of(name)?.into_iter();
    let credentials = credentials.map(|kept| Change::NoCredential(kept.kind(), kept.id.clone()));
    Ok(keys.chain(credentials).collect())
}

fn new_key(name: &str, expires: Option<SystemTime>, now: SystemTime) -> Result<(Issued, Key), Refused> {
    let term = Term { not_before: None, expires };
    if term.is_over(now) {
        return Err(Refused::Faulty("expires is over".to_owned()));
    }
    let text = api_key::make(&mut rand::rng());
    let Form::Own(id) = api_key::form(&text) else {
        return Err(Refused::Unavailable("the key that was made is none".to_owned()));
    };
    let key = Key {
        id: id.into(),
        consumer: name.into(),
        digest: Digest::of(&text),
        created: now,
        term,
        replaced: false,
    };
    Ok((Issued { id: key.id.clone(), key: text, expires }, key))
}

fn forgotten(keys: &[Arc<Key>], now: SystemTime) -> impl Iterator<Item = Change> {
    let over = keys.iter().filter(move |key| is_forgotten(&key.term, now));
    over.map(|key| Change::NoKey(key.id.clone()))
}
