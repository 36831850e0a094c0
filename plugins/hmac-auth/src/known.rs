//! Who may sign, and with what.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use wasmgate_sdk::{
    Error, Result,
    auth::{self, Identity},
    config,
    crypto::{self, Hash},
};

/// Shortest secret in bytes.
const MIN_SECRET: usize = 16;

/// One who may sign.
#[config]
pub struct Credential {
    /// What signatures name it by: keyid, keyId or username.
    id: String,
    /// The secret: a text, or `base64:` and its bytes in Base64. At least 16 bytes.
    secret: String,
    /// Whose it is.
    consumer: String,
    /// Groups of the consumer, for X-Consumer-Groups.
    #[serde(default)]
    groups: Vec<String>,
    /// Plan of the consumer, for rate-limit.
    #[serde(default)]
    plan: Option<String>,
}

pub struct Known(BTreeMap<String, (Vec<u8>, Identity)>);

impl Known {
    pub fn new(credentials: Vec<Credential>) -> Result<Self> {
        let mut known = BTreeMap::new();
        for (place, credential) in credentials.into_iter().enumerate() {
            let wrong = |error: Error| Error::msg(format_args!("credentials[{place}].{error}"));
            let (secret, identity) = credential.read().map_err(wrong)?;
            let id = identity.credential.clone().unwrap_or_default();
            if known.insert(id, (secret, identity)).is_some() {
                return Err(wrong(Error::msg("id: is there already")));
            }
        }
        Ok(Known(known))
    }

    /// Whose signature it is, if it is anybody's. It takes as long for an id that nobody has.
    pub fn verify(&self, id: &str, hash: Hash, signed: &[Vec<u8>], signature: &[u8]) -> Option<&Identity> {
        let found = self.0.get(id);
        let secret = found.map_or(&[0; MIN_SECRET][..], |(secret, _)| secret);
        let is_good = signed.iter().any(|text| crypto::verify_hmac(hash, secret, text, signature));
        found.filter(|_| is_good).map(|(_, identity)| identity)
    }

    /// Whose id it is.
    pub fn named(&self, id: &str) -> Option<&Identity> {
        self.0.get(id).map(|(_, identity)| identity)
    }
}

impl Credential {
    fn read(self) -> Result<(Vec<u8>, Identity)> {
        auth::check_name("id", &self.id)?;
        let secret = match self.secret.strip_prefix("base64:") {
            Some(text) => STANDARD.decode(text).map_err(|_| Error::msg("secret: is no Base64"))?,
            None => self.secret.into_bytes(),
        };
        if secret.len() < MIN_SECRET {
            return Err(Error::msg(format_args!(
                "secret: has {} bytes, and at least {MIN_SECRET} are needed",
                secret.len()
            )));
        }
        let identity = Identity {
            consumer: self.consumer,
            credential: Some(self.id),
            groups: self.groups,
            plan: self.plan,
            ..Identity::default()
        };
        identity.check()?;
        Ok((secret, identity))
    }
}
