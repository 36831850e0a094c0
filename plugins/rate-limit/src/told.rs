//! Where a client stands with its limits: told in headers of the answer, where plugins of this kind that follow find it.

use std::time::Duration;

use wasmgate_sdk::{
    Request,
    rate_limits::{self, Algorithm},
};

use crate::Headers;

const POLICY: &str = "ratelimit-policy";
const RATELIMIT: &str = "ratelimit";
const X_LIMIT: &str = "x-ratelimit-limit";
const X_REMAINING: &str = "x-ratelimit-remaining";
const X_RESET: &str = "x-ratelimit-reset";

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

    /// What a plugin before this one tells, as far as this one would tell it, too.
    pub fn told(request: &Request, headers: Headers) -> Option<Self> {
        let number = |text: &str| text.parse().ok();
        let told = match headers {
            Headers::None => return None,
            Headers::X => Standing {
                most: number(&request.answer_header(X_LIMIT)?)?,
                remaining: number(&request.answer_header(X_REMAINING)?)?,
                reset: number(&request.answer_header(X_RESET)?)?,
                name: String::new(),
                policy: String::new(),
            },
            Headers::Both | Headers::Draft => {
                let text = request.answer_header(RATELIMIT)?;
                let (name, rest) = text.strip_prefix('"')?.split_once("\";r=")?;
                let (remaining, reset) = rest.split_once(";t=")?;
                let most = request.answer_header(X_LIMIT);
                Standing {
                    most: most.as_deref().and_then(number).unwrap_or_default(),
                    remaining: number(remaining)?,
                    reset: number(reset)?,
                    name: name.to_string(),
                    policy: request.answer_header(POLICY)?,
                }
            }
        };
        Some(told)
    }

    /// draft-ietf-httpapi-ratelimit-headers-10, sections 3 and 4, and those with `X-`.
    pub fn headers(self, headers: Headers) -> Vec<(&'static str, String)> {
        let Standing { most, remaining, reset, name, policy } = self;
        let mut told = Vec::with_capacity(5);
        if matches!(headers, Headers::Both | Headers::Draft) {
            told.push((POLICY, policy));
            told.push((
                RATELIMIT,
                ["\"", &name, "\";r=", &remaining.to_string(), ";t=", &reset.to_string()].concat(),
            ));
        }
        if matches!(headers, Headers::Both | Headers::X) {
            told.push((X_LIMIT, most.to_string()));
            told.push((X_REMAINING, remaining.to_string()));
            told.push((X_RESET, reset.to_string()));
        }
        told
    }
}

pub fn policy(name: &str, limit: &rate_limits::Limit) -> String {
    format!("\"{name}\";q={};w={}", limit.amount, seconds_up(limit.per))
}

pub fn seconds_up(time: Duration) -> u64 {
    time.as_secs().saturating_add(u64::from(time.subsec_millis() > 0))
}
