//! So much in so much time.

use wasmgate_sdk::{
    Duration, Error, Result, config,
    rate_limits::{self, Algorithm},
};

use crate::key::Words;

#[config]
pub struct Limit {
    /// What clients are told it is called: letters, digits, `-` and `_`. Default: "default", or its place among several.
    pub name: Option<String>,
    /// Requests per time. With 0 none is let through.
    pub rate: u32,
    /// That time, such as "1m"; 1ms to 366d.
    pub per: Duration,
    /// Requests at once: what a token bucket holds, at least 1, or how many may wait for a leaky bucket. Default: the rate.
    burst: Option<u32>,
    /// How they are counted. Default: the `algorithm` of the whole.
    algorithm: Option<Algorithm>,
    /// Whom it belongs to. Default: the `key` of the whole.
    pub key: Option<Words>,
    /// What a request takes of it, at least 1. Default: the `cost` of the whole.
    pub cost: Option<u32>,
}

/// What holds for limits that do not say otherwise.
#[derive(Clone, Copy)]
pub struct Defaults {
    pub algorithm: Algorithm,
    pub cost: u32,
}

/// A bucket takes no longer to fill.
const LONGEST_TO_FILL_MS: u128 = 100 * 365 * 24 * 60 * 60 * 1000;
const LONGEST_PER_MS: u128 = 366 * 24 * 60 * 60 * 1000;
/// Of a sliding log, which keeps them all.
const MOST_IN_LOG: u32 = 10_000;

impl Limit {
    pub fn of(rate: u32, per: Duration) -> Self {
        Limit { name: None, rate, per, burst: None, algorithm: None, key: None, cost: None }
    }

    /// What the host is asked for. `at` is where it stands in the config.
    pub fn check(&self, at: &str, or: Defaults) -> Result<rate_limits::Limit> {
        let wrong = |what: &str| Err(Error::msg(format_args!("{at}{what}")));
        let algorithm = self.algorithm.unwrap_or(or.algorithm);
        let is_bucket = matches!(algorithm, Algorithm::TokenBucket | Algorithm::LeakyBucket);
        let (burst, cost) = (self.burst.unwrap_or(self.rate), self.cost.unwrap_or(or.cost));
        if self.cost == Some(0) {
            return wrong(".cost: must be at least 1");
        }
        if self.burst.is_some() && !is_bucket {
            return wrong(".burst: is for token and leaky buckets");
        }
        if self.burst == Some(0) && algorithm == Algorithm::TokenBucket {
            return wrong(".burst: must be at least 1");
        }
        if !(1..=LONGEST_PER_MS).contains(&self.per.as_millis()) {
            return wrong(".per: must be 1ms to 366d");
        }
        if algorithm == Algorithm::SlidingLog && self.rate > MOST_IN_LOG {
            return wrong(".rate: a sliding log holds at most 10000");
        }
        let to_fill = self.per.as_millis() * u128::from(burst) / u128::from(self.rate.max(1));
        if is_bucket && to_fill > LONGEST_TO_FILL_MS {
            return wrong(": takes more than a century to fill");
        }
        let most = match algorithm {
            Algorithm::TokenBucket => burst,
            // One is on its way out.
            Algorithm::LeakyBucket => burst.saturating_add(1),
            _ => self.rate,
        };
        if self.rate > 0 && cost > most {
            return wrong(": holds less than one request costs");
        }
        if self.name.as_deref().is_some_and(|name| !is_name(name)) {
            return wrong(".name: has to be of letters, digits, - and _");
        }
        // The host takes no bucket that holds nothing, also where nothing is let through.
        Ok(rate_limits::Limit { algorithm, amount: self.rate, per: *self.per, burst: burst.max(1), cost })
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}
