//! The consumers of the fake host: those that the test gives it. Until it gives any, they are not granted.

use std::collections::HashMap;
use std::time::Duration;

use super::Host;
use crate::consumers;
use crate::host::consumers::{Consumer, Credential, CredentialKind, Failure, Found, Quota};

/// Stand in for what nobody has. The hash is of a password that nobody knows, and costs as little as one can.
const NOBODYS_HASH: &str = "$2b$04$VpjDvTLHNuiiGnl4z8xqROmmmmmmmmmmmmmmmmmmmmmmmmmmmmmm.";
const NOBODYS_SECRET: &[u8] = b"a secret that nobody has signs nothing";

pub struct Consumers {
    consumers: Vec<consumers::Consumer>,
    /// Ids and names by key.
    keys: HashMap<String, (String, String)>,
    credentials: Vec<Known>,
    plans: HashMap<String, Vec<consumers::Quota>>,
    failure: Option<Failure>,
}

/// A credential but a key.
struct Known {
    kind: CredentialKind,
    id: String,
    secret: Vec<u8>,
    consumer: String,
}

impl Default for Consumers {
    fn default() -> Self {
        let failure = Some(Failure::NotGranted);
        let (keys, plans) = (HashMap::new(), HashMap::new());
        Consumers { consumers: Vec::new(), keys, credentials: Vec::new(), plans, failure }
    }
}

impl Host {
    /// Adds a consumer, or replaces the one of its name. From then on the plugin may ask for consumers; before it is
    /// [`Failure::NotGranted`](crate::consumers::Failure::NotGranted).
    ///
    /// ```
    /// use wasmgate_sdk::{consumers::{self, Consumer}, testing::Host};
    ///
    /// let host = Host::new().consumer(Consumer { groups: vec!["staff".to_string()], ..Consumer::new("alice") });
    /// let alice = host.enter(|| consumers::named("alice"))?.unwrap();
    /// assert_eq!(alice.groups, ["staff"]);
    /// # Ok::<(), wasmgate_sdk::Error>(())
    /// ```
    pub fn consumer(self, consumer: consumers::Consumer) -> Self {
        self.with_consumers(|known| {
            known.consumers.retain(|other| other.name != consumer.name);
            known.consumers.push(consumer);
        })
    }

    /// Adds an API key that is good, with its id, for a consumer of this name.
    ///
    /// ```
    /// use wasmgate_sdk::{consumers::{self, Consumer}, testing::Host};
    ///
    /// let host = Host::new().consumer(Consumer::new("alice")).key("k1", "alice-key", "alice");
    /// assert!(host.enter(|| consumers::verify_key("alice-key"))?.is_some());
    /// # Ok::<(), wasmgate_sdk::Error>(())
    /// ```
    pub fn key(self, id: &str, key: &str, consumer: &str) -> Self {
        let value = (id.to_string(), consumer.to_string());
        self.with_consumers(|known| _ = known.keys.insert(key.to_string(), value))
    }

    /// Adds a credential of this kind that is good, for a consumer of this name, or replaces the one of its id: with a
    /// password's hash, a secret that signs, or nothing for a certificate, whose id is as in
    /// [`consumers::find`](crate::consumers::find).
    ///
    /// ```
    /// use wasmgate_sdk::{consumers::{self, Consumer, Kind}, testing::Host};
    ///
    /// let host = Host::new().consumer(Consumer::new("alice"));
    /// let host = host.credential(Kind::Certificate, "san_dns:a.test", "", "alice");
    /// let found = host.enter(|| consumers::find(Kind::Certificate, &["subject_cn:a", "san_dns:a.test"]))?;
    /// assert_eq!(found.credential.map(|found| found.id).as_deref(), Some("san_dns:a.test"));
    /// # Ok::<(), wasmgate_sdk::Error>(())
    /// ```
    pub fn credential(self, kind: consumers::Kind, id: &str, secret: &str, consumer: &str) -> Self {
        let (kind, id, consumer) = (kind.into(), id.to_string(), consumer.to_string());
        self.with_consumers(|known| {
            known.credentials.retain(|other| other.kind != kind || other.id != id);
            known.credentials.push(Known { kind, id, secret: secret.into(), consumer });
        })
    }

    /// Takes a key, a credential by its id or a consumer away, as an operator may do at any time.
    ///
    /// ```
    /// use wasmgate_sdk::{consumers::{self, Consumer}, testing::Host};
    ///
    /// let host = Host::new().consumer(Consumer::new("alice")).key("k1", "alice-key", "alice");
    /// host.revoke("alice-key");
    /// assert!(host.enter(|| consumers::verify_key("alice-key"))?.is_none());
    /// host.revoke("alice");
    /// assert!(host.enter(|| consumers::named("alice"))?.is_none());
    /// # Ok::<(), wasmgate_sdk::Error>(())
    /// ```
    pub fn revoke(&self, name: &str) {
        let known = &mut self.state.borrow_mut().consumers;
        known.keys.remove(name);
        known.credentials.retain(|credential| credential.id != name);
        known.consumers.retain(|consumer| consumer.name != name);
    }

    /// Adds a plan.
    ///
    /// ```
    /// use wasmgate_sdk::{consumers, testing::Host};
    ///
    /// let host = Host::new().plan("unlimited", &[]);
    /// assert_eq!(host.enter(|| consumers::plan("unlimited")), Ok(Some(Vec::new())));
    /// ```
    pub fn plan(self, name: &str, quotas: &[consumers::Quota]) -> Self {
        self.with_consumers(|known| _ = known.plans.insert(name.to_string(), quotas.to_vec()))
    }

    /// Answers with this, whatever is asked, until a consumer, a key or a plan is added.
    ///
    /// ```
    /// use wasmgate_sdk::{consumers::{self, Failure}, testing::Host};
    ///
    /// let host = Host::new().consumers_fail(Failure::Unavailable);
    /// assert_eq!(host.enter(|| consumers::plan("free")), Err(Failure::Unavailable));
    /// ```
    pub fn consumers_fail(self, failure: consumers::Failure) -> Self {
        self.state.borrow_mut().consumers.failure = Some(match failure {
            consumers::Failure::Unavailable => Failure::Unavailable,
            consumers::Failure::NotGranted => Failure::NotGranted,
        });
        self
    }

    fn with_consumers(self, change: impl FnOnce(&mut Consumers)) -> Self {
        {
            let known = &mut self.state.borrow_mut().consumers;
            known.failure = None;
            change(known);
        }
        self
    }
}

impl Consumers {
    pub fn verify_key(&self, key: &str) -> Result<Option<Credential>, Failure> {
        self.granted()?;
        let Some((id, name)) = self.keys.get(key) else { return Ok(None) };
        Ok(self.named(name)?.map(|consumer| Credential { id: id.clone(), consumer }))
    }

    pub fn find_by(&self, kind: CredentialKind, names: &[&str]) -> Result<Found, Failure> {
        self.granted()?;
        let known =
            |name: &&str| self.credentials.iter().find(|known| known.kind == kind && known.id == *name);
        for known in names.iter().take(64).filter_map(known) {
            if let Some(consumer) = self.named(&known.consumer)? {
                let secret = (kind != CredentialKind::Certificate).then(|| known.secret.clone());
                return Ok(Found { credential: Some(Credential { id: known.id.clone(), consumer }), secret });
            }
        }
        let secret = match kind {
            CredentialKind::Password => Some(NOBODYS_HASH.into()),
            CredentialKind::Hmac => Some(NOBODYS_SECRET.into()),
            CredentialKind::Certificate => None,
        };
        Ok(Found { credential: None, secret })
    }

    pub fn named(&self, name: &str) -> Result<Option<Consumer>, Failure> {
        self.find(|consumer| consumer.name == name)
    }

    pub fn by_custom_id(&self, id: &str) -> Result<Option<Consumer>, Failure> {
        self.find(|consumer| consumer.custom_id.as_deref() == Some(id))
    }

    pub fn plan(&self, name: &str) -> Result<Option<Vec<Quota>>, Failure> {
        self.granted()?;
        let raw = |quota: &consumers::Quota| Quota { rate: quota.rate, per_ms: milliseconds(quota.per) };
        Ok(self.plans.get(name).map(|quotas| quotas.iter().map(raw).collect()))
    }

    fn granted(&self) -> Result<(), Failure> {
        self.failure.map_or(Ok(()), Err)
    }

    fn find(&self, is_it: impl Fn(&consumers::Consumer) -> bool) -> Result<Option<Consumer>, Failure> {
        self.granted()?;
        Ok(self.consumers.iter().find(|consumer| is_it(consumer)).cloned().map(raw))
    }
}

fn raw(consumer: consumers::Consumer) -> Consumer {
    let consumers::Consumer { name, custom_id, groups, plan, metadata } = consumer;
    Consumer { name, custom_id, groups, plan, metadata }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
