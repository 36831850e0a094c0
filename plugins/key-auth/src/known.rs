//! The keys of the config, known by their SHA-256 only, and whose they are.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use wasmgate_sdk::{Error, Result, auth::Identity, config};

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
}

/// The keys by the first bytes of their digests; the rest is compared in constant time.
pub struct Known(BTreeMap<u64, (Sha, Identity)>);

type Sha = [u8; 32];

impl Known {
    pub fn new(keys: Vec<Key>) -> Result<Self> {
        let mut known = BTreeMap::new();
        for (place, key) in keys.into_iter().enumerate() {
            let digest = digest(&key.sha256);
            let identity = key.identity();
            identity.check().map_err(|error| Error::msg(format_args!("keys[{place}].{error}")))?;
            let digest = digest
                .ok_or_else(|| Error::msg(format_args!("keys[{place}].sha256: is not 64 hex digits")))?;
            if known.insert(first(&digest), (digest, identity)).is_some() {
                return Err(Error::msg(format_args!("keys[{place}].sha256: is there already")));
            }
        }
        Ok(Known(known))
    }

    pub fn find(&self, key: &[u8]) -> Option<&Identity> {
        let digest: Sha = Sha256::digest(key).into();
        let (known, identity) = self.0.get(&first(&digest))?;
        bool::from(known.ct_eq(&digest)).then_some(identity)
    }
}

impl Key {
    fn identity(self) -> Identity {
        let Key { consumer, plan, id: credential, groups, .. } = self;
        Identity { consumer, plan, credential, groups, ..Identity::default() }
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
