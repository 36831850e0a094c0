//! What the config says, as it is asked for.

use std::{collections::HashMap, sync::Arc};

use crate::{
    api_key::Digest,
    config::{Consumer, Consumers, Credential, CredentialKind, Proof, Quota},
};

#[derive(Default)]
pub struct Declared {
    plans: HashMap<Box<str>, Arc<[Quota]>>,
    /// By name.
    consumers: HashMap<Box<str>, Arc<Consumer>>,
    custom_ids: HashMap<Box<str>, Arc<Consumer>>,
    /// By the first half of the digest; the whole is compared in constant time.
    keys: HashMap<u128, Owned>,
    /// Credentials but keys, by their ids.
    others: HashMap<CredentialKind, HashMap<Arc<str>, Owned>>,
    /// Of passwords.
    hashes: Vec<Arc<str>>,
}

/// A credential, and whose it is.
type Owned = (Credential, Arc<Consumer>);

impl Declared {
    pub fn new(config: &Consumers) -> Self {
        let plans = config.plans.iter().map(|(name, quotas)| (name.as_str().into(), quotas.clone()));
        let mut declared = Declared { plans: plans.collect(), ..Declared::default() };
        for config in &config.declared {
            let consumer = &config.consumer;
            declared.consumers.insert(consumer.name.as_str().into(), consumer.clone());
            if let Some(id) = &consumer.custom_id {
                declared.custom_ids.insert(id.as_str().into(), consumer.clone());
            }
            for credential in &config.credentials {
                declared.add(credential.clone(), consumer.clone());
            }
        }
        declared
    }

    fn add(&mut self, credential: Credential, consumer: Arc<Consumer>) {
        match &credential.proof {
            Proof::Key(digest) => {
                self.keys.insert(half(digest), (credential, consumer));
                return;
            }
            Proof::Password(hash) => self.hashes.push(hash.clone()),
            Proof::Hmac(_) | Proof::Certificate => {}
        }
        let of_kind = self.others.entry(credential.proof.kind()).or_default();
        of_kind.insert(credential.id.clone(), (credential, consumer));
    }

    pub fn key(&self, digest: &Digest) -> Option<&Owned> {
        let is_it = |(known, _): &&Owned| matches!(&known.proof, Proof::Key(of) if of.is(digest));
        self.keys.get(&half(digest)).filter(is_it)
    }

    /// One that is no key.
    pub fn credential(&self, kind: CredentialKind, id: &str) -> Option<&Owned> {
        self.others.get(&kind)?.get(id)
    }

    pub fn hashes(&self) -> &[Arc<str>] {
        &self.hashes
    }

    pub fn named(&self, name: &str) -> Option<Arc<Consumer>> {
        self.consumers.get(name).cloned()
    }

    pub fn by_custom_id(&self, id: &str) -> Option<Arc<Consumer>> {
        self.custom_ids.get(id).cloned()
    }

    pub fn plan(&self, name: &str) -> Option<Arc<[Quota]>> {
        self.plans.get(name).cloned()
    }

    pub fn consumers(&self) -> impl Iterator<Item = &Arc<Consumer>> {
        self.consumers.values()
    }

    /// Those that are no keys.
    pub fn credentials_of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Credential> {
        let others = self.others.values().flat_map(HashMap::values);
        others.filter(move |(_, consumer)| consumer.name == name).map(|(credential, _)| credential)
    }

    pub fn keys_of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Credential> {
        let keys = self.keys.values().filter(move |(_, consumer)| consumer.name == name);
        keys.map(|(credential, _)| credential)
    }
}

fn half(digest: &Digest) -> u128 {
    digest.0.iter().take(16).fold(0, |number, &byte| number << 8 | u128::from(byte))
}
