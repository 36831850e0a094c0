//! How stores write down what they have: records of a kind with a name, as JSON.

use std::{
    borrow::Cow,
    io,
    sync::Arc,
    time::{Duration, SystemTime},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

use super::{
    credentials::{Kept, Secret},
    store::{Change, Key},
};
use crate::{
    api_key::Digest,
    config::{Consumer, CredentialKind, Term},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// By name.
    Consumer,
    /// By id.
    Key,
    /// By kind and id, with a slash between them.
    Credential,
}

impl Kind {
    pub const ALL: [Kind; 3] = [Kind::Consumer, Kind::Key, Kind::Credential];
}

pub struct Record<'a> {
    pub kind: Kind,
    pub name: Cow<'a, str>,
    /// None where there is to be none.
    pub json: Option<Vec<u8>>,
}

#[derive(Deserialize, Serialize)]
struct KeyRow {
    consumer: String,
    sha256: String,
    #[serde(flatten)]
    times: Times,
    #[serde(default)]
    replaced: bool,
}

/// A credential that is no key. A password has its hash, a secret that signs is sealed.
#[derive(Deserialize, Serialize)]
struct CredentialRow {
    consumer: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hash: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sealed: Option<String>,
    #[serde(flatten)]
    times: Times,
}

/// In milliseconds since 1970.
#[derive(Deserialize, Serialize)]
struct Times {
    created: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    not_before: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires: Option<u64>,
}

impl Change {
    pub fn record(&self) -> io::Result<Record<'_>> {
        let (kind, name, json) = match self {
            Change::Consumer(consumer) => {
                (Kind::Consumer, Cow::Borrowed(&*consumer.name), Some(serde_json::to_vec(&**consumer)?))
            }
            Change::NoConsumer(name) => (Kind::Consumer, Cow::Borrowed(&**name), None),
            Change::Key(key) => {
                (Kind::Key, Cow::Borrowed(&*key.id), Some(serde_json::to_vec(&KeyRow::of(key))?))
            }
            Change::NoKey(id) => (Kind::Key, Cow::Borrowed(&**id), None),
            Change::Credential(kept) => {
                let name = credential_name(kept.kind(), &kept.id);
                (Kind::Credential, name, Some(serde_json::to_vec(&CredentialRow::of(kept))?))
            }
            Change::NoCredential(kind, id) => (Kind::Credential, credential_name(*kind, id), None),
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
            (Kind::Credential, json) => {
                let (kind, id) = credential_of(name).ok_or_else(|| malformed("is of no kind"))?;
                let Some(json) = json else { return Ok(Change::NoCredential(kind, id.into())) };
                let row: CredentialRow = serde_json::from_slice(json)?;
                let kept = row.kept(kind, id).ok_or_else(|| malformed("has no secret"))?;
                Ok(Change::Credential(Arc::new(kept)))
            }
        }
    }
}

fn credential_name(kind: CredentialKind, id: &str) -> Cow<'static, str> {
    Cow::Owned(format!("{}/{id}", kind.word()))
}

fn credential_of(name: &str) -> Option<(CredentialKind, &str)> {
    let (word, id) = name.split_once('/')?;
    Some((CredentialKind::named(word)?, id))
}

impl CredentialRow {
    fn of(kept: &Kept) -> Self {
        let (hash, sealed) = match &kept.secret {
            Secret::Hash(hash) => (Some(hash.as_ref().to_owned()), None),
            Secret::Sealed(sealed) => (None, Some(STANDARD.encode(sealed))),
            Secret::Nothing => (None, None),
        };
        CredentialRow {
            consumer: kept.consumer.as_ref().to_owned(),
            hash,
            sealed,
            times: Times::of(kept.created, &kept.term),
        }
    }

    /// None where what its kind has is not there.
    fn kept(self, kind: CredentialKind, id: &str) -> Option<Kept> {
        let secret = match kind {
            CredentialKind::Password => Secret::Hash(self.hash?.into()),
            CredentialKind::Hmac => Secret::Sealed(STANDARD.decode(self.sealed?).ok()?.into()),
            CredentialKind::Certificate => Secret::Nothing,
            CredentialKind::Key => return None,
        };
        Some(Kept {
            id: id.into(),
            consumer: self.consumer.into(),
            secret,
            created: self.times.created(),
            term: self.times.term(),
        })
    }
}

impl KeyRow {
    fn of(key: &Key) -> Self {
        KeyRow {
            consumer: key.consumer.as_ref().to_owned(),
            sha256: key.digest.hex(),
            times: Times::of(key.created, &key.term),
            replaced: key.replaced,
        }
    }

    fn key(&self, id: &str) -> Option<Key> {
        Some(Key {
            id: id.into(),
            consumer: self.consumer.as_str().into(),
            digest: Digest::from_hex(&self.sha256)?,
            created: self.times.created(),
            term: self.times.term(),
            replaced: self.replaced,
        })
    }
}

impl Times {
    fn of(created: SystemTime, term: &Term) -> Self {
        Times {
            created: millis(created),
            not_before: term.not_before.map(millis),
            expires: term.expires.map(millis),
        }
    }

    fn created(&self) -> SystemTime {
        time(self.created)
    }

    fn term(&self) -> Term {
        Term { not_before: self.not_before.map(time), expires: self.expires.map(time) }
    }
}

fn millis(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

fn time(millis: u64) -> SystemTime {
    // What no clock can show is as good as the beginning: a key that expired then.
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(millis)).unwrap_or(SystemTime::UNIX_EPOCH)
}
