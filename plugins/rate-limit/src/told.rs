//! Where a client stands with its limits: told in headers of the answer, where plugins of this kind that follow find it.

use std::{borrow::Cow, time::Duration};

use wasmgate_sdk::{
    HostError, Request,
    rate_limits::{self, Algorithm},
};

use crate::Headers;

const POLICY: &str = "ratelimit-policy";
const RATELIMIT: &str = "ratelimit";
const X_LIMIT: &str = "x-ratelimit-limit";
const X_REMAINING: &str = "x-ratelimit-remaining";
const X_RESET: &str = "x-ratelimit-reset";

/// The limit that is met first, and where the client stands with it.
pub struct Told<'a> {
    name: Cow<'a, str>,
    /// Most that there is of it at once.
    most: u64,
    pub remaining: u64,
    /// Seconds until all of it is there again.
    reset: u64,
}

impl<'a> Told<'a> {
    pub fn new(name: &'a str, limit: &rate_limits::Limit, standing: &rate_limits::Standing) -> Self {
        let most = match limit.algorithm {
            Algorithm::TokenBucket | Algorithm::LeakyBucket if limit.amount > 0 => limit.burst,
            _ => limit.amount,
        };
        Told {
            name: Cow::Borrowed(name),
            most: most.into(),
            remaining: if most > 0 { standing.remaining } else { 0 },
            reset: seconds_up(standing.reset),
        }
    }

    /// What a plugin before this one tells, as far as this one would tell it, too, and all policies.
    pub fn before(request: &Request, headers: Headers) -> Option<(Self, String)> {
        let number = |text: &str| text.parse().ok();
        match headers {
            Headers::None => None,
            Headers::X => {
                let told = Told {
                    name: Cow::Borrowed(""),
                    most: number(&request.answer_header(X_LIMIT)?)?,
                    remaining: number(&request.answer_header(X_REMAINING)?)?,
                    reset: number(&request.answer_header(X_RESET)?)?,
                };
                Some((told, String::new()))
            }
            Headers::Both | Headers::Draft => {
                let text = request.answer_header(RATELIMIT)?;
                let (name, rest) = text.strip_prefix('"')?.split_once("\";r=")?;
                let (remaining, reset) = rest.split_once(";t=")?;
                let most = request.answer_header(X_LIMIT);
                let told = Told {
                    name: Cow::Owned(name.to_string()),
                    most: most.as_deref().and_then(number).unwrap_or_default(),
                    remaining: number(remaining)?,
                    reset: number(reset)?,
                };
                Some((told, request.answer_header(POLICY)?))
            }
        }
    }

    /// draft-ietf-httpapi-ratelimit-headers-10, sections 3 and 4, and those with `X-`.
    pub fn set(&self, request: &Request, policy: &str, headers: Headers) -> Result<(), HostError> {
        let [most, remaining, reset] =
            [self.most, self.remaining, self.reset].map(|number| number.to_string());
        let ratelimit = ["\"", &self.name, "\";r=", &remaining, ";t=", &reset].concat();
        let all = [
            (POLICY, policy),
            (RATELIMIT, &ratelimit),
            (X_LIMIT, &most),
            (X_REMAINING, &remaining),
            (X_RESET, &reset),
        ];
        request.set_answer_headers(match headers {
            Headers::Both => &all,
            Headers::Draft => &all[..2],
            Headers::X => &all[2..],
            Headers::None => &[],
        })
    }
}

pub fn policy(name: &str, limit: &rate_limits::Limit) -> String {
    format!("\"{name}\";q={};w={}", limit.amount, seconds_up(limit.per))
}

pub fn seconds_up(time: Duration) -> u64 {
    time.as_secs().saturating_add(u64::from(time.subsec_millis() > 0))
}
