//! Credentials of the store that are no keys: passwords, secrets that sign and certificates. Secrets have to be read again, so
//! they are sealed before they are in the store.

use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
    time::SystemTime,
};

use wasmgate_crypto::{NONCE, Sealer};

use super::{
    Book, Pages, Unavailable,
    changes::Refused,
    standing::{Standing, is_forgotten},
    store::Change,
};
use crate::{
    capability::random,
    config::{CredentialKind, Proof, Term},
};

/// A credential as a store has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    pub id: Arc<str>,
    /// Name of its consumer, which may be the config's.
    pub consumer: Arc<str>,
    pub secret: Secret,
    pub created: SystemTime,
    pub term: Term,
}

/// What a store has of what proves it.
#[derive(Clone, PartialEq)]
pub enum Secret {
    /// The hash of a password.
    Hash(Arc<str>),
    /// A secret that signs, sealed.
    Sealed(Arc<[u8]>),
    /// A certificate has none.
    Nothing,
}

/// What a consumer is to be known by.
pub struct Offer {
    pub id: String,
    pub proof: Proof,
    pub expires: Option<SystemTime>,
}

/// What is told of a credential.
#[derive(Clone, Debug, PartialEq)]
pub struct CredentialFacts {
    pub kind: CredentialKind,
    pub id: Arc<str>,
    pub standing: Standing,
}

impl Kept {
    pub fn kind(&self) -> CredentialKind {
        match self.secret {
            Secret::Hash(_) => CredentialKind::Password,
            Secret::Sealed(_) => CredentialKind::Hmac,
            Secret::Nothing => CredentialKind::Certificate,
        }
    }
}

/// Leaves out what is secret.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

impl Book {
    /// A consumer's, but its keys: the config's first, then the oldest.
    pub fn credentials(&self, name: &str, now: SystemTime) -> Result<Vec<CredentialFacts>, Refused> {
        let pages = self.pages.load_full();
        let is_known = pages.named(name)?.is_some();
        let declared = pages.declared.credentials_of(name).map(|known| CredentialFacts {
            kind: known.proof.kind(),
            id: known.id.clone(),
            standing: Standing::declared(known, now),
        });
        let mut all: Vec<_> = declared.collect();
        if let Some(store) = &pages.store {
            all.extend(store.credentials_of(name)?.iter().map(|kept| CredentialFacts {
                kind: kept.kind(),
                id: kept.id.clone(),
                standing: Standing::stored(kept.created, kept.term, false, now),
            }));
        }
        if all.is_empty() && !is_known {
            return Err(Refused::UnknownConsumer);
        }
        all.sort_by(|a, b| (a.standing.created, a.kind, &a.id).cmp(&(b.standing.created, b.kind, &b.id)));
        Ok(all)
    }

    /// For a consumer of the config or of the store; in the place of its credential with this id, if there is one.
    pub async fn set_credential(&self, name: &str, offer: Offer, now: SystemTime) -> Result<(), Refused> {
        let Offer { id, proof, expires } = offer;
        let (kind, term) = (proof.kind(), Term { not_before: None, expires });
        if term.is_over(now) {
            return Err(Refused::Faulty("expires is over".to_owned()));
        }
        self.change(|pages| {
            let store = pages.store.as_ref().ok_or(Refused::NoStore)?;
            pages.named(name)?.ok_or(Refused::UnknownConsumer)?;
            if let Some((_, owner)) = pages.declared.credential(kind, &id) {
                return Err(if owner.name == name { Refused::OfConfig } else { Refused::TakenCredential });
            }
            if store.credential(kind, &id)?.is_some_and(|kept| *kept.consumer != *name) {
                return Err(Refused::TakenCredential);
            }
            let secret = pages.kept(&id, &proof)?;
            let kept = Kept { id: id.as_str().into(), consumer: name.into(), secret, created: now, term };
            // Perhaps the one in whose place it is set.
            let mut changes: Vec<_> = forgotten(&store.credentials_of(name)?, now).collect();
            changes.push(Change::Credential(Arc::new(kept)));
            Ok((changes, ()))
        })
        .await?;
        tracing::info!(consumer = name, kind = kind.word(), id, "a credential was set");
        Ok(())
    }

    /// It is no good from then on.
    pub async fn revoke_credential(&self, name: &str, kind: CredentialKind, id: &str) -> Result<(), Refused> {
        self.change(|pages| {
            if pages.declared.credential(kind, id).is_some_and(|(_, owner)| owner.name == name) {
                return Err(Refused::OfConfig);
            }
            let store = pages.store.as_ref().ok_or(Refused::NoStore)?;
            let kept = store.credential(kind, id)?.filter(|kept| *kept.consumer == *name);
            let kept = kept.ok_or(Refused::UnknownCredential)?;
            Ok((vec![Change::NoCredential(kind, kept.id.clone())], ()))
        })
        .await?;
        tracing::info!(consumer = name, kind = kind.word(), id, "a credential was revoked");
        Ok(())
    }
}

impl Pages {
    /// What the store is to have of it.
    fn kept(&self, id: &str, proof: &Proof) -> Result<Secret, Refused> {
        Ok(match proof {
            Proof::Password(hash) => Secret::Hash(hash.clone()),
            Proof::Hmac(secret) => {
                let sealer = self.sealer.as_ref().ok_or(Refused::NoSealKeys)?;
                let sealed = seal(sealer, id, secret);
                Secret::Sealed(
                    sealed.ok_or_else(|| Refused::Faulty("the secret is too long".to_owned()))?.into(),
                )
            }
            Proof::Certificate => Secret::Nothing,
            Proof::Key(_) => return Err(Refused::Faulty("a key is issued and not set".to_owned())),
        })
    }

    /// The hash or the secret of a credential of the store.
    pub fn secret(&self, kept: &Kept) -> Result<Option<Vec<u8>>, Unavailable> {
        match &kept.secret {
            Secret::Hash(hash) => Ok(Some(hash.as_bytes().to_vec())),
            Secret::Nothing => Ok(None),
            Secret::Sealed(sealed) => {
                let opened = self.sealer.as_ref().and_then(|sealer| sealer.open(sealed, &purpose(&kept.id)));
                opened.map(Some).ok_or_else(|| self.sealed_otherwise(&kept.id))
            }
        }
    }

    /// Told once for each config: clients could fill the log.
    fn sealed_otherwise(&self, id: &str) -> Unavailable {
        let reason =
            format!("`consumers.seal_keys` has not the key that the secret {id} of the store is sealed with");
        if !self.told_of_seals.swap(true, Ordering::Relaxed) {
            tracing::warn!("{reason}");
        }
        Unavailable(reason)
    }
}

fn seal(sealer: &Sealer, id: &str, secret: &[u8]) -> Option<Vec<u8>> {
    let mut nonce = [0; NONCE];
    random::fill(&mut nonce);
    sealer.seal(nonce, secret, &purpose(id))
}

/// What the sealed secret is for: it opens only under the id that it was sealed for.
fn purpose(id: &str) -> Vec<u8> {
    [b"consumers hmac ", id.as_bytes()].concat()
}

fn forgotten(credentials: &[Arc<Kept>], now: SystemTime) -> impl Iterator<Item = Change> {
    let over = credentials.iter().filter(move |kept| is_forgotten(&kept.term, now));
    over.map(|kept| Change::NoCredential(kept.kind(), kept.id.clone()))
}
