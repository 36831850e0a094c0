//! Looking for whom a name is good: a user's, a secret's or a certificate's.

use std::{sync::Arc, time::SystemTime};

use wasmgate_crypto::Hash;

use super::{Book, Pages, Unavailable, Unfit, Verified};
use crate::config::{Credential, CredentialKind, Proof};

/// Names that are looked for at a time; certificates may have any number.
const MOST: usize = 64;

/// Nobody's password has this hash. It costs what those cost that the gateway makes.
const NOBODYS: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5IGhhcyBpdA$1q0yvW8Yv3m2x5fJb7mQzqkP0c9hLr4sTn6uKe1oVdA";

/// What was found.
#[derive(Debug, PartialEq)]
pub struct Found {
    /// None where nobody good is known by any of the names.
    pub credential: Option<Verified>,
    /// The hash or the secret; one that stands in where nobody is known, so that trying it takes as long.
    pub secret: Option<Vec<u8>>,
    /// Why the first of the names that are known is no good.
    pub unfit: Option<Unfit>,
}

/// Decides which secret stands in for a name: always the same one, and nobody outside knows which.
pub struct StandIns([u8; 32]);

impl Default for StandIns {
    fn default() -> Self {
        let mut key = [0; 32];
        crate::capability::random::fill(&mut key);
        StandIns(key)
    }
}

impl Book {
    /// Whom the first of these names is good for that is good for anybody. A name of the config is not looked for in the store.
    pub fn find(&self, kind: CredentialKind, ids: &[String], now: SystemTime) -> Result<Found, Unavailable> {
        let pages = self.pages.load();
        let mut unfit = None;
        for id in ids.iter().take(MOST) {
            match pages.find(kind, id, now)? {
                Some(Ok((known, secret))) => {
                    return Ok(Found { credential: Some(known), secret, unfit: None });
                }
                Some(Err(why)) => unfit = unfit.or(Some(why)),
                None => {}
            }
        }
        let id = ids.first().map_or("", String::as_str);
        Ok(Found { credential: None, secret: self.stand_ins.secret(kind, id, &pages), unfit })
    }
}

/// Whose a credential is, with its hash or secret; or why it is no good.
type Known = Result<(Verified, Option<Vec<u8>>), Unfit>;

impl Pages {
    /// None where nobody is known by this.
    fn find(&self, kind: CredentialKind, id: &str, now: SystemTime) -> Result<Option<Known>, Unavailable> {
        if let Some((credential, consumer)) = self.declared.credential(kind, id) {
            let id = credential.id.clone();
            return Ok(Some(match credential.fault(now) {
                None => Ok((Verified { id, consumer: consumer.clone() }, secret(credential))),
                Some(why) => Err(Unfit { why, id: Some(id), consumer: Some(consumer.name.as_str().into()) }),
            }));
        }
        let Some(store) = &self.store else { return Ok(None) };
        let Some(kept) = store.credential(kind, id)? else { return Ok(None) };
        let unfit = |why| Unfit { why, id: Some(kept.id.clone()), consumer: Some(kept.consumer.clone()) };
        if let Some(why) = kept.term.fault(now) {
            return Ok(Some(Err(unfit(why))));
        }
        let Some(consumer) = self.named(&kept.consumer)? else {
            return Ok(Some(Err(unfit("unknown_consumer"))));
        };
        let secret = self.secret(&kept)?;
        Ok(Some(Ok((Verified { id: kept.id.clone(), consumer }, secret))))
    }
}

impl StandIns {
    fn secret(&self, kind: CredentialKind, id: &str, pages: &Pages) -> Option<Vec<u8>> {
        let tag = wasmgate_crypto::hmac(Hash::Sha256, &self.0, id.as_bytes());
        match kind {
            CredentialKind::Password => {
                let number = tag.iter().take(8).fold(0, |number, &byte| number << 8 | u64::from(byte));
                Some(stand_in(pages, number).as_bytes().to_vec())
            }
            CredentialKind::Hmac => Some(tag),
            CredentialKind::Key | CredentialKind::Certificate => None,
        }
    }
}

/// One of the config's hashes, or one as the gateway makes them where its store has such.
fn stand_in(pages: &Pages, number: u64) -> &str {
    let hashes = pages.declared.hashes();
    let has_own = pages.store.is_some() || hashes.is_empty();
    let place = number % (hashes.len() + usize::from(has_own)) as u64;
    hashes.get(place as usize).map_or(NOBODYS, Arc::as_ref)
}

fn secret(credential: &Credential) -> Option<Vec<u8>> {
    match &credential.proof {
        Proof::Password(hash) => Some(hash.as_bytes().to_vec()),
        Proof::Hmac(secret) => Some(secret.clone()),
        Proof::Key(_) | Proof::Certificate => None,
    }
}
