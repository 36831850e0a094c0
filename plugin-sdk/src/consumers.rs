//! The consumers that the gateway knows, from its config and from its store, with their credentials and plans. The plugin's table
//! in the gateway's config has to say `consumers = true`.
//!
//! Ask for each request and keep no answer: what is revoked is no good from then on.
//!
//! ```
//! use wasmgate_sdk::{Plugin, Request, Result, Verdict, audit::Why, auth::{self, Identity}, consumers, plugin};
//!
//! struct ApiKeys;
//!
//! #[plugin]
//! impl Plugin for ApiKeys {
//!     type Config = ();
//!
//!     fn new(_: ()) -> Result<Self> {
//!         consumers::granted()?;
//!         Ok(ApiKeys)
//!     }
//!
//!     fn on_request(&self, request: &Request) -> Result<Verdict> {
//!         auth::forget(request)?;
//!         let key = request.header_str("x-api-key").unwrap_or_default();
//!         match consumers::verify_key(&key) {
//!             Ok(Some(credential)) => Identity::from(credential).announce(request)?,
//!             Ok(None) => return Ok(auth::unauthenticated("Key", "Unauthorized").why(Why::INVALID_KEY).into()),
//!             Err(failure) => return Ok(failure.answer().into()),
//!         }
//!         Ok(Verdict::Next)
//!     }
//! }
//!
//! # fn main() -> Result<()> {
//! use wasmgate_sdk::{consumers::Consumer, testing};
//!
//! let host = testing::Host::new().consumer(Consumer::new("alice")).key("k1", "alice-key", "alice");
//! let plugin = host.load::<ApiKeys>("null")?;
//! let outcome = plugin.send(testing::Request::get("/").header("x-api-key", "alice-key"));
//! assert_eq!(outcome.request().header_str("x-consumer-username").as_deref(), Some("alice"));
//! assert!(!plugin.send(testing::Request::get("/").header("x-api-key", "eve-key")).sent);
//! # Ok(())
//! # }
//! ```

use std::fmt;
use std::time::Duration;

use crate::audit::Why;
use crate::auth::Identity;
use crate::host::consumers;
use crate::{LocalResponse, Result};

/// Whose requests are known by credentials.
///
/// ```
/// use wasmgate_sdk::consumers::Consumer;
///
/// let alice = Consumer { plan: Some("pro".to_string()), ..Consumer::new("alice") };
/// assert_eq!(alice.name, "alice");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Consumer {
    /// Its own among consumers.
    pub name: String,
    /// What it is called elsewhere, such as the `sub` of its tokens.
    pub custom_id: Option<String>,
    /// Without commas.
    pub groups: Vec<String>,
    /// Name of its plan; the config may have none of that name any more.
    pub plan: Option<String>,
    /// By its keys, in their order.
    pub metadata: Vec<(String, String)>,
}

/// What a consumer was known by. The example is that of [`verify_key`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// Its name, no secret.
    pub id: String,
    /// Whose it is.
    pub consumer: Consumer,
}

/// So many requests in a time. The example is that of [`plan`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// At least 1.
    pub rate: u32,
    /// At least a millisecond.
    pub per: Duration,
}

/// Why there is no answer. The example is that of [`Failure::answer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The store cannot be asked: nobody is known, and nobody is unknown.
    Unavailable,
    /// The plugin's table in the gateway's config does not say `consumers = true`.
    NotGranted,
}

impl Consumer {
    /// One of this name, of whom nothing else is said.
    ///
    /// ```
    /// assert_eq!(wasmgate_sdk::consumers::Consumer::new("alice").plan, None);
    /// ```
    pub fn new(name: &str) -> Self {
        Consumer { name: name.to_string(), ..Consumer::default() }
    }

    /// A value of its metadata.
    ///
    /// ```
    /// use wasmgate_sdk::consumers::Consumer;
    ///
    /// let metadata = vec![("tier".to_string(), "gold".to_string())];
    /// let alice = Consumer { metadata, ..Consumer::new("alice") };
    /// assert_eq!(alice.value("tier"), Some("gold"));
    /// ```
    pub fn value(&self, name: &str) -> Option<&str> {
        self.metadata.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Whose API key this is. None for all that is no good, and it is not said why: unknown, wrong, not yet good, expired,
/// revoked, turned off, or of a consumer that is not there any more.
///
/// ```
/// use wasmgate_sdk::{consumers::{self, Consumer}, testing::Host};
///
/// let host = Host::new().consumer(Consumer::new("alice")).key("k1", "alice-key", "alice");
/// let found = host.enter(|| consumers::verify_key("alice-key"))?.unwrap();
/// assert_eq!((found.id.as_str(), found.consumer.name.as_str()), ("k1", "alice"));
/// # Ok::<(), wasmgate_sdk::Error>(())
/// ```
pub fn verify_key(key: &str) -> Result<Option<Credential>, Failure> {
    let found = consumers::verify_key(key)?;
    Ok(found.map(|found| Credential { id: found.id, consumer: found.consumer.into() }))
}

/// The consumer of this name.
///
/// ```
/// use wasmgate_sdk::{consumers::{self, Consumer}, testing::Host};
///
/// let host = Host::new().consumer(Consumer::new("alice"));
/// assert!(host.enter(|| consumers::named("alice"))?.is_some());
/// assert!(host.enter(|| consumers::named("bob"))?.is_none());
/// # Ok::<(), wasmgate_sdk::Error>(())
/// ```
pub fn named(name: &str) -> Result<Option<Consumer>, Failure> {
    Ok(consumers::named(name)?.map(Consumer::from))
}

/// The consumer that is called so elsewhere.
///
/// ```
/// use wasmgate_sdk::{consumers::{self, Consumer}, testing::Host};
///
/// let alice = Consumer { custom_id: Some("u-1".to_string()), ..Consumer::new("alice") };
/// let host = Host::new().consumer(alice.clone());
/// assert_eq!(host.enter(|| consumers::by_custom_id("u-1")), Ok(Some(alice)));
/// ```
pub fn by_custom_id(id: &str) -> Result<Option<Consumer>, Failure> {
    Ok(consumers::by_custom_id(id)?.map(Consumer::from))
}

/// What a plan allows: all of these hold, and an empty list allows anything. None where the config has no such plan.
///
/// ```
/// use std::time::Duration;
/// use wasmgate_sdk::{consumers::{self, Quota}, testing::Host};
///
/// let minute = Quota { rate: 60, per: Duration::from_secs(60) };
/// let host = Host::new().plan("free", &[minute]);
/// assert_eq!(host.enter(|| consumers::plan("free")), Ok(Some(vec![minute])));
/// assert_eq!(host.enter(|| consumers::plan("pro")), Ok(None));
/// ```
pub fn plan(name: &str) -> Result<Option<Vec<Quota>>, Failure> {
    let quota = |raw: consumers::Quota| Quota { rate: raw.rate, per: Duration::from_millis(raw.per_ms) };
    Ok(consumers::plan(name)?.map(|quotas| quotas.into_iter().map(quota).collect()))
}

/// Whether the plugin may ask at all: in [`Plugin::new`](crate::Plugin::new), so that a config that does not grant it is
/// refused when it is loaded.
///
/// ```
/// use wasmgate_sdk::{consumers::{self, Consumer}, testing::Host};
///
/// assert!(Host::new().enter(consumers::granted).is_err());
/// assert!(Host::new().consumer(Consumer::new("alice")).enter(consumers::granted).is_ok());
/// ```
pub fn granted() -> Result<()> {
    match plan("") {
        Err(Failure::NotGranted) => Err(Failure::NotGranted.into()),
        _ => Ok(()),
    }
}

impl From<Consumer> for Identity {
    fn from(consumer: Consumer) -> Self {
        let Consumer { name, custom_id, groups, plan, .. } = consumer;
        Identity { consumer: name, custom_id, groups, plan, ..Identity::default() }
    }
}

impl From<Credential> for Identity {
    fn from(Credential { id, consumer }: Credential) -> Self {
        Identity { credential: Some(id), ..Identity::from(consumer) }
    }
}

impl Failure {
    /// The answer to a request that cannot do without: a 503 with the code "consumers_unavailable". Whether they are granted is
    /// seen before, with [`granted`].
    ///
    /// ```
    /// use wasmgate_sdk::{consumers::{self, Failure}, testing::Host};
    ///
    /// let host = Host::new().consumers_fail(Failure::Unavailable);
    /// let failure = host.enter(|| consumers::named("alice")).unwrap_err();
    /// assert_eq!(failure.answer().status, 503);
    /// ```
    pub fn answer(self) -> LocalResponse {
        let answer = LocalResponse::new(503).code("consumers_unavailable");
        answer.detail("Consumers cannot be looked up now.").why(Why::UNAVAILABLE)
    }
}

impl From<consumers::Failure> for Failure {
    fn from(failure: consumers::Failure) -> Self {
        match failure {
            consumers::Failure::Unavailable => Failure::Unavailable,
            consumers::Failure::NotGranted => Failure::NotGranted,
        }
    }
}

impl From<consumers::Consumer> for Consumer {
    fn from(raw: consumers::Consumer) -> Self {
        let consumers::Consumer { name, custom_id, groups, plan, metadata } = raw;
        Consumer { name, custom_id, groups, plan, metadata }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Failure::Unavailable => "consumers cannot be looked up",
            Failure::NotGranted => {
                "the plugin may not ask for consumers: its table in the gateway's config does not say `consumers = true`"
            }
        })
    }
}

impl std::error::Error for Failure {}
