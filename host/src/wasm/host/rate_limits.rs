//! `rate-limits`: limits by several algorithms, under the plugin's name.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    bindings::wasmgate::plugin::{
        rate_limits::{self, Limit, Standing},
        types::Error,
    },
    store::checked,
};
use crate::{
    capability::{
        rate_limits::{self as limits, Algorithm, Demand},
        redis::Link,
    },
    wasm::store::Host,
};

/// Limits of one call.
const MAX_LIMITS: usize = 32;

impl rate_limits::Host for Host {
    async fn take(&mut self, limits: Vec<Limit>) -> Result<Vec<Standing>, Error> {
        if limits.len() > MAX_LIMITS {
            return Err(Error::InvalidValue);
        }
        let demands = limits.into_iter().map(demand).collect::<Result<Vec<_>, _>>()?;
        let shared = async |link: &Arc<Link>, scope: &str| link.take(scope, &demands).await;
        let local = |host: &Host| {
            let limits = &host.plugin.capabilities.rate_limits;
            Ok(limits.take(&host.plugin.scope, &demands, Instant::now())?)
        };
        let untouched = || demands.iter().map(Demand::untouched).collect();
        let standings = self.kept(shared, local, untouched).await?;
        Ok(standings.into_iter().map(standing).collect())
    }
}

fn demand(limit: Limit) -> Result<Demand, Error> {
    let Limit { key, algorithm, amount, per_ms, burst, cost } = limit;
    checked(&key)?;
    let algorithm = match algorithm {
        rate_limits::Algorithm::FixedWindow => Algorithm::FixedWindow,
        rate_limits::Algorithm::SlidingLog => Algorithm::SlidingLog,
        rate_limits::Algorithm::SlidingCounter => Algorithm::SlidingCounter,
        rate_limits::Algorithm::TokenBucket => Algorithm::TokenBucket,
        rate_limits::Algorithm::LeakyBucket => Algorithm::LeakyBucket,
    };
    let limit = limits::Limit::new(algorithm, amount, Duration::from_millis(per_ms), burst);
    Ok(Demand { key, limit: limit.ok_or(Error::InvalidValue)?, cost })
}

fn standing(standing: limits::Standing) -> Standing {
    Standing {
        allowed: standing.allowed,
        remaining: standing.remaining,
        reset_ms: millis_up(standing.reset),
        retry_after_ms: millis_up(standing.retry_after),
        delay_ms: millis_up(standing.delay),
    }
}

pub fn millis_up(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}
