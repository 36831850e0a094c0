//! The consumers that the gateway knows, from its config and from its store, with their credentials and plans. The plugin's table
//! in the gateway's config has to grant them: `consumers = ["key"]` for API keys, and so on for each [`Kind`]; `[]` is consumers
//! and plans alone, and `true` keys and certificates, which give nothing secret away.
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
use crate::{Error, LocalResponse, Result};

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
    /// The plugin's table in the gateway's config does not grant it.
    NotGranted,
}

/// Of which kind a credential is that is found by a name. For API keys there is [`verify_key`]. The example is that of [`find`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// By the user's name; the secret is the password's hash, for [`verify_password`](crate::crypto::verify_password).
    Password,
    /// By what signatures name it; the secret is the one that signs.
    Hmac,
    /// By what a client certificate is or says, such as "san_dns:a.test"; see [`find`]. There is no secret.
    Certificate,
}

/// What [`find`] has found. The example is that of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// None where no good one is known by any of the names.
    pub credential: Option<Credential>,
    /// The secret; where there is no credential, one that stands in for it.
    pub secret: Option<Vec<u8>>,
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
    Ok(consumers::verify_key(key)?.map(Credential::from))
}

/// Whom the first of these names is good for that is good for anybody: of at most 64, those behind are not looked at. What is not
/// yet good, expired, revoked or turned off is as unknown as what never was.
///
/// Where nobody is known, another secret stands in. Try it all the same, and refuse then: so nobody can tell by the time whether
/// a name is known.
///
/// A certificate is named by what it is or says: `fingerprint:` (SHA-256, 64 hexadecimal digits in lower case), `san_uri:`,
/// `san_dns:` (lower case), `san_email:` (the domain in lower case), `subject_cn:` or `subject:` (RFC 4514).
///
/// ```
/// use wasmgate_sdk::{consumers::{self, Consumer, Kind}, crypto, testing::Host};
///
/// fn whose(name: &str, password: &str) -> Option<String> {
///     let found = consumers::find(Kind::Password, &[name]).ok()?;
///     let hash = String::from_utf8(found.secret?).ok()?;
///     let is_right = crypto::verify_password(&hash, password).ok()?;
///     found.credential.filter(|_| is_right).map(|credential| credential.consumer.name)
/// }
///
/// let hash = "$2b$04$VpjDvTLHNuiiGnl4z8xqROkxQnt4yPkw0WIpsJ1RXXmACDkEREJoK";
/// let host = Host::new().consumer(Consumer::new("acme")).credential(Kind::Password, "alice", hash, "acme");
/// assert_eq!(host.enter(|| whose("alice", "password")).as_deref(), Some("acme"));
/// assert_eq!(host.enter(|| whose("alice", "guess")), None);
/// assert_eq!(host.enter(|| whose("bob", "password")), None);
/// ```
pub fn find(kind: Kind, names: &[&str]) -> Result<Found, Failure> {
    let found = consumers::find(kind.into(), names)?;
    Ok(Found { credential: found.credential.map(Credential::from), secret: found.secret })
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

/// Whether the plugin may ask whose a credential of this kind is, as [`granted`].
///
/// ```
/// use wasmgate_sdk::{consumers::{self, Consumer, Kind}, testing::Host};
///
/// let refused = Host::new().enter(|| consumers::grants(Kind::Hmac)).unwrap_err();
/// assert!(refused.to_string().ends_with("does not say `consumers = [\"hmac\"]`"));
/// assert!(Host::new().consumer(Consumer::new("alice")).enter(|| consumers::grants(Kind::Hmac)).is_ok());
/// ```
pub fn grants(kind: Kind) -> Result<()> {
    match find(kind, &[]) {
        Err(Failure::NotGranted) => Err(Error::msg(format_args!(
            "the plugin may not ask for these credentials: its table in the gateway's config does not say `consumers = [{:?}]`",
            kind.word()
        ))),
        _ => Ok(()),
    }
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Kind::Password => "password",
            Kind::Hmac => "hmac",
            Kind::Certificate => "certificate",
        }
    }
}

impl From<Kind> for consumers::CredentialKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Password => consumers::CredentialKind::Password,
            Kind::Hmac => consumers::CredentialKind::Hmac,
            Kind::Certificate => consumers::CredentialKind::Certificate,
        }
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

impl From<consumers::Credential> for Credential {
    fn from(raw: consumers::Credential) -> Self {
        Credential { id: raw.id, consumer: raw.consumer.into() }
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
