//! The request at its upstream: attempts, one after the other, or two at a time, until one of them counts.

use std::{
    pin::pin,
    rc::Rc,
    time::{Duration, SystemTime},
};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, request, response};
use tokio::time::{Instant, sleep, sleep_until};

use super::{
    error::ProxyError,
    interim,
    journey::Journey,
    outgoing::{self, Host, Letter},
};
use crate::{
    body::{Body, Replay},
    config::{self, Choice, Protocol},
    plugin::{
        exchange::{self, State},
        interrupt::{Interrupt, Ruling},
    },
    upstream::{
        Ask, Cluster, Endpoint, Ticket, balance,
        pool::{Connection, Error, Failed, Pool, Sent},
        retry::{Asked, Outcome},
    },
};

/// How often a request that an endpoint did not look at is sent again without being counted: it has closed the connection
/// meanwhile, and may do so again.
const MAX_RETURNS: u32 = 3;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The head of an upstream's answer, and what it takes to read the rest.
pub struct Answer {
    pub head: response::Parts,
    pub body: Body,
    pub connection: Connection,
    pub ticket: Ticket,
    /// Keeps the client at its endpoint.
    pub sticky: Option<HeaderValue>,
    /// When the first attempt began.
    pub begun: Instant,
}

/// No attempt had an answer.
pub struct Unanswered {
    pub error: ProxyError,
    /// The request, where another upstream may get it.
    pub letter: Option<Letter>,
}

/// Sends the request until an answer counts.
pub async fn send(
    journey: &Journey,
    cluster: &Rc<Cluster>,
    letter: Letter,
) -> Result<Answer, Box<Unanswered>> {
    let settings = &cluster.upstream.settings;
    let ticket = match cluster.enter() {
        Ok(ticket) => ticket,
        Err(refused) => return Err(Box::new(Unanswered { error: refused.into(), letter: Some(letter) })),
    };
    let Letter { mut request, host, patience } = letter;
    let method = request.method().clone();
    let named = settings.retry.repeats() && request.headers().contains_key(IDEMPOTENCY_KEY);
    let repeats = settings.retry.repeats() && settings.retry.may_repeat(&method, named);
    // A request on a connection that is about to end comes back.
    let returns = settings.protocol != Protocol::Http1;
    let spare = (repeats || returns).then(|| Spare::of(&mut request, settings.retry.body));
    let ask = match asks_for_something(&settings.balance) {
        true => ask(&settings.balance, &*journey.exchange().await, request.headers()),
        false => Ask::default(),
    };
    let begun = Instant::now();
    let limit = settings.timeouts.total.into_iter().chain(patience).min();
    let mut sending = Sending {
        journey,
        cluster,
        host,
        patience,
        method,
        named,
        repeats,
        spare,
        ticket,
        ask,
        begun,
        deadline: limit.map(|limit| begun + limit),
    };
    let attempted = sending.run(request).await;
    sending.settle(attempted)
}

/// The same, unless a plugin makes up its mind without being asked.
pub async fn send_unless(
    interrupt: Rc<Interrupt>,
    journey: &Journey,
    cluster: &Rc<Cluster>,
    letter: Letter,
) -> Result<Answer, Box<Unanswered>> {
    let error = tokio::select! {
        biased;
        sent = send(journey, cluster, letter) => return sent,
        ruling = interrupt.raised() => match ruling {
            Ruling::Respond(local) => ProxyError::Local(local),
            Ruling::Close => ProxyError::Closed,
        },
    };
    Err(Box::new(Unanswered { error, letter: None }))
}

fn asks_for_something(balance: &config::Balance) -> bool {
    balance.sticky.is_some() || matches!(balance.choice, Choice::Hash { .. })
}

/// What the request is balanced by. These are its headers: the exchange may have given them away.
fn ask(balance: &config::Balance, state: &State, headers: &HeaderMap) -> Ask {
    let key = match &balance.choice {
        Choice::Hash { key, .. } => state.key_with(headers, key).map(|key| balance::hash_of(&key)),
        _ => None,
    };
    let sticky = balance.sticky.as_ref().and_then(|sticky| exchange::cookie(headers, &sticky.cookie));
    let sticky = sticky.and_then(|value| u64::from_str_radix(std::str::from_utf8(value).ok()?, 16).ok());
    Ask { key, sticky, failed: Vec::new() }
}

/// One request, and what all of its attempts share.
struct Sending<'a> {
    journey: &'a Journey,
    cluster: &'a Rc<Cluster>,
    host: Host,
    patience: Option<Duration>,
    method: Method,
    /// It has an Idempotency-Key.
    named: bool,
    repeats: bool,
    spare: Option<Box<Spare>>,
    ticket: Ticket,
    ask: Ask,
    begun: Instant,
    deadline: Option<Instant>,
}

type Attempted = Result<(Response<Body>, Connection), Ended>;

/// How an attempt ended without an answer.
enum Ended {
    /// Nobody is in service.
    NoEndpoint(Box<Request<Body>>),
    Failed(Failed),
    /// The upstream took too long: in this attempt, or with all of them.
    TimedOut {
        total: bool,
    },
}

impl Sending<'_> {
    /// The last attempt.
    async fn run(&mut self, mut request: Box<Request<Body>>) -> Attempted {
        let (mut attempt, mut returned) = (0, 0);
        loop {
            attempt += 1;
            let Some(pool) = self.cluster.pick(&self.ask) else {
                return Err(Ended::NoEndpoint(request));
            };
            let hedge =
                self.cluster.upstream.settings.retry.hedge.filter(|_| self.repeats && self.spare.is_some());
            let (pool, mut attempted) = match hedge {
                None => {
                    let now = if attempt == 1 { self.begun } else { Instant::now() };
                    let attempted = self.attempt(&pool, request, now).await;
                    (pool, attempted)
                }
                Some(after) => Box::pin(self.race(pool, request, after)).await,
            };
            if returned < MAX_RETURNS
                && matches!(&attempted, Err(Ended::Failed(failed)) if failed.error.is_refusal())
                && let Some(again) = unsent(&mut attempted).or_else(|| self.spare.as_ref()?.request())
            {
                (attempt, returned, request) = (attempt - 1, returned + 1, again);
                continue;
            }
            // Before anything is taken out of what failed: a fallback may want it.
            let wait = self.wait(attempt, &attempted).filter(|_| self.ticket.may_retry());
            let Some(wait) = wait else { return attempted };
            let next = unsent(&mut attempted).or_else(|| self.spare.as_ref()?.request());
            let Some(next) = next else { return attempted };
            // What is left of an answer is not waited for: its connection is closed.
            drop(attempted);
            self.ask.failed.push(pool);
            sleep(wait).await;
            request = next;
        }
    }

    /// Two attempts, the second one where the first takes long. The one that counts, and where it was made.
    async fn race(
        &self,
        pool: Rc<Pool>,
        request: Box<Request<Body>>,
        after: Duration,
    ) -> (Rc<Pool>, Attempted) {
        let mut first = pin!(self.attempt(&pool, request, Instant::now()));
        tokio::select! {
            biased;
            attempted = &mut first => return (pool.clone(), attempted),
            () = sleep(after) => {}
        }
        let mut ask = self.ask.clone();
        ask.failed.push(pool.clone());
        let other = self.cluster.pick(&ask).filter(|other| !Rc::ptr_eq(other, &pool));
        let copy = self.spare.as_ref().and_then(|spare| spare.second());
        let (Some(other), Some(copy)) = (other, copy) else { return (pool.clone(), first.await) };
        if !self.ticket.may_retry() {
            return (pool.clone(), first.await);
        }
        let mut second = pin!(self.attempt(&other, copy, Instant::now()));
        tokio::select! {
            biased;
            attempted = &mut first => match counts(&attempted) {
                true => (pool.clone(), attempted),
                false => (other.clone(), second.await),
            },
            attempted = &mut second => match counts(&attempted) {
                true => (other.clone(), attempted),
                false => (pool.clone(), first.await),
            },
        }
    }

    async fn attempt(&self, pool: &Rc<Pool>, mut request: Box<Request<Body>>, now: Instant) -> Attempted {
        let settings = &self.cluster.upstream.settings;
        self.host.write(request.headers_mut(), &settings.host, &pool.endpoint);
        let _hearing = interim::pass(self.journey, &mut request);
        let span = {
            let mut exchange = self.journey.exchange().await;
            let label = &pool.endpoint.label;
            exchange.asked = Some((settings.name.clone(), label.clone()));
            exchange.attempts += 1;
            let trace = exchange.trace.as_mut();
            trace.map(|trace| trace.begin_attempt(&settings.name, label, request.headers_mut()))
        };
        self.journey.upload.set(Some(now));
        let counted = self.cluster.attempt(pool, now.into_std());
        let attempted = tokio::select! {
            biased;
            sent = self.send(pool, request) => sent.map_err(Ended::Failed),
            total = self.stalled(now) => Err(Ended::TimedOut { total }),
        };
        match &attempted {
            Ok((response, _)) => counted.answered(response.status()),
            Err(Ended::Failed(failed)) => counted.failed(&failed.error),
            Err(_) => counted.timed_out(),
        }
        if let Some(span) = span.flatten() {
            let (status, error) = match &attempted {
                Ok((response, _)) => (Some(response.status().as_u16()), None),
                Err(ended) => (None, Some(ended.code().to_owned())),
            };
            if let Some(trace) = &mut self.journey.exchange().await.trace {
                trace.end_attempt(span, status, error);
            }
        }
        attempted
    }

    async fn send(&self, pool: &Rc<Pool>, request: Box<Request<Body>>) -> Sent {
        match self.journey.upgrade {
            None => pool.clone().send(request).await,
            Some(_) => Box::pin(pool.clone().switch(request)).await,
        }
    }

    /// Returns when the upstream has taken too long, and whether that was with all attempts. While it is the client
    /// that has to go on, with the request's body, the time for an answer does not run.
    async fn stalled(&self, mut now: Instant) -> bool {
        let settings = &self.cluster.upstream.settings;
        let read = settings.timeouts.read;
        let limit = settings.retry.per_try.map_or(read, |per_try| per_try.min(read));
        loop {
            let end = self.journey.upload.get().unwrap_or(now) + limit;
            let last = self.deadline.is_some_and(|deadline| deadline <= end);
            let end = self.deadline.map_or(end, |deadline| deadline.min(end));
            if now >= end {
                return last;
            }
            sleep_until(end).await;
            now = Instant::now();
        }
    }

    /// How long to wait for the next attempt; none where this was the last one.
    fn wait(&self, attempt: u32, attempted: &Attempted) -> Option<Duration> {
        let policy = &self.cluster.upstream.settings.retry;
        let outcome = match attempted {
            Ok((response, _)) => Outcome::Response { status: response.status(), headers: response.headers() },
            Err(ended) => ended.outcome()?,
        };
        if attempt >= policy.attempts || !policy.is_for(outcome) {
            return None;
        }
        let asked = Asked {
            method: &self.method,
            has_idempotency_key: self.named,
            attempt,
            replayable: self.spare.as_ref().is_some_and(|spare| !spare.body.is_lost()),
            unsent: matches!(attempted, Err(Ended::Failed(failed)) if failed.unsent.is_some()),
            left: self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())),
        };
        policy.decide(&asked, outcome, SystemTime::now(), rand::random())
    }

    fn settle(mut self, mut attempted: Attempted) -> Result<Answer, Box<Unanswered>> {
        self.ticket.settle(match &attempted {
            Ok((response, _)) => Some(!response.status().is_server_error()),
            Err(Ended::Failed(failed)) => failed.error.blames_endpoint().then_some(false),
            Err(Ended::NoEndpoint(_)) => None,
            Err(Ended::TimedOut { .. }) => Some(false),
        });
        let again = unsent(&mut attempted);
        match attempted {
            Ok((response, connection)) => {
                let (head, body) = response.into_parts();
                let sticky = self.sticky(connection.endpoint());
                Ok(Answer { head, body, connection, ticket: self.ticket, sticky, begun: self.begun })
            }
            Err(ended) => {
                let spare = self.spare.as_ref().filter(|_| self.repeats && ended.outcome().is_some());
                let again = again.or_else(|| spare?.request());
                let cut_short = self.journey.cut_short();
                Err(self.unanswered(cut_short.unwrap_or_else(|| ended.into()), again))
            }
        }
    }

    /// The cookie that names the endpoint, where the client does not have it.
    fn sticky(&self, endpoint: &Endpoint) -> Option<HeaderValue> {
        let cookie = self.cluster.upstream.settings.balance.sticky.as_ref()?;
        let named = self.ask.sticky == Some(endpoint.hash);
        if named { None } else { cookie.header(&format!("{:016x}", endpoint.hash)) }
    }

    fn unanswered(self, error: ProxyError, request: Option<Box<Request<Body>>>) -> Box<Unanswered> {
        let letter = request.map(|request| Letter { request, host: self.host, patience: self.patience });
        Box::new(Unanswered { error, letter })
    }
}

/// Whether it is worth no further waiting.
fn counts(attempted: &Attempted) -> bool {
    matches!(attempted, Ok((response, _)) if !response.status().is_server_error())
}

/// The request itself, where nothing of it was sent.
fn unsent(attempted: &mut Attempted) -> Option<Box<Request<Body>>> {
    match attempted {
        Err(Ended::Failed(failed)) => failed.unsent.take(),
        Err(Ended::NoEndpoint(request)) => Some(std::mem::take(request)),
        _ => None,
    }
}

impl Ended {
    /// None where another attempt could not help.
    fn outcome(&self) -> Option<Outcome<'static>> {
        match self {
            Ended::Failed(Failed { error, .. }) => match error {
                Error::Connect(_) | Error::ConnectTimeout | Error::Refused(_) => {
                    Some(Outcome::ConnectFailure)
                }
                Error::Reset(_) | Error::Protocol(_) => Some(Outcome::Reset),
                Error::RequestBody(_) | Error::Overloaded => None,
            },
            Ended::NoEndpoint(_) => None,
            Ended::TimedOut { total } => (!total).then_some(Outcome::PerTryTimeout),
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Ended::Failed(failed) => super::error::upstream_row(&failed.error).1,
            Ended::NoEndpoint(_) => "no_healthy_upstream",
            Ended::TimedOut { .. } => "upstream_timeout",
        }
    }
}

impl From<Ended> for ProxyError {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Failed(failed) => ProxyError::Upstream(failed.error),
            Ended::NoEndpoint(_) => ProxyError::NoEndpoint,
            Ended::TimedOut { .. } => ProxyError::UpstreamTimeout,
        }
    }
}

/// What it takes to send a request again.
struct Spare {
    head: request::Parts,
    body: Replay,
}

impl Spare {
    fn of(request: &mut Request<Body>, limit: usize) -> Box<Spare> {
        let body = Replay::new(std::mem::take(request.body_mut()), limit);
        *request.body_mut() = body.body().unwrap_or_default();
        let head = outgoing::copy_head(request);
        Box::new(Spare { head, body })
    }

    /// None where more of the body was sent than is kept.
    fn request(&self) -> Option<Box<Request<Body>>> {
        Some(Box::new(Request::from_parts(self.head.clone(), self.body.body()?)))
    }

    /// The same while the first one is still on its way.
    fn second(&self) -> Option<Box<Request<Body>>> {
        if self.body.is_whole() { self.request() } else { None }
    }
}
