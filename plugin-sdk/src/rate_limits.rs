//! Rate limits by several algorithms, taken from several at once. They are shared by all instances of a plugin on all workers,
//! and where the config has them in a Redis, by all gateways with that Redis. Keys are private to the plugin.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::host::rate_limits;
use crate::{HostError, Result};

/// How requests are counted. In a config it stands by its name in kebab case, such as "sliding-counter".
///
/// ```
/// use wasmgate_sdk::{rate_limits::Algorithm, serde_json};
///
/// let algorithm: Algorithm = serde_json::from_str("\"sliding-log\"")?;
/// assert_eq!(algorithm, Algorithm::SlidingLog);
/// # Ok::<(), wasmgate_sdk::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Algorithm {
    /// So much in each window of the time; windows begin at multiples of it since 1970-01-01 UTC. Around the end of one, twice
    /// the amount may pass within the time.
    FixedWindow,
    /// So much in any span of the time, exactly. The amount is at most 10,000.
    SlidingLog,
    /// So much in a span of the time that ends now, where what passed in the window before counts in part, as if it had come
    /// evenly. If it did not, what passes in any span is less than twice the amount.
    SlidingCounter,
    /// A bucket of so many tokens that gains the amount per time.
    #[default]
    TokenBucket,
    /// A queue that runs out evenly: what is taken has to wait for so long.
    LeakyBucket,
}

/// A limit of one key.
///
/// ```
/// use std::time::Duration;
/// use wasmgate_sdk::rate_limits::{Algorithm, Limit};
///
/// // 60 requests a minute.
/// let limit = Limit {
///     algorithm: Algorithm::SlidingCounter,
///     amount: 60,
///     per: Duration::from_secs(60),
///     burst: 0,
///     cost: 1,
/// };
/// # let _ = limit;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// How it is counted.
    pub algorithm: Algorithm,
    /// So much per time; 0 allows nothing.
    pub amount: u32,
    /// The time, 1 ms to 366 days.
    pub per: Duration,
    /// What a token bucket holds, at least 1; what may wait for a leaky bucket. Others have none.
    pub burst: u32,
    /// How much is taken; 0 only looks.
    pub cost: u32,
}

/// Whose a limit is: a text by itself, or with what the gateway puts in front of it.
///
/// ```
/// use wasmgate_sdk::rate_limits::Key;
///
/// // Each IPv4 address and each /64 of IPv6 has its own, on each route.
/// let client = Key { route: true, client: Some(64), text: "" };
/// assert_eq!(Key::from("alice"), Key { text: "alice", ..Key::default() });
/// # let _ = client;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Key<'a> {
    /// The name of the matched route is part of it.
    pub route: bool,
    /// The client's address is part of it, and of an IPv6 address so many bits: 0 to 128.
    pub client: Option<u8>,
    /// The rest. All together are at most 1024 bytes.
    pub text: &'a str,
}

/// Where a key stands with a limit.
///
/// ```
/// use wasmgate_sdk::{LocalResponse, Verdict, rate_limits::Standing};
///
/// fn decide(standing: Standing) -> Verdict {
///     match standing.allowed {
///         true => Verdict::Next,
///         false => LocalResponse::new(429)
///             .header("retry-after", standing.retry_after.as_secs().max(1).to_string())
///             .into(),
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Whether it allows what was asked for.
    pub allowed: bool,
    /// What is left, after what was taken.
    pub remaining: u64,
    /// Until all of it is there again.
    pub reset: Duration,
    /// Until the same is allowed, if nothing else is taken: zero where it was; some half a billion years where it never is.
    pub retry_after: Duration,
    /// How long what was taken of a leaky bucket has to wait.
    pub delay: Duration,
}

/// Takes from all limits, or from none where one does not allow it: in one step, and where they are in a Redis, in one round
/// trip. The answer has their standings in the same order. Limits of one key that differ in
/// anything but the cost are kept apart.
///
/// Errors: `InvalidValue` (a number out of bounds, the same limit and key twice, more than 32), `TooLarge` (a key above 1024
/// bytes), `Exhausted` (too many keys), `Immutable` (a key with route or client, outside of a phase).
///
/// ```
/// use std::time::Duration;
/// use wasmgate_sdk::{rate_limits::{self, Algorithm, Limit}, testing};
///
/// let host = testing::Host::new();
/// let per = |amount, seconds| Limit {
///     algorithm: Algorithm::FixedWindow,
///     amount,
///     per: Duration::from_secs(seconds),
///     burst: 0,
///     cost: 1,
/// };
/// let take = || host.enter(|| rate_limits::take(&[("alice", per(1, 60)), ("alice", per(100, 3600))]));
/// assert!(take()?.iter().all(|standing| standing.allowed));
/// let refused = take()?;
/// assert_eq!((refused[0].allowed, refused[0].retry_after), (false, Duration::from_secs(60)));
/// assert_eq!((refused[1].allowed, refused[1].remaining), (true, 99));
/// # Ok::<(), wasmgate_sdk::Error>(())
/// ```
pub fn take<'k>(limits: &[(impl Into<Key<'k>> + Copy, Limit)]) -> Result<Vec<Standing>, HostError> {
    let limits: Vec<_> = limits.iter().map(|(key, limit)| limit.of((*key).into())).collect();
    Ok(rate_limits::take(&limits)?.into_iter().map(Into::into).collect())
}

/// Takes from a single limit, which costs less. Errors: as of [`take`].
///
/// ```
/// use std::time::Duration;
/// use wasmgate_sdk::{rate_limits::{self, Algorithm, Limit}, testing};
///
/// let (algorithm, per) = (Algorithm::TokenBucket, Duration::from_secs(1));
/// let limit = Limit { algorithm, amount: 1, per, burst: 1, cost: 1 };
/// let host = testing::Host::new();
/// assert!(host.enter(|| rate_limits::take_one("alice", &limit))?.allowed);
/// assert!(!host.enter(|| rate_limits::take_one("alice", &limit))?.allowed);
/// # Ok::<(), wasmgate_sdk::Error>(())
/// ```
pub fn take_one<'k>(key: impl Into<Key<'k>>, limit: &Limit) -> Result<Standing, HostError> {
    Ok(rate_limits::take_one(limit.of(key.into()))?.into())
}

impl<'a> From<&'a str> for Key<'a> {
    fn from(text: &'a str) -> Self {
        Key { text, ..Key::default() }
    }
}

impl Limit {
    fn of<'a>(&self, key: Key<'a>) -> rate_limits::Limit<'a> {
        let Limit { algorithm, amount, per, burst, cost } = *self;
        let (algorithm, per_ms) = (algorithm.into(), u64::try_from(per.as_millis()).unwrap_or(u64::MAX));
        let Key { route: per_route, client: per_client, text: key } = key;
        rate_limits::Limit { key, per_route, per_client, algorithm, amount, per_ms, burst, cost }
    }
}

impl From<Algorithm> for rate_limits::Algorithm {
    fn from(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::FixedWindow => rate_limits::Algorithm::FixedWindow,
            Algorithm::SlidingLog => rate_limits::Algorithm::SlidingLog,
            Algorithm::SlidingCounter => rate_limits::Algorithm::SlidingCounter,
            Algorithm::TokenBucket => rate_limits::Algorithm::TokenBucket,
            Algorithm::LeakyBucket => rate_limits::Algorithm::LeakyBucket,
        }
    }
}

impl From<rate_limits::Standing> for Standing {
    fn from(standing: rate_limits::Standing) -> Self {
        let rate_limits::Standing { allowed, remaining, reset_ms, retry_after_ms, delay_ms } = standing;
        let [reset, retry_after, delay] = [reset_ms, retry_after_ms, delay_ms].map(Duration::from_millis);
        Standing { allowed, remaining, reset, retry_after, delay }
    }
}
