//! Where a client stands with its limits: kept from the request phase to the response phase in a variable, and told in
//! headers.

use std::time::Duration;

use wasmgate_sdk::{
    HostError, Request, Response,
    rate_limits::{self, Algorithm},
};

/// Between the phases of one request.
const VAR: &str = "rate-limit";

/// With the limit that is met first.
pub struct Standing {
    /// Most that there is of it at once.
    most: u64,
    pub remaining: u64,
    /// Seconds until all of it is there again.
    reset: u64,
    name: String,
    /// All limits, as RateLimit-Policy tells them.
    pub policy: String,
}

impl Standing {
    pub fn new(name: &str, limit: &rate_limits::Limit, standing: &rate_limits::Standing) -> Self {
        let most = match limit.algorithm {
            Algorithm::TokenBucket | Algorithm::LeakyBucket => limit.burst,
            _ => limit.amount,
        };
        Standing {
            most: most.into(),
            remaining: standing.remaining,
            reset: seconds_up(standing.reset),
            name: name.to_string(),
            policy: String::new(),
        }
    }

    pub fn remember(&self, request: &Request) -> Result<(), HostError> {
        let Standing { most, remaining, reset, name, policy } = self;
        request.set_var(VAR, format!("{most} {remaining} {reset} {name} {policy}"))
    }

    pub fn recall(request: &Request) -> Option<Self> {
        let text = request.var_str(VAR)?;
        let mut parts = text.splitn(5, ' ');
        let mut number = || parts.next()?.parse().ok();
        let (most, remaining, reset) = (number()?, number()?, number()?);
        let (name, policy) = (parts.next()?.to_string(), parts.next()?.to_string());
        Some(Standing { most, remaining, reset, name, policy })
    }

    /// draft-ietf-httpapi-ratelimit-headers-10, sections 3 and 4.
    pub fn tell_draft(&self, response: &Response) -> Result<(), HostError> {
        let Standing { remaining, reset, name, policy, .. } = self;
        response.set_header("ratelimit-policy", policy)?;
        response.set_header("ratelimit", format!("\"{name}\";r={remaining};t={reset}"))
    }

    pub fn tell_x(&self, response: &Response) -> Result<(), HostError> {
        response.set_header("x-ratelimit-limit", self.most.to_string())?;
        response.set_header("x-ratelimit-remaining", self.remaining.to_string())?;
        response.set_header("x-ratelimit-reset", self.reset.to_string())
    }
}

pub fn policy(name: &str, limit: &rate_limits::Limit) -> String {
    format!("\"{name}\";q={};w={}", limit.amount, seconds_up(limit.per))
}

pub fn seconds_up(time: Duration) -> u64 {
    time.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX)
}
