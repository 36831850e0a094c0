//! Who may sign, and with what.

use std::{borrow::Cow, collections::BTreeMap};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use wasmgate_sdk::{
    Error, Result,
    auth::{self, Identity},
    config,
    consumers::{self, Failure, Kind},
    crypto,
};

use crate::signed::Signed;

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

pub struct Known {
    own: BTreeMap<String, (Vec<u8>, Identity)>,
    /// Whether the gateway's consumers are asked for as well.
    consumers: bool,
}

/// What both sides know.
struct Shared<'a> {
    /// None where nobody has the id, and the secret stands in for one.
    whose: Option<Cow<'a, Identity>>,
    secret: Cow<'a, [u8]>,
}

impl Known {
    pub fn new(credentials: Vec<Credential>, consumers: bool) -> Result<Self> {
        if consumers {
            consumers::grants(Kind::Hmac).map_err(|error| Error::msg(format_args!("consumers: {error}")))?;
        }
        let mut known = BTreeMap::new();
        for (place, credential) in credentials.into_iter().enumerate() {
            let wrong = |error: Error| Error::msg(format_args!("credentials[{place}].{error}"));
            let (secret, identity) = credential.read().map_err(wrong)?;
            let id = identity.credential.clone().unwrap_or_default();
            if known.insert(id, (secret, identity)).is_some() {
                return Err(wrong(Error::msg("id: is there already")));
            }
        }
        Ok(Known { own: known, consumers })
    }

    /// Whose signature it is, if it is anybody's. It takes as long for an id that nobody has.
    pub fn verify(&self, signed: &Signed) -> Result<Option<Cow<'_, Identity>>, Failure> {
        let Shared { whose, secret } = self.shared(&signed.id)?;
        let hash = signed.algorithm.hash();
        let is_good =
            signed.texts.iter().any(|text| crypto::verify_hmac(hash, &*secret, text, &signed.signature));
        Ok(whose.filter(|_| is_good))
    }

    fn shared(&self, id: &str) -> Result<Shared<'_>, Failure> {
        if let Some((secret, identity)) = self.own.get(id) {
            return Ok(Shared { whose: Some(Cow::Borrowed(identity)), secret: Cow::Borrowed(secret) });
        }
        let (mut whose, mut secret) = (None, None);
        if self.consumers {
            let found = consumers::find(Kind::Hmac, &[id])?;
            whose = found.credential.map(|credential| Cow::Owned(credential.into()));
            secret = found.secret;
        }
        Ok(Shared { whose, secret: secret.map_or(Cow::Borrowed(&[0; MIN_SECRET]), Cow::Owned) })
    }

    /// Whose id it is.
    pub fn named(&self, id: &str) -> Option<Cow<'_, Identity>> {
        self.shared(id).ok()?.whose
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
