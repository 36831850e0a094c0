//! Whether a request that went wrong is tried again, and when. Pure: time and randomness are arguments.

use std::time::{Duration, Instant, SystemTime};

use http::{
    HeaderMap, Method, StatusCode,
    header::{DATE, RETRY_AFTER},
};

use crate::config::{self, BackOff, Retry, RetryOn};

/// What was tried.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    pub method: &'a Method,
    /// Whether the client named the request, so that the upstream can tell it from a second one.
    pub has_idempotency_key: bool,
    /// Which try it was, from 1.
    pub attempt: u32,
    /// Whether the request can be sent once more, body and all.
    pub replayable: bool,
    /// Whether it is known that nothing of it was sent in this try, or that the upstream took no notice of it (as
    /// HTTP/2's REFUSED_STREAM says), and that its body is still whole.
    pub unsent: bool,
    /// Until the request's total timeout.
    pub left: Option<Duration>,
}

/// How a try ended.
#[derive(Clone, Copy, Debug)]
pub enum Outcome<'a> {
    /// There was no connection to send it on. Nothing was sent.
    ConnectFailure,
    Reset,
    PerTryTimeout,
    Response {
        status: StatusCode,
        headers: &'a HeaderMap,
    },
}

impl Retry {
    /// Whether any request is sent again after something of it was sent.
    pub fn repeats(&self) -> bool {
        let beyond_connecting = |on: &RetryOn| *on != RetryOn::ConnectFailure;
        self.hedge.is_some() || self.attempts > 1 && self.on.iter().any(beyond_connecting)
    }

    /// Whether this one may be.
    pub fn may_repeat(&self, method: &Method, has_idempotency_key: bool) -> bool {
        method.is_idempotent() || has_idempotency_key || self.non_idempotent
    }

    /// Whether this is what another attempt is for.
    pub fn is_for(&self, outcome: Outcome) -> bool {
        self.on.iter().any(|on| on.meets(outcome))
    }

    /// How long to wait until the next try; none where this was the last one. `now` is what dates in the answer are
    /// compared with, `random` is between 0 and 1. Whether there is a budget for it is the caller's to ask.
    pub fn decide(&self, asked: &Asked, outcome: Outcome, now: SystemTime, random: f64) -> Option<Duration> {
        if asked.attempt >= self.attempts || !self.is_for(outcome) {
            return None;
        }
        let untouched = asked.unsent || matches!(outcome, Outcome::ConnectFailure);
        // RFC 9110, 9.2.2.
        let harmless = self.may_repeat(asked.method, asked.has_idempotency_key);
        if !(untouched || (harmless && asked.replayable)) {
            return None;
        }
        let mut wait = self.back_off.wait(asked.attempt, random);
        if let (Some(longest), Outcome::Response { headers, .. }) = (self.retry_after, outcome) {
            let wanted = retry_after(headers, now).unwrap_or_default();
            if wanted > longest {
                return None;
            }
            // On top of it, for all whom it told the same would come at once.
            wait += wanted;
        }
        asked.left.is_none_or(|left| wait < left).then_some(wait)
    }
}

impl RetryOn {
    fn meets(&self, outcome: Outcome) -> bool {
        match (self, outcome) {
            (RetryOn::ConnectFailure, Outcome::ConnectFailure)
            | (RetryOn::Reset, Outcome::Reset)
            | (RetryOn::Timeout, Outcome::PerTryTimeout) => true,
            (condition, Outcome::Response { status, headers }) => condition.meets_response(status, headers),
            _ => false,
        }
    }

    fn meets_response(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        match self {
            RetryOn::ServerError => status.is_server_error(),
            RetryOn::GatewayError => matches!(status.as_u16(), 502..=504),
            RetryOn::RetriableClientError => status == StatusCode::CONFLICT,
            RetryOn::Status(wanted) => status == *wanted,
            RetryOn::Header(name) => headers.contains_key(name),
            RetryOn::ConnectFailure | RetryOn::Reset | RetryOn::Timeout => false,
        }
    }
}

impl BackOff {
    /// "Full jitter" of <https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>.
    fn wait(&self, attempt: u32, random: f64) -> Duration {
        let doubled = 2_u32.saturating_pow(attempt.saturating_sub(1));
        self.base.saturating_mul(doubled).min(self.max).mul_f64(random.clamp(0.0, 1.0))
    }
}

/// How long the answer asks to wait (RFC 9110, 10.2.3). A date counts from the answer's own, where it has one: the
/// clocks need not agree then.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?;
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // Only a number that is too large is none.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let date = |value: &str| httpdate::parse_http_date(value).ok();
    let sent = headers.get(DATE).and_then(|value| date(value.to_str().ok()?)).unwrap_or(now);
    Some(date(value)?.duration_since(sent).unwrap_or_default())
}

/// How long what a request deposits can be spent.
const WINDOW: Duration = Duration::from_secs(10);

const BUCKETS: usize = 10;

/// The retries that a worker may still send to an upstream, so that they do not bring down one that is in trouble. A
/// bucket of tokens: a request deposits a part of one, a retry takes one, and what was not spent within the
/// window is gone (as in Finagle's RetryBudget).
#[derive(Debug)]
pub struct Budget {
    /// Of the requests.
    share: f64,
    /// Tokens that are there in every window without any request.
    reserve: f64,
    /// What happened in the window, in a ring by time.
    buckets: [Count; BUCKETS],
    /// The sum of the buckets.
    sum: Count,
    /// Where the newest bucket is, and when it began.
    newest: usize,
    began: Instant,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    requests: u64,
    retries: u64,
}

impl Budget {
    /// A reserve of less than one retry in a window is one: a worker with little traffic could never retry.
    pub fn new(settings: &config::Budget, now: Instant) -> Self {
        let reserve = match settings.per_second * WINDOW.as_secs_f64() {
            some if some > 0.0 => some.max(1.0),
            _ => 0.0,
        };
        let none = Count::default();
        Budget { share: settings.share, reserve, buckets: [none; BUCKETS], sum: none, newest: 0, began: now }
    }

    /// Counts a request's first try.
    pub fn request(&mut self, now: Instant) {
        self.advance(now);
        self.buckets[self.newest].requests += 1;
        self.sum.requests += 1;
    }

    /// Whether a retry may be sent; it is counted then.
    pub fn take(&mut self, now: Instant) -> bool {
        self.advance(now);
        let deposited = self.sum.requests as f64 * self.share;
        // What was taken stays in the window as long as anything that it may have spent.
        if deposited + self.reserve - (self.sum.retries as f64) < 1.0 {
            return false;
        }
        self.buckets[self.newest].retries += 1;
        self.sum.retries += 1;
        true
    }

    /// Begins the buckets that are due and forgets those whose place they take.
    fn advance(&mut self, now: Instant) {
        let width = WINDOW / BUCKETS as u32;
        let passed = now.saturating_duration_since(self.began).as_nanos() / width.as_nanos();
        if passed == 0 {
            return;
        }
        if passed >= BUCKETS as u128 {
            self.buckets = [Count::default(); BUCKETS];
            self.sum = Count::default();
            self.began = now;
            return;
        }
        for _ in 0..passed {
            self.newest = (self.newest + 1) % BUCKETS;
            let old = std::mem::take(&mut self.buckets[self.newest]);
            self.sum.requests -= old.requests;
            self.sum.retries -= old.retries;
            self.began += width;
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const S: Duration = Duration::from_secs(1);

    fn policy(on: &[RetryOn]) -> Retry {
        Retry {
            attempts: 3,
            on: on.to_vec(),
            non_idempotent: false,
            per_try: None,
            back_off: BackOff { base: 25 * MS, max: 250 * MS },
            retry_after: Some(5 * S),
            body: 0,
            budget: config::Budget { share: 0.2, per_second: 3.0 },
            hedge: None,
        }
    }

    fn all() -> Vec<RetryOn> {
        use RetryOn::*;
        vec![ConnectFailure, Reset, Timeout, ServerError, RetriableClientError]
    }

    fn asked(method: &Method) -> Asked<'_> {
        Asked { method, has_idempotency_key: false, attempt: 1, replayable: true, unsent: false, left: None }
    }

    fn now() -> SystemTime {
        httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap()
    }

    fn headers(fields: &[(HeaderName, &'static str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    fn response(status: u16, headers: &HeaderMap) -> Outcome<'_> {
        Outcome::Response { status: StatusCode::from_u16(status).unwrap(), headers }
    }

    #[test]
    fn a_condition_is_met_by_its_outcome_only() {
        use RetryOn::*;
        let none = HeaderMap::new();
        let retry = HeaderName::from_static("x-retry");
        let (please, maybe) = (headers(&[(retry.clone(), "please")]), headers(&[(retry.clone(), "maybe")]));
        let outcomes = [
            Outcome::ConnectFailure,
            Outcome::Reset,
            Outcome::PerTryTimeout,
            response(200, &please),
            response(200, &maybe),
            response(409, &none),
            response(418, &none),
            response(500, &none),
            response(502, &none),
            response(503, &none),
            response(504, &none),
            response(505, &none),
        ];
        let table: [(RetryOn, &[usize]); 8] = [
            (ConnectFailure, &[0]),
            (Reset, &[1]),
            (Timeout, &[2]),
            (Header(retry), &[3, 4]),
            (RetriableClientError, &[5]),
            (Status(StatusCode::IM_A_TEAPOT), &[6]),
            (ServerError, &[7, 8, 9, 10, 11]),
            (GatewayError, &[8, 9, 10]),
        ];
        for (condition, expected) in table {
            let policy = policy(&[condition]);
            let retried = |outcome| policy.decide(&asked(&Method::GET), outcome, now(), 0.5).is_some();
            let found: Vec<usize> = (0..outcomes.len()).filter(|place| retried(outcomes[*place])).collect();
            assert_eq!(found, expected, "{:?}", policy.on);
        }
    }

    #[test]
    fn only_what_may_be_done_twice_is_tried_twice() {
        let none = HeaderMap::new();
        let mut policy = policy(&all());
        let retried =
            |policy: &Retry, asked: Asked, outcome| policy.decide(&asked, outcome, now(), 0.5).is_some();
        for method in ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"] {
            assert!(retried(&policy, asked(&method.parse().unwrap()), response(503, &none)), "{method}");
        }
        for method in ["POST", "PATCH", "CONNECT", "LOCK"] {
            let method = method.parse().unwrap();
            let asked = asked(&method);
            for outcome in [Outcome::Reset, Outcome::PerTryTimeout, response(503, &none)] {
                assert!(!retried(&policy, asked, outcome), "{method}");
                assert!(retried(&policy, Asked { has_idempotency_key: true, ..asked }, outcome), "{method}");
                policy.non_idempotent = true;
                assert!(retried(&policy, asked, outcome), "{method}");
                policy.non_idempotent = false;
            }
            assert!(retried(&policy, asked, Outcome::ConnectFailure), "{method}");
            assert!(retried(&policy, Asked { unsent: true, ..asked }, Outcome::Reset), "{method}");
        }
    }

    #[test]
    fn a_body_that_is_gone_is_not_sent_again() {
        let policy = policy(&all());
        let gone = Asked { replayable: false, ..asked(&Method::PUT) };
        assert_eq!(policy.decide(&gone, Outcome::Reset, now(), 0.0), None);
        assert!(policy.decide(&gone, Outcome::ConnectFailure, now(), 0.0).is_some());
        assert!(policy.decide(&Asked { unsent: true, ..gone }, Outcome::Reset, now(), 0.0).is_some());
    }

    #[test]
    fn attempts_count_all_tries() {
        let mut policy = policy(&all());
        let mut tried = |attempts, attempt| {
            policy.attempts = attempts;
            policy.decide(&Asked { attempt, ..asked(&Method::GET) }, Outcome::Reset, now(), 0.0).is_some()
        };
        assert!(tried(3, 1) && tried(3, 2) && !tried(3, 3));
        assert!(!tried(1, 1) && !tried(0, 1));
    }

    #[test]
    fn back_off_doubles_up_to_the_maximum_and_random_takes_a_part() {
        let mut policy = policy(&all());
        policy.attempts = u32::MAX;
        let wait = |attempt, random| {
            policy.decide(&Asked { attempt, ..asked(&Method::GET) }, Outcome::Reset, now(), random).unwrap()
        };
        for (attempt, ceiling) in [(1, 25), (2, 50), (3, 100), (4, 200), (5, 250), (6, 250), (1000, 250)] {
            assert_eq!(wait(attempt, 1.0), ceiling * MS);
            assert_eq!(wait(attempt, 0.0), Duration::ZERO);
            assert_eq!(wait(attempt, 0.5), ceiling * MS / 2);
        }
    }

    #[test]
    fn nobody_waits_past_the_total_timeout() {
        let policy = policy(&all());
        let within = |left, random| {
            policy.decide(&Asked { left: Some(left), ..asked(&Method::GET) }, Outcome::Reset, now(), random)
        };
        assert_eq!(within(13 * MS, 0.5), Some(12 * MS + MS / 2));
        assert_eq!(within(12 * MS, 0.5), None);
        assert_eq!(within(25 * MS, 1.0), None, "nothing would be left");
        assert_eq!(within(Duration::ZERO, 0.0), None);
    }

    #[test]
    fn retry_after_is_waited_for_up_to_the_cap() {
        const SEVEN_LATER: &str = "Sun, 06 Nov 1994 08:49:44 GMT";
        type Case<'a> = (&'a [(HeaderName, &'static str)], Option<Duration>);
        let table: [Case; 13] = [
            (&[], Some(Duration::ZERO)),
            (&[(RETRY_AFTER, "2")], Some(2 * S)),
            (&[(RETRY_AFTER, "0")], Some(Duration::ZERO)),
            (&[(RETRY_AFTER, "5")], Some(5 * S)),
            (&[(RETRY_AFTER, "6")], None),
            (&[(RETRY_AFTER, "99999999999999999999999")], None),
            (&[(RETRY_AFTER, "Sun, 06 Nov 1994 08:49:40 GMT")], Some(3 * S)),
            (&[(RETRY_AFTER, "Sunday, 06-Nov-94 08:49:40 GMT")], Some(3 * S)),
            (&[(RETRY_AFTER, "Sun, 06 Nov 1994 08:49:30 GMT")], Some(Duration::ZERO)),
            (&[(RETRY_AFTER, SEVEN_LATER)], None),
            (&[(RETRY_AFTER, SEVEN_LATER), (DATE, "Sun, 06 Nov 1994 08:49:43 GMT")], Some(S)),
            (&[(RETRY_AFTER, SEVEN_LATER), (DATE, "yesterday")], None),
            (&[(RETRY_AFTER, "-1")], Some(Duration::ZERO)),
        ];
        let mut policy = policy(&all());
        for (fields, expected) in table {
            let headers = headers(fields);
            let wait = |random| policy.decide(&asked(&Method::GET), response(503, &headers), now(), random);
            assert_eq!(wait(0.0), expected, "{fields:?}");
            assert_eq!(wait(1.0), expected.map(|wanted| wanted + 25 * MS), "{fields:?}");
        }
        let long = headers(&[(RETRY_AFTER, "60")]);
        policy.retry_after = None;
        assert_eq!(policy.decide(&asked(&Method::GET), response(503, &long), now(), 1.0), Some(25 * MS));
        policy.retry_after = Some(Duration::MAX);
        let left = Asked { left: Some(59 * S), ..asked(&Method::GET) };
        assert_eq!(policy.decide(&left, response(503, &long), now(), 0.0), None);
    }

    fn budget(percent: f64, min_per_second: f64, now: Instant) -> Budget {
        Budget::new(&config::Budget { share: percent / 100.0, per_second: min_per_second }, now)
    }

    fn taken(budget: &mut Budget, now: Instant) -> usize {
        (0..1000).take_while(|_| budget.take(now)).count()
    }

    #[test]
    fn a_fresh_budget_is_the_reserve() {
        let t = Instant::now();
        for (min_per_second, reserve) in [(3.0, 30), (0.1875, 1), (0.01, 1), (0.0, 0), (0.25, 2)] {
            assert_eq!(taken(&mut budget(20.0, min_per_second, t), t), reserve);
        }
    }

    #[test]
    fn requests_deposit_their_part() {
        let t = Instant::now();
        for (percent, requests, retries) in
            [(20.0, 4, 0), (20.0, 5, 1), (20.0, 50, 10), (100.0, 7, 7), (0.0, 50, 0)]
        {
            let mut budget = budget(percent, 0.0, t);
            (0..requests).for_each(|_| budget.request(t));
            assert_eq!(taken(&mut budget, t), retries);
        }
    }

    #[test]
    fn tokens_are_gone_after_the_window_and_the_reserve_is_back() {
        let t = Instant::now();
        let mut budget = budget(20.0, 0.3, t);
        (0..50).for_each(|_| budget.request(t));
        assert_eq!(taken(&mut budget, t + 9 * S), 13, "not yet");
        assert_eq!(taken(&mut budget, t + 12 * S), 0, "what was taken at 9 s still counts");
        assert_eq!(taken(&mut budget, t + 19 * S), 3);
        (0..50).for_each(|_| budget.request(t + 30 * S));
        assert_eq!(taken(&mut budget, t + 40 * S), 3, "nothing but the reserve");
    }

    #[test]
    fn a_clock_that_stands_still_or_goes_back_is_no_harm() {
        let t = Instant::now() + 100 * S;
        let mut budget = budget(100.0, 0.0, t);
        budget.request(t);
        assert!(budget.take(t - 50 * S));
        assert!(!budget.take(t));
    }

    proptest! {
        /// In every window up to a grant: the retries are no more than the reserve and the requests' part.
        #[test]
        fn retries_stay_within_the_budget(
            percent in 0.0..150.0_f64,
            min_per_second in 0.0..2.0_f64,
            events in prop::collection::vec((0..3000_u64, 0..20_usize, 0..20_usize), 1..60),
        ) {
            let start = Instant::now();
            let mut now = start;
            let mut budget = budget(percent, min_per_second, start);
            let reserve = budget.reserve;
            let mut history: Vec<(Instant, usize, usize)> = Vec::new();
            for (wait, requests, retries) in events {
                now += wait as u32 * MS;
                (0..requests).for_each(|_| budget.request(now));
                let granted = (0..retries).filter(|_| budget.take(now)).count();
                history.push((now, requests, granted));
                if granted == 0 {
                    continue;
                }
                let all = history.iter().fold((0, 0), |(a, b), (_, c, d)| (a + c, b + d));
                let windows = ((now - start).as_secs_f64() / 9.0).ceil().max(1.0);
                prop_assert!(all.1 as f64 <= percent / 100.0 * all.0 as f64 + reserve * windows + 1e-9);
                // Retries of the last 9 s are in the window for sure, requests of more than 10 s ago are not.
                let within = |time| history.iter().filter(move |(at, ..)| now - *at < time);
                let retries: usize = within(9 * S).map(|event| event.2).sum();
                let requests: usize = within(10 * S).map(|event| event.1).sum();
                prop_assert!(retries as f64 <= percent / 100.0 * requests as f64 + reserve + 1e-9);
            }
        }

        /// Without a reserve the retries of any history are the requests' part at most.
        #[test]
        fn without_a_reserve_requests_pay_for_all(
            percent in 0.0..150.0_f64,
            events in prop::collection::vec((0..4000_u64, 0..20_usize, 0..20_usize), 1..60),
        ) {
            let mut now = Instant::now();
            let mut budget = budget(percent, 0.0, now);
            let (mut all, mut granted) = (0, 0);
            for (wait, requests, retries) in events {
                now += wait as u32 * MS;
                all += requests;
                (0..requests).for_each(|_| budget.request(now));
                granted += (0..retries).filter(|_| budget.take(now)).count();
                prop_assert!(granted as f64 <= percent / 100.0 * all as f64 + 1e-9);
            }
        }

        #[test]
        fn a_wait_is_within_the_back_off_and_the_timeout(
            attempt in 1..40_u32,
            random in 0.0..1.0_f64,
            left in 0..400_u64,
        ) {
            let mut policy = policy(&all());
            policy.attempts = 41;
            let left = left as u32 * MS;
            let asked = Asked { attempt, left: Some(left), ..asked(&Method::GET) };
            let wait = policy.decide(&asked, Outcome::Reset, now(), random);
            prop_assert!(wait.is_none_or(|wait| wait < left && wait <= 250 * MS));
            prop_assert!(wait.is_some() || left <= 250 * MS);
        }
    }
}
