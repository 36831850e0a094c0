//! Where a client stands with its limit: kept from the request phase to the response phase in a
//! variable, and told in headers.

use std::time::Duration;

use wasmgate_sdk::{HostError, Request, Response, counters::Bucket};

use crate::limit::Limit;

/// Between the phases of one request.
const VAR: &str = "rate-limit";

pub struct Standing {
    rate: u64,
    /// Seconds.
    per: u64,
    burst: u64,
    pub remaining: u64,
    /// Seconds until the bucket is full.
    reset: u64,
}

impl Standing {
    pub fn new(limit: &Limit, bucket: Bucket) -> Self {
        Standing {
            rate: limit.rate.into(),
            per: seconds_up(*limit.per),
            burst: limit.burst().into(),
            remaining: bucket.remaining,
            reset: seconds_up(bucket.reset),
        }
    }

    pub fn remember(&self, request: &Request) -> Result<(), HostError> {
        let Standing { rate, per, burst, remaining, reset } = self;
        request.set_var(VAR, format!("{rate} {per} {burst} {remaining} {reset}"))
    }

    pub fn recall(request: &Request) -> Option<Self> {
        let text = request.var_str(VAR)?;
        let numbers: Vec<u64> = text.split(' ').map_while(|number| number.parse().ok()).collect();
        let [rate, per, burst, remaining, reset] = numbers[..] else { return None };
        Some(Standing { rate, per, burst, remaining, reset })
    }

    /// draft-ietf-httpapi-ratelimit-headers-10, sections 3 and 4.
    pub fn tell_draft(&self, response: &Response) -> Result<(), HostError> {
        let Standing { rate, per, remaining, reset, .. } = self;
        response.set_header("ratelimit-policy", format!("\"default\";q={rate};w={per}"))?;
        response.set_header("ratelimit", format!("\"default\";r={remaining};t={reset}"))
    }

    pub fn tell_x(&self, response: &Response) -> Result<(), HostError> {
        response.set_header("x-ratelimit-limit", self.burst.to_string())?;
        response.set_header("x-ratelimit-remaining", self.remaining.to_string())?;
        response.set_header("x-ratelimit-reset", self.reset.to_string())
    }
}

pub fn seconds_up(time: Duration) -> u64 {
    time.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX)
}
