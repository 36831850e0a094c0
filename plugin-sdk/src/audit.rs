//! Why a request was refused, or let pass, for the gateway's audit (the table `audit` of its config) and the
//! metric `wasmgate_plugin_refusals_total`. Who and what it was, the gateway says by itself.
//!
//! A refusal carries its reason: [`LocalResponse::why`](crate::LocalResponse::why). It costs nothing where requests pass.
//!
//! ```
//! use wasmgate_sdk::{LocalResponse, Plugin, Request, Result, Verdict, audit::{Reason, Why}, plugin, testing};
//!
//! struct Embargo;
//!
//! #[plugin]
//! impl Plugin for Embargo {
//!     type Config = ();
//!
//!     fn new(_: ()) -> Result<Self> {
//!         Ok(Embargo)
//!     }
//!
//!     fn on_request(&self, request: &Request) -> Result<Verdict> {
//!         match request.header_str("x-country").as_deref() {
//!             Some("xx") => Ok(LocalResponse::new(451).why(Reason::new(Why::DENIED).detail("country xx")).into()),
//!             _ => Ok(Verdict::Next),
//!         }
//!     }
//! }
//!
//! # fn main() -> Result<()> {
//! let outcome = testing::Host::new().load::<Embargo>("null")?.send(testing::Request::get("/").header("x-country", "xx"));
//! assert_eq!(outcome.reason, Some(Reason::new(Why::DENIED).detail("country xx")));
//! # Ok(())
//! # }
//! ```

use crate::auth::Identity;
use crate::host::audit;

/// A short word for a reason. These are what the shipped plugins say; a plugin may have words of its own.
///
/// ```
/// use wasmgate_sdk::audit::Why;
///
/// const EMBARGO: Why = Why("embargo");
/// assert_ne!(EMBARGO, Why::DENIED);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Why(pub &'static str);

impl Why {
    /// There is no credential.
    pub const MISSING: Why = Why("missing");
    /// There is more than one.
    pub const SEVERAL: Why = Why("several");
    /// It cannot be read.
    pub const MALFORMED: Why = Why("malformed");
    /// It is not known here, or no good. Of a key of the gateway's consumers the gateway says more: `unknown_key`, `mistyped`,
    /// `wrong_key`, `disabled`, `not_yet`, `expired` or `unknown_consumer`.
    pub const INVALID_KEY: Why = Why("invalid_key");
    /// Nobody has this name.
    pub const UNKNOWN_USER: Why = Why("unknown_user");
    /// The user has another password.
    pub const WRONG_PASSWORD: Why = Why("wrong_password");
    /// It was good.
    pub const EXPIRED: Why = Why("expired");
    /// It will be good.
    pub const NOT_YET: Why = Why("not_yet");
    /// It was taken back.
    pub const REVOKED: Why = Why("revoked");
    /// Its issuer says that it is no good.
    pub const INACTIVE: Why = Why("inactive");
    /// It is of another issuer.
    pub const ISSUER: Why = Why("issuer");
    /// It is for somebody else.
    pub const AUDIENCE: Why = Why("audience");
    /// It has no end, or one that is too far.
    pub const LIFETIME: Why = Why("lifetime");
    /// It does not claim what it has to.
    pub const CLAIMS: Why = Why("claims");
    /// It does not have the scopes.
    pub const SCOPE: Why = Why("scope");
    /// It is bound to something that the client has not shown.
    pub const BINDING: Why = Why("binding");
    /// It does not say whose it is, or nothing that could be told.
    pub const NO_CONSUMER: Why = Why("no_consumer");
    /// Its consumer is none of the gateway's.
    pub const UNKNOWN_CONSUMER: Why = Why("unknown_consumer");
    /// An algorithm that is not taken.
    pub const ALGORITHM: Why = Why("algorithm");
    /// The signature is not that of anybody who may sign.
    pub const SIGNATURE: Why = Why("signature");
    /// Something is not signed that has to be.
    pub const NOT_SIGNED: Why = Why("not_signed");
    /// The body is another one than the one that was signed.
    pub const BODY: Why = Why("body");
    /// The signature has been used already.
    pub const REPLAYED: Why = Why("replayed");
    /// The certificate is nobody's here.
    pub const UNKNOWN_CERTIFICATE: Why = Why("unknown_certificate");
    /// None of several plugins has let the request pass. `detail` has their reasons.
    pub const NONE_VALID: Why = Why("none_valid");
    /// Nobody knows whose the request is.
    pub const NOBODY: Why = Why("nobody");
    /// Something denies it.
    pub const DENIED: Why = Why("denied");
    /// Nothing allows it.
    pub const NOT_ALLOWED: Why = Why("not_allowed");
    /// The service that was asked has said no.
    pub const SERVICE_DENIED: Why = Why("service_denied");
    /// The service that was asked has said yes.
    pub const SERVICE_ALLOWED: Why = Why("service_allowed");
    /// It is over its rate.
    pub const RATE_LIMITED: Why = Why("rate_limited");
    /// What it takes to decide cannot be had now.
    pub const UNAVAILABLE: Why = Why("unavailable");
}

/// Why, in full. No secret stands here, nor anything that might be one, such as a name that nobody has.
///
/// ```
/// use wasmgate_sdk::{audit::{Reason, Why}, auth::Identity};
///
/// let reason = Reason::new(Why::EXPIRED).whose(&Identity::of("alice"));
/// assert_eq!(reason.consumer.as_deref(), Some("alice"));
/// assert_eq!(Reason::from(Why::EXPIRED).consumer, None);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// The word for it.
    pub why: Why,
    /// A few words more.
    pub detail: Option<String>,
    /// Whose the request is, or claims to be. With neither this nor `credential` it is what the variables say.
    pub consumer: Option<String>,
    /// What that is known by.
    pub credential: Option<String>,
}

impl Reason {
    /// This, and no more. The example is that of the type.
    pub fn new(why: Why) -> Self {
        Reason { why, detail: None, consumer: None, credential: None }
    }

    /// A few words more.
    ///
    /// ```
    /// use wasmgate_sdk::audit::{Reason, Why};
    ///
    /// assert_eq!(Reason::new(Why::DENIED).detail("deny[0]").detail.as_deref(), Some("deny[0]"));
    /// ```
    pub fn detail(self, detail: impl Into<String>) -> Self {
        Reason { detail: Some(detail.into()), ..self }
    }

    /// Whose the request is, or claims to be. The example is that of the type.
    pub fn whose(self, identity: &Identity) -> Self {
        Reason { consumer: Some(identity.consumer.clone()), credential: identity.credential.clone(), ..self }
    }
}

impl From<Why> for Reason {
    fn from(why: Why) -> Self {
        Reason::new(why)
    }
}

/// Says why this phase decides as it does; the last call counts. An answer does so by itself
/// ([`LocalResponse::why`](crate::LocalResponse::why)): this is for requests that pass, of which the audit is told by itself
/// whom a plugin has announced.
///
/// ```
/// use wasmgate_sdk::{Plugin, Request, Result, Verdict, audit::{self, Why}, plugin, testing};
///
/// struct Lenient;
///
/// #[plugin]
/// impl Plugin for Lenient {
///     type Config = ();
///
///     fn new(_: ()) -> Result<Self> {
///         Ok(Lenient)
///     }
///
///     fn on_request(&self, _: &Request) -> Result<Verdict> {
///         audit::explain(&Why::UNAVAILABLE.into());
///         Ok(Verdict::Next)
///     }
/// }
///
/// # fn main() -> Result<()> {
/// let outcome = testing::Host::new().load::<Lenient>("null")?.send(testing::Request::get("/"));
/// assert_eq!(outcome.reason, Some(Why::UNAVAILABLE.into()));
/// # Ok(())
/// # }
/// ```
pub fn explain(reason: &Reason) {
    audit::explain(audit::Reason {
        why: reason.why.0,
        detail: reason.detail.as_deref(),
        consumer: reason.consumer.as_deref(),
        credential: reason.credential.as_deref(),
    });
}
