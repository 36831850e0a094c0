//! How fast a bucket fills and how much it holds.

use std::fmt;

use wasmgate_sdk::{Duration, Error, Result, config, counters};

#[config]
#[derive(Clone, Copy)]
pub struct Limit {
    /// Requests per time; tokens that the bucket gains. At least 1.
    pub rate: u32,
    /// That time, such as "1m"; 1ms to 49d.
    pub per: Duration,
    /// Requests at once; tokens that the bucket holds. At least 1. Default: the rate.
    burst: Option<u32>,
}

/// The host counts in nanoseconds of 64 bits.
const LONGEST_TO_FILL_MS: u128 = 100 * 365 * 24 * 60 * 60 * 1000;

impl Limit {
    pub fn burst(&self) -> u32 {
        self.burst.unwrap_or(self.rate)
    }

    pub fn bucket(&self) -> counters::Limit {
        counters::Limit { capacity: self.burst(), refill: self.rate, period: *self.per }
    }

    /// What a schema cannot say. `key` is where the limit stands in the config.
    pub fn check(&self, key: &str, cost: u32) -> Result<()> {
        let wrong = |what: &str| Err(Error::msg(format_args!("{key}{what}")));
        if self.rate == 0 {
            return wrong(".rate: must be at least 1");
        }
        if self.burst == Some(0) {
            return wrong(".burst: must be at least 1");
        }
        if !matches!(u32::try_from(self.per.as_millis()), Ok(1..)) {
            return wrong(".per: must be 1ms to 49d");
        }
        if self.per.as_millis() * u128::from(self.burst()) / u128::from(self.rate) > LONGEST_TO_FILL_MS {
            return wrong(": takes more than a century to fill");
        }
        match cost > self.burst() {
            true => wrong(": holds less than one request costs"),
            false => Ok(()),
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.rate, self.per.as_millis(), self.burst())
    }
}
