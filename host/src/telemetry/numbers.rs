//! What is counted of what: the sheets that a worker fills in. Meanings and units stand with the
//! metrics that are made of them (`page.rs`).

use std::{
    borrow::Cow,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use http::{Method, StatusCode};
use prometheus_client::metrics::counter::Counter;

use super::tally::{Spread, Tally};

/// Phases of plugins, by place.
pub const PHASES: [&str; 5] = ["request", "request-body", "response", "response-body", "log"];
/// Ways in which plugins fail, by place.
pub const FAILURES: [&str; 6] = ["error", "trap", "deadline", "memory", "saturated", "broken"];
/// Limits on a listener's connections, by place.
pub const CONNECTION_LIMITS: [&str; 2] = ["connections", "connections_per_client"];
/// Ways in which a Redis does not answer, by place.
pub const REDIS_FAILURES: [&str; 3] = ["unreachable", "timeout", "error"];
/// Methods that are told apart; further ones are OTHER.
pub const METHODS: [&str; 10] =
    ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "OTHER"];
/// Classes of status.
pub const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// One call in so many is timed: reading the clock twice costs a twentieth of a short one.
pub const TIMED: u64 = 16;

/// Reasons that a worker tells apart of one route or plugin; further ones are "other".
const MAX_REASONS: usize = 100;

/// Counts by reason, and by what else tells them apart. Locked by the worker and, now and then, the page.
#[derive(Debug)]
pub struct Reasons<K>(Mutex<Vec<(K, Cow<'static, str>, u64)>>);

impl<K> Default for Reasons<K> {
    fn default() -> Self {
        Reasons(Mutex::default())
    }
}

impl<K: Clone + Eq> Reasons<K> {
    #[expect(clippy::ptr_arg, reason = "a static one is kept without a copy")]
    pub fn add(&self, key: K, reason: &Cow<'static, str>) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let full = counts.len() >= MAX_REASONS;
        let place = |reason: &str, counts: &[(K, Cow<'static, str>, u64)]| {
            counts.iter().position(|(known, word, _)| *known == key && word == reason)
        };
        let reason = match place(reason, &counts) {
            Some(place) => return counts[place].2 += 1,
            None if full => Cow::Borrowed("other"),
            None => reason.clone(),
        };
        match place(&reason, &counts) {
            Some(place) => counts[place].2 += 1,
            None => counts.push((key, reason, 1)),
        }
    }

    pub fn all(&self) -> Vec<(K, Cow<'static, str>, u64)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The place of a status in [`CLASSES`].
fn class(status: u16) -> usize {
    usize::from(status / 100).clamp(1, CLASSES.len()) - 1
}

/// Of one route.
#[derive(Debug)]
pub struct RouteNumbers {
    /// Answers without a reason, by method and class of status.
    pub plain: [[Tally; CLASSES.len()]; METHODS.len()],
    /// The others.
    pub reasons: Reasons<Answer>,
    pub duration: Spread,
    pub begun: Tally,
    pub ended: Tally,
}

/// What tells answers apart beside their reasons; method and class by place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Answer {
    pub method: usize,
    pub class: usize,
}

impl RouteNumbers {
    pub fn new(bounds: Arc<[Duration]>) -> Self {
        RouteNumbers {
            plain: Default::default(),
            reasons: Reasons::default(),
            duration: Spread::new(bounds),
            begun: Tally::default(),
            ended: Tally::default(),
        }
    }

    /// A request has its answer, for this reason where the gateway or a plugin gave it.
    pub fn ended(&self, method: &Method, status: u16, reason: Option<&Cow<'static, str>>, took: Duration) {
        self.ended.add(1);
        self.duration.observe(took);
        let method = METHODS.iter().position(|known| *known == method.as_str()).unwrap_or(METHODS.len() - 1);
        let class = class(status);
        match reason {
            None => self.plain[method][class].add(1),
            Some(reason) => self.reasons.add(Answer { method, class }, reason),
        }
    }
}

/// Of one plugin.
#[derive(Debug)]
pub struct PluginNumbers {
    /// By phase.
    pub phases: [PhaseNumbers; PHASES.len()],
    /// Live ones, and the memory that they have.
    pub instances: Tally,
    pub memory: Tally,
    pub host_calls: Tally,
    /// Requests that it refused and told why.
    pub refusals: Reasons<()>,
    /// Breakers that are open.
    pub open: Tally,
    last_failure: Mutex<Option<(SystemTime, String)>>,
}

#[derive(Debug)]
pub struct PhaseNumbers {
    pub calls: Tally,
    /// Of the calls that were timed.
    pub duration: Spread,
    /// By way of failing.
    pub failures: [Tally; FAILURES.len()],
}

impl Default for PluginNumbers {
    fn default() -> Self {
        let bounds = call_bounds();
        PluginNumbers {
            phases: std::array::from_fn(|_| PhaseNumbers::new(bounds.clone())),
            instances: Tally::default(),
            memory: Tally::default(),
            host_calls: Tally::default(),
            refusals: Reasons::default(),
            open: Tally::default(),
            last_failure: Mutex::default(),
        }
    }
}

impl PluginNumbers {
    pub fn failed(&self, phase: usize, reason: &str, text: String) {
        if let Some(place) = FAILURES.iter().position(|known| *known == reason) {
            self.phases[phase].failures[place].add(1);
        }
        let mut last = self.last_failure.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some((SystemTime::now(), text));
    }

    pub fn last_failure(&self) -> Option<(SystemTime, String)> {
        self.last_failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl PhaseNumbers {
    fn new(bounds: Arc<[Duration]>) -> Self {
        PhaseNumbers { calls: Tally::default(), duration: Spread::new(bounds), failures: Default::default() }
    }

    /// Counts a call that begins, and starts the clock where it is to be timed.
    pub fn begin(&self) -> Option<Instant> {
        let calls = self.calls.get();
        self.calls.add(1);
        calls.is_multiple_of(TIMED).then(Instant::now)
    }
}

/// Of one version of a plugin that is rolled out.
#[derive(Debug)]
pub struct VersionNumbers {
    pub calls: Tally,
    /// Traps and hit limits.
    pub failures: Tally,
    /// Returned errors, and answers with a status of 400 or more.
    pub errors: Tally,
    pub duration: Spread,
}

impl Default for VersionNumbers {
    fn default() -> Self {
        VersionNumbers {
            calls: Tally::default(),
            failures: Tally::default(),
            errors: Tally::default(),
            duration: Spread::new(call_bounds()),
        }
    }
}

/// From a microsecond up to what a call may take at most by default, and beyond.
pub fn call_bounds() -> Arc<[Duration]> {
    [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000]
        .map(Duration::from_micros)
        .into()
}

/// Of one upstream.
#[derive(Debug)]
pub struct UpstreamNumbers {
    /// Responses by class of status.
    pub responses: [Tally; CLASSES.len()],
    /// Requests that got none.
    pub failures: Tally,
    /// Requests whose response nobody waited for any more.
    pub cancelled: Tally,
    /// Responses that ended before their end.
    pub broken_off: Tally,
    /// From sending the request to the response's head.
    pub duration: Spread,
    pub begun: Tally,
    pub ended: Tally,
    pub connections: Tally,
    /// Further attempts, and those that the budget did not allow.
    pub retries: Tally,
    pub retries_refused: Tally,
    /// Requests that were not sent because of the breaker, or of a limit.
    pub broken: Tally,
    pub overloaded: Tally,
    /// Copies of other upstreams' requests, and those that were not made.
    pub mirrored: Tally,
    pub mirror_dropped: Tally,
}

impl UpstreamNumbers {
    pub fn new(bounds: Arc<[Duration]>) -> Self {
        UpstreamNumbers {
            responses: Default::default(),
            failures: Tally::default(),
            cancelled: Tally::default(),
            broken_off: Tally::default(),
            duration: Spread::new(bounds),
            begun: Tally::default(),
            ended: Tally::default(),
            connections: Tally::default(),
            retries: Tally::default(),
            retries_refused: Tally::default(),
            broken: Tally::default(),
            overloaded: Tally::default(),
            mirrored: Tally::default(),
            mirror_dropped: Tally::default(),
        }
    }

    pub fn answered(&self, status: StatusCode, took: Duration) {
        self.responses[class(status.as_u16())].add(1);
        self.duration.observe(took);
    }
}

/// Of one endpoint.
#[derive(Debug, Default)]
pub struct EndpointNumbers {
    pub begun: Tally,
    pub ended: Tally,
    /// Requests without an answer, or without its end.
    pub failures: Tally,
    /// Answers with a status of 500 or more.
    pub errors: Tally,
    /// Requests whose answer nobody waited for any more.
    pub cancelled: Tally,
}

/// Of one listener.
#[derive(Debug, Default)]
pub struct ListenerNumbers {
    pub accepted: Tally,
    pub closed: Tally,
    /// Connections that were not let in, by the limit.
    pub refused: [Tally; CONNECTION_LIMITS.len()],
    /// TLS handshakes, and those that came to nothing.
    pub handshakes: Tally,
    pub handshake_failures: Tally,
    /// Connections closed for frames of HTTP/2 that carried no messages.
    pub http2_floods: Tally,
    /// Headers of the PROXY protocol, and those that were faulty or too slow.
    pub proxy_headers: Tally,
    pub proxy_header_failures: Tally,
}

/// Of one Redis.
#[derive(Debug)]
pub struct RedisNumbers {
    /// From a question to its answer.
    pub duration: Spread,
    /// Questions without an answer, by the way of failing.
    pub failures: [Tally; REDIS_FAILURES.len()],
    /// Connections. That of a worker may end on any thread.
    pub opened: Counter,
    pub closed: Counter,
}

impl Default for RedisNumbers {
    fn default() -> Self {
        RedisNumbers {
            duration: Spread::new(call_bounds()),
            failures: Default::default(),
            opened: Counter::default(),
            closed: Counter::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_bounded() {
        let numbers = RouteNumbers::new([].into());
        for number in 0..MAX_REASONS + 10 {
            let reason = Cow::Owned(format!("r{number}"));
            numbers.ended(&Method::GET, 403, Some(&reason), Duration::ZERO);
            numbers.ended(&Method::GET, 403, Some(&Cow::Borrowed("r0")), Duration::ZERO);
        }
        let reasons = numbers.reasons.all();
        assert_eq!(reasons.len(), MAX_REASONS + 1);
        let count = |name: &str| reasons.iter().find(|(_, reason, _)| reason == name).map(|found| found.2);
        assert_eq!((count("r0"), count("other")), (Some(MAX_REASONS as u64 + 11), Some(10)));
    }

    #[test]
    fn an_unknown_method_and_a_strange_status_have_a_place() {
        let numbers = RouteNumbers::new([].into());
        numbers.ended(&Method::from_bytes(b"BREW").unwrap(), 999, None, Duration::ZERO);
        assert_eq!(numbers.plain[METHODS.len() - 1][4].get(), 1);
    }

    #[test]
    fn one_call_in_some_is_timed() {
        let phase = PhaseNumbers::new(call_bounds());
        let timed = (0..4 * TIMED).filter(|_| phase.begin().is_some()).count();
        assert_eq!((timed, phase.calls.get()), (4, 4 * TIMED));
    }
}
