//! Atomic numbers shared by all instances of a plugin on all workers. They survive a reload. Keys
//! are private to the plugin.

use std::time::Duration;

use crate::clock::milliseconds;
use crate::host::counters;
use crate::{HostError, Result};

/// How fast a bucket fills: it holds `capacity` tokens and gains `refill` of them per `period`.
///
/// ```
/// use std::time::Duration;
/// use wasmgate_sdk::counters::Limit;
///
/// // 10 requests per second, 30 at once.
/// let limit = Limit { capacity: 30, refill: 10, period: Duration::from_secs(1) };
/// # let _ = limit;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Most tokens the bucket holds, at least 1.
    pub capacity: u32,
    /// Tokens gained per period, at least 1.
    pub refill: u32,
    /// At least a millisecond.
    pub period: Duration,
}

/// What became of a [`take`].
///
/// ```
/// use wasmgate_sdk::{LocalResponse, Verdict, counters::Bucket};
///
/// fn decide(bucket: Bucket) -> Verdict {
///     match bucket.allowed {
///         true => Verdict::Next,
///         false => LocalResponse::new(429)
///             .header("retry-after", bucket.retry_after.as_secs().max(1).to_string())
///             .into(),
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Whether the tokens were taken.
    pub allowed: bool,
    /// Whole tokens left.
    pub remaining: u64,
    /// Until the bucket is full again.
    pub reset: Duration,
    /// Until the same cost would be allowed; zero where it was, `Duration::from_millis(u64::MAX)`
    /// where the bucket can never hold so much.
    pub retry_after: Duration,
}

/// Takes `cost` tokens from a bucket, all at once or none. A bucket that does not exist is full.
///
/// Errors: `InvalidValue` for a limit with a 0 or one that takes centuries to fill, `TooLarge` (a key
/// above 1024 bytes), `Exhausted` (too many keys).
///
/// ```
/// use std::time::Duration;
/// use wasmgate_sdk::{counters::{self, Limit}, testing};
///
/// let host = testing::Host::new();
/// let limit = Limit { capacity: 1, refill: 1, period: Duration::from_secs(10) };
/// let take = || host.enter(|| counters::take("alice", 1, limit));
/// assert!(take()?.allowed);
/// assert_eq!(take()?.retry_after, Duration::from_secs(10));
/// host.advance(Duration::from_secs(10));
/// assert!(take()?.allowed);
/// # Ok::<(), wasmgate_sdk::Error>(())
/// ```
pub fn take(key: &str, cost: u32, limit: Limit) -> Result<Bucket, HostError> {
    let bucket = counters::take(key, cost, limit.capacity, limit.refill, milliseconds(limit.period))?;
    Ok(Bucket {
        allowed: bucket.allowed,
        remaining: bucket.remaining,
        reset: Duration::from_millis(bucket.reset_ms),
        retry_after: Duration::from_millis(bucket.retry_after_ms),
    })
}

/// Adds to a number that starts at 0 and ends `ttl` after it was made; returns the sum. Adding 0
/// reads it. Times are kept in whole milliseconds, up to 49 days.
///
/// Errors: `InvalidValue` for a `ttl` of 0, `TooLarge` (a key above 1024 bytes), `Exhausted` (too many
/// keys).
///
/// ```
/// use std::time::Duration;
/// use wasmgate_sdk::{counters, testing};
///
/// let day = Duration::from_secs(24 * 60 * 60);
/// let host = testing::Host::new();
/// host.enter(|| counters::increment("alice", 2, day))?;
/// assert_eq!(host.enter(|| counters::increment("alice", 1, day))?, 3);
/// host.advance(day);
/// assert_eq!(host.enter(|| counters::increment("alice", 1, day))?, 1);
/// # Ok::<(), wasmgate_sdk::Error>(())
/// ```
pub fn increment(key: &str, by: i64, ttl: Duration) -> Result<i64, HostError> {
    Ok(counters::increment(key, by, milliseconds(ttl))?)
}
