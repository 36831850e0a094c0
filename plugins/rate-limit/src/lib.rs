//! Limits requests with token buckets in the host: one bucket per key, shared by all workers, and
//! what is left of it in the headers of every answer.

mod key;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use wasmgate_sdk::{
    Duration, Error, HostError, LocalResponse, Plugin, Request, Response, Result, Verdict, config, counters,
    metrics::Counter, plugin,
};

use key::Key;

/// Between the phases of one request.
const VAR: &str = "rate-limit";

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
    /// Leading bits of an IPv6 address that are one client.
    #[serde(default = "default_ipv6_prefix")]
    ipv6_prefix: u8,
    /// Headers of every answer.
    #[serde(default)]
    headers: Headers,
    /// Tokens that a request takes.
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
#[derive(Clone, Copy)]
struct Limit {
    /// Requests per time; tokens that the bucket gains.
    rate: u32,
    /// That time, such as "1m".
    per: Duration,
    /// Requests at once; tokens that the bucket holds. Default: the rate.
    burst: Option<u32>,
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
        config.limit.check("limit")?;
        for (plan, limit) in &config.plans {
            limit.check(&format!("plans.{plan}"))?;
        }
        let key = Key::parse(&config.key, config.ipv6_prefix)?;
        let (allowed, limited) = (Counter::new("allowed", &[])?, Counter::new("limited", &[])?);
        Ok(RateLimit { config, key, allowed, limited })
    }

    fn on_request(&self, request: &Request) -> Result<Verdict> {
        if !self.config.count_preflight && is_preflight(request) {
            return Ok(Verdict::Next);
        }
        let plan = request.var_str("plan");
        let limit = plan.and_then(|plan| self.config.plans.get(&plan)).unwrap_or(&self.config.limit);
        let bucket = match counters::take(&self.bucket_key(request, limit), self.config.cost, limit.bucket())
        {
            Ok(bucket) => bucket,
            Err(HostError::Exhausted) => return Ok(self.exhausted()),
            Err(error) => return Err(error.into()),
        };
        let state = State { limit: *limit, remaining: bucket.remaining, reset: seconds_up(bucket.reset) };
        if bucket.allowed {
            self.allowed.increment();
            request.set_var(VAR, state.text())?;
            return Ok(Verdict::Next);
        }
        self.limited.increment();
        request.set_var(VAR, state.text())?;
        let answer = LocalResponse::new(429).code("rate_limited").detail("API rate limit exceeded");
        // A cost above the burst would never be allowed: then there is no time to come back.
        Ok(match self.config.cost <= limit.burst() {
            true => answer.header("retry-after", seconds_up(bucket.retry_after).max(1).to_string()).into(),
            false => answer.into(),
        })
    }

    fn on_response(&self, request: &Request, response: &Response) -> Result<Verdict> {
        if let Some(state) = request.var_str(VAR).and_then(|text| State::read(&text)) {
            self.announce(response, &state)?;
        }
        Ok(Verdict::Next)
    }
}

impl RateLimit {
    /// Limits that differ have buckets that differ, also of the same client.
    fn bucket_key(&self, request: &Request, limit: &Limit) -> String {
        let (rate, per, burst) = (limit.rate, limit.per.as_millis(), limit.burst());
        let route = match self.config.scope {
            Scope::Route => request.route(),
            Scope::Global => String::new(),
        };
        format!("{rate}/{per}/{burst} {route} {}", self.key.of(request))
    }

    fn exhausted(&self) -> Verdict {
        match self.config.on_exhausted {
            OnExhausted::Allow => Verdict::Next,
            OnExhausted::Deny => LocalResponse::new(503).code("rate_limit_exhausted").into(),
        }
    }

    fn announce(&self, response: &Response, state: &State) -> Result<(), HostError> {
        let (burst, remaining, reset) = (state.limit.burst(), state.remaining, state.reset);
        if matches!(self.config.headers, Headers::Both | Headers::Draft) {
            let (rate, window) = (state.limit.rate, seconds_up(*state.limit.per));
            response.set_header("ratelimit-policy", format!("\"default\";q={rate};w={window}"))?;
            response.set_header("ratelimit", format!("\"default\";r={remaining};t={reset}"))?;
        }
        if matches!(self.config.headers, Headers::Both | Headers::X) {
            response.set_header("x-ratelimit-limit", burst.to_string())?;
            response.set_header("x-ratelimit-remaining", remaining.to_string())?;
            response.set_header("x-ratelimit-reset", reset.to_string())?;
        }
        Ok(())
    }
}

/// What the response says.
struct State {
    limit: Limit,
    remaining: u64,
    /// Seconds until the bucket is full.
    reset: u64,
}

impl State {
    fn text(&self) -> String {
        let (limit, per) = (self.limit, self.limit.per.as_millis());
        format!("{} {per} {} {} {}", limit.rate, limit.burst(), self.remaining, self.reset)
    }

    fn read(text: &str) -> Option<State> {
        let numbers: Vec<u64> = text.split(' ').map_while(|number| number.parse().ok()).collect();
        let [rate, per, burst, remaining, reset] = numbers[..] else { return None };
        let (rate, burst) = (u32::try_from(rate).ok()?, u32::try_from(burst).ok()?);
        let per = Duration(std::time::Duration::from_millis(per));
        Some(State { limit: Limit { rate, per, burst: Some(burst) }, remaining, reset })
    }
}

impl Limit {
    fn check(&self, key: &str) -> Result<()> {
        if self.rate == 0 || self.burst == Some(0) {
            return Err(Error::msg(format_args!("{key}: rate and burst are at least 1")));
        }
        match u32::try_from(self.per.as_millis()) {
            Ok(1..) => Ok(()),
            _ => Err(Error::msg(format_args!("{key}.per: is at least 1ms and at most 49 days"))),
        }
    }

    fn burst(&self) -> u32 {
        self.burst.unwrap_or(self.rate)
    }

    fn bucket(&self) -> counters::Limit {
        counters::Limit { capacity: self.burst(), refill: self.rate, period: *self.per }
    }
}

fn is_preflight(request: &Request) -> bool {
    request.method() == "OPTIONS" && request.header("access-control-request-method").is_some()
}

fn seconds_up(time: std::time::Duration) -> u64 {
    time.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX)
}
