//! A store in a Redis, which several gateways share. Each has all of it in memory and asks again and again what has changed.
//! What is read there is counted by a version, and who changes something says on which version it is based.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{
    contact::Contact,
    memory::Memory,
    record::{Kind, Record},
    store::{Change, NotChanged, Unavailable},
};
use crate::capability::redis::{
    Link, Redis,
    ledger::{News, Place, Written},
};

/// What it is called in the Redis.
const LEDGER: &str = "consumers";

pub struct Remote {
    redis: Arc<Redis>,
    link: Arc<Link>,
    memory: Memory,
    contact: Contact,
    place: Mutex<Place>,
}

impl Remote {
    /// Nothing is known of it yet. What is asked of the Redis is asked by the thread that has made it.
    pub fn new(redis: Arc<Redis>) -> Self {
        Remote {
            link: redis.link(),
            redis,
            memory: Memory::default(),
            contact: Contact::new(Instant::now()),
            place: Mutex::default(),
        }
    }

    pub fn is_in(&self, redis: &Arc<Redis>) -> bool {
        Arc::ptr_eq(&self.redis, redis)
    }

    pub fn keep_for(&self, time: Duration) {
        self.contact.keep_for(time);
    }

    pub fn memory(&self, now: Instant) -> Result<&Memory, Unavailable> {
        match self.contact.holds(now) {
            true => Ok(&self.memory),
            false => Err(self.silent(now)),
        }
    }

    pub async fn refresh(&self) -> Result<(), Unavailable> {
        let (asked, known) = (Instant::now(), self.place().clone());
        let news = self.link.news(LEDGER, &known).await.map_err(|_| self.silent(Instant::now()))?;
        self.learn(news, &known);
        self.contact.renew(asked);
        Ok(())
    }

    /// Based on what was last read.
    pub async fn apply(&self, changes: Vec<Change>) -> Result<(), NotChanged> {
        let records: Result<Vec<_>, _> = changes.iter().map(written).collect();
        let records = records.map_err(|error| NotChanged::Unavailable(error.to_string()))?;
        let known = self.place().clone();
        match self.link.write(LEDGER, &known, &records).await {
            Ok(Written::At(place)) => {
                changes.into_iter().for_each(|change| self.memory.follow(change));
                *self.place() = place;
                Ok(())
            }
            Ok(Written::Outdated) => Err(NotChanged::Outdated),
            Err(_) => Err(NotChanged::Unknown(format!("the Redis `{}` gives no answer", self.redis.name()))),
        }
    }

    fn learn(&self, news: News, known: &Place) {
        let changes = news.records.iter().filter_map(|(name, json)| read(name, json.as_deref()));
        let changes: Vec<_> = changes.collect();
        if news.whole {
            if !known.is_beginning() {
                let redis = self.redis.name();
                tracing::warn!(redis, records = changes.len(), "the store of consumers was read anew");
            }
            self.memory.become_like(changes);
        } else {
            changes.into_iter().for_each(|change| self.memory.follow(change));
        }
        *self.place() = news.place;
    }

    /// What it means that it gives no answer.
    fn silent(&self, now: Instant) -> Unavailable {
        let redis = self.redis.name();
        Unavailable(match self.contact.holds(now) {
            true => format!(
                "the Redis `{redis}` gives no answer; what is known of consumers is good for {:?}",
                self.contact.kept_for()
            ),
            false => format!("the Redis `{redis}` gives no answer, so consumers are not known"),
        })
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        // Nothing panics while it is held.
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The name of its record, with the kind in front, and its JSON.
fn written(change: &Change) -> io::Result<(String, Option<Vec<u8>>)> {
    let Record { kind, name, json } = change.record()?;
    Ok((format!("{}:{name}", word(kind)), json))
}

/// None where a newer gateway has written what this one does not know. What cannot be read is as good as nothing.
fn read(name: &str, json: Option<&[u8]>) -> Option<Change> {
    let (of, name) = name.split_once(':')?;
    let kind = Kind::ALL.into_iter().find(|&kind| word(kind) == of)?;
    let read = Change::of(kind, name, json);
    read.or_else(|error| {
        tracing::error!(kind = of, name, "a record of the store of consumers cannot be read: {error}");
        Change::of(kind, name, None)
    })
    .ok()
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Consumer => "consumer",
        Kind::Key => "key",
        Kind::Credential => "credential",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Consumer, CredentialKind};

    #[test]
    fn records_are_read_by_their_kind() {
        let alice = Consumer { name: "a:b".to_owned(), ..Consumer::default() };
        let (name, json) = written(&Change::Consumer(Arc::new(alice.clone()))).unwrap();
        assert_eq!(name, "consumer:a:b");
        let Some(Change::Consumer(again)) = read(&name, json.as_deref()) else { panic!("no consumer") };
        assert_eq!(*again, alice);
        assert!(matches!(read(&name, None), Some(Change::NoConsumer(name)) if *name == *"a:b"));
        assert!(read("sometime:a", Some(b"{}")).is_none(), "of a kind that comes later");
        assert!(matches!(
            read("credential:hmac/a/b", None),
            Some(Change::NoCredential(CredentialKind::Hmac, id)) if *id == *"a/b"
        ));
        assert!(read("credential:fingers/a", Some(b"{}")).is_none(), "of a kind that comes later");
        for faulty in [&b"{"[..], b"{}", br#"{"consumer":"a","sha256":"00","created":0}"#] {
            assert!(matches!(read("key:k", Some(faulty)), Some(Change::NoKey(_))));
        }
        assert!(matches!(read("consumer:c", json.as_deref()), Some(Change::NoConsumer(_))), "another's");
    }
}
