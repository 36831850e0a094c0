//! What a store has, in memory, where it is found without a lock.

use std::{collections::HashSet, sync::Arc};

use papaya::HashMap;

use super::{
    credentials::Kept,
    store::{Change, Key},
};
use crate::config::{Consumer, CredentialKind};

#[derive(Default)]
pub struct Memory {
    consumers: HashMap<Box<str>, Arc<Consumer>>,
    custom_ids: HashMap<Box<str>, Arc<Consumer>>,
    keys: HashMap<Box<str>, Arc<Key>>,
    /// Apart by their kinds, so that one is looked for by the name that is asked for, without a copy of it.
    passwords: HashMap<Box<str>, Arc<Kept>>,
    secrets: HashMap<Box<str>, Arc<Kept>>,
    certificates: HashMap<Box<str>, Arc<Kept>>,
}

impl Memory {
    pub fn key(&self, id: &str) -> Option<Arc<Key>> {
        self.keys.pin().get(id).cloned()
    }

    pub fn named(&self, name: &str) -> Option<Arc<Consumer>> {
        self.consumers.pin().get(name).cloned()
    }

    pub fn by_custom_id(&self, id: &str) -> Option<Arc<Consumer>> {
        self.custom_ids.pin().get(id).cloned()
    }

    pub fn consumers(&self) -> Vec<Arc<Consumer>> {
        self.consumers.pin().values().cloned().collect()
    }

    pub fn keys_of(&self, consumer: &str) -> Vec<Arc<Key>> {
        let keys = self.keys.pin();
        keys.values().filter(|key| *key.consumer == *consumer).cloned().collect()
    }

    pub fn credential(&self, kind: CredentialKind, id: &str) -> Option<Arc<Kept>> {
        self.of_kind(kind)?.pin().get(id).cloned()
    }

    pub fn credentials_of(&self, consumer: &str) -> Vec<Arc<Kept>> {
        let mut all = self.credentials();
        all.retain(|kept| *kept.consumer == *consumer);
        all
    }

    /// None of keys, which have a map of their own.
    fn of_kind(&self, kind: CredentialKind) -> Option<&HashMap<Box<str>, Arc<Kept>>> {
        match kind {
            CredentialKind::Key => None,
            CredentialKind::Password => Some(&self.passwords),
            CredentialKind::Hmac => Some(&self.secrets),
            CredentialKind::Certificate => Some(&self.certificates),
        }
    }

    fn credentials(&self) -> Vec<Arc<Kept>> {
        let maps = [&self.passwords, &self.secrets, &self.certificates];
        maps.into_iter().flat_map(|map| map.pin().values().cloned().collect::<Vec<_>>()).collect()
    }

    /// Does what the store was told.
    pub fn follow(&self, change: Change) {
        let consumers = self.consumers.pin();
        match change {
            Change::Consumer(consumer) => {
                if let Some(id) = &consumer.custom_id {
                    self.custom_ids.pin().insert(id.as_str().into(), consumer.clone());
                }
                let before = consumers.insert(consumer.name.as_str().into(), consumer.clone());
                let before = before.filter(|before| before.custom_id != consumer.custom_id);
                before.iter().for_each(|before| self.forget_custom_id(before));
            }
            Change::NoConsumer(name) => {
                consumers.remove(&*name).into_iter().for_each(|before| self.forget_custom_id(before));
            }
            Change::Key(key) => _ = self.keys.pin().insert((&*key.id).into(), key),
            Change::NoKey(id) => _ = self.keys.pin().remove(&*id),
            Change::Credential(kept) => {
                if let Some(map) = self.of_kind(kept.kind()) {
                    map.pin().insert((&*kept.id).into(), kept);
                }
            }
            Change::NoCredential(kind, id) => {
                if let Some(map) = self.of_kind(kind) {
                    map.pin().remove(&*id);
                }
            }
        }
    }

    /// These and no others.
    pub fn become_like(&self, records: Vec<Change>) {
        let (mut names, mut ids, mut others) = (HashSet::new(), HashSet::new(), HashSet::new());
        for record in &records {
            match record {
                Change::Consumer(consumer) => _ = names.insert(consumer.name.clone()),
                Change::Key(key) => _ = ids.insert(key.id.clone()),
                Change::Credential(kept) => _ = others.insert((kept.kind(), kept.id.clone())),
                Change::NoConsumer(_) | Change::NoKey(_) | Change::NoCredential(..) => {}
            }
        }
        let credentials = self.credentials().into_iter().map(|kept| (kept.kind(), kept.id.clone()));
        let credentials = credentials.filter(|credential| !others.contains(credential));
        credentials.for_each(|(kind, id)| self.follow(Change::NoCredential(kind, id)));
        let keys: Vec<_> = self.keys.pin().values().map(|key| key.id.clone()).collect();
        keys.into_iter().filter(|id| !ids.contains(id)).for_each(|id| self.follow(Change::NoKey(id)));
        let gone = self.consumers().into_iter().filter(|consumer| !names.contains(&consumer.name));
        gone.for_each(|consumer| self.follow(Change::NoConsumer(consumer.name.as_str().into())));
        records.into_iter().for_each(|record| self.follow(record));
    }

    /// Another one may be called so by now: changes of several consumers come in any order.
    fn forget_custom_id(&self, consumer: &Consumer) {
        if let Some(id) = &consumer.custom_id {
            let _ = self.custom_ids.pin().remove_if(id.as_str(), |_, known| known.name == consumer.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn called(name: &str, custom_id: Option<&str>) -> Change {
        let custom_id = custom_id.map(str::to_owned);
        Change::Consumer(Arc::new(Consumer { name: name.to_owned(), custom_id, ..Consumer::default() }))
    }

    #[test]
    fn a_custom_id_goes_from_one_to_another_in_any_order() {
        let who =
            |memory: &Memory| memory.by_custom_id("x").map(|found| found.name.clone()).unwrap_or_default();
        let memory = Memory::default();
        memory.follow(called("a", Some("x")));
        memory.follow(called("b", Some("x")));
        memory.follow(called("a", None));
        assert_eq!(who(&memory), "b");
        memory.follow(called("a", Some("x")));
        memory.follow(Change::NoConsumer("b".into()));
        assert_eq!(who(&memory), "a");
        memory.become_like(vec![called("c", Some("x")), called("a", Some("y"))]);
        assert_eq!((who(&memory).as_str(), memory.consumers().len()), ("c", 2));
        memory.become_like(Vec::new());
        assert_eq!((who(&memory).as_str(), memory.consumers().len()), ("", 0));
    }
}
