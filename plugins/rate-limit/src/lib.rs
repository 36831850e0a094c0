//! Limits requests with token buckets in the host: one bucket per key, shared by all workers, and
//! what is left of it in the headers of every answer.

mod key;
mod limit;
mod standing;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use wasmgate_sdk::{
    Error, HostError, LocalResponse, Phases, Plugin, Request, Response, Result, Verdict, config,
    counters::{self, Bucket},
    metrics::Counter,
    plugin,
};

use key::Key;
use limit::Limit;
use standing::{Standing, seconds_up};

/// How many requests, of whom, and how the client is told.
#[config]
pub struct Config {
    /// The bucket of every key.
    limit: Limit,
    /// What a bucket belongs to: "ip" (default), "consumer", "route", "path", "const" or
    /// "header:NAME". Where a request lacks it, its address counts.
    #[serde(default = "default_key")]
    key: String,
    /// Whether each route has buckets of its own.
    #[serde(default)]
    scope: Scope,
    /// Other limits for the plans of consumers, by the variable "plan".
    #[serde(default)]
    plans: BTreeMap<String, Limit>,
    /// Leading bits of an IPv6 address that are one client, at most 128. Default: 64.
    #[serde(default = "default_ipv6_prefix")]
    ipv6_prefix: u8,
    /// Headers of every answer.
    #[serde(default)]
    headers: Headers,
    /// Tokens that a request takes, at least 1. Default: 1.
    #[serde(default = "default_cost")]
    cost: u32,
    /// What happens when the host can hold no more keys.
    #[serde(default)]
    on_exhausted: OnExhausted,
    /// Whether CORS preflights are counted.
    #[serde(default)]
    count_preflight: bool,
}

#[config]
#[serde(rename_all = "lowercase")]
#[derive(Clone, Copy, Default, PartialEq)]
enum Headers {
    /// Both kinds.
    #[default]
    Both,
    /// RateLimit and RateLimit-Policy (draft-ietf-httpapi-ratelimit-headers-10).
    Draft,
    /// X-RateLimit-Limit, -Remaining and -Reset in seconds.
    X,
    /// None.
    None,
}

#[config]
#[serde(rename_all = "lowercase")]
#[derive(Clone, Copy, Default, PartialEq)]
enum Scope {
    /// Each route counts for itself.
    #[default]
    Route,
    /// All routes with this limit count together.
    Global,
}

#[config]
#[serde(rename_all = "lowercase")]
#[derive(Clone, Copy, Default, PartialEq)]
enum OnExhausted {
    /// The request passes, uncounted.
    #[default]
    Allow,
    /// The request is answered with 503.
    Deny,
}

fn default_key() -> String {
    "ip".to_string()
}

fn default_ipv6_prefix() -> u8 {
    64
}

fn default_cost() -> u32 {
    1
}

pub struct RateLimit {
    config: Config,
    key: Key,
    allowed: Counter,
    limited: Counter,
}

#[plugin]
impl Plugin for RateLimit {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        config.limit.check("limit", config.cost)?;
        for (plan, limit) in &config.plans {
            limit.check(&format!("plans.{plan}"), config.cost)?;
        }
        if config.cost == 0 {
            return Err(Error::msg("cost: must be at least 1"));
        }
        let key = Key::parse(&config.key, config.ipv6_prefix)?;
        let (allowed, limited) = (Counter::new("allowed", &[])?, Counter::new("limited", &[])?);
        Ok(RateLimit { config, key, allowed, limited })
    }

    fn phases(&self) -> Phases {
        match self.config.headers {
            Headers::None => Phases::REQUEST,
            _ => Phases::REQUEST | Phases::RESPONSE,
        }
    }

    fn on_request(&self, request: &Request) -> Result<Verdict> {
        if !self.config.count_preflight && is_preflight(request) {
            return Ok(Verdict::Next);
        }
        let plan = request.var_str("plan");
        let limit = plan.and_then(|plan| self.config.plans.get(&plan)).unwrap_or(&self.config.limit);
        match counters::take(&self.bucket_key(request, limit), self.config.cost, limit.bucket()) {
            Ok(bucket) => self.decide(request, Standing::new(limit, bucket), bucket),
            Err(HostError::Exhausted) => Ok(self.exhausted()),
            Err(error) => Err(error.into()),
        }
    }

    fn on_response(&self, request: &Request, response: &Response) -> Result<Verdict> {
        let Some(standing) = Standing::recall(request) else {
            return Ok(Verdict::Next);
        };
        if matches!(self.config.headers, Headers::Both | Headers::Draft) {
            standing.tell_draft(response)?;
        }
        if matches!(self.config.headers, Headers::Both | Headers::X) {
            standing.tell_x(response)?;
        }
        Ok(Verdict::Next)
    }
}

impl RateLimit {
    /// Limits that differ have buckets that differ, also of the same client.
    fn bucket_key(&self, request: &Request, limit: &Limit) -> String {
        let route = match self.config.scope {
            Scope::Route => request.route(),
            Scope::Global => String::new(),
        };
        format!("{limit} {route} {}", self.key.of(request))
    }

    fn decide(&self, request: &Request, standing: Standing, bucket: Bucket) -> Result<Verdict> {
        if bucket.allowed {
            self.allowed.increment();
            // Of several limits the client is told the one it meets first.
            if Standing::recall(request).is_none_or(|other| standing.remaining < other.remaining) {
                standing.remember(request)?;
            }
            return Ok(Verdict::Next);
        }
        self.limited.increment();
        standing.remember(request)?;
        let answer = LocalResponse::new(429).code("rate_limited").detail("API rate limit exceeded");
        Ok(answer.header("retry-after", seconds_up(bucket.retry_after).max(1).to_string()).into())
    }

    fn exhausted(&self) -> Verdict {
        match self.config.on_exhausted {
            OnExhausted::Allow => Verdict::Next,
            OnExhausted::Deny => LocalResponse::new(503)
                .code("rate_limit_exhausted")
                .detail("The rate limit cannot be checked")
                .into(),
        }
    }
}

/// A browser asks before it sends a request (Fetch standard, CORS-preflight request).
fn is_preflight(request: &Request) -> bool {
    request.method() == "OPTIONS"
        && request.header("origin").is_some()
        && request.header("access-control-request-method").is_some()
}
