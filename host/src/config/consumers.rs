//! Consumers, their credentials and plans.

use std::{
    collections::BTreeMap,
    fmt,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};

use super::{KeyPath, credential::Credential};

/// Longest name of a consumer, a plan, a group or a credential, in bytes.
const LONGEST_NAME: usize = 255;
/// Longest value of metadata, in bytes.
const LONGEST_VALUE: usize = 4096;
/// Entries of one list.
const MOST: usize = 1000;

/// All that the config and its file of consumers say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Consumers {
    pub plans: BTreeMap<String, Arc<[Quota]>>,
    pub declared: Vec<Declared>,
    pub store: Option<ConsumerStore>,
    /// How long what is known of a store in a Redis is good while it gives no answer.
    pub stale: Duration,
    pub grace: Duration,
    pub seal_keys: SealKeys,
}

/// What secrets in the store are sealed with: the first one seals, all of them open.
#[derive(Clone, Default, PartialEq)]
pub struct SealKeys(pub Vec<Vec<u8>>);

/// Leaves them out.
impl fmt::Debug for SealKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// Where the admin interface keeps consumers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConsumerStore {
    File(PathBuf),
    /// An index of [`Config::redis`](super::Config::redis).
    Redis(usize),
}

/// So many requests in a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    pub rate: u32,
    pub per: Duration,
}

/// A consumer with its credentials.
#[derive(Clone, Debug, PartialEq)]
pub struct Declared {
    pub consumer: Arc<Consumer>,
    pub credentials: Vec<Credential>,
}

/// Whose requests are known by credentials.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Consumer {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom_id: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

/// When something is good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Term {
    pub not_before: Option<SystemTime>,
    /// From then on it is not.
    pub expires: Option<SystemTime>,
}

impl Term {
    pub fn includes(&self, now: SystemTime) -> bool {
        self.fault(now).is_none()
    }

    /// Why it is not good now.
    pub fn fault(&self, now: SystemTime) -> Option<&'static str> {
        match self.not_before.is_some_and(|begin| begin > now) {
            _ if self.is_over(now) => Some("expired"),
            true => Some("not_yet"),
            false => None,
        }
    }

    pub fn is_over(&self, now: SystemTime) -> bool {
        self.expires.is_some_and(|end| end <= now)
    }
}

impl Consumer {
    /// What cannot be, by its place within the consumer; the root stands for its name. No message shows a value.
    pub fn faults(&self) -> Vec<(KeyPath, &'static str)> {
        let root = KeyPath::root();
        let mut faults = Vec::new();
        let mut check = |path: KeyPath, fault: Option<&'static str>| {
            faults.extend(fault.map(|fault| (path, fault)));
        };
        check(root.clone(), name_fault(&self.name));
        check(root.key("custom_id"), self.custom_id.as_deref().and_then(name_fault));
        check(root.key("plan"), self.plan.as_deref().and_then(name_fault));
        let too_many = |count: usize| (count > MOST).then_some("has more than 1000 entries");
        check(root.key("groups"), too_many(self.groups.len()));
        for (place, group) in self.groups.iter().enumerate() {
            let comma = group.contains(',').then_some("holds a comma, which stands between groups");
            check(root.key("groups").index(place), name_fault(group).or(comma));
        }
        check(root.key("metadata"), too_many(self.metadata.len()));
        for (name, value) in &self.metadata {
            let long = (value.len() > LONGEST_VALUE).then_some("is longer than 4096 bytes");
            check(root.key("metadata").key(name), name_fault(name).or(long));
        }
        faults
    }
}

/// What is to be the value of a header and a part of a line in the log.
pub fn name_fault(name: &str) -> Option<&'static str> {
    let unfit = name.trim().is_empty() || name.len() > LONGEST_NAME || name.chars().any(char::is_control);
    unfit.then_some("is empty, longer than 255 bytes or holds a control character")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_begins_and_ends() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        assert!(Term::default().includes(at(0)));
        let term = Term { not_before: Some(at(10)), expires: Some(at(20)) };
        let good: Vec<_> = [9, 10, 19, 20].map(|now| term.includes(at(now))).into();
        assert_eq!(good, [false, true, true, false]);
        assert!(!term.is_over(at(9)) && term.is_over(at(20)));
    }

    #[test]
    fn what_no_consumer_can_be() {
        let fault = |consumer: Consumer| {
            let faults: Vec<_> =
                consumer.faults().into_iter().map(|(path, fault)| format!("{path} {fault}")).collect();
            faults.join("; ")
        };
        let alice = || Consumer { name: "alice".to_owned(), ..Consumer::default() };
        let unfit = "is empty, longer than 255 bytes or holds a control character";
        assert_eq!(fault(alice()), "");
        assert_eq!(fault(Consumer::default()), format!(" {unfit}"));
        assert_eq!(fault(Consumer { name: "a\r\nb".to_owned(), ..alice() }), format!(" {unfit}"));
        assert_eq!(fault(Consumer { name: "x".repeat(256), ..alice() }), format!(" {unfit}"));
        assert_eq!(
            fault(Consumer { custom_id: Some(" ".to_owned()), ..alice() }),
            format!("custom_id {unfit}")
        );
        let groups = vec!["a".to_owned(), "b,c".to_owned()];
        assert_eq!(
            fault(Consumer { groups, ..alice() }),
            "groups[1] holds a comma, which stands between groups"
        );
        assert_eq!(
            fault(Consumer { groups: vec!["g".to_owned(); 1001], ..alice() }),
            "groups has more than 1000 entries"
        );
        let metadata = BTreeMap::from([("k".to_owned(), "v".repeat(4097))]);
        assert_eq!(fault(Consumer { metadata, ..alice() }), "metadata.k is longer than 4096 bytes");
    }
}
