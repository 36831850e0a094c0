//! `rate-limits` of the fake host: the gateway's own algorithms.

use std::time::Duration;

pub use crate::bindings::plugin::wasmgate::plugin::rate_limits::{Algorithm, Limit, Standing};
use crate::host::types::Error;
use crate::testing::host::current;

/// Limits of one call.
const MAX_LIMITS: usize = 32;

pub fn take(limits: &[Limit<'_>]) -> Result<Vec<Standing>, Error> {
    if limits.len() > MAX_LIMITS {
        return Err(Error::InvalidValue);
    }
    let known = limits.iter().map(known).collect::<Option<Vec<_>>>().ok_or(Error::InvalidValue)?;
    current(|host| {
        let now = host.now().as_nanos() as u64;
        let asked: Vec<_> =
            limits.iter().zip(&known).map(|(limit, known)| (limit.key, *known, limit.cost)).collect();
        host.store.take_all(now, &asked)
    })
    .map(|standings| standings.iter().map(standing).collect())
}

fn known(limit: &Limit<'_>) -> Option<wasmgate_rate_limit::Limit> {
    use wasmgate_rate_limit::Algorithm as Known;
    let algorithm = match limit.algorithm {
        Algorithm::FixedWindow => Known::FixedWindow,
        Algorithm::SlidingLog => Known::SlidingLog,
        Algorithm::SlidingCounter => Known::SlidingCounter,
        Algorithm::TokenBucket => Known::TokenBucket,
        Algorithm::LeakyBucket => Known::LeakyBucket,
    };
    wasmgate_rate_limit::Limit::new(algorithm, limit.amount, Duration::from_millis(limit.per_ms), limit.burst)
}

fn standing(standing: &wasmgate_rate_limit::Standing) -> Standing {
    let millis = |time: Duration| u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
    Standing {
        allowed: standing.allowed,
        remaining: standing.remaining,
        reset_ms: millis(standing.reset),
        retry_after_ms: millis(standing.retry_after),
        delay_ms: millis(standing.delay),
    }
}
