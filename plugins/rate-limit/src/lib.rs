//! Limits requests: one limit or several at once, by several algorithms, each for a key such as the client's address. The
//! numbers are in the host, shared by all workers or in a Redis by all gateways, and what is left of them is in the headers of
//! every answer.

mod key;
mod limit;
mod plans;
#[cfg(test)]
mod tests;
mod told;

use std::{borrow::Cow, collections::BTreeMap, rc::Rc};

use wasmgate_sdk::{
    Error, HostError, LocalResponse, Plugin, Request, Result, Verdict,
    audit::{Reason, Why},
    clock, config, log,
    metrics::Counter,
    plugin,
    rate_limits::{self, Algorithm},
};

use key::{Key, Words};
use limit::{Defaults, Limit};
use plans::{ConsumerPlans, OfPlan};
use told::{Told, policy, seconds_up};

/// How many requests, of whom, and how the client is told. At least one of `limit`, `limits` and `plans`.
#[config]
#[serde(default)]
pub struct Config {
    /// The limit, where there is one.
    limit: Option<Limit>,
    /// Limits that all have to allow a request: one that is refused takes nothing of any.
    limits: Vec<Limit>,
    /// How requests are counted where a limit does not say it.
    algorithm: Algorithm,
    /// Whom a limit belongs to: "ip", "consumer", "credential", "group" (all groups of the consumer together), "route", "path",
    /// "const", "header:NAME", "cookie:NAME" or "claim:PATH"; a list of such, or a template such as "{consumer}/{path}". For what
    /// a request lacks, its address counts.
    key: Words,
    /// Whether each route counts for itself.
    scope: Scope,
    /// Limits in place of the others for the plans of consumers, by the variable "plan".
    plans: BTreeMap<String, Plan>,
    /// Whether the limits of the consumer's plan (`[plan.NAME]` of the gateway's config, which `consumers = true` of the plugin's
    /// table lets it see) are in place of the others, each for the consumer.
    consumer_plans: bool,
    /// Leading bits of an IPv6 address that are one client, at most 128.
    ipv6_prefix: u8,
    /// Headers of every answer.
    headers: Headers,
    /// What a request takes where a limit does not say it, at least 1.
    cost: u32,
    /// Requests are counted, and all pass: what would be refused is logged and counted in a metric of its own.
    dry_run: bool,
    /// What happens when the host can hold no more keys.
    on_exhausted: OnExhausted,
    /// Whether CORS preflights are counted.
    count_preflight: bool,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            limit: None,
            limits: Vec::new(),
            algorithm: Algorithm::default(),
            key: Words::One("ip".to_string()),
            scope: Scope::default(),
            plans: BTreeMap::new(),
            consumer_plans: false,
            ipv6_prefix: 64,
            headers: Headers::default(),
            cost: 1,
            dry_run: false,
            on_exhausted: OnExhausted::default(),
            count_preflight: false,
        }
    }
}

/// The limits of a plan.
#[config]
#[serde(untagged, expecting = "expected a limit or a list of limits")]
enum Plan {
    /// One.
    One(Limit),
    /// All of them have to allow a request.
    All(Vec<Limit>),
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

pub struct RateLimit {
    headers: Headers,
    scope: Scope,
    dry_run: bool,
    on_exhausted: OnExhausted,
    count_preflight: bool,
    limits: Vec<Counted>,
    plans: BTreeMap<String, Vec<Counted>>,
    consumer_plans: Option<ConsumerPlans>,
    allowed: Counter,
    limited: Counter,
    would_limit: Counter,
}

/// A limit with its name and whom it belongs to.
struct Counted {
    name: String,
    limit: rate_limits::Limit,
    /// As RateLimit-Policy tells it.
    policy: String,
    /// Limits that belong to the same have the same.
    key: Rc<Key>,
}

#[plugin]
impl Plugin for RateLimit {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        if config.cost == 0 {
            return Err(Error::msg("cost: must be at least 1"));
        }
        let key = Rc::new(Key::parse("key", &config.key, config.ipv6_prefix)?);
        let mut limits = Vec::new();
        if let Some(limit) = &config.limit {
            limits.push(config.counted("limit", "default", limit, &key)?);
        }
        limits.extend(config.all("limits", &config.limits, &key)?);
        let plans = config.plans.iter().map(|(plan, limits)| {
            let at = format!("plans.{plan}");
            let limits = match limits {
                Plan::One(limit) => vec![config.counted(&at, "default", limit, &key)?],
                Plan::All(limits) => config.all(&at, limits, &key)?,
            };
            Ok((plan.clone(), limits))
        });
        let plans = plans.collect::<Result<BTreeMap<_, _>>>()?;
        let consumer_plans = match config.consumer_plans {
            true => Some(ConsumerPlans::new(config.algorithm, config.cost)?),
            false => None,
        };
        if limits.is_empty() && plans.is_empty() && consumer_plans.is_none() {
            return Err(Error::msg("limit: neither limit nor limits nor plans is given"));
        }
        Ok(RateLimit {
            headers: config.headers,
            scope: config.scope,
            dry_run: config.dry_run,
            on_exhausted: config.on_exhausted,
            count_preflight: config.count_preflight,
            limits,
            plans,
            consumer_plans,
            allowed: Counter::new("allowed", &[])?,
            limited: Counter::new("limited", &[])?,
            would_limit: Counter::new("would_limit", &[])?,
        })
    }

    fn on_request(&self, request: &Request) -> Result<Verdict> {
        if !self.count_preflight && request.is_preflight() {
            return Ok(Verdict::Next);
        }
        let of_plan;
        let mut limits = self.limits(request);
        if let Some(plans) = &self.consumer_plans {
            match plans.limits(request) {
                Ok(OfPlan::Limits(found)) => {
                    of_plan = found;
                    limits = &of_plan;
                }
                // Whoever had a plan has not lost all limits with it.
                Ok(OfPlan::Unknown(plan)) if limits.is_empty() && !self.dry_run => {
                    return Ok(unknown_plan(&plan).into());
                }
                Ok(_) => {}
                Err(failure) => return Ok(failure.answer().into()),
            }
        }
        let decided = match limits {
            [] => return Ok(Verdict::Next),
            [one] => self.take_one(request, one).map(|standing| self.decide(request, limits, &[standing])),
            several => self.take(request, several).map(|standings| self.decide(request, limits, &standings)),
        };
        match decided {
            Ok(verdict) => verdict,
            Err(HostError::Exhausted) => Ok(self.exhausted()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Config {
    fn all(&self, at: &str, limits: &[Limit], key: &Rc<Key>) -> Result<Vec<Counted>> {
        let limits = limits.iter().enumerate();
        let all = limits
            .map(|(place, limit)| self.counted(&format!("{at}[{place}]"), &format!("{place}"), limit, key));
        all.collect()
    }

    /// `at` is where it stands in the config, `name` what it is called and `key` whom it belongs to where it does not say it.
    fn counted(&self, at: &str, name: &str, limit: &Limit, key: &Rc<Key>) -> Result<Counted> {
        let or = Defaults { algorithm: self.algorithm, cost: self.cost };
        let own = |words| Key::parse(&format!("{at}.key"), words, self.ipv6_prefix).map(Rc::new);
        let name = limit.name.clone().unwrap_or_else(|| name.to_string());
        let key = limit.key.as_ref().map_or_else(|| Ok(key.clone()), own)?;
        Ok(Counted::new(name, limit.check(at, or)?, key))
    }
}

impl Counted {
    fn new(name: String, limit: rate_limits::Limit, key: Rc<Key>) -> Self {
        Counted { policy: policy(&name, &limit), name, limit, key }
    }
}

impl RateLimit {
    fn limits(&self, request: &Request) -> &[Counted] {
        let of_plan = match self.plans.is_empty() {
            true => None,
            false => request.var_str("plan").and_then(|plan| self.plans.get(&plan)),
        };
        of_plan.unwrap_or(&self.limits)
    }

    fn key<'k>(&self, client: Option<u8>, text: &'k str) -> rate_limits::Key<'k> {
        rate_limits::Key { route: self.scope == Scope::Route, client, text }
    }

    fn take_one(&self, request: &Request, counted: &Counted) -> Result<rate_limits::Standing, HostError> {
        let (client, text) = counted.key.of(request);
        rate_limits::take_one(self.key(client, &text), &counted.limit)
    }

    fn take(&self, request: &Request, limits: &[Counted]) -> Result<Vec<rate_limits::Standing>, HostError> {
        let mut keys: Vec<(Option<u8>, String)> = Vec::with_capacity(limits.len());
        for (place, counted) in limits.iter().enumerate() {
            let same = limits[..place].iter().position(|before| Rc::ptr_eq(&before.key, &counted.key));
            keys.push(match same {
                Some(before) => keys[before].clone(),
                None => counted.key.of(request),
            });
        }
        let asked = keys.iter().map(|(client, text)| self.key(*client, text));
        let asked: Vec<_> = asked.zip(limits.iter().map(|counted| counted.limit)).collect();
        rate_limits::take(&asked)
    }

    fn decide(
        &self,
        request: &Request,
        limits: &[Counted],
        standings: &[rate_limits::Standing],
    ) -> Result<Verdict> {
        let refused = standings.iter().filter(|standing| !standing.allowed);
        let retry_after = refused.map(|standing| standing.retry_after).max();
        if self.headers != Headers::None {
            self.tell(request, limits, standings)?;
        }
        match retry_after {
            None => {
                self.allowed.increment();
                if let Some(delay) = standings.iter().map(|standing| standing.delay).max()
                    && !self.dry_run
                    && !delay.is_zero()
                {
                    clock::sleep(delay);
                }
                Ok(Verdict::Next)
            }
            Some(_) if self.dry_run => {
                self.would_limit.increment();
                Ok(Verdict::Next)
            }
            Some(retry_after) => {
                self.limited.increment();
                let over = limits.iter().zip(standings).find(|(_, standing)| !standing.allowed);
                let reason = Reason::new(Why::RATE_LIMITED);
                let reason = over.map_or(reason.clone(), |(over, _)| reason.detail(&*over.name));
                let answer = LocalResponse::new(429).code("rate_limited").detail("API rate limit exceeded");
                let answer = answer.why(reason);
                // What is never allowed need not be tried again.
                Ok(match seconds_up(retry_after) {
                    NEVER.. => answer.into(),
                    seconds => answer.header("retry-after", seconds.max(1).to_string()).into(),
                })
            }
        }
    }

    /// Of several limits the one that refuses, or else the one with the least left, also of those of plugins before this one.
    fn tell(
        &self,
        request: &Request,
        limits: &[Counted],
        standings: &[rate_limits::Standing],
    ) -> Result<(), HostError> {
        let before = Told::before(request, self.headers);
        let all = || limits.iter().zip(standings);
        let refused = all().find(|(_, standing)| !standing.allowed);
        let least = || all().min_by_key(|(_, standing)| standing.remaining);
        let Some((counted, standing)) = refused.or_else(least) else { return Ok(()) };
        let told = Told::new(&counted.name, &counted.limit, standing);
        let (told, policy) = match &before {
            None => (&told, policies("", limits)),
            Some((before, policy)) => {
                let is_lower = refused.is_none() && before.remaining <= told.remaining;
                (if is_lower { before } else { &told }, policies(policy, limits))
            }
        };
        told.set(request, &policy, self.headers)
    }

    fn exhausted(&self) -> Verdict {
        match self.on_exhausted {
            OnExhausted::Allow => Verdict::Next,
            OnExhausted::Deny => LocalResponse::new(503)
                .code("rate_limit_exhausted")
                .detail("The rate limit cannot be checked")
                .why(Why::UNAVAILABLE)
                .into(),
        }
    }
}

/// Those before and all of these, as RateLimit-Policy tells them.
fn policies<'a>(before: &str, limits: &'a [Counted]) -> Cow<'a, str> {
    match limits {
        [one] if before.is_empty() => Cow::Borrowed(&one.policy),
        all => {
            let before = Some(before).filter(|before| !before.is_empty());
            let all = before.into_iter().chain(all.iter().map(|counted| counted.policy.as_str()));
            Cow::Owned(all.collect::<Vec<_>>().join(", "))
        }
    }
}

fn unknown_plan(plan: &str) -> LocalResponse {
    log::error!("the config has no plan {plan:?} for a consumer that has it, and there is no other limit");
    let answer = LocalResponse::new(503).code("plan_unknown");
    answer.detail("The plan of the consumer is not known").why(Reason::new(Why::UNAVAILABLE).detail(plan))
}

/// Seconds that nobody waits.
const NEVER: u64 = 1000 * 365 * 24 * 60 * 60;
