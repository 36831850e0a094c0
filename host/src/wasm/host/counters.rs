//! `counters`: atomic numbers in the host, under the plugin's name.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    bindings::wasmgate::plugin::{
        counters::{self, Bucket},
        types::Error,
    },
    rate_limits::millis_up,
    store::checked,
};
use crate::{
    bucket::{self, Rate, Taken},
    capability::{
        counters::Refused,
        rate_limits::{Algorithm, Demand, Limit, Standing},
        redis::Link,
    },
    wasm::store::Host,
};

impl counters::Host for Host {
    async fn take(
        &mut self,
        key: String,
        cost: u32,
        capacity: u32,
        refill: u32,
        period_ms: u32,
    ) -> Result<Bucket, Error> {
        let period = Duration::from_millis(period_ms.into());
        let rate = Rate::new(capacity, refill, period).ok_or(Error::InvalidValue)?;
        let limit = Limit::new(Algorithm::TokenBucket, refill, period, capacity);
        checked(&key)?;
        let shared = async |link: &Arc<Link>, scope: &str| {
            let Some(limit) = limit else { return Ok(full(rate)) };
            let demand = Demand { key: key.clone(), limit, cost };
            Ok(link.take(scope, &[demand]).await?.first().map_or(full(rate), taken))
        };
        let local = |host: &Host| {
            let counters = &host.plugin.capabilities.counters;
            Ok(counters.take(&host.plugin.scope, &key, rate, cost, Instant::now())?)
        };
        let taken = self.kept(shared, local, || full(rate)).await?;
        Ok(Bucket {
            allowed: taken.allowed,
            remaining: taken.remaining,
            reset_ms: millis_up(taken.reset),
            retry_after_ms: millis_up(taken.retry_after),
        })
    }

    async fn increment(&mut self, key: String, by: i64, ttl_ms: u32) -> Result<i64, Error> {
        if ttl_ms == 0 {
            return Err(Error::InvalidValue);
        }
        checked(&key)?;
        let ttl = Duration::from_millis(ttl_ms.into());
        let shared = async |link: &Arc<Link>, scope: &str| link.increment(scope, &key, by, ttl).await;
        let local = |host: &Host| {
            let counters = &host.plugin.capabilities.counters;
            Ok(counters.increment(&host.plugin.scope, &key, by, ttl, Instant::now())?)
        };
        self.kept(shared, local, || by).await
    }
}

/// What a bucket says from which nothing was taken.
fn full(rate: Rate) -> Taken {
    bucket::Bucket::default().take(rate, 0, 0)
}

fn taken(standing: &Standing) -> Taken {
    let Standing { allowed, remaining, reset, retry_after, .. } = *standing;
    Taken { allowed, remaining, reset, retry_after }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::KeyTooLong => Error::TooLarge,
            Refused::TooManyKeys => Error::Exhausted,
            Refused::SameTwice => Error::InvalidValue,
        }
    }
}
