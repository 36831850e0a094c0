//! How stores write down what they have: records of a kind with a name, as JSON.

use std::{
    io,
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};

use super::store::{Change, Key};
use crate::{
    api_key::Digest,
    config::{Consumer, Term},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// By name.
    Consumer,
    /// By id.
    Key,
}

impl Kind {
    pub const ALL: [Kind; 2] = [Kind::Consumer, Kind::Key];
}

pub struct Record<'a> {
    pub kind: Kind,
    pub name: &'a str,
    /// None where there is to be none.
    pub json: Option<Vec<u8>>,
}

/// A key; times in milliseconds since 1970.
#[derive(Deserialize, Serialize)]
struct KeyRow {
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

impl Change {
    pub fn record(&self) -> io::Result<Record<'_>> {
        let (kind, name, json) = match self {
            Change::Consumer(consumer) => {
                (Kind::Consumer, &*consumer.name, Some(serde_json::to_vec(&**consumer)?))
            }
            Change::NoConsumer(name) => (Kind::Consumer, &**name, None),
            Change::Key(key) => (Kind::Key, &*key.id, Some(serde_json::to_vec(&KeyRow::of(key))?)),
            Change::NoKey(id) => (Kind::Key, &**id, None),
        };
        Ok(Record { kind, name, json })
    }

    /// What a record says.
    pub fn of(kind: Kind, name: &str, json: Option<&[u8]>) -> io::Result<Change> {
        let malformed = |fault| io::Error::other(format!("the record of {name} {fault}"));
        match (kind, json) {
            (Kind::Consumer, None) => Ok(Change::NoConsumer(name.into())),
            (Kind::Key, None) => Ok(Change::NoKey(name.into())),
            (Kind::Consumer, Some(json)) => {
                let consumer: Consumer = serde_json::from_slice(json)?;
                match consumer.name == name {
                    true => Ok(Change::Consumer(Arc::new(consumer))),
                    false => Err(malformed("has another name")),
                }
            }
            (Kind::Key, Some(json)) => {
                let row: KeyRow = serde_json::from_slice(json)?;
                let key = row.key(name).ok_or_else(|| malformed("has no digest"))?;
                Ok(Change::Key(Arc::new(key)))
            }
        }
    }
}

impl KeyRow {
    fn of(key: &Key) -> Self {
        KeyRow {
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
