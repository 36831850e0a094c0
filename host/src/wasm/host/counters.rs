//! `counters`: atomic numbers in the host, under the plugin's name.

use std::time::{Duration, Instant};

use super::bindings::wasmgate::plugin::{
    counters::{self, Bucket},
    types::Error,
};
use crate::{bucket::Rate, capability::counters::Refused, wasm::store::Host};

impl counters::Host for Host {
    fn take(
        &mut self,
        key: String,
        cost: u32,
        capacity: u32,
        refill: u32,
        period_ms: u32,
    ) -> Result<Bucket, Error> {
        let rate = Rate::new(capacity, refill, Duration::from_millis(period_ms.into()))
            .ok_or(Error::InvalidValue)?;
        let plugin = &self.plugin;
        let taken = plugin.capabilities.counters.take(&plugin.scope, &key, rate, cost, Instant::now())?;
        Ok(Bucket {
            allowed: taken.allowed,
            remaining: taken.remaining,
            reset_ms: millis_up(taken.reset),
            retry_after_ms: millis_up(taken.retry_after),
        })
    }

    fn increment(&mut self, key: String, by: i64, ttl_ms: u32) -> Result<i64, Error> {
        if ttl_ms == 0 {
            return Err(Error::InvalidValue);
        }
        let ttl = Duration::from_millis(ttl_ms.into());
        let plugin = &self.plugin;
        Ok(plugin.capabilities.counters.increment(&plugin.scope, &key, by, ttl, Instant::now())?)
    }
}

fn millis_up(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::KeyTooLong => Error::TooLarge,
            Refused::TooManyKeys => Error::Exhausted,
        }
    }
}
