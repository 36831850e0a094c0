//! What the config says, as it is asked for.

use std::{collections::HashMap, sync::Arc};

use crate::{
    api_key::Digest,
    config::{Consumer, Consumers, Quota, Term},
};

#[derive(Default)]
pub struct Declared {
    plans: HashMap<Box<str>, Arc<[Quota]>>,
    /// By name.
    consumers: HashMap<Box<str>, Arc<Consumer>>,
    custom_ids: HashMap<Box<str>, Arc<Consumer>>,
    /// By the first half of the digest; the whole is compared in constant time.
    keys: HashMap<u128, (Credential, Arc<Consumer>)>,
}

pub struct Credential {
    pub id: Arc<str>,
    pub term: Term,
    pub enabled: bool,
    digest: Digest,
}

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
                let known = Credential {
                    id: credential.id.as_str().into(),
                    term: credential.term,
                    enabled: credential.enabled,
                    digest: credential.digest,
                };
                declared.keys.insert(half(&credential.digest), (known, consumer.clone()));
            }
        }
        declared
    }

    pub fn key(&self, digest: &Digest) -> Option<&(Credential, Arc<Consumer>)> {
        self.keys.get(&half(digest)).filter(|(known, _)| known.digest.is(digest))
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

    pub fn keys_of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Credential> {
        let keys = self.keys.values().filter(move |(_, consumer)| consumer.name == name);
        keys.map(|(credential, _)| credential)
    }
}

fn half(digest: &Digest) -> u128 {
    digest.0.iter().take(16).fold(0, |number, &byte| number << 8 | u128::from(byte))
}
