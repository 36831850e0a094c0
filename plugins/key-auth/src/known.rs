//! The keys of the config, known by their SHA-256 only, and whose they are.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use wasmgate_sdk::{Error, Result, Time, audit::Why, auth::Identity, clock, config};

#[config]
pub struct Key {
    /// SHA-256 of the key, 64 hex digits: `printf %s KEY | sha256sum`.
    sha256: String,
    /// Whose key it is.
    consumer: String,
    /// Plan of the consumer, for rate-limit.
    plan: Option<String>,
    /// Name of the key itself, for X-Credential-Identifier.
    id: Option<String>,
    /// Groups of the consumer, for X-Consumer-Groups.
    #[serde(default)]
    groups: Vec<String>,
    /// From when on it is good. Default: it is.
    not_before: Option<Time>,
    /// From when on it is no longer good. Default: it stays good.
    expires: Option<Time>,
}

/// The keys by the first bytes of their digests; the rest is compared in constant time.
pub struct Known(BTreeMap<u64, Entry>);

type Sha = [u8; 32];

struct Entry {
    digest: Sha,
    identity: Identity,
    not_before: Option<Time>,
    expires: Option<Time>,
}

impl Known {
    pub fn new(keys: Vec<Key>) -> Result<Self> {
        let mut known = BTreeMap::new();
        for (place, key) in keys.into_iter().enumerate() {
            let digest = digest(&key.sha256);
            let digest = digest
                .ok_or_else(|| Error::msg(format_args!("keys[{place}].sha256: is not 64 hex digits")))?;
            let entry = key.entry(digest);
            entry.check().map_err(|error| Error::msg(format_args!("keys[{place}].{error}")))?;
            if known.insert(first(&digest), entry).is_some() {
                return Err(Error::msg(format_args!("keys[{place}].sha256: is there already")));
            }
        }
        Ok(Known(known))
    }

    /// Whose key it is, and why it is not good now where it is not.
    pub fn find(&self, key: &[u8]) -> Option<(&Identity, Option<Why>)> {
        if self.0.is_empty() {
            return None;
        }
        let digest: Sha = Sha256::digest(key).into();
        let entry = self.0.get(&first(&digest))?;
        bool::from(entry.digest.ct_eq(&digest)).then(|| (&entry.identity, entry.fault()))
    }
}

impl Key {
    fn entry(self, digest: Sha) -> Entry {
        let Key { consumer, plan, id: credential, groups, not_before, expires, .. } = self;
        let identity = Identity { consumer, plan, credential, groups, ..Identity::default() };
        Entry { digest, identity, not_before, expires }
    }
}

impl Entry {
    fn check(&self) -> Result<()> {
        self.identity.check()?;
        match (self.not_before, self.expires) {
            (Some(begin), Some(end)) if end <= begin => Err(Error::msg("expires: is not after not_before")),
            _ => Ok(()),
        }
    }

    /// Why it is not good now, if it is not.
    fn fault(&self) -> Option<Why> {
        if (self.not_before, self.expires) == (None, None) {
            return None;
        }
        let now = clock::now();
        let is_early = self.not_before.is_some_and(|begin| *begin > now);
        let is_over = self.expires.is_some_and(|end| *end <= now);
        is_early.then_some(Why::NOT_YET).or(is_over.then_some(Why::EXPIRED))
    }
}

fn digest(hex: &str) -> Option<Sha> {
    let digits: Vec<u8> = hex.chars().map(|c| Some(c.to_digit(16)? as u8)).collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, d| byte << 4 | d)).collect();
    bytes.try_into().ok().filter(|_| hex.len() == 64)
}

fn first(digest: &Sha) -> u64 {
    digest.iter().take(8).fold(0, |number, &byte| number << 8 | u64::from(byte))
}
